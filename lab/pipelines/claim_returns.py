"""Who says how a reply begins, and who goes on: readings of the rest, question by question.

A voice is a set of system prompts (one empty one: no scaffold). Every voice answers the test questions; the
beginnings of its replies are put into the mouth of every voice, which goes on. A judge reads only what is said after.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.dosage import Reader
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import CompareConfig
from lab.pipelines.prefixes import Begun, beginning, continued
from lab.pipelines.readers import reader_of
from lab.pipelines.replies import Job, Runner, neutral_jobs
from lab.records import Question, Split, TraitSet
from lab.records.claims import Observation
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

Voices = Mapping[str, Sequence[str]]
ORDINARY = 48
"""Replies without scaffold, at least, that tell a likelihood judge what is strange."""


@dataclass(frozen=True)
class Talk:
    """One model with what its replies are drawn and read by; samples: replies to a question."""

    model: "LoadedModel"
    traits: TraitSet
    config: ClaimConfig
    store: Store
    samples: int

    @property
    def questions(self) -> tuple[Question, ...]:
        """Test questions."""
        return self.traits.of("test")

    def begun(self, voices: Voices) -> dict[str, list[tuple[Question, int, str]]]:
        """The beginnings of every voice's replies."""
        where = [(q, i, k) for i, q in enumerate(self.questions) for k in range(self.samples)]
        groups = [
            [Job("voice", k, q, prompts[(i + k) % len(prompts)], sample=k) for q, i, k in where]
            for prompts in voices.values()
        ]
        said = _runner(self).measure(groups)
        return {
            name: [(q, k, beginning(r.text)) for (q, _, k), r in zip(where, m.replies, strict=True)]
            for name, m in zip(voices, said, strict=True)
        }

    def reader(self) -> Reader:
        """The judge of this model's traits."""

        def reference() -> tuple[list[str], list[str]]:
            splits: tuple[Split, ...] = ("extract", "select")
            samples = -(-ORDINARY // sum(len(self.traits.of(s)) for s in splits))
            jobs = [j for s in splits for j in neutral_jobs(self.traits, s, samples)]
            (said,) = _runner(self).measure([jobs])
            return [j.question.text for j in jobs], [r.text for r in said.replies]

        return reader_of(self.model, self.traits, reference)


def _runner(talk: Talk) -> Runner:
    c = talk.config
    base = CompareConfig((talk.model.identity.name,), (), c.traits, c.dtype, c.seed, c.max_new_tokens)
    return Runner(talk.model, base, talk.store, 0, lambda _: None)


def rest(
    talk: Talk, speaker: Sequence[str], begun: Sequence[tuple[Question, int, str]], reader: Reader, trait: str,
    series: str, label: str = "",
) -> Iterator[Observation]:  # fmt: skip
    """The judge's reading of a trait in what a voice says after these beginnings, by question; NaN: nothing was said."""
    order = {q.id: i for i, q in enumerate(talk.questions)}
    chats = [Begun(speaker[(order[q.id] + k) % len(speaker)], q, words, k) for q, k, words in begun]
    said = continued(talk.model, chats, talk.config, talk.store)
    taken = reader.take([q.text for q, _, _ in begun], said)
    index = reader.traits.index(trait)
    for q in talk.questions:
        rows = np.array(
            [i for i, (asked, _, _) in enumerate(begun) if asked.id == q.id and said[i]], dtype=np.int64
        )
        value = float(taken.pooled(rows)[index]) if len(rows) else float("nan")
        note = f"{begun[rows[0]][2]} | {said[rows[0]]}" if len(rows) else ""
        yield Observation(label or talk.model.identity.name, series, q.id, value, n=len(rows), note=note)
