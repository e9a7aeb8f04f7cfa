"""Both poles of a trait in one model's replies: elicited by instruction or by scenario, all or screened.

By instruction, the same question is asked under contrastive system prompts. By scenario, nobody is told
anything: paired user messages describe situations that draw the trait out or its opposite. What the two ways
have in common is the trait; what they do not is how it was asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lab.directions import Contrast
from lab.judging.judges import Item
from lab.judging.trust import Removed, Screened
from lab.judging.verdicts import Replies
from lab.pipelines.replies import POOLED, Job, Measured, Runner, trait_jobs
from lab.records import Elicitation, Polarity, Position, Question, Reply, Split, Trait, TraitSet
from lab.records.cards import RemovedReply

TURN: tuple[Split, ...] = (
    "extract", "test", "extract", "select", "extract", "test", "extract", "select", "extract", "test",
)  # fmt: skip
"""Splits of a trait's scenario pairs, in turn."""
LEAST_SCENARIOS = 20
"""Below this many pairs a trait has fewer than six to test on, and is not elicited by scenario."""


def split_rows(jobs: Sequence[Job], split: Split) -> NDArray[np.bool_]:
    """Which jobs belong to a split."""
    return np.array([j.question.split == split for j in jobs])


@dataclass(frozen=True)
class Poles:
    """Both poles of a trait on all splits; with `lost` [row] True where a reply is not to be used."""

    jobs: tuple[Job, ...]
    pooled: Mapping[Position, NDArray[np.float32]]
    replies: tuple[Reply, ...]
    lost: NDArray[np.bool_] | None = None

    @property
    def positive(self) -> NDArray[np.bool_]:
        """The pole of every row."""
        return np.array([j.condition == "positive" for j in self.jobs])

    def of(self, position: Position, split: Split) -> Contrast:
        """The contrast of one split."""
        rows = split_rows(self.jobs, split)
        acts = self.pooled[position][rows]
        if self.lost is not None:
            acts = np.where(self.lost[rows][:, None, None], np.nan, acts)
        questions = np.array([j.question.id for j in self.jobs])
        return Contrast(acts, self.positive[rows], questions[rows], split)

    def as_replies(self, trait: Trait, rows: Sequence[int]) -> Replies:
        """Some of the replies as a judge reads them."""
        jobs = [self.jobs[i] for i in rows]
        texts = [self.replies[i].text for i in rows]
        items = tuple(Item(j.question.text, text, trait.rubric) for j, text in zip(jobs, texts, strict=True))
        questions = np.array([j.question.id for j in jobs])
        pairs = np.array([j.paraphrase for j in jobs], dtype=np.int64)
        return Replies(trait, items, self.positive[list(rows)], questions, pairs)


def scenario_jobs(trait: Trait, polarity: Polarity) -> list[Job]:
    """The user messages of one pole, without a system prompt; a pair of scenarios counts as one question."""
    pole = 0 if polarity == "positive" else 1
    return [
        Job(polarity, 0, Question(f"scenario-{k + 1}", pair[pole], TURN[k % len(TURN)]), "")
        for k, pair in enumerate(trait.scenarios)
    ]


POLES: tuple[Polarity, Polarity] = ("positive", "negative")


class Told(Mapping[str, Poles]):
    """Poles by trait, read from the store when they are asked for.

    The states of one trait can take hundreds of megabytes, so no more than the trait asked for last is held:
    go through all of one before the next.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[Sequence[Job]]], runner: Runner,
        lost: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> None:  # fmt: skip
        self._groups, self._runner, self._lost = groups, runner, lost or {}
        self._held: tuple[str, Poles] | None = None

    def __getitem__(self, name: str) -> Poles:
        if self._held is None or self._held[0] != name:
            groups = self._groups[name]
            self._held = None  # let go before the next is read
            found = _join(groups, [self._runner.recall(jobs) for jobs in groups])
            self._held = name, replace(found, lost=self._lost.get(name))
        return self._held[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def without(self, lost: Mapping[str, NDArray[np.bool_]]) -> "Told":
        """The traits of `lost`, without the rows [row] that it marks."""
        return Told({name: self._groups[name] for name in lost}, self._runner, lost)


def poles_of(traits: TraitSet, runner: Runner) -> Told:
    """Replies at both poles of every trait to every question of the set, by trait; generated where missing."""
    return _told(
        {t.name: [trait_jobs(traits, i, p) for p in POLES] for i, t in enumerate(traits.traits)}, runner
    )


def scenario_poles(traits: TraitSet, runner: Runner) -> Told:
    """Replies to both scenarios of every pair, by trait; traits with fewer than LEAST_SCENARIOS are left out."""
    enough = [t for t in traits.traits if len(t.scenarios) >= LEAST_SCENARIOS]
    return _told({t.name: [scenario_jobs(t, p) for p in POLES] for t in enough}, runner)


def _told(groups: Mapping[str, Sequence[Sequence[Job]]], runner: Runner) -> Told:
    runner.prepare([jobs for pair in groups.values() for jobs in pair])
    return Told(groups, runner)


def _join(groups: Sequence[Sequence[Job]], measured: Sequence[Measured]) -> Poles:
    pooled: dict[Position, NDArray[np.float32]] = {
        p: np.concatenate([m.pooled[p] for m in measured]) for p in POOLED
    }
    jobs = tuple(j for group in groups for j in group)
    return Poles(jobs, pooled, tuple(r for m in measured for r in m.replies))


def screened(
    poles: Poles, trait: Trait, elicitation: Elicitation, judge: Callable[[Replies], Screened]
) -> tuple[Poles, list[RemovedReply]]:
    """Poles without the *extract* and *select* replies that a filter removes, and these with the reasons.

    Test replies are not even judged: a filter that looks at the outcome would make any direction look good.
    """
    rows = [i for i, j in enumerate(poles.jobs) if j.question.split != "test"]
    removed = judge(poles.as_replies(trait, rows)).removed
    lost = np.zeros(len(poles.jobs), dtype=bool)
    lost[[rows[r.item] for r in removed]] = True
    return replace(poles, lost=lost), [_record(poles, trait, elicitation, rows[r.item], r) for r in removed]


def _record(poles: Poles, trait: Trait, elicitation: Elicitation, row: int, removed: Removed) -> RemovedReply:
    job, reply = poles.jobs[row], poles.replies[row]
    pole: Polarity = "positive" if job.condition == "positive" else "negative"
    return RemovedReply(
        trait.name, elicitation, pole, job.question.split, job.question.text, reply.text,
        "; ".join(removed.reasons),
    )  # fmt: skip
