"""Watching conversations: slopes and projections of every assistant turn, with a band of what is ordinary.

Slopes (`lab.likelihood`) raise the alarms: which way would the model have to be steered to say this reply, had
it only its system prompt and the user turn before it? Without the turns before, on purpose: under those a
model finds what it has drifted to likely. Projections stand beside them: where the state is while it reads the
whole conversation. On planted drift they tell nothing (experiments/drift.py): the state holds the persona of
the system prompt, not that of the words.

What is ordinary comes from conversation files that the user names, or from the model itself: it is
given the same system prompt and asked ordinary questions, several turns long.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.monitoring import Course, Ordinary, follow, learn, set_threshold, standardised
from lab.pipelines.compare import (
    CompareConfig,
    Progress,
    Runner,
    extract_side,
    resolve_model,
    resolve_trait_set,
)
from lab.records import Direction, LabError, Message, Rendered, Reply
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

Conversation = Sequence[Message]


@dataclass(frozen=True)
class WatchConfig:
    """What to watch: one conversation, in one model, on the traits of one set."""

    model: str
    conversation: tuple[Message, ...]
    ordinary: tuple[tuple[Message, ...], ...] = ()
    """Ordinary conversations; none: the model's own."""
    trait_set: str = "auto"
    own: int = 40
    """How many conversations the model is asked to have with itself when none are given."""
    turns: int = 6
    promised: float = 1.0
    """False alarms per 100 ordinary turns."""
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 40


@dataclass(frozen=True)
class Watched:
    """One trait along the conversation, in one series.

    value [turn]: the reply's slope over its expected spread, or its projection on the trait's direction;
    expected, reach [turn]: the band is expected ± reach (95 % of ordinary turns), NaN where nothing came
    before; course: deviations, sums, alarms; threshold of the sums.
    """

    trait: str
    layer: int
    value: NDArray[np.float64]
    expected: NDArray[np.float64]
    reach: NDArray[np.float64]
    course: Course
    ordinary: Ordinary
    threshold: float


@dataclass(frozen=True)
class Watch:
    """All traits, and the replies with their tokens' projections, one per assistant turn.

    traits: slopes, whose alarms count; projections: the same for projections, to be looked at.
    """

    model: str
    traits: tuple[Watched, ...]
    projections: tuple[Watched, ...]
    replies: tuple[Reply, ...]
    ordinary_conversations: int
    promised: float


@dataclass(frozen=True)
class Turns:
    """The assistant turns of one conversation, per trait [turn]; NaN for a reply without tokens.

    slopes: in nats per residual norm; information: their variance if the model itself were speaking, estimated.
    """

    replies: tuple[Reply, ...]
    slopes: dict[str, NDArray[np.float64]]
    information: dict[str, NDArray[np.float64]]
    projections: dict[str, NDArray[np.float64]]


def slope_series(turns: Sequence[Turns], trait: str, ordinary: int) -> list[NDArray[np.float64]]:
    """Slopes of every conversation, each over its expected spread; the first `ordinary` ones say what is usual."""
    usual = float(np.nanmean(np.concatenate([t.information[trait] for t in turns[:ordinary]])))
    return [standardised(t.slopes[trait], t.information[trait], usual) for t in turns]


def watch(config: WatchConfig, store: Store, progress: Progress) -> Watch:
    """Follow one conversation. LabError when there is too little to tell what is ordinary."""
    progress("loading model", 0.0)
    from lab.models import load

    model = load(resolve_model(config.model), config.dtype)
    traits = resolve_trait_set(config.trait_set, [model])
    compare = CompareConfig(
        (config.model,), (), config.trait_set, config.dtype, config.seed, config.max_new_tokens
    )
    total, done = 2 * len(traits.traits) * len(traits.questions), 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress("directions", 0.5 * done / total)

    runner = Runner(model, compare, store, 0, tick)
    made = extract_side(
        model.identity.name, model, traits, compare, runner, np.random.default_rng([config.seed, 1, 0]),
        ("reply_mean",),
    )  # fmt: skip
    directions = [made.directions[t.name, "reply_mean"] for t in traits.traits]
    talks = config.ordinary or own_conversations(
        model, [m for m in config.conversation if m.role == "system"], [q.text for q in traits.of("select")],
        config, lambda part: progress("ordinary conversations", 0.5 + 0.3 * part),
    )  # fmt: skip
    progress("reading", 0.85)
    turns = read_turns(model, [*talks, config.conversation], directions)
    order = np.random.default_rng([config.seed, 6]).permutation(len(talks))
    slopes, projections = [], []
    for d in directions:
        series = slope_series(turns, d.trait, len(talks))
        slopes.append(_watched(d, series, order, config.promised, anchored=True))
        series = [t.projections[d.trait] for t in turns]
        projections.append(_watched(d, series, order, config.promised, anchored=False))
    progress("done", 1.0)
    return Watch(
        model.identity.name, tuple(slopes), tuple(projections), turns[-1].replies, len(talks), config.promised
    )


