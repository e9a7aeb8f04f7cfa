"""What scaffolds switch on in one or two models' sparse features, and which segment of a scaffold does it.

Replies to the test questions under every wording of a scaffold, and without one; the replies are those of `lab compare`
where that has been run. Then every segment of the first wording is left out in turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.features.contrast import Coded, by_question
from lab.features.readout import Falls, Matching, Switched, falls, matching_of, places, switched
from lab.pipelines.compare import CompareConfig, Progress, labels_of, resolve_trait_set
from lab.pipelines.feature_replies import Opened, coded_jobs, open_sae, questions_of
from lab.pipelines.readout_runs import load_readout, save_readout, wordings_key
from lab.pipelines.replies import Job, Runner, neutral_jobs, scaffold_jobs
from lab.records import LabError, Reply, Scaffold, ScaffoldFile, Segment, TraitSet
from lab.records.decomposition import ReadoutBook, SegmentEffect, SwitchedFeature
from lab.records.feature_cards import FeatureTwin
from lab.store import Store, content_key, readable

SAID = ("same", "anew")
"""How a segment is left out: of the prompt of replies that are there, or before new ones are made."""
SAMPLES = 2
"""Replies without a scaffold to each question, as in `lab compare`."""


@dataclass(frozen=True)
class ReadoutConfig:
    """Which dictionaries to read under which scaffolds. models: "" for those that the files name."""

    saes: tuple[str, ...]
    scaffolds: tuple[ScaffoldFile, ...]
    models: tuple[str, ...] = ()
    trait_set: str = "auto"
    """Only its test questions are asked."""
    twins: str = ""
    """Run of `lab sae features` that matched two dictionaries: what is common, what only in one."""
    segments: bool = True
    """Whether segments are left out in turn: as many replies again as the scaffold has segments."""
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 40
    force: bool = False

    def check(self) -> None:
        """LabError for what cannot be read."""
        if len(self.saes) not in (1, 2) or len(self.models) not in (0, len(self.saes)):
            raise LabError(
                f"expected one or two dictionaries, and a model for each or none, got {len(self.saes)} and "
                f"{len(self.models)}"
            )
        if not self.scaffolds or not all(p.text for s in self.scaffolds for p in s.paraphrases):
            raise LabError(
                "expected scaffolds with a text, as none is what they are held against; name a file"
            )


def readout(
    config: ReadoutConfig, store: Store, progress: Progress, matching: Matching | None = None
) -> ReadoutBook:
    """Run (or find) the readout. LabError for what the user can mend.

    matching: pairs of features instead of those of `config.twins`.
    """
    config.check()
    progress("loading models and dictionaries", 0.0)
    names = config.models or ("",) * len(config.saes)
    opened = [
        open_sae(sae, model, store, config.dtype, config.force)
        for sae, model in zip(config.saes, names, strict=True)
    ]
    if matching is None and config.twins and len(config.saes) == 2:
        matching = matching_from(store, config.twins, *config.saes)
    traits = resolve_trait_set(config.trait_set, [o.model for o in opened])
    settings = {
        k: v
        for k, v in asdict(config).items()
        if k not in ("saes", "models", "trait_set", "scaffolds", "twins", "force")
    }
    key = content_key(
        "readout-1", [[o.model.identity.fingerprint, o.digest] for o in opened], asdict(traits),
        [asdict(s) for s in config.scaffolds], settings, [sorted(m.items()) for m in matching or ()],
    )  # fmt: skip
    run = f"readout-{key[:10]}"
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_readout(store, run)
    found = _book(run, config, opened, traits, store, progress, matching, settings)
    save_readout(store, found)
    progress("done", 1.0)
    return found


def _book(
    run: str, config: ReadoutConfig, opened: Sequence[Opened], traits: TraitSet, store: Store, progress: Progress,
    matching: Matching | None, settings: Mapping[str, object],
) -> ReadoutBook:  # fmt: skip
    labels = labels_of([o.model for o in opened])
    total, done = len(opened) * _replies(config, traits), 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress("replies", 0.02 + 0.9 * min(1.0, done / total))

    sides = [
        _Side(config, one, label, traits, stream, _runner(config, one, store, stream, tick))
        for stream, (one, label) in enumerate(zip(opened, labels, strict=True))
    ]
    features: list[SwitchedFeature] = []
    segments: list[SegmentEffect] = []
    for k, scaffold in enumerate(config.scaffolds):
        found = [side.read(scaffold, k) for side in sides]
        for i, (side, on) in enumerate(zip(sides, found, strict=True)):
            pairs = matching[i] if matching and len(sides) == 2 else None
            features += side.rows(scaffold.name, on, found[1 - i] if pairs is not None else None, pairs)
        if config.segments:
            for side, on in zip(sides, found, strict=True):
                segments += side.without(scaffold, k, on)
    why = "" if len(sides) == 1 or matching else "the features of the two dictionaries were not matched"
    return ReadoutBook(
        run, tuple(o.model.identity for o in opened), labels, tuple(o.sae.name for o in opened),
        tuple(s.name for s in config.scaffolds), tuple(features), tuple(segments),
        {**settings, "trait_set": traits.name, "questions": len(traits.of("test")), "samples": SAMPLES,
         "twins": config.twins, "wordings": [wordings_key(s) for s in config.scaffolds]}, why,
    )  # fmt: skip


def _runner(config: ReadoutConfig, one: Opened, store: Store, stream: int, tick: Any) -> Runner:
    base = CompareConfig(
        (one.model.identity.name,), (), config.trait_set, config.dtype, config.seed, config.max_new_tokens
    )
    return Runner(one.model, base, store, stream, tick)


def _replies(config: ReadoutConfig, traits: TraitSet) -> int:
    """Of one model, for the progress bar."""
    each = [
        len(s.paraphrases) + (SAMPLES * (1 + len(s.paraphrases[0].segments)) if config.segments else 0)
        for s in config.scaffolds
    ]
    return len(traits.of("test")) * (SAMPLES + sum(each))


# ------------------------------------------------------------------ one model


class _Side:
    """One model with its dictionary and its replies without a scaffold, in features."""

    def __init__(
        self, config: ReadoutConfig, opened: Opened, label: str, traits: TraitSet, stream: int, runner: Runner
    ) -> None:
        self.opened, self.label, self.traits, self.runner = opened, label, traits, runner
        self._seed = (config.seed, 30, stream)
        self._asked = [q.id for q in traits.of("test")]
        self._plain = neutral_jobs(traits, "test", SAMPLES)
        self._neutral = self._code(self._plain)

    def _code(self, jobs: Sequence[Job]) -> Coded:
        (said,) = self.runner.measure([jobs])
        return coded_jobs(self.opened, jobs, said.replies)

    def _rng(self, scaffold: int, part: int) -> np.random.Generator:
        return np.random.default_rng([*self._seed, scaffold, part])

    def read(self, scaffold: ScaffoldFile, index: int) -> Switched:
        """What a scaffold switches."""
        jobs = scaffold_jobs(self.traits, scaffold)
        coded = self._code(jobs)
        which = questions_of(jobs), questions_of(self._plain)
        return switched(coded, self._neutral, which, self._asked, self._rng(index, 0))

    def rows(
        self, scaffold: str, on: Switched, there: Switched | None, match: Mapping[int, int] | None
    ) -> list[SwitchedFeature]:
        """Of every feature that could be tested."""
        found, effect = on.found, on.effect
        said = places(on, there, match) if there is not None and match is not None else None
        return [
            SwitchedFeature(
                self.label, self.opened.sae.name, scaffold, int(i), float(found.other[i]), float(found.one[i]),
                float(found.difference[i]), float(found.low[i]), float(found.high[i]), float(effect[i]),
                float(on.unit[i]), float(found.p[i]), float(found.q[i]), found.n,
                (match or {}).get(int(i), -1), said[i] if said else "",
            )
            for i in np.flatnonzero(~np.isnan(found.p))
        ]  # fmt: skip

    def without(self, scaffold: ScaffoldFile, index: int, on: Switched) -> list[SegmentEffect]:
        """What each segment of the first wording holds up. Nothing where no feature is switched on."""
        first = scaffold.paraphrases[0]
        if not (on.sign > 0).any():
            return []
        jobs = [_left_out(self.traits, scaffold.name, first, k) for k in range(-1, len(first.segments))]
        said = self.runner.measure(jobs)
        whole = self._by_question(jobs[0], said[0].replies)
        found = []
        for part, kind in enumerate(SAID, 1):
            replies = [m.replies if kind == "anew" else said[0].replies for m in said[1:]]
            less = [self._by_question(j, r) for j, r in zip(jobs[1:], replies, strict=True)]
            fallen = falls(whole, less, on, self._rng(index, part))
            found += self._effects(scaffold.name, kind, first.segments, fallen)
        return found

    def _effects(
        self, scaffold: str, said: str, segments: Sequence[Segment], found: Falls
    ) -> list[SegmentEffect]:
        return [
            SegmentEffect(
                self.label, scaffold, said, s, segment.kind, segment.provenance, segment.text,
                int(feature), float(found.fall[s, i]), float(found.low[s, i]), float(found.high[s, i]),
                float(found.p[s, i]), float(found.q[s, i]), found.n[s],
            )
            for s, segment in enumerate(segments)
            for i, feature in enumerate(found.features)
        ]  # fmt: skip

    def _by_question(
        self, jobs: Sequence[Job], replies: Sequence[Reply]
    ) -> Float[ndarray, "question feature"]:
        coded = coded_jobs(self.opened, jobs, replies)
        return by_question(coded.mean, questions_of(jobs), self._asked)


def _left_out(traits: TraitSet, name: str, scaffold: Scaffold, segment: int) -> list[Job]:
    """Test questions under a wording without one of its segments; -1: with all of them.

    Replies other than those that the readout chose features by, lest these are high here by that choice.
    """
    kept = tuple(s for k, s in enumerate(scaffold.segments) if k != segment)
    text = replace(scaffold, segments=kept).text
    return [Job(name, 0, q, text, sample=1 + k) for q in traits.of("test") for k in range(SAMPLES)]


def matching_from(store: Store, run: str, one: str, other: str) -> Matching:
    """Pairs of features that a run of `lab sae features` over both dictionaries found.

    LabError when it is missing, of another kind, or has no pair of these two.
    """
    _, rows = store.load_rows(run, "features", ("twins",))
    with readable(run):
        twins = [FeatureTwin(**r) for r in rows["twins"]]
    found = matching_of(twins, Path(one).name, Path(other).name)
    if not any(found):
        known = sorted({f"{t.sae} with {t.other}" for t in twins if t.relation == "model"})
        raise LabError(
            f"run {run} has no matched features of {one} and {other}; it has {', '.join(known) or 'no two models'}"
        )
    return found
