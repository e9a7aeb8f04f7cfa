"""Claim 13: benchmarks see the destination, not the path.

Question. Where one model answers a question right under two scaffolds, does its state take the same way through the
answer?

Prediction. No: the paths lie more than twice as far apart as those of two wordings of one scaffold, while the score
is the same by choice of the pairs.

Measure. Fact questions (data/tasks) under each scaffold. A path is the projection of each token of the answer on
every trait's direction, in the model's own unit L, averaged in five parts of the answer. Per question: root mean
square distance of the paths of all pairs of scaffolds that both answer right, as a ratio to that of two wordings of
one scaffold that are both right. Interval by resampling questions. Beside: how much the score itself differs
between scaffolds (largest minus smallest share right).

Null. Two wordings of one scaffold: 1.

Verdict rule. Supported above 2, refuted below, per model; every model is needed.

What would change it. Tasks whose answers are one token long, or scaffolds nearer to each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from lab.claims import Frame, all_of, effect, names, of, statistic
from lab.landing import anchors
from lab.pipelines.claim_landings import Landings, land, load_model, scaffolds_of, traits_of
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import DATA, CompareConfig, Progress, Runner
from lab.pipelines.replies import Job
from lab.prompts.tasks import Task, is_right, read_task
from lab.records import ScaffoldFile
from lab.records.claims import Effect, Observation
from lab.store import Store

TITLE = "Benchmarks see the destination, not the path: equal answers, other ways through the states"
COMBINE = all_of
PARTS = 5


@dataclass(frozen=True)
class Config(ClaimConfig):
    """How many of the task's questions."""

    items: int = 24


CONFIG = Config(scaffolds=12)
QUICK = Config(scaffolds=5, questions=6, items=6, max_new_tokens=8)


@dataclass(frozen=True)
class _Answers:
    """right [scaffold, wording, item]; path [scaffold, wording, item, trait x part], NaN for an empty answer."""

    right: np.ndarray
    path: np.ndarray = field(repr=False)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per model and item: mean square distance of right pairs, and of right wordings; scores."""
    files = [f for f in scaffolds_of(config) if len(f.paraphrases) > 1]
    found: list[Observation] = []
    for k, name in enumerate(config.models):
        part = lambda stage, share, k=k: progress(stage, (k + share) / len(config.models))  # noqa: E731
        model = load_model(name, config)
        landed = land(model, files[:2], config, store, lambda s, f, part=part: part(s, 0.5 * f))
        task = read_task(
            DATA / "tasks" / ("hearth.json" if traits_of(model, config).name == "hearth" else "chat.json")
        )
        part("answers", 0.5)
        answers = _answers(model, landed, files, task, config, store)
        found += _told(landed.label, answers, [f.name for f in files], task)
    return found


def _answers(
    model, landed: Landings, files: Sequence[ScaffoldFile], task: Task, config: Config, store: Store
) -> _Answers:
    inner = CompareConfig(
        (landed.label,), (), config.traits, config.dtype, config.seed, config.max_new_tokens
    )
    runner = Runner(model, inner, store, 0, lambda _: None)
    reading = [landed.landed.made.directions[t, "reply_mean"] for t in landed.traits]
    questions = task.questions[: config.items]
    groups = [[Job("task", k, q, f.paraphrases[k].text) for q in questions] for f in files for k in (0, 1)]
    fixed = [anchors(p) for p in landed.landed.projections if p.position == "reply_mean"]
    right, paths = [], []
    for measured in runner.measure(groups, reading):
        said = [r.text for r in measured.replies]
        right.append([is_right(t, a) for t, a in zip(said, task.answers, strict=False)])
        paths.append([_path(r.projections, landed.traits, fixed) for r in measured.replies])
    shape = (len(files), 2, len(questions))
    return _Answers(np.array(right).reshape(shape), np.array(paths).reshape(*shape, -1))


def _path(projections, traits: Sequence[str], fixed: Sequence) -> np.ndarray:
    """L along the answer: [trait x part]; NaN for one of fewer than PARTS tokens."""
    if len(projections[traits[0]]) < PARTS:
        return np.full(len(traits) * PARTS, np.nan)
    rows = []
    for trait, at in zip(traits, fixed, strict=True):
        values = (np.array(projections[trait]) - at.neutral) / at.unit
        rows += [part.mean() for part in np.array_split(values, PARTS)]
    return np.array(rows)


def _told(label: str, answers: _Answers, scaffolds: Sequence[str], task: Task) -> list[Observation]:
    rows = []
    for i in range(answers.right.shape[2]):
        right, path = answers.right[:, :, i], answers.path[:, :, i]
        pairs = [
            (path[a, 0], path[b, 0])
            for a, b in combinations(range(len(scaffolds)), 2)
            if right[a, 0] and right[b, 0]
        ]
        wordings = [(path[a, 0], path[a, 1]) for a in range(len(scaffolds)) if right[a].all()]
        for what, each in (("scaffolds", pairs), ("wordings", wordings)):
            apart = [float(np.square(p - q).mean()) for p, q in each]
            value = float(np.nanmean(apart)) if apart and not np.isnan(apart).all() else float("nan")
            rows.append(
                Observation(
                    label, what, task.questions[i].id, value, n=len(each), note=task.questions[i].text
                )
            )
    share = answers.right[:, 0].mean(axis=1)
    rows += [Observation(label, "score", s, float(v)) for s, v in zip(scaffolds, share, strict=True)]
    return rows


def judge(observed: Sequence[Observation], rng: np.random.Generator) -> list[Effect]:
    """The verdict rule."""
    found = []
    for model in names(observed, "models"):
        mine = of(observed, models=model)
        frame = Frame(
            model,
            "distance of the ways to one right answer",
            "distance of two wordings",
            "above",
            2.0,
            "two wordings: 1",
        )
        columns = [of(mine, series="scaffolds"), of(mine, series="wordings")]
        found.append(statistic(columns, lambda m: np.sqrt(m[0] / m[1]), rng, frame))
        scores = [r.value for r in of(mine, series="score")]
        beside = Frame(
            model, "score, largest minus smallest over scaffolds", "share right", "below", 0.1, "no difference: 0",
            "scaffolds", decides=False,
        )  # fmt: skip
        nan = float("nan")
        found.append(
            effect(max(scores) - min(scores) if scores else nan, nan, nan, len(scores), beside, "a range")
        )
    return found
