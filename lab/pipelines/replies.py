"""Replies of one model to many chats, generated once and kept: what every job stands on.

Every group of jobs is cached by its content, so a killed run resumes and a changed scaffold costs only
its own replies. Which groups are generated together is written down before they are: batches decide
the rounding, so only the same batches give the same bits again.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lab.records import Direction, Message, Polarity, Position, Question, Reply, ScaffoldFile, Split, TraitSet
from lab.store import Store, content_key

if TYPE_CHECKING:
    from lab.models import LoadedModel
    from lab.steering import Edit

POOLED: tuple[Position, ...] = get_args(Position)
"""What is kept of every reply."""
STAGE_ROWS = 192
"""Replies generated between two saves: wide enough to be fast, small enough to lose little."""


@dataclass(frozen=True)
class Job:
    """One chat to generate: its condition and where it belongs; `history`: what was said before the question."""

    condition: str
    paraphrase: int
    question: Question
    system: str
    sample: int = 0
    history: tuple[Message, ...] = ()

    @property
    def content(self) -> list[object]:
        """What its reply depends on, beside the model."""
        told = [self.system, self.question.text, self.paraphrase, self.sample]
        return [*told, [asdict(m) for m in self.history]] if self.history else told


@dataclass(frozen=True)
class Measured:
    """Residual states of one group of jobs: pooled [row, layer, d_model] per position, and replies."""

    pooled: dict[Position, NDArray[np.float32]]
    norm: NDArray[np.float64]
    replies: tuple[Reply, ...]
    prompts: tuple[str, ...]


# ------------------------------------------------------------------ which chats


def trait_jobs(traits: TraitSet, trait_index: int, polarity: Polarity) -> list[Job]:
    """The chats that show one pole of a trait: every question under one of its prompts in turn."""
    trait = traits.traits[trait_index]
    prompts = trait.positive if polarity == "positive" else trait.negative
    return [
        Job(polarity, i % len(prompts), q, prompts[i % len(prompts)]) for i, q in enumerate(traits.questions)
    ]


def neutral_jobs(traits: TraitSet, split: Split = "test", samples: int = 2) -> list[Job]:
    """The chats without any scaffold on the questions of a split, several replies each."""
    return [Job("neutral", k, q, "", sample=k) for q in traits.of(split) for k in range(samples)]


def scaffold_jobs(
    traits: TraitSet, scaffold: ScaffoldFile, split: Split = "test", history: Sequence[Message] = ()
) -> list[Job]:
    """Every paraphrase of a scaffold with every question of a split, after `history`."""
    return [
        Job(scaffold.name, k, q, paraphrase.text, history=tuple(history))
        for k, paraphrase in enumerate(scaffold.paraphrases)
        for q in traits.of(split)
    ]


# ------------------------------------------------------------------ generation with cache


@runtime_checkable
class Sampling(Protocol):
    """How replies are drawn; a job's own settings hold these too."""

    @property
    def dtype(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def max_new_tokens(self) -> int: ...


@dataclass(frozen=True)
class Reading:
    """What is done beside sampling: directions to project tokens on, edits, when they end."""

    directions: Sequence[Direction] = ()
    edits: Sequence["Edit"] = ()
    release: int | None = None

    @property
    def key(self) -> list[object]:
        """What the content key of a group needs of it."""
        read = [[d.trait, d.site.layer, d.vector] for d in self.directions]
        if not self.edits:
            return [read]
        return [read, [[type(e).__name__, asdict(cast(Any, e))] for e in self.edits], self.release]


class Runner:
    """Generates jobs with one model, group by group, through the store's cache."""

    def __init__(
        self,
        model: "LoadedModel",
        config: Sampling,
        store: Store,
        stream: int,
        tick: Callable[[int], None],
    ) -> None:
        self._model, self._config, self._store = model, config, store
        self._stream, self._tick = stream, tick

    def measure(
        self, groups: Sequence[Sequence[Job]], directions: Sequence[Direction] = (),
        edits: Sequence["Edit"] = (), release: int | None = None,
    ) -> list[Measured]:  # fmt: skip
        """One `Measured` per group; groups already in the cache cost nothing.

        Projections of every token on `directions` are kept; `edits` steer, until reply token `release`.
        """
        reading = Reading(directions, edits, release)
        keys = [self._key(group, reading) for group in groups]
        by_key = dict(zip(keys, groups, strict=True))
        found = {key: hit for key in by_key if (hit := self._cached(key)) is not None}
        for part in self._missing(keys, by_key, found):
            found.update(self._generate([(key, by_key[key]) for key in part], reading))
        return [found[key] for key in keys]

    def prepare(self, groups: Sequence[Sequence[Job]]) -> None:
        """Generate what the cache lacks of these, in the batches of `measure`, and hold none of it."""
        reading = Reading()
        keys = [self._key(group, reading) for group in groups]
        by_key = dict(zip(keys, groups, strict=True))
        found = {key for key in by_key if self._cached(key) is not None}
        for part in self._missing(keys, by_key, found):
            for _ in self._generate([(key, by_key[key]) for key in part], reading):
                pass

    def recall(self, group: Sequence[Job]) -> Measured:
        """One group that was prepared, out of the cache; no progress is told."""
        hit = self._cached(self._key(group, Reading()))
        return hit if hit is not None else self.measure([group])[0]

    def _missing(
        self, keys: Sequence[str], by_key: Mapping[str, Sequence[Job]], found: Collection[str]
    ) -> list[list[str]]:
        """The planned parts with a group that is not in the cache; progress is told of all the others."""
        parts = [p for p in self._plan(by_key, found) if any(key not in found for key in p)]
        again = {key for part in parts for key in part}
        self._tick(sum(len(by_key[key]) for key in keys if key not in again))
        return parts

    def _plan(self, groups: Mapping[str, Sequence[Job]], found: Collection[str]) -> list[list[str]]:
        """Keys of the groups that are generated together.

        The first call writes its plan down and later ones keep to it: a run that was killed between two
        groups of a part makes the whole part again, in the same batches, hence to the same bits.
        """
        missing = [key for key in groups if key not in found]
        if not missing:
            return []
        name = content_key("plan-1", STAGE_ROWS, list(groups))
        hit = self._store.cached(name)
        parts: list[list[str]] = hit[1]["parts"] if hit else []
        planned = {key for part in parts for key in part}
        fresh = [key for key in missing if key not in planned]
        while fresh:
            part = [fresh.pop(0)]
            while fresh and sum(len(groups[key]) for key in [*part, fresh[0]]) <= STAGE_ROWS:
                part.append(fresh.pop(0))
            parts.append(part)
        self._store.put(name, {}, {"parts": parts})
        return parts

    def _key(self, group: Sequence[Job], reading: Reading) -> str:
        config = self._config
        return content_key(
            "measure-3", self._model.identity.fingerprint, config.dtype, config.seed, self._stream,
            config.max_new_tokens, [j.content for j in group],
            *reading.key,
        )  # fmt: skip

    def _cached(self, key: str) -> Measured | None:
        hit = self._store.cached(key)
        if hit is None:
            return None
        arrays, note = hit
        replies = tuple(
            Reply(text, tuple(tokens), {k: tuple(v) for k, v in projections.items()})
            for text, tokens, projections in note["replies"]
        )
        return Measured({p: arrays[p] for p in POOLED}, arrays["norm"], replies, tuple(note["prompts"]))

    def _generate(
        self, part: Sequence[tuple[str, Sequence[Job]]], reading: Reading
    ) -> Iterable[tuple[str, Measured]]:
        from lab.activations import generate
        from lab.prompts.chat import check_length, render

        jobs = [job for _, group in part for job in group]
        rendered = []
        for job in jobs:
            system = [Message("system", job.system)] if job.system else []
            turns = [*system, *job.history, Message("user", job.question.text)]
            chat = render(self._model.tokenizer, turns)
            check_length(chat, self._model.context, self._config.max_new_tokens)
            rendered.append(chat)
        done = 0

        def advance(n: int) -> None:
            nonlocal done
            self._tick(n - done)
            done = n

        acts = generate(
            self._model, rendered, max_new_tokens=self._config.max_new_tokens, directions=reading.directions,
            edits=reading.edits, release=reading.release,
            seeds=[self._seed(job) for job in jobs], progress=advance,
        )  # fmt: skip
        start = 0
        for key, group in part:
            rows = slice(start, start + len(group))
            start += len(group)
            measured = Measured(
                {position: acts.pooled[position][rows] for position in POOLED},
                acts.norm, acts.replies[rows], tuple(r.text for r in rendered[rows]),
            )  # fmt: skip
            replies = [
                [r.text, list(r.tokens), {k: list(v) for k, v in r.projections.items()}]
                for r in measured.replies
            ]
            self._store.put(
                key,
                {**measured.pooled, "norm": measured.norm},
                {"replies": replies, "prompts": list(measured.prompts)},
            )
            yield key, measured

    def _seed(self, job: Job) -> int:
        text = content_key(self._config.seed, self._stream, *job.content)
        return int(text[:12], 16)
