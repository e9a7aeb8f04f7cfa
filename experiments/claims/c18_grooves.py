"""Claim 18: whether a tuned model without a scaffold already is the assistant, and is drawn back to it.

Question. Where does a model stand on its own assistant axis when nobody tells it who to be, does its base model stand
there too, and does it come back there when a reply has begun in another voice?

Prediction. The tuned models stand near their default assistant and come back to it; the base says what leans to no
one and goes on in the voice that began. (Seen before this was written, `lab axis hearth-a --base hearth-base`: no
scaffold at .83 and .84 of the way from the mean role to the default; by what is said .91 for hearth-a, .15 for
hearth-base. Never looked at: foreign beginnings.)

Measure. Loadings on the model's own axis, 0 the mean role, 1 the default assistant, of replies without scaffold: by
projection for the model itself; beside the base by the slope of what either says, both weighed by the model (a base
has no axis of its own, and projections say who the chat makes the model). Interval over test questions; of a
difference from both intervals, as if independent. Restoring force: the model, without scaffold, goes on from the
first sentence of a reply that was given under a prompt against the assistant; a judge reads the assistant in the
rest. Return = 1 where the rest is as after the model's own beginning, 0 where it is as if the other voice spoke on.
Interval: resampling questions. (First run with 4 replies to a question: all supported but for the return above the
base's, -.02 [-.58, .31], too wide to tell; so there are 12.)

Null. Position: 0, the mean role. Return: 0, the reply goes on as it began. Worn in: 0, the base does the same.

Verdict rule. Supported each: position above .5, nearer to the assistant than to the mean role, in every model; return
above .5 in every model; position by what is said, and return, of the first model above its base's by more than .25 (a
quarter of the way). Refuted below. The claim needs all; one refuted refutes it. Without a base the last two abstain.

What would change it. A base that has read many assistants, a tuned model whose default has a name and a character,
other roles (they set the zero), longer foreign passages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.claims import Frame, abstain, all_of, effect, names, of, statistic
from lab.pipelines.axis import AxisConfig, find_axis
from lab.pipelines.claim_landings import load_model, traits_of
from lab.pipelines.claim_returns import Talk, rest
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.records import LabError
from lab.records.claims import Effect, Observation
from lab.records.personas import DEFAULT, NOBODY, bases_of, said_by
from lab.store import Store

TITLE = "A local model does not arrive empty; assistant-shaped grooves are worn in"
COMBINE = all_of
COMPANIONS = ("base",)
TRAIT = "assistant"
NONE = ("",)
OWN, FOREIGN, OTHER = "goes on from its own", "goes on from a foreign beginning", "the other voice throughout"


@dataclass(frozen=True)
class Config(ClaimConfig):
    """How many questions and replies, and what counts as near, as coming back, and as worn in."""

    per_split: int = 8
    """Questions of each split that roles are asked."""
    samples: int = 12
    near: float = 0.5
    returned: float = 0.5
    worn: float = 0.25


CONFIG = Config()
QUICK = Config(per_split=5, samples=1, questions=10, max_new_tokens=12)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Where no scaffold stands, by projection and by what is said; and readings after either beginning."""
    found = _places(config, store, lambda s, x: progress(s, 0.6 * x))
    base = load_model(config.base, config) if config.base else None
    for k, name in enumerate(config.models):
        progress(f"foreign beginnings, {name}", 0.6 + 0.4 * k / len(config.models))
        model = load_model(name, config)
        traits = traits_of(model, config)
        trait = next((t for t in traits.traits if t.name == TRAIT), None)
        if trait is None:
            continue
        talk = Talk(model, traits, config, store, config.samples)
        reader, voices = talk.reader(), {"none": NONE, "other": trait.negative}
        begun = talk.begun(voices)
        cells = {OWN: (NONE, "none"), FOREIGN: (NONE, "other"), OTHER: (trait.negative, "other")}
        for series, (speaker, beginner) in cells.items():
            found += rest(talk, speaker, begun[beginner], reader, TRAIT, series)
        if base is not None and k == 0:
            bare = replace(talk, model=base)
            label, starts = f"{base.identity.name} (base)", bare.begun({"none": NONE})["none"]
            found += rest(bare, NONE, starts, reader, TRAIT, OWN, label)
            found += rest(bare, NONE, begun["other"], reader, TRAIT, FOREIGN, label)
    return found


