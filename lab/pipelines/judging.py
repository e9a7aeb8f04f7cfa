"""Judges of an extraction: the replies at both poles of each trait, scored by several judges, held together.

The replies are those of `lab.pipelines.extract` (same cache). Every judge's answers go into the store as
they come, by content, so that a killed run goes on where it was. What is concluded per trait and
judge: does it tell the poles apart, does it agree with the first judge (over all replies and inside the
poles), with itself where it may not, and with the exact judge in that one's unit.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from lab.judging.judges import Item, LogprobJudge
from lab.judging.likelihood_ratio import as_scores, contrast, familiar, ordinary_limit, strangeness
from lab.judging.server import ApiJudge
from lab.judging.trust import Screened
from lab.judging.verdicts import Replies, Said, Verdict, document, screened, verdict
from lab.models import LoadedModel, load
from lab.pipelines.compare import CompareConfig, Job, Progress, Runner, resolve_model, resolve_trait_set
from lab.pipelines.judge_answers import ServerAnswers, Tick, kept_likelihoods, kept_readings, local_judge
from lab.pipelines.replies import trait_jobs
from lab.records import LabError, ModelIdentity, TraitSet
from lab.store import Store, content_key
from lab.world.exact import COHERENCE, scores_of
from lab.world.latent import TRAITS

REFERENCE = 80
"""Unsteered replies, about, that say what is ordinary for a model."""
COHERENCE_RUBRIC = (
    "Below are a user's message and a reply to it. Rate how coherent the reply is as language: whole "
    "sentences that hang together and can be understood. Judge neither its manner nor whether it is right; "
    "a reply that is cut off at its end loses nothing.\n\nMessage:\n{question}\n\nReply:\n{answer}\n\nAnswer "
    "with one whole number from 0 to 100 and nothing else: 0 means noise, loops or broken sentences "
    "throughout, 100 that nothing is broken. If there is no reply to judge, answer REFUSAL."
)
HEARTH = "hearth"
"""What an organism's config.json names as its trait set."""


# ------------------------------------------------------------------ the replies


def pole_replies(traits: TraitSet, runner: Runner) -> list[Replies]:
    """The replies to every question of the set at both poles of every trait."""
    found = []
    for i, trait in enumerate(traits.traits):
        groups = [trait_jobs(traits, i, "positive"), trait_jobs(traits, i, "negative")]
        made = runner.measure(groups)
        jobs = [*groups[0], *groups[1]]
        texts = [r.text for m in made for r in m.replies]
        items = [Item(j.question.text, text, trait.rubric) for j, text in zip(jobs, texts, strict=True)]
        found.append(
            Replies(
                trait, tuple(items), np.array([j.condition == "positive" for j in jobs]),
                np.array([j.question.id for j in jobs]),
                np.array([j.paraphrase for j in jobs], dtype=np.int64),
            )
        )  # fmt: skip
    return found