def _watched(
    direction: Direction, series: Sequence[NDArray[np.float64]], order: NDArray[np.int64], promised: float,
    anchored: bool,
) -> Watched:  # fmt: skip
    """The last series followed; one half of the others, in this order, is learned from, one sets the threshold."""
    first, second = ([series[i] for i in half] for half in np.array_split(order, 2))
    ordinary, value = learn(first, anchored), series[-1]
    threshold = set_threshold(second, ordinary, promised)
    expected, sd = ordinary.expected(value)
    return Watched(
        direction.trait, direction.site.layer, value, expected, ordinary.reach * sd,
        follow(value, ordinary, threshold), ordinary, threshold,
    )  # fmt: skip


def own_conversations(
    model: "LoadedModel", system: Sequence[Message], questions: Sequence[str], config: WatchConfig,
    progress: Callable[[float], None],
) -> list[tuple[Message, ...]]:  # fmt: skip
    """The model's replies to ordinary questions under a system prompt, `config.turns` turns each."""
    from lab.activations import generate

    if len(questions) < config.turns:
        raise LabError(
            f"expected at least {config.turns} questions, got {len(questions)}; ask for fewer turns"
        )
    rng = np.random.default_rng([config.seed, 7])
    plans = [rng.permutation(len(questions))[: config.turns] for _ in range(config.own)]
    talks = [list(system[:1]) for _ in plans]
    for turn in range(config.turns):
        for talk, plan in zip(talks, plans, strict=True):
            talk.append(Message("user", str(questions[int(plan[turn])])))
        chats = [_fitting(model, talk, config.max_new_tokens) for talk in talks]
        seeds = [int(s) for s in rng.integers(2**31, size=len(chats))]
        acts = generate(model, chats, max_new_tokens=config.max_new_tokens, seeds=seeds)
        for talk, reply in zip(talks, acts.replies, strict=True):
            talk.append(Message("assistant", reply.text))
        progress((turn + 1) / config.turns)
    return [tuple(talk) for talk in talks]


def read_turns(
    model: "LoadedModel", conversations: Sequence[Conversation], directions: Sequence[Direction], *,
    history: bool = True,
) -> list[Turns]:  # fmt: skip
    """The assistant turns of each conversation, with slopes and projections on every direction.

    For projections each turn is read under what was said before it; where that is longer than the model's
    context, the oldest turns are left out and the system prompt is kept. For slopes (and without `history` for
    projections too, which saves half the time) it is read under the system prompt and the user turn before it.
    Raises LabError for a conversation without an assistant turn.
    """
    from lab.likelihood import likelihood_slopes
    from lab.reading import read

    chats, origins, texts, owner = [], [], [], []
    for k, talk in enumerate(conversations):
        for i, message in enumerate(talk):
            if message.role == "assistant":
                room = len(model.tokenizer(message.content, add_special_tokens=False)["input_ids"])
                origins.append(_fitting(model, _origin(talk[:i]), room))
                chats.append(_fitting(model, talk[:i], room) if history else origins[-1])
                texts.append(message.content)
                owner.append(k)
        if not owner or owner[-1] != k:
            raise LabError(f"expected an assistant's turn in each conversation, number {k + 1} has none")
    acts = read(model, chats, texts, directions=directions)
    norms = [float(acts.norm[d.site.layer]) for d in directions]
    slopes = likelihood_slopes(model, origins, texts, directions, norms)
    rows: list[list[int]] = [[] for _ in conversations]
    for i, k in enumerate(owner):
        rows[k].append(i)
    return [
        Turns(
            tuple(acts.replies[i] for i in mine),
            {d.trait: np.array([slopes[i][d.trait].total for i in mine]) for d in directions},
            {d.trait: np.array([slopes[i][d.trait].information for i in mine]) for d in directions},
            {
                d.trait: np.array([_average(acts.replies[i].projections[d.trait]) for i in mine])
                for d in directions
            },
        )
        for mine in rows
    ]


def _average(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _origin(talk: Conversation) -> list[Message]:
    """The system prompt and what the user said last."""
    last = max((i for i, m in enumerate(talk) if m.role == "assistant"), default=-1)
    return [
        *(m for m in talk[:1] if m.role == "system"),
        *(m for m in talk[last + 1 :] if m.role != "system"),
    ]


def _fitting(model: "LoadedModel", talk: Conversation, room: int) -> Rendered:
    """The chat so far, without its oldest turns where it would not fit with `room` tokens more."""
    from lab.prompts.chat import render

    head = [m for m in talk[:1] if m.role == "system"]
    rest = list(talk[len(head) :])
    while True:
        rendered = render(model.tokenizer, [*head, *rest])
        if len(rendered.ids) + room <= model.context:
            return rendered
        later = next((i for i, m in enumerate(rest) if i and m.role == "user"), None)
        if later is None:
            raise LabError(
                f"expected turns that fit the model's context of {model.context} tokens with their system "
                f"prompt, got one of {len(rendered.ids) + room}; shorten the prompt or take another model"
            )
        rest = rest[later:]