def _places(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Rows of the map that are no roles."""
    inner = AxisConfig(
        config.models[:2], None, config.per_split, "reply_mean", config.dtype, config.seed, config.max_new_tokens,
        config.traits, base=config.base,
    )  # fmt: skip
    try:
        book = find_axis(inner, store, progress)
    except LabError as error:
        return [Observation(" | ".join(config.models[:2]), "no axis", "all", float("nan"), note=str(error))]
    rows = []
    for s in book.summaries:
        series = {NOBODY: "no scaffold, by projection", said_by(s.model): "no scaffold, by what is said"}
        series |= {said_by(b): "base, by what is said" for b in bases_of(book)}
        for r in book.landings:
            if r.model == s.model and r.role in series:
                rows.append(
                    Observation(s.model, series[r.role], "all", r.loading, low=r.low, high=r.high, n=s.n)
                )
            elif r.model == s.model and r.role != DEFAULT:
                rows.append(Observation(s.model, "role", r.role, r.loading))
    return rows


def judge(
    observed: Sequence[Observation], rng: np.random.Generator, settings: Config = CONFIG
) -> list[Effect]:
    """The verdict rule."""
    found = [
        abstain(r.note, Frame(r.models, "no scaffold on the axis", "", "above", settings.near, ""))
        for r in of(observed, series="no axis")
    ]
    for row in of(observed, series="no scaffold, by projection"):
        frame = Frame(
            row.models, "no scaffold on the assistant axis", "mean role 0, default 1", "above", settings.near,
            "0: the mean role",
        )  # fmt: skip
        found.append(effect(row.value, row.low, row.high, row.n, frame))
    models = [m for m in names(observed, "models") if of(observed, models=m, series=OTHER)]
    for model in models:
        found.append(_back(observed, model, settings, rng))
    first = models[0] if models else next(iter(names(observed, "models")), "")
    return [*found, _said(observed, first, settings), _worn(observed, first, settings, rng)]


def _back(observed: Sequence[Observation], model: str, settings: Config, rng: np.random.Generator) -> Effect:
    frame = Frame(
        model, "way back to the assistant after a foreign beginning", "share", "above", settings.returned,
        "0: goes on as it began",
    )  # fmt: skip
    columns = [of(observed, models=model, series=s) for s in (OWN, FOREIGN, OTHER)]
    apart = replace(frame, bar=0.0)
    if statistic(columns[::2], lambda m: m[0] - m[1], rng, apart).verdict != "supported":
        return abstain("a prompt against the assistant does not change what is said", frame)
    return statistic(columns, _return, rng, frame)


def _return(means: np.ndarray) -> np.ndarray:
    """Of own, foreign and other."""
    return (means[1] - means[2]) / (means[0] - means[2])


def _said(observed: Sequence[Observation], model: str, settings: Config) -> Effect:
    """Tuned less base by what is said, on the tuned model's ruler; intervals joined as if independent."""
    frame = Frame(
        model, "by what is said without scaffold, model less base", "mean role 0, default 1", "above", settings.worn,
        "0: as the base",
    )  # fmt: skip
    one, base = (
        of(observed, models=model, series=f"{who}, by what is said") for who in ("no scaffold", "base")
    )
    if not one or not base:
        return abstain("no base model, or the default's words do not stand out from the roles'", frame)
    a, b = one[0], base[0]
    reach = float(np.hypot(a.high - a.low, b.high - b.low)) / 2
    middle = (a.high + a.low) / 2 - (b.high + b.low) / 2
    return effect(a.value - b.value, middle - reach, middle + reach, min(a.n, b.n), frame)


def _worn(observed: Sequence[Observation], model: str, settings: Config, rng: np.random.Generator) -> Effect:
    """Return of the model less that of its base; both against the model's other voice."""
    frame = Frame(
        model, "way back to the assistant, model less base", "share", "above", settings.worn, "0: as the base"
    )
    base = next((m for m in names(observed, "models") if m.endswith("(base)")), "")
    if not base or not model:
        return abstain("no base model to hold it against", frame)
    mine = [of(observed, models=model, series=s) for s in (OWN, FOREIGN, OTHER)]
    its = [*(of(observed, models=base, series=s) for s in (OWN, FOREIGN)), mine[2]]
    apart = replace(frame, bar=0.0)
    if any(statistic(c[::2], lambda m: m[0] - m[1], rng, apart).verdict != "supported" for c in (mine, its)):
        return abstain("one of the two says nothing that lies apart from the other voice", frame)
    return statistic([*mine, *its], lambda m: _return(m[:3]) - _return(m[3:]), rng, frame)
