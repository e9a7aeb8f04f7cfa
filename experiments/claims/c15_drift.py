"""Claim 15: drift in one word.

Question. In the midst of a talk under a scaffold the voice slides to the generic assistant. Does a monitor on the
assistant axis tell such a reply from the model's own, and does one word of it give it away?

Prediction. Six turns of sliding are told from six of the model's own with AUROC above .9. One word is not enough:
the most telling token of a reply has AUROC below .9.

Measure. Drifted replies: what the model says without any scaffold to the same test questions. Own: what it says
under the scaffold. Both are read under the scaffold; the score is the slope of the reply's log-probability along
the assistant direction (lab.likelihood: which way the model would have to be pushed to say it). Over six turns: the
sum. One word: the largest share of a single token. AUROC per scaffold, averaged; only scaffolds that land at least
three noise floors from no scaffold, towards less of an assistant. Interval by resampling scaffolds. Beside: AUROC
of one whole reply, and false alarms at the threshold that promises 5 % of the other scaffolds' own replies.

In a first run the score of one word came out as unknown everywhere (a fault of the code), and the threshold of the
false alarms came from six replies (15 % instead of 5 %); both were mended before any value of one word was seen.

Null. .5: the scores say nothing.

Verdict rule. Supported: six turns and one word both above .9. One below refutes it.

What would change it. Slides that are partial, or towards another character; see experiments/drift.py for planted
drift of known size, its delay and its false alarms per 100 turns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.claims import Frame, abstain, all_of, mean_over, names, of
from lab.likelihood import Slope, likelihood_slopes
from lab.pipelines.claim_landings import Landings, land, load_model, scaffolds_of, traits_of, variant
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.prompts.chat import render
from lab.records import LabError, Message, ScaffoldFile
from lab.records.claims import Effect, Observation
from lab.stats import auroc
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

TITLE = (
    "Drift shows in one word, and the voice slides to the generic assistant: a monitor on the axis finds it"
)
COMBINE = all_of
TRAIT = "assistant"
DRAWS = 200
SERIES = {
    "six turns": "AUROC of six turns", "one word": "AUROC of the most telling token", "one reply": "AUROC of one reply",
}  # fmt: skip


@dataclass(frozen=True)
class Config(ClaimConfig):
    """Turns that are added up; from how far off no scaffold there is something to slide from (noise floors)."""

    turns: int = 6
    far: float = 3.0
    promised: float = 0.05


CONFIG = Config(scaffolds=0)
QUICK = Config(scaffolds=6, questions=8, turns=3, max_new_tokens=8)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per model and scaffold: how well its own replies are told from generic ones."""
    files, found = scaffolds_of(config), []
    for k, name in enumerate(config.models):
        part = lambda stage, share, k=k: progress(stage, (k + share) / len(config.models))  # noqa: E731
        model = load_model(name, config)
        nothing = variant(files[0].paraphrases[0], "nothing", ())
        landed = land(model, [*files, nothing], config, store, lambda s, f, part=part: part(s, f / 2))
        if TRAIT not in landed.traits:
            raise LabError(
                f"claim 15 reads the trait {TRAIT!r}; the trait set has {', '.join(landed.traits)}"
            )
        own: dict[str, np.ndarray] = {}
        for j, f in enumerate(files):
            part("slopes", 0.5 + 0.5 * j / len(files))
            away = float(np.nanmean(landed.at(f.name, TRAIT)))
            if landed.distance(f.name, "nothing") >= config.far and away < 0:
                rows, own[f.name] = _scaffold(model, landed, f, config)
                found += rows
        found += _alarms(landed.label, own, config)
        found.append(Observation(landed.label, "read", "all", float(len(files))))
    return found


def _scaffold(
    model: "LoadedModel", landed: Landings, f: ScaffoldFile, config: Config
) -> tuple[list[Observation], np.ndarray]:
    """One scaffold's AUROCs, and the scores of its own replies."""
    own, drifted = (_slopes(model, landed, f, said, config) for said in (f.name, "nothing"))
    sums = [np.array([s.total for s in side]) for side in (own, drifted)]
    words = [np.array([s.places.max() if len(s.places) else np.nan for s in side]) for side in (own, drifted)]
    rng = np.random.default_rng([config.seed, 15])
    turns = [_added(side, config.turns, rng) for side in sums]
    values = {
        "six turns": auroc(turns[1], turns[0]), "one word": auroc(words[1], words[0]), "one reply": auroc(sums[1], sums[0]),
    }  # fmt: skip
    note = landed.reply("nothing", landed.questions[0])
    return [Observation(landed.label, what, f.name, v, note=note) for what, v in values.items()], sums[0]


def _alarms(label: str, own: Mapping[str, np.ndarray], config: Config) -> list[Observation]:
    """Share of a scaffold's own replies above the threshold that the other scaffolds' replies set."""
    rows = []
    for name, scores in own.items():
        others = [s for other, s in own.items() if other != name]
        if others:
            threshold = float(np.nanquantile(np.concatenate(others), 1 - config.promised))
            rows.append(Observation(label, "false alarms", name, float(np.mean(scores > threshold))))
    return rows


def _slopes(
    model: "LoadedModel", landed: Landings, f: ScaffoldFile, said: str, config: Config
) -> list[Slope]:
    """Slopes along the assistant direction of what was said under one scaffold, read under `f`."""
    questions = sorted(traits_of(model, config).of("test"), key=lambda q: q.id)
    replies = [landed.reply(said, q.id) for q in questions]
    system = Message("system", f.paraphrases[0].text)
    chats = [render(model.tokenizer, [system, Message("user", q.text)]) for q in questions]
    direction = landed.landed.made.directions[TRAIT, "reply_mean"]
    norm = float(landed.landed.measured[0].norm[direction.site.layer])
    read = likelihood_slopes(model, chats, replies, [direction], [norm])
    return [r[TRAIT] for r in read]


def _added(values: np.ndarray, turns: int, rng: np.random.Generator) -> np.ndarray:
    """Sums over random sets of turns."""
    known = values[~np.isnan(values)]
    if len(known) < turns:
        return np.array([])
    return np.array([rng.choice(known, turns, replace=False).sum() for _ in range(DRAWS)])


def judge(observed: Sequence[Observation], rng: np.random.Generator) -> list[Effect]:
    """The verdict rule."""
    found = []
    for model in names(observed, "models"):
        mine = of(observed, models=model)
        for series, words in SERIES.items():
            frame = Frame(
                model,
                words,
                "AUROC",
                "above",
                0.9,
                "no information: .5",
                "scaffolds",
                decides=series != "one reply",
            )
            rows = of(mine, series=series)
            if not rows:
                found.append(
                    abstain(
                        "no scaffold lands far enough from no scaffold on the assistant's other side", frame
                    )
                )
                continue
            found.append(mean_over(rows, rng, frame))
        alarms = Frame(
            model, "false alarms where 5 % were promised", "share of replies", "below", 0.1, "promised: .05", "scaffolds",
            decides=False,
        )  # fmt: skip
        if of(mine, series="false alarms"):
            found.append(mean_over(of(mine, series="false alarms"), rng, alarms))
    return found
