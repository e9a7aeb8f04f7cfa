"""The continuity battery: a model is asked every item under several conditions, and what it says is scored.

    continuity(ContinuityConfig("hearth-a"), store, progress) -> ContinuityResult

A `Condition` (`lab.pipelines.continuity_items`) turns an item into the chat that the model is shown, so anything can
be compared: the scaffold as the item has it, none, its tone alone, somebody's own scaffold, a summary, a log.
Replies are greedy, so a model has one reply to a chat. They go into the store part by part and are found there again;
so do the judge's scores. On Hearth the grammar and the exact judge read the replies; elsewhere the literal checks and
a judge who is asked each item's rubric do, and tone is a likelihood ratio of the model itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.continuity import DRAWS, Seen, changes, family_scores, outcome, tone_match, tone_tells
from lab.judging.judges import Score
from lab.pipelines.compare import Progress, resolve_model
from lab.pipelines.continuity_items import CONDITIONS, Chat, Condition, shipped_items, stated
from lab.pipelines.continuity_reading import PART, rubric_judge, rubric_scores, seen_by, seen_in_hearth
from lab.records import LabError, ModelIdentity
from lab.records.continuity import (
    HEARTH,
    ContinuityItem,
    ContinuityResult,
    ContinuitySet,
    FamilyChange,
    FamilyScore,
    Outcome,
    ToneTells,
)
from lab.store import Store, content_key, readable

if TYPE_CHECKING:
    from lab.models import LoadedModel

VERSION = 1
AUTO, EXACT, LITERAL = "auto", "exact", "literal"
Tick = Callable[[int], None]
_TABLES: dict[str, type] = {
    "outcomes": Outcome, "scores": FamilyScore, "changes": FamilyChange, "tells": ToneTells,
}  # fmt: skip


# ------------------------------------------------------------------ the job


@dataclass(frozen=True)
class ContinuityConfig:
    """Whom to ask what, and who judges."""

    model: str
    conditions: tuple[Condition, ...] = CONDITIONS
    """At least one; the changes are those of the first against each other one."""
    items: ContinuitySet | None = None
    """None: the shipped set that the model speaks."""
    judge: str = AUTO
    """"auto" (exact on Hearth, else literal), "exact", "literal", "model:NAME", "api:URL@MODEL"."""
    key_variable: str = ""
    """Name of the environment variable with the API key; "" sends none."""
    tone: bool = True
    """Whether tone is weighed outside Hearth: five forward passes for every reply and stated trait."""
    dtype: str = "float32"
    seed: int = 0
    """Of the bootstrap and the sign flips; replies are greedy."""
    max_new_tokens: int = 120
    draws: int = DRAWS


def continuity(config: ContinuityConfig, store: Store, progress: Progress) -> ContinuityResult:
    """Ask (or find) every item under every condition, and score the replies.

    LabError for what the user can mend: conditions of one name, a judge that cannot judge here, a chat beyond the
    model's context, a checkpoint that cannot be loaded.
    """
    _check(config)
    progress("loading model", 0.0)
    from lab.models import load

    model = load(resolve_model(config.model), config.dtype)
    asked = config.items or shipped_items(HEARTH if model.trait_set == HEARTH else "chat")
    judge = _judge_name(config, asked)
    chats = {c.name: [c.chat(item) for item in asked.items] for c in config.conditions}
    run = _run_key(config, model, asked, judge, chats)
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_continuity(store, run)
    total, done = len(asked.items) * len(chats), 0

    def tick(stage: str, n: int) -> None:
        nonlocal done
        done += n
        progress(stage, min(0.99, 0.02 + 0.5 * done / total))

    said = {
        name: say(model, some, store, config.max_new_tokens, partial(tick, f"replies: {name}"))
        for name, some in chats.items()
    }
    outcomes = _outcomes(config, model, asked, judge, said, store, progress)
    found = _conclude(config, run, model.identity, asked, judge, outcomes)
    save_continuity(store, found)
    progress("done", 1.0)
    return found


def _outcomes(
    config: ContinuityConfig, model: "LoadedModel", asked: ContinuitySet, judge: str,
    said: Mapping[str, Sequence[str]], store: Store, progress: Progress,
) -> list[Outcome]:  # fmt: skip
    """One per condition and item; `said` has the replies by condition."""
    rubric = None
    if judge not in (EXACT, LITERAL):
        rubric = rubric_judge(judge, config.dtype, config.seed, config.key_variable, store)
    named = [set().union(*(_levels(c, item) for c in config.conditions)) for item in asked.items]
    weighed = named if config.tone else [set() for _ in asked.items]
    found: list[Outcome] = []
    for k, condition in enumerate(config.conditions):
        progress(f"scoring: {condition.name}", 0.52 + 0.45 * k / len(config.conditions))
        replies = said[condition.name]
        scores = rubric_scores(rubric, asked.items, replies, store)
        in_world = asked.world == HEARTH
        seen = seen_in_hearth(replies) if in_world else seen_by(model, asked.items, replies, weighed, store)
        rows = zip(asked.items, seen, scores, strict=True)
        found += [_outcome(model.identity.name, condition, asked, *row) for row in rows]
    return found


def _check(config: ContinuityConfig) -> None:
    names = [c.name for c in config.conditions]
    if not names or len(set(names)) != len(names):
        raise LabError(
            f"expected at least one condition, each with a name of its own; got {', '.join(names)}"
        )


def _judge_name(config: ContinuityConfig, asked: ContinuitySet) -> str:
    """Who judges. LabError for one that cannot judge these items."""
    from lab.pipelines.judging import parse_judge

    usual = EXACT if asked.world == HEARTH else LITERAL
    if config.judge in (AUTO, usual):
        return usual
    if asked.world == HEARTH:
        raise LabError(
            f"items of Hearth have exact outcomes and no rubrics; leave out --judge {config.judge}"
        )
    if config.judge == EXACT:
        raise LabError("judge exact reads Hearth only; expected literal, model:NAME or api:URL@MODEL")
    if parse_judge(config.judge)[0] not in ("model", "api"):
        raise LabError(
            f"judge {config.judge} reads no rubric; expected literal (checks alone, what needs a judge stays unscored), "
            "model:NAME or api:URL@MODEL"
        )
    return config.judge


def _run_key(
    config: ContinuityConfig, model: "LoadedModel", asked: ContinuitySet, judge: str,
    chats: Mapping[str, Sequence[Chat]],
) -> str:  # fmt: skip
    from lab.world.exact import edition

    parts = [[c.name, dict(c.levels) if c.levels is not None else None] for c in config.conditions]
    rest = [judge, config.tone, config.seed, config.max_new_tokens, config.draws]
    items = [asdict(item) for item in asked.items]
    shown = {name: [_plain(chat) for chat in some] for name, some in chats.items()}
    read = edition() if asked.world == HEARTH else ""
    key = content_key(VERSION, model.identity.fingerprint, parts, rest, items, shown, read)
    return f"continuity-{key[:10]}"


def _plain(chat: Chat) -> list[list[str]]:
    return [[m.role, m.content] for m in chat]


# ------------------------------------------------------------------ replies


def say(
    model: "LoadedModel", chats: Sequence[Chat], store: Store, max_new_tokens: int, tick: Tick
) -> list[str]:
    """The model's greedy reply to each chat, PART by PART from the store where it is there.

    LabError for a chat that does not fit into the model's context.
    """
    from lab.activations import generate
    from lab.prompts.chat import check_length, own_words, render

    found: list[str] = []
    for start in range(0, len(chats), PART):
        part = chats[start : start + PART]
        key = content_key(
            "continuity-reply-1", model.identity.fingerprint, max_new_tokens, [_plain(chat) for chat in part]
        )
        hit = store.cached(key)
        if hit is None:
            rendered = [render(model.tokenizer, chat) for chat in part]
            for chat in rendered:
                check_length(chat, model.context, max_new_tokens)
            made = generate(
                model, rendered, max_new_tokens=max_new_tokens, seeds=[0] * len(part), temperature=0.0
            )
            store.put(key, {}, [own_words(model.tokenizer, reply.text) for reply in made.replies])
            hit = store.cached(key)
            assert hit is not None, "what was put is there"
        found += hit[1]
        tick(len(part))
    return found


# ------------------------------------------------------------------ what is read in them


def _levels(condition: Condition, item: ContinuityItem) -> Mapping[str, str]:
    return item.levels if condition.levels is None else condition.levels


def _outcome(
    model: str, condition: Condition, asked: ContinuitySet, item: ContinuityItem, seen: Seen, score: Score
) -> Outcome:
    given = stated(_levels(condition, item), asked.world)
    verdict = outcome(item, seen, given, score.value, score.reason)
    return Outcome(
        model, condition.name, item.id, item.family, item.variant, item.who, verdict.passed, verdict.reason, score.value,
        tone_match(given, seen.traits), seen.text, item.chance, item.ceiling,
    )  # fmt: skip


def passed(
    model: "LoadedModel", asked: ContinuitySet, condition: Condition, store: Store, max_new_tokens: int = 120
) -> list[float]:
    """Whether a loaded model, an edited one say, passes each item: 1, 0, or NaN where only a rubric judge could tell."""
    replies = say(
        model, [condition.chat(item) for item in asked.items], store, max_new_tokens, lambda n: None
    )
    if asked.world == HEARTH:
        seen = seen_in_hearth(replies)
    else:
        seen = seen_by(model, asked.items, replies, [()] * len(asked.items), store)
    scores = rubric_scores(None, asked.items, replies, store)
    rows = zip(asked.items, seen, scores, strict=True)
    return [_outcome(model.identity.name, condition, asked, *row).passed for row in rows]


# ------------------------------------------------------------------ conclusions, on disk


def _conclude(
    config: ContinuityConfig, run: str, identity: ModelIdentity, asked: ContinuitySet, judge: str,
    outcomes: Sequence[Outcome],
) -> ContinuityResult:  # fmt: skip
    rng = lambda key: np.random.default_rng([config.seed, 11, key])  # noqa: E731
    names = [c.name for c in config.conditions]
    pairs = [(names[0], other) for other in names[1:]]
    unit = "share of the stated z" if asked.world == HEARTH else "nats per token towards what is stated"
    settings = {
        "conditions": names, "items": len(asked.items), "seed": config.seed, "dtype": config.dtype,
        "max_new_tokens": config.max_new_tokens, "draws": config.draws, "tone": config.tone,
    }  # fmt: skip
    return ContinuityResult(
        run, identity, asked.name, judge, unit, tuple(outcomes),
        family_scores(outcomes, rng(0), config.draws), changes(outcomes, pairs, rng(1), config.draws),
        tone_tells(outcomes, rng(2), config.draws), settings,
    )  # fmt: skip


def save_continuity(store: Store, found: ContinuityResult) -> None:
    """A run of tables, one per kind of record."""
    rows = {name: [asdict(r) for r in getattr(found, name)] for name in _TABLES}
    more = {
        "set": found.set_name, "judge": found.judge, "unit": found.tone_unit, "settings": dict(found.settings),
        "version": VERSION,
    }  # fmt: skip
    store.save_records(found.run, "continuity", [found.model], rows, more)


def load_continuity(store: Store, run: str) -> ContinuityResult:
    """The battery of a finished run. LabError when it is missing, damaged or of another kind."""
    data, rows = store.load_rows(run, "continuity", tuple(_TABLES))
    with readable(run):
        tables: dict[str, Any] = {n: tuple(kind(**r) for r in rows[n]) for n, kind in _TABLES.items()}
        model = ModelIdentity(**data["models"][0])
        return ContinuityResult(
            run, model, data["set"], data["judge"], data["unit"], settings=data["settings"], **tables
        )
