"""Both poles of a trait in one model's replies: elicited by instruction or by scenario, all or screened.

By instruction, the same question is asked under contrastive system prompts. By scenario, nobody is told
anything: paired user messages describe situations that draw the trait out or its opposite. What the two ways
have in common is the trait; what they do not is how it was asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lab.directions import Contrast
from lab.judging.judges import Item
from lab.judging.trust import Removed, Screened
from lab.judging.verdicts import Replies
from lab.pipelines.replies import POOLED, Job, Measured, Runner, trait_jobs
from lab.records import Elicitation, Polarity, Position, Question, RemovedReply, Reply, Split, Trait, TraitSet

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


def poles_of(traits: TraitSet, runner: Runner) -> dict[str, Poles]:
    """Replies at both poles of every trait to every question of the set, by trait."""
    return _poles(
        {t.name: [trait_jobs(traits, i, p) for p in POLES] for i, t in enumerate(traits.traits)}, runner
    )


def scenario_poles(traits: TraitSet, runner: Runner) -> dict[str, Poles]:
    """Replies to both scenarios of every pair, by trait; traits with fewer than LEAST_SCENARIOS are left out."""
    enough = [t for t in traits.traits if len(t.scenarios) >= LEAST_SCENARIOS]
    return _poles({t.name: [scenario_jobs(t, p) for p in POLES] for t in enough}, runner)


POLES: tuple[Polarity, Polarity] = ("positive", "negative")


def _poles(groups: Mapping[str, Sequence[Sequence[Job]]], runner: Runner) -> dict[str, Poles]:
    found = runner.measure([jobs for pair in groups.values() for jobs in pair])
    return {name: _join(groups[name], found[2 * i : 2 * i + 2]) for i, name in enumerate(groups)}


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
    told = [_told(poles, trait, elicitation, rows[r.item], r) for r in removed]
    return replace(poles, lost=lost), told


def _told(poles: Poles, trait: Trait, elicitation: Elicitation, row: int, removed: Removed) -> RemovedReply:
    job, reply = poles.jobs[row], poles.replies[row]
    pole: Polarity = "positive" if job.condition == "positive" else "negative"
    return RemovedReply(
        trait.name, elicitation, pole, job.question.split, job.question.text, reply.text,
        "; ".join(removed.reasons),
    )  # fmt: skip
