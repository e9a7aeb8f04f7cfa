"""Claim 9: resonance between weights and the scaffold that grew with them.

Question. A scaffold grows with a model: lines of the model's own replies are proposed as memory, and the line that
raises its fit most is kept. Does a scaffold grown with A fit A better than B, by more than one grown with B does?

Prediction. Too little to tell from another wording: the models learnt one language, and the lines say the same
traits to both.

Measure. Fit: how far the landing goes the way the seed scaffold points, the mean over traits of sign x L (signs
from the seed's own landing in both models). Growth: per round some sentences of the model's own replies on extract
questions are tried as a memory entry; the best on select questions stays, whether it raises the fit or not, so both
lineages get equally many lines. Reported on test questions: double difference (fit of own minus fit of other's
scaffold in A, plus the same in B) / 2, in noise floors. Interval by resampling lineages (seed scaffolds). Beside:
what growth gained in the own model; the same double difference with log-likelihood as fit (nats per reply that the
model gives its own replies under the seed); the same with memory use as fit (nats per token that a lineage's own
entries gain, said as replies to test questions, from standing in the scaffold; added after the others had been
seen); and own growth against as many unselected lines (length control).

Null. Two wordings of a scaffold differ by 1 noise floor; a double difference of scaffolds that have nothing to do
with whom they grew with is 0.

Verdict rule. Supported above 1 noise floor, refuted below.

What would change it. Longer co-evolution (here three lines), lessons that concern what the model can do, models
that differ more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lab.claims import Frame, all_of, difference, mean_over, names, of
from lab.landing import anchors
from lab.likelihood import token_log_probs
from lab.pipelines.claim_landings import Landings, land, load_model, scaffolds_of, traits_of, variant
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import CompareConfig, Progress, Runner
from lab.pipelines.replies import Job, scaffold_jobs
from lab.prompts.chat import render
from lab.records import LabError, Message, ScaffoldFile, Segment
from lab.records.claims import Effect, Observation
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

TITLE = "Identity is resonance between particular weights and a scaffold that grew with them"
COMBINE = all_of


@dataclass(frozen=True)
class Config(ClaimConfig):
    """Lines that a scaffold grows, and how many are tried for each."""

    lines: int = 3
    tried: int = 4


CONFIG = Config(scaffolds=8, max_new_tokens=24)
QUICK = Config(scaffolds=5, questions=6, lines=1, tried=2, max_new_tokens=8)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per lineage: fits of own and other's scaffold in both models, growth, likelihoods."""
    if len(config.models) != 2:
        raise LabError(f"claim 9 takes two models, got {len(config.models)}; give --models A B")
    seeds = scaffolds_of(config)
    models = [load_model(n, config) for n in config.models]
    first = [m.identity.name for m in models]
    labels = [f"{n} ({k + 1})" if first[0] == first[1] else n for k, n in enumerate(first)]
    stage = lambda a, b: lambda s, f: progress(s, a + (b - a) * f)  # noqa: E731
    plain = [
        land(m, seeds, config, store, stage(0.1 * k, 0.1 * k + 0.1), labels[k]) for k, m in enumerate(models)
    ]
    signs = {
        f.name: {t: float(np.sign(sum(np.nanmean(p.at(f.name, t)) for p in plain))) for t in plain[0].traits}
        for f in seeds
    }
    grown: list[list[ScaffoldFile]] = []
    random: list[list[ScaffoldFile]] = []
    for k, model in enumerate(models):
        done = stage(0.2 + 0.2 * k, 0.4 + 0.2 * k)
        pairs = [_grow(model, plain[k], f, signs[f.name], config, store, labels[k]) for f in seeds]
        done(f"grown with {labels[k]}", 1.0)
        grown.append([g for g, _ in pairs])
        random.append([r for _, r in pairs])
    found = []
    everyone = [*seeds, *grown[0], *grown[1], *random[0], *random[1]]
    landed = [
        land(m, everyone, config, store, stage(0.6 + 0.2 * k, 0.8 + 0.2 * k), labels[k])
        for k, m in enumerate(models)
    ]
    floor = float(np.sqrt(np.mean([p.wordings_apart() ** 2 for p in plain]) / len(plain[0].traits)))
    for j, f in enumerate(seeds):
        found += _told(
            models, landed, f, [g[j] for g in grown], [r[j] for r in random], signs[f.name], floor, config
        )
    return found


