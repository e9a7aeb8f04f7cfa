"""Claim 4: same surface, other shape.

Question. The same scaffold in two models: are the replies as alike as those under two wordings of one scaffold,
while the landings lie further apart than those of two wordings?

Prediction. In these organisms, which learnt one language from one source, both differ by more than a wording: the
surface is not identical.

Measure. Surface: the symmetric divergence of the two models' reply distributions, E_a[log a - log b] + E_b[log b -
log a] in nats per reply, estimated on sampled replies that both models read; as the square root of its ratio to the
same divergence between two wordings of the scaffold inside one model. No judge is needed and tokenizers may differ.
Inside: the distance of the two landings (each in its own model's unit) over all traits, over the reply, in noise
floors of wordings. Interval by resampling scaffolds.

Null. Two wordings of one scaffold in one model: 1, for both.

Verdict rule. Supported: surface below 1 and inside above 1. One refuted refutes it.

What would change it. Models whose replies are nearer to each other (a model and its next version), or a surface
measured by readers instead of likelihoods.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lab.claims import Frame, all_of, mean_over, names, of, statistic
from lab.likelihood import token_log_probs
from lab.pipelines.claim_landings import Landings, land, load_model, scaffolds_of, traits_of
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.prompts.chat import render
from lab.records import LabError, Message, Rendered, ScaffoldFile
from lab.records.claims import Effect, Observation
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

TITLE = (
    "The same identity prompt in another model looks identical on the surface, but the shape beneath changes"
)
COMBINE = all_of


@dataclass(frozen=True)
class Config(ClaimConfig):
    """Nothing beyond what all claims share."""


CONFIG = Config(scaffolds=0)
QUICK = Config(scaffolds=6, questions=6, max_new_tokens=8)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per scaffold: divergence of the two models, of wordings in each, distance of the landings."""
    if len(config.models) != 2:
        raise LabError(f"claim 4 takes two models, got {len(config.models)}; give --models A B")
    files = [f for f in scaffolds_of(config) if len(f.paraphrases) > 1]
    models = [load_model(n, config) for n in config.models]
    sides = []
    for k, model in enumerate(models):
        label = model.identity.name + (
            f" ({k + 1})" if models[0].identity.name == models[1].identity.name else ""
        )
        part = lambda stage, share, k=k: progress(stage, 0.35 * (k + share))  # noqa: E731
        sides.append(land(model, files, config, store, part, label=label))
    pair = " | ".join(s.label for s in sides)
    found = []
    for j, f in enumerate(files):
        progress("likelihoods", 0.7 + 0.3 * j / len(files))
        gaps = [float(np.mean(sides[0].at(f.name, t) - sides[1].at(f.name, t))) for t in sides[0].traits]
        floor = np.sqrt(np.mean([s.wordings_apart() ** 2 for s in sides]))
        found.append(Observation(pair, "inside", f.name, float(np.sqrt(np.square(gaps).sum()) / floor)))
        found.append(Observation(pair, "surface", f.name, _between(models, sides, f, config)))
        wordings = [_wordings(m, s, f, config) for m, s in zip(models, sides, strict=True)]
        found.append(Observation(pair, "wordings", f.name, float(np.mean(wordings))))
    return found


def _asked(model: "LoadedModel", f: ScaffoldFile, k: int, config: Config) -> list[Rendered]:
    """The chats of one wording with the test questions, in the order of their names."""
    questions = sorted(traits_of(model, config).of("test"), key=lambda q: q.id)
    system = Message("system", f.paraphrases[k].text)
    return [render(model.tokenizer, [system, Message("user", q.text)]) for q in questions]


def _said(side: Landings, f: ScaffoldFile, k: int) -> list[str]:
    return [side.reply(f.name, q, k) for q in side.questions]


def _likely(model: "LoadedModel", f: ScaffoldFile, k: int, said: Sequence[str], config: Config) -> np.ndarray:
    """Log-probability of each reply under one wording, in nats."""
    return np.array([x.sum() for x in token_log_probs(model, _asked(model, f, k, config), said)])


def _between(
    models: Sequence["LoadedModel"], sides: Sequence[Landings], f: ScaffoldFile, config: Config
) -> float:
    """Symmetric divergence of two models under the first wording, nats per reply."""
    total = 0.0
    for own, other, side in ((models[0], models[1], sides[0]), (models[1], models[0], sides[1])):
        said = _said(side, f, 0)
        total += float(np.mean(_likely(own, f, 0, said, config) - _likely(other, f, 0, said, config)))
    return total


def _wordings(model: "LoadedModel", side: Landings, f: ScaffoldFile, config: Config) -> float:
    """Symmetric divergence of one model under its first two wordings, nats per reply."""
    total = 0.0
    for own, other in ((0, 1), (1, 0)):
        said = _said(side, f, own)
        total += float(np.mean(_likely(model, f, own, said, config) - _likely(model, f, other, said, config)))
    return total


def judge(observed: Sequence[Observation], rng: np.random.Generator) -> list[Effect]:
    """The verdict rule."""
    found = []
    for pair in names(observed, "models"):
        mine = of(observed, models=pair)
        surface = Frame(
            pair,
            "divergence of the replies",
            "wordings' divergence (root)",
            "below",
            1.0,
            "two wordings: 1",
            "scaffolds",
        )
        columns = [of(mine, series="surface"), of(mine, series="wordings")]
        found.append(statistic(columns, _root, rng, surface))
        inside = replace(surface, what="distance of the landings", unit="noise floors", side="above")
        found.append(mean_over(of(mine, series="inside"), rng, inside))
    return found


def _root(means: np.ndarray) -> np.ndarray:
    """Root of the ratio; a negative divergence (sampling) counts as 0, no floor as unknown."""
    floor = np.where(means[1] > 0, means[1], np.nan)
    return np.sqrt(np.clip(means[0], 0, None) / floor)