def ordinary_replies(traits: TraitSet, runner: Runner) -> list[Item]:
    """About REFERENCE unsteered replies without a scaffold, evenly over the questions of the set."""
    some = traits.questions[:: max(1, len(traits.questions) // REFERENCE)]
    jobs = [Job("neutral", k, q, "", sample=k) for q in some for k in range(-(-REFERENCE // len(some)))]
    (made,) = runner.measure([jobs])
    return [Item(j.question.text, r.text, "") for j, r in zip(jobs, made.replies, strict=True)]


# ------------------------------------------------------------------ the judges


@dataclass(frozen=True)
class JudgeConfig:
    """Whose replies to judge, and by whom."""

    model: str
    judges: tuple[str, ...] = ("exact", "contrast")
    """"exact", "contrast", "model:NAME", "api:URL@MODEL"; all others are held against the first."""
    trait_set: str = "auto"
    key_variable: str = ""
    """Name of the environment variable with the API key; "" sends none."""
    retest: bool = False
    """Ask a server everything twice."""
    coherence: bool = False
    """Judge coherence too: as many questions again, and more forward passes."""
    screened: bool = False
    """Filter the replies as the literature does, on record; implies coherence."""
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 40
    draws: int = 1000


Ask = Callable[[Replies], Said]


def _exact(model: LoadedModel, traits: TraitSet, store: Store, tick: Tick) -> Ask:
    unknown = [t.name for t in traits.traits if t.name not in TRAITS]
    if unknown or model.trait_set != HEARTH:
        found = (
            f"traits {', '.join(unknown)}" if unknown else f"{model.identity.name}, which does not speak it"
        )
        raise LabError(
            f"judge exact: expected an organism and traits of Hearth, got {found}; judge by contrast, by "
            "model:NAME or by api:URL@MODEL"
        )

    def ask(replies: Replies) -> Said:
        found = kept_readings(replies.items, store, tick)
        return Said(scores_of(found, replies.trait.name), coherence=scores_of(found, COHERENCE))

    return ask


def _contrast(
    config: JudgeConfig, model: LoadedModel, ordinary: Callable[[], Sequence[Item]], store: Store, tick: Tick
) -> Ask:
    def ask(replies: Replies) -> Said:
        found = kept_likelihoods(model, replies.trait, replies.items, store, tick)
        trait = as_scores("contrast", "nats per token", contrast(found, left_out=replies.pairs))
        if not config.coherence and not config.screened:
            return Said(trait)
        known = kept_likelihoods(model, replies.trait, ordinary(), store, lambda _: None)
        values = familiar(strangeness(found), ordinary_limit(strangeness(known)))
        return Said(trait, coherence=as_scores("contrast", "0-100", values))

    return ask


def _asked(judge: LogprobJudge | ApiJudge, again: ApiJudge | None, coherence: bool) -> Ask:
    """A judge that reads a rubric."""

    def ask(replies: Replies) -> Said:
        trait = judge.score(replies.items)
        second = again.score(replies.items) if again else None
        rated = [Item(item.question, item.answer, COHERENCE_RUBRIC) for item in replies.items]
        coherent = judge.score(rated) if coherence else None
        return Said(trait, second, coherent)

    return ask


def parse_judge(spec: str) -> tuple[str, str, str]:
    """(kind, model, URL) of "exact", "contrast", "model:NAME", "api:URL@MODEL". LabError for others."""
    kind, _, rest = spec.partition(":")
    if spec in ("exact", "contrast"):
        return spec, "", ""
    if kind == "model" and rest:
        return "model", rest, ""
    url, _, name = rest.partition("@")
    if kind == "api" and url and name:
        return "api", name, url
    shown = "an api judge without URL@MODEL" if kind == "api" else repr(spec)
    raise LabError(
        f"expected a judge exact, contrast, model:NAME or api:URL@MODEL, got {shown}; for example "
        "--judge model:my-folder or --judge api:http://127.0.0.1:8000/v1@my-model"
    )


def _server(config: JudgeConfig, url: str, model: str, store: Store, tick: Tick, take: int) -> ApiJudge:
    rng, last = np.random.default_rng([config.seed, 6, take]), 0

    def progress(done: int, _: int) -> None:
        nonlocal last
        tick(max(0, done - last))  # counts from 0 again with every call
        last = done

    return ApiJudge(
        url, model, rng, config.key_variable, cache=ServerAnswers(store), take=take, progress=progress
    )


def _judges(
    config: JudgeConfig, model: LoadedModel, traits: TraitSet, runner: Runner, store: Store, tick: Tick
) -> list[Ask]:
    """One function per judge of the configuration, in order; what cannot judge here is refused."""
    asks: list[Ask] = []
    coherence = config.coherence or config.screened
    for spec in config.judges:
        kind, name, url = parse_judge(spec)
        if kind == "exact":
            asks.append(_exact(model, traits, store, tick))
        elif kind == "contrast":
            asks.append(_contrast(config, model, lambda: ordinary_replies(traits, runner), store, tick))
        else:
            _check_rubrics(spec if kind == "model" else name, traits)
            if kind == "model":
                judge, again = local_judge(name, config.dtype, store, tick), None
            else:
                judge = _server(config, url, name, store, tick, 0)
                again = _server(config, url, name, store, tick, 1) if config.retest else None
            asks.append(_asked(judge, again, coherence))
    return asks


def check_filter(spec: str) -> None:
    """LabError for a judge that cannot filter: an unknown one, or one without a scale from 0 to 100."""
    _check(JudgeConfig("", (spec,), screened=True))


def screening(
    spec: str,
    key_variable: str,
    model: LoadedModel,
    traits: TraitSet,
    runner: Runner,
    store: Store,
    tick: Tick,
) -> Callable[[Replies], Screened]:
    """The literature's filter by one judge of `JudgeConfig`. LabError for a judge that has no 0-100 scale."""
    config = JudgeConfig(model.identity.name, (spec,), key_variable=key_variable, screened=True)
    _check(config)
    (ask,) = _judges(config, model, traits, runner, store, tick)

    def judge(replies: Replies) -> Screened:
        found = screened(ask(replies), replies.positive)
        assert found is not None, "contrast alone is refused above, and the others rate coherence"
        return found

    return judge


def _check_rubrics(judge: str, traits: TraitSet) -> None:
    bare = [t.name for t in traits.traits if "{answer}" not in t.rubric]
    if bare:
        raise LabError(
            f"judge {judge}: expected a rubric with {{answer}} in it for every trait, {', '.join(bare)} has "
            "none; give an eval_prompt (data/traits/README.md) or judge by contrast"
        )


# ------------------------------------------------------------------ the job


@dataclass(frozen=True)
class Judged:
    """Everything one `lab judge` run says; `said[i][k]` is what judge k said of the replies of trait i."""

    run: str
    model: ModelIdentity
    verdicts: tuple[Verdict, ...]
    replies: tuple[Replies, ...]
    said: tuple[tuple[Said, ...], ...]


def judge_extraction(config: JudgeConfig, store: Store, progress: Progress) -> Judged:
    """Score the replies of an extraction by every judge; saved as a run of tables.

    Replies to the questions of all splits count: no judge is fitted on them. LabError for an unknown judge
    or trait, the exact judge outside Hearth, a filter without a scale, and what a server or model refuses.
    """
    _check(config)
    progress("loading model", 0.0)
    model = load(resolve_model(config.model), config.dtype)
    traits = resolve_trait_set(config.trait_set, [model])
    settings = CompareConfig(
        (config.model,), (), config.trait_set, config.dtype, config.seed, config.max_new_tokens
    )
    stage, done = f"replies of {model.identity.name}", 0
    total = 2 * len(traits.traits) * len(traits.questions) * (1 + len(config.judges))

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(stage, 0.02 + 0.95 * min(1.0, done / total))

    runner = Runner(model, settings, store, 0, tick)
    asks = _judges(config, model, traits, runner, store, tick)
    replies = pole_replies(traits, runner)
    said: list[list[Said]] = [[] for _ in replies]
    for spec, ask in zip(config.judges, asks, strict=True):
        stage = f"{parse_judge(spec)[1] or spec} judges"
        for i, part in enumerate(replies):
            said[i].append(ask(part))
    progress("statistics", 0.97)
    rng = lambda key: np.random.default_rng([config.seed, *key])  # noqa: E731
    verdicts = [
        verdict(part, heard[k], heard, rng([7, i, k]), config.draws, config.screened)
        for i, (part, heard) in enumerate(zip(replies, said, strict=True))
        for k in range(len(asks))
    ]
    run = "judge-" + content_key("judge-1", model.identity.fingerprint, asdict(traits), asdict(config))[:10]
    found = Judged(run, model.identity, tuple(verdicts), tuple(replies), tuple(tuple(s) for s in said))
    store.save_tables(run, "judge", [model.identity], _tables(found))
    progress("done", 1.0)
    return found


def _check(config: JudgeConfig) -> None:
    kinds = [parse_judge(spec)[0] for spec in config.judges]
    if not kinds or len(set(config.judges)) != len(kinds):
        raise LabError("expected at least one judge, each once; give --judge exact --judge contrast, say")
    if config.screened and set(kinds) == {"contrast"}:
        raise LabError(
            "the literature's filter cuts at 50 on a scale from 0 to 100, which the contrast judge has not; "
            "add --judge exact (Hearth), model:NAME or api:URL@MODEL"
        )


def _tables(found: Judged) -> dict[str, pd.DataFrame]:
    """verdicts (numbers only), scores (one row per reply and judge) and what the filter removed."""
    rows, removed = [], []
    for part, heard in zip(found.replies, found.said, strict=True):
        for said in heard:
            for i, (item, score) in enumerate(zip(part.items, said.trait.rows, strict=True)):
                rows.append(
                    {
                        "trait": part.trait.name, "judge": said.trait.judge, "unit": said.trait.unit,
                        "positive": bool(part.positive[i]), "question": str(part.questions[i]),
                        "pair": int(part.pairs[i]), "reply": item.answer, **asdict(score),
                        "coherence": said.coherence.values[i] if said.coherence else float("nan"),
                    }
                )  # fmt: skip
    for v in found.verdicts:
        for r in v.screened.removed if v.screened else ():
            removed.append(
                {"trait": v.trait, "judge": v.separation.judge, "reply": r.item, "reasons": list(r.reasons)}
            )
    columns = ["trait", "judge", "reply", "reasons"]
    return {
        "verdicts": pd.DataFrame([document(v) for v in found.verdicts]),
        "scores": pd.DataFrame(rows),
        "removed": pd.DataFrame(removed, columns=columns),
    }
