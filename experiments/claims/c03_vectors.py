"""Claim 3: whether persona vectors and the assistant axis belong to one model.

Question. Do two models order the same roles differently along their own assistant axes, and does a persona direction
of one model, carried into the other by a map, fail to steer it?

Prediction. No to both: role loadings agree up to their reliability, and carried directions steer as well as native
ones. (Seen before this was written: r = .99 over 60 personas; recoveries of .91 to 1.38 with 20 scaffolds more and
other doses.)

Measure. (a) Pearson r over roles of loadings on either model's axis (made on extract questions, layer by select, read
on test), over the r that two equal models reach at this reliability; interval by resampling roles. (b) Every trait's
direction goes through a ridge map that was fitted on replies under shared scaffolds to other questions; the target is
pushed with it, a judge reads the replies to test questions. Recovery = (carried - random) / (native - random) at
doses chosen for the native one on select; mean over traits, interval by jackknife over questions (half-widths
averaged over traits, as if their errors went together).

Null. r: 0, roles permuted. Recovery: 0, a random direction of equal norm; beside it directions carried by maps fitted
on shuffled scaffolds, and other traits' directions. 1: as good as the model's own.

Verdict rule. Each way of carrying: "model-specific" is supported if recovery lies below one half, so that most of a
direction's effect stays behind, refuted if above. The axis: supported if r lies below one half of what is possible,
so that less than a quarter of where a role stands carries over. The claim needs all three; one refuted refutes it.
Abstains where the native direction does not steer, or a model has no axis. The axis alone cannot refute it: shared
words in the roles' texts order them alike in any network, so it is then told beside.

What would change it. Models without a shared world of stimuli to fit a map on, other scaffolds, nonlinear
coordinates, or traits that a model does not have.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.claims import Frame, abstain, all_of, effect, of
from lab.pipelines.axis import AxisConfig, find_axis
from lab.pipelines.claim_landings import scaffolds_of
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.pipelines.geometry import GeometryConfig
from lab.pipelines.transfer import TransferConfig, transfer
from lab.records import LabError
from lab.records.claims import Effect, Observation
from lab.store import Store

TITLE = "Persona vectors and the assistant axis are model-specific"
COMBINE = all_of
REPEATS = 0.5
"""The r that two equal models reach, from which on loadings are told."""


@dataclass(frozen=True)
class Config(ClaimConfig):
    """Roles and pushes; what share of an effect must carry over."""

    per_split: int = 8
    """Questions of each split that roles are asked."""
    doses: tuple[float, ...] = (0.25,)
    controls: int = 3
    """Random directions, and maps fitted on shuffled scaffolds."""
    reply_tokens: int = 70
    bar: float = 0.5


CONFIG = Config(scaffolds=10)
QUICK = Config(scaffolds=6, per_split=4, controls=1, traits="chat:warmth", max_new_tokens=8, reply_tokens=8)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Loadings of every role in both models with their agreement; and every direction carried both ways."""
    return [
        *_axes(config, store, lambda s, x: progress(s, 0.4 * x)),
        *_carried(config, store, lambda s, x: progress(s, 0.4 + 0.6 * x)),
    ]


def _axes(config: Config, store: Store, progress: Progress) -> list[Observation]:
    inner = AxisConfig(
        config.models[:2], None, config.per_split, "reply_mean", config.dtype, config.seed, config.max_new_tokens,
        config.traits,
    )  # fmt: skip
    try:
        found = find_axis(inner, store, progress)
    except LabError as error:
        return [Observation(" | ".join(config.models[:2]), "no axis", "all", float("nan"), note=str(error))]
    r = found.agreement
    assert r is not None
    pair = " | ".join(s.model for s in found.summaries)
    possible = r.ceiling if r.ceiling > 0 else float("nan")
    rows = [
        Observation(
            pair, "role loadings, r", "all", r.r / possible, low=r.low / possible, high=r.high / possible,
            null=r.null_high / possible, n=r.n, note=f"r {r.r:.3f}, ceiling {r.ceiling:.3f}, p {r.p:.4f} against r = 0",
        ),
        Observation(pair, "role loadings, r that is possible", "all", r.ceiling),
    ]  # fmt: skip
    return [*rows, *(Observation(x.model, "role loading", x.role, x.loading) for x in found.landings)]


