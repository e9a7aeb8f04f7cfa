"""The assistant's turns of conversations, each read on directions."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.directions import apart
from lab.monitoring import standardised
from lab.records import Direction, LabError, Message, Rendered, Reply

if TYPE_CHECKING:
    from lab.models import LoadedModel

Conversation = Sequence[Message]
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Turns:
    """The assistant turns of one conversation, per trait [turn]; NaN for a reply without tokens.

    slopes: along the trait's direction apart from the others (`lab.directions.apart`), in nats per residual norm;
    information: their variance if the model itself were speaking, estimated; projections: on the direction itself;
    norms: the residual norm at each trait's layer that slopes are in.
    """

    replies: tuple[Reply, ...]
    slopes: Values
    information: Values
    projections: Values
    norms: dict[str, float]

    def first(self, n: int) -> "Turns":
        """The first n turns."""
        slopes, information, projections = ({t: v[:n] for t, v in part.items()} for part in self._parts)
        return Turns(self.replies[:n], slopes, information, projections, self.norms)

    def then(self, later: "Turns") -> "Turns":
        """These turns and the later ones, on the same directions."""
        slopes, information, projections = (
            {t: np.concatenate([v, after[t]]) for t, v in part.items()}
            for part, after in zip(self._parts, later._parts, strict=True)
        )
        return Turns((*self.replies, *later.replies), slopes, information, projections, self.norms)

    @property
    def _parts(self) -> tuple[Values, Values, Values]:
        return self.slopes, self.information, self.projections


def slope_series(turns: Sequence[Turns], trait: str, ordinary: int) -> list[NDArray[np.float64]]:
    """Slopes of every conversation, each over its expected spread; the first `ordinary` ones say what is usual."""
    usual = usual_information(turns[:ordinary], trait)
    return [standardised(t.slopes[trait], t.information[trait], usual) for t in turns]


def usual_information(turns: Sequence[Turns], trait: str) -> float:
    """Mean information of the turns of these conversations."""
    return float(np.nanmean(np.concatenate([t.information[trait] for t in turns])))


def read_turns(
    model: "LoadedModel", conversations: Sequence[Conversation], directions: Sequence[Direction], *,
    history: bool = True, norms: Sequence[float] | None = None, skip: int = 0,
) -> list[Turns]:  # fmt: skip
    """The assistant turns of each conversation, with slopes and projections on every direction.

    Slopes go along each direction apart from the others given: what is read beside a trait is not counted as the trait.

    For projections each turn is read under what was said before it; where that is longer than the model's
    context, the oldest turns are left out and the system prompt is kept. For slopes (and without `history` for
    projections too, which saves half the time) it is read under the system prompt and the user turn before it.
    `norms`: residual norms at the directions' layers; None: those of these very turns. `skip`: so many turns of
    each conversation are known already and are left out; the others come out as they would without it.
    Raises LabError for a conversation without an assistant turn.
    """
    from lab.likelihood import likelihood_slopes
    from lab.reading import read

    chats, origins, texts, fresh = [], [], [], []
    rows: list[list[int]] = [[] for _ in conversations]
    for k, talk in enumerate(conversations):
        spoken = [i for i, message in enumerate(talk) if message.role == "assistant"]
        if not spoken:
            raise LabError(f"expected an assistant's turn in each conversation, number {k + 1} has none")
        for number, i in enumerate(spoken):
            said = talk[i].content if number >= skip else ""
            room = len(model.tokenizer(said, add_special_tokens=False)["input_ids"])
            origins.append(fitting(model, _origin(talk[:i]), room))
            texts.append(said)
            if number >= skip:
                chats.append(fitting(model, talk[:i], room) if history else origins[-1])
                fresh.append(len(texts) - 1)
                rows[k].append(len(fresh) - 1)
    acts = read(model, chats, [texts[i] for i in fresh], directions=directions)
    if norms is None:
        norms = [float(acts.norm[d.site.layer]) for d in directions]
    # A turn that is left out keeps its place, without words: what is drawn for the others goes by their number.
    found = likelihood_slopes(model, origins, texts, apart(directions), norms)
    slopes = [found[i] for i in fresh]
    return [
        Turns(
            tuple(acts.replies[i] for i in mine),
            {d.trait: np.array([slopes[i][d.trait].total for i in mine]) for d in directions},
            {d.trait: np.array([slopes[i][d.trait].information for i in mine]) for d in directions},
            {
                d.trait: np.array([_average(acts.replies[i].projections[d.trait]) for i in mine])
                for d in directions
            },
            {d.trait: norm for d, norm in zip(directions, norms, strict=True)},
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


def fitting(model: "LoadedModel", talk: Conversation, room: int) -> Rendered:
    """The chat so far, without its oldest turns where it would not fit with `room` tokens more."""
    from lab.prompts.chat import render

    head = [m for m in talk[:1] if m.role == "system"]
    rest = list(talk[len(head) :])
    starts = [0, *(i for i, m in enumerate(rest) if i and m.role == "user")]

    def begun(k: int) -> Rendered:
        return render(model.tokenizer, [*head, *rest[starts[k] :]])

    whole = begun(0)
    if len(whole.ids) + room <= model.context:
        return whole
    least = begun(len(starts) - 1)
    if len(least.ids) + room > model.context:
        raise LabError(
            f"expected turns that fit the model's context of {model.context} tokens with their system "
            f"prompt, got one of {len(least.ids) + room}; shorten the prompt or take another model"
        )
    k = bisect_left(range(1, len(starts)), True, key=lambda k: len(begun(k).ids) + room <= model.context)
    return begun(k + 1)
