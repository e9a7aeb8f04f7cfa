"""A base model on another model's assistant axis: by what it says, and by its states where these compare.

A base model has no default assistant, so no axis and no ruler of its own, and its projections mean nothing on
another model's axis. What compares is what it says. The model with the axis reads the replies, all without
scaffold, and is asked for each which way it would have to be pushed to say it sooner: the slope of the reply's
log-probability along the axis (`lab.likelihood`), per token. 0 is what the mean role says, 1 what the default
says, weighed in the same way. That needs neither one width nor one tokenizer.

The projection of the read states would not do: it says who the chat makes the model, hardly what the words are.
Measured on hearth-a (60 roles, 8 questions) against the exact judge, who places the replies themselves on the
same ruler (0 mean role, 1 default): hearth-base's replies stand at .19 for the judge, by slope at .15 [-.18, .44]
(.11 [-.14, .38] where hearth-b weighs them), by projection at .80 [.78, .83], next to hearth-a's own without
scaffold at .83, whatever they say: read without scaffold, the default's and the mean role's replies lie 0.7 % of
the axis apart. Over roles, slopes correlate .93 with the judge.

The base's own states are placed beside that only where it has the same layers and width and
`lab.axis.same_coordinates` finds that it holds the same words in the same coordinates, as a model does that the
other was trained on from. Equal shapes alone say nothing: organisms that were trained apart have them too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.axis import RoleStates, same_coordinates
from lab.estimators import unit
from lab.prompts.chat import check_length, own_words, render
from lab.records import Direction, Message, Position, Question, Rendered, Site
from lab.records.personas import said_by, states_of

if TYPE_CHECKING:
    from lab.models import LoadedModel

SAME = 0.5
"""`same_coordinates` from which a base model's own states are placed. Measured on hearth-a at the layer of its
axis: .96 for hearth-a-next and .90 for hearth-a-moe, both trained on from it, .02 for hearth-base and -.01 for
hearth-a2, of the same shape and trained apart."""
AT_ONCE = 64
"""Replies that are weighed between two reports of progress."""
ALONG, ACROSS = np.array([1.0, 0.0]), np.array([0.0, 1.0])
"""The axis and the component across it in a ruler of slopes."""


@dataclass(frozen=True)
class Heard:
    """Slopes per token of what was said: column 0 along the axis, 1 along the component across it.

    ruler: of the default's and of every role's replies, [..., question, 2]; said: of others' replies to the same
    questions, name → [question, 2]. NaN for a reply without tokens.
    """

    ruler: RoleStates
    said: Mapping[str, Float[ndarray, "question 2"]]


@dataclass(frozen=True)
class Pair:
    """Whom to place (`base`), and where: in `model` (labelled `label`), at a layer, along its axis and across it."""

    base: "LoadedModel"
    model: "LoadedModel"
    label: str
    layer: int
    axes: tuple[Float[ndarray, " d_model"], Float[ndarray, " d_model"]]


@dataclass(frozen=True)
class Placed:
    """A base model's own states [question, d_model] by row of the map, if they compare, and everybody's words."""

    states: Mapping[str, Float[ndarray, "question d_model"]]
    heard: Heard


def place_base(
    pair: Pair, questions: Sequence[Question], position: Position, replies: Sequence[str], own: Sequence[str],
    roles: Mapping[str, Sequence[str]], tick: Callable[[int], None],
) -> Placed:  # fmt: skip
    """Everything that a map says of a base model, on *test* questions.

    replies, own: of the base and of the model without scaffold; roles: of the model as the default (first) and
    as every role. All to the same questions, of which those of other splits only help to tell whether both
    models have the same coordinates. `tick` counts replies that were weighed. LabError for a reply that does
    not fit into a model's context.
    """
    base, model, name = pair.base, pair.model, pair.base.identity.name
    replies, own = _words(base, replies), _words(model, own)
    rows = [i for i, q in enumerate(questions) if q.split == "test"]
    asked = [questions[i] for i in rows]
    test = {who: _words(model, [texts[i] for i in rows]) for who, texts in roles.items()}
    others = {said_by(pair.label): [own[i] for i in rows], said_by(name): [replies[i] for i in rows]}
    heard = _hear(model, pair.layer, pair.axes, asked, test, others, tick)
    found = {}
    if coordinates(base, model, pair.layer, position, questions, own) >= SAME:
        found[states_of(name)] = states(base, asked, [replies[i] for i in rows], position)[:, pair.layer]
    return Placed(found, heard)


def _hear(
    model: "LoadedModel", layer: int, axes: tuple[Float[ndarray, " d_model"], Float[ndarray, " d_model"]],
    questions: Sequence[Question], roles: Mapping[str, Sequence[str]], others: Mapping[str, Sequence[str]],
    tick: Callable[[int], None],
) -> Heard:  # fmt: skip
    """Replies weighed along the axis and across it: the default's and the roles' make the ruler."""
    who = [*roles.values(), *others.values()]
    replies = [text for texts in who for text in texts]
    chats = [chat for _ in who for chat in _chats(model, questions)]
    directions = [
        Direction(name, Site(layer), "reply_mean", unit(axis), 1.0, model.identity.fingerprint, "extract")
        for name, axis in zip(("along", "across"), axes, strict=True)
    ]
    found = [
        row
        for start in range(0, len(replies), AT_ONCE)
        for row in _slopes(model, chats[start:][:AT_ONCE], replies[start:][:AT_ONCE], directions, tick)
    ]
    slopes = np.array(found).reshape(len(who), len(questions), 2)
    names = tuple(list(roles)[1:])
    return Heard(
        RoleStates(names, slopes[0], slopes[1 : len(roles)]),
        dict(zip(others, slopes[len(roles) :], strict=True)),
    )


def _slopes(
    model: "LoadedModel", chats: Sequence[Rendered], replies: Sequence[str], directions: Sequence[Direction],
    tick: Callable[[int], None],
) -> list[list[float]]:  # fmt: skip
    from lab.likelihood import likelihood_slopes

    _check_lengths(model, chats, replies)
    found = likelihood_slopes(model, chats, replies, directions, [1.0] * len(directions))
    tick(len(replies))
    return [[slope.total / max(1, len(slope.places)) for slope in each.values()] for each in found]


def coordinates(
    base: "LoadedModel", model: "LoadedModel", layer: int, position: Position, questions: Sequence[Question],
    said: Sequence[str],
) -> float:  # fmt: skip
    """`same_coordinates` of two models that read what the second said; NaN for other layers or width."""
    one, other = base.identity, model.identity
    if (one.layers, one.d_model) != (other.layers, other.d_model):
        return float("nan")
    here, there = (states(m, questions, said, position)[:, layer] for m in (model, base))
    return same_coordinates(here, there)


def states(
    model: "LoadedModel", questions: Sequence[Question], replies: Sequence[str], position: Position
) -> Float[ndarray, "question layer d_model"]:
    """States of a model that reads replies as its own, without scaffold; NaN for an empty reply."""
    from lab.reading import read

    chats = _chats(model, questions)
    _check_lengths(model, chats, replies)
    acts = read(model, chats, replies, decision=position == "decision")
    return acts.pooled[position].astype(np.float64)


def _words(model: "LoadedModel", texts: Sequence[str]) -> list[str]:
    """Replies as far as the model speaks for itself; see `lab.prompts.chat.own_words`."""
    return [own_words(model.tokenizer, text) for text in texts]


def _chats(model: "LoadedModel", questions: Sequence[Question]) -> list[Rendered]:
    return [render(model.tokenizer, [Message("user", q.text)]) for q in questions]


def _check_lengths(model: "LoadedModel", chats: Sequence[Rendered], replies: Sequence[str]) -> None:
    for chat, reply in zip(chats, replies, strict=True):
        tokens = model.tokenizer(reply, add_special_tokens=False)["input_ids"]
        check_length(chat, model.context, len(tokens))