def _carried(config: Config, store: Store, progress: Progress) -> list[Observation]:
    geometry = GeometryConfig(
        config.models[:2],
        scaffolds_of(config),
        config.traits,
        config.dtype,
        config.seed,
        config.max_new_tokens,
    )
    book = transfer(
        TransferConfig(geometry, config.doses, config.controls, config.controls, config.reply_tokens),
        store,
        progress,
    )
    rows = []
    for t in book.transfers:
        way, gap = f"{t.source} to {t.target}", t.native - t.random
        told = f"{t.unit} by the judge {t.judge}: native {t.native:.2f}, carried {t.carried:.2f}, random {t.random:.2f}"
        rows.append(
            Observation(
                way,
                "recovery",
                t.trait,
                t.recovery,
                low=t.recovery_low,
                high=t.recovery_high,
                n=t.questions,
                note=told,
            )
        )
        for name, value in (("shuffled maps", t.permuted), ("other traits", t.wrong)):
            share = (value - t.random) / gap if not np.isnan(t.recovery) else float("nan")
            rows.append(Observation(way, name, t.trait, share))
    return rows


def judge(observed: Sequence[Observation], rng: np.random.Generator, bar: float = Config.bar) -> list[Effect]:
    """The verdict rule."""
    carried = of(observed, series="recovery")
    ways = [_way(observed, way, bar) for way in dict.fromkeys(r.models for r in carried)]
    return [*_axis(observed, bar), *(e for effects in ways for e in effects)]


def _axis(observed: Sequence[Observation], bar: float) -> list[Effect]:
    """Agreement of the loadings; beside the rest where it speaks against the claim."""
    frame = Frame(
        "",
        "role loadings on the assistant axis, r",
        "shares of what is possible",
        "below",
        bar,
        "0: roles permuted",
        "roles",
    )
    found = [abstain(r.note, replace(frame, models=r.models)) for r in of(observed, series="no axis")]
    for row in of(observed, series="role loadings, r"):
        here = replace(frame, models=row.models, null=f"{frame.null}, 97.5 %: {row.null:.2f}")
        if any(r.value < REPEATS for r in of(observed, series="role loadings, r that is possible")):
            found.append(abstain("loadings of roles do not repeat over questions", here))
            continue
        told = effect(row.value, row.low, row.high, row.n, here)
        found.append(replace(told, decides=told.verdict != "refuted"))
    return found


def _way(observed: Sequence[Observation], way: str, bar: float) -> list[Effect]:
    """What directions carried one way recover: mean over traits, then each."""
    means = {n: _mean(of(observed, models=way, series=n)) for n in ("shuffled maps", "other traits")}
    null = "; ".join(["0: random directions", *(f"{n} {v:.2f}" for n, v in means.items() if not np.isnan(v))])
    frame = Frame(way, "what carried directions recover of native ones", "share", "below", bar, null)
    rows = [r for r in of(observed, models=way, series="recovery") if not np.isnan(r.value)]
    if not rows:
        return [abstain("no native direction steers this model beyond random ones", frame)]
    value, low, high = (float(np.mean([getattr(r, k) for r in rows])) for k in ("value", "low", "high"))
    each = replace(frame, null="0: random directions", decides=False)
    return [
        effect(value, low, high, min(r.n for r in rows), frame),
        *(effect(r.value, r.low, r.high, r.n, replace(each, what=f"recovery of {r.cluster}")) for r in rows),
    ]


def _mean(rows: Sequence[Observation]) -> float:
    known = [r.value for r in rows if not np.isnan(r.value)]
    return float(np.mean(known)) if known else float("nan")