# ------------------------------------------------------------------ growth


def _grow(
    model: "LoadedModel", plain: Landings, seed: ScaffoldFile, signs: dict[str, float], config: Config, store: Store,
    label: str,
) -> tuple[ScaffoldFile, ScaffoldFile]:  # fmt: skip
    """The seed with the lines that raised its fit most, and with as many that nobody chose."""
    inner = CompareConfig((label,), (), config.traits, config.dtype, config.seed, config.max_new_tokens)
    runner = Runner(model, inner, store, 0, lambda _: None)
    rng = np.random.default_rng([config.seed, 9, len(seed.name)])
    asked = traits_of(model, config).of("extract")
    fit = _fit_on_select(model, plain, signs, config, runner)
    now = variant(seed.paraphrases[0], seed.name, seed.paraphrases[0].segments)
    unchosen = now
    for _ in range(config.lines):
        lines = _lines(
            runner, now, [asked[i] for i in rng.choice(len(asked), min(6, len(asked)), replace=False)], label
        )
        drawn = [lines[i] for i in rng.choice(len(lines), min(config.tried, len(lines)), replace=False)]
        options = [_with(now, line) for line in drawn]
        now = options[int(np.argmax(fit(options)))]
        unchosen = _with(unchosen, drawn[0])
    name = f"{seed.name}, grown with {label}"
    other = f"{seed.name}, unchosen lines of {label}"
    return _named(now, name), _named(unchosen, other)


def _lines(runner: Runner, now: ScaffoldFile, questions: Sequence, label: str) -> list[str]:
    """Sentences of the model's own replies under the scaffold as it stands."""
    jobs = [Job(now.name, 0, q, now.paraphrases[0].text) for q in questions]
    said = " ".join(r.text for r in runner.measure([jobs])[0].replies)
    found = [s.strip() for s in said.replace("!", ".").replace("?", ".").split(".")]
    kept = list(dict.fromkeys(f"{s}." for s in found if len(s.split()) >= 3))
    return kept or [f"{' '.join(said.split()[:12]) or label}."]


def _with(now: ScaffoldFile, line: str) -> ScaffoldFile:
    first = now.paraphrases[0]
    return variant(first, now.name, [*first.segments, Segment("memory", line, "model")])


def _named(file: ScaffoldFile, name: str) -> ScaffoldFile:
    return variant(file.paraphrases[0], name, file.paraphrases[0].segments)


def _fit_on_select(
    model: "LoadedModel", plain: Landings, signs: dict[str, float], config: Config, runner: Runner
) -> Callable[[Sequence[ScaffoldFile]], list[float]]:
    traits = traits_of(model, config)
    fixed = {p.trait: anchors(p) for p in plain.landed.projections if p.position == "reply_mean"}

    def fit(options: Sequence[ScaffoldFile]) -> list[float]:
        found = []
        for measured in runner.measure([scaffold_jobs(traits, o, "select") for o in options]):
            total = 0.0
            for t, sign in signs.items():
                d = plain.landed.made.directions[t, "reply_mean"]
                states = np.nan_to_num(measured.pooled["reply_mean"][:, d.site.layer].astype(np.float64))
                total += sign * float((states @ d.vector).mean() - fixed[t].neutral) / fixed[t].unit
            found.append(total / len(signs))
        return found

    return fit


# ------------------------------------------------------------------ what came of it


def _told(
    models: Sequence["LoadedModel"], landed: Sequence[Landings], seed: ScaffoldFile, grown: Sequence[ScaffoldFile],
    random: Sequence[ScaffoldFile], signs: dict[str, float], floor: float, config: Config,
) -> list[Observation]:  # fmt: skip
    """fit[model][lineage] of one seed, as double difference, growth and length control."""

    def fit(k: int, name: str) -> float:
        return float(np.mean([s * np.nanmean(landed[k].at(name, t)) for t, s in signs.items()])) / floor

    def double(of_model: Sequence[Sequence[float]]) -> float:
        """Own minus other's lineage, mean of both models; [model][lineage]."""
        return (of_model[0][0] - of_model[0][1] + of_model[1][1] - of_model[1][0]) / 2

    pair = " | ".join(p.label for p in landed)
    own = [[fit(k, grown[j].name) for j in (0, 1)] for k in (0, 1)]
    likely = [[_likely(models[k], landed[k], seed, grown[j], config) for j in (0, 1)] for k in (0, 1)]
    used = [[_used(models[k], seed, grown[j], config) for j in (0, 1)] for k in (0, 1)]
    note = " / ".join(_lines_of(grown[0], seed))
    rows = [
        Observation(pair, "own minus other's", seed.name, double(own), note=note),
        Observation(pair, "likelihood", seed.name, double(likely)),
        Observation(pair, "memory used", seed.name, double(used)),
        *(Observation(pair, "own memory", seed.name, used[k][k]) for k in (0, 1)),
    ]
    for k in (0, 1):
        rows.append(Observation(pair, "gained", seed.name, own[k][k] - fit(k, seed.name)))
        rows.append(Observation(pair, "chosen lines", seed.name, own[k][k]))
        rows.append(Observation(pair, "unchosen lines", seed.name, fit(k, random[k].name)))
    return rows


def _likely(
    model: "LoadedModel", landed: Landings, seed: ScaffoldFile, grown: ScaffoldFile, config: Config
) -> float:
    """Nats per reply that the model gives its own replies under the seed, once the scaffold has grown."""
    questions = sorted(traits_of(model, config).of("test"), key=lambda q: q.id)
    system = Message("system", grown.paraphrases[0].text)
    chats = [render(model.tokenizer, [system, Message("user", q.text)]) for q in questions]
    replies = [landed.reply(seed.name, q.id) for q in questions]
    return float(np.mean([x.sum() for x in token_log_probs(model, chats, replies)]))


def _lines_of(grown: ScaffoldFile, seed: ScaffoldFile) -> list[str]:
    """The entries that growth added."""
    return [s.text for s in grown.paraphrases[0].segments[len(seed.paraphrases[0].segments) :]]


def _used(model: "LoadedModel", seed: ScaffoldFile, grown: ScaffoldFile, config: Config) -> float:
    """Nats per token that the grown entries gain as replies to test questions from standing in the scaffold."""
    questions = sorted(traits_of(model, config).of("test"), key=lambda q: q.id)
    asked = [(q, line) for q in questions for line in _lines_of(grown, seed)]
    told: list[list[np.ndarray]] = []
    for file in (grown, seed):
        system = Message("system", file.paraphrases[0].text)
        chats = [render(model.tokenizer, [system, Message("user", q.text)]) for q, _ in asked]
        told.append(token_log_probs(model, chats, [line for _, line in asked]))
    return float(np.mean([a.mean() - b.mean() for a, b in zip(*told, strict=True)]))


def judge(observed: Sequence[Observation], rng: np.random.Generator) -> list[Effect]:
    """The verdict rule."""
    found = []
    for pair in names(observed, "models"):
        mine = of(observed, models=pair)
        frame = Frame(
            pair,
            "own scaffold fits better than the other's",
            "noise floors",
            "above",
            1.0,
            "no resonance: 0",
            "lineages",
        )
        found.append(mean_over(of(mine, series="own minus other's"), rng, frame))
        beside = replace(frame, decides=False, bar=0.0, null="0")
        likely = replace(beside, what="the same by likelihood", unit="nats per reply")
        found.append(mean_over(of(mine, series="likelihood"), rng, likely))
        memory = replace(beside, what="the same by memory use", unit="nats per token")
        found.append(mean_over(of(mine, series="memory used"), rng, memory))
        own = replace(memory, what="own entries are likelier said where they are remembered")
        found.append(mean_over(of(mine, series="own memory"), rng, own))
        found.append(
            mean_over(of(mine, series="gained"), rng, replace(beside, what="growth raises the own fit"))
        )
        length = replace(beside, what="chosen lines fit better than unchosen ones")
        found.append(
            difference(of(mine, series="chosen lines"), of(mine, series="unchosen lines"), rng, length)
        )
    return found
