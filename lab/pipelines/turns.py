"""The assistant's turns of conversations, each read on directions."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.directions import apart
from lab.records import Direction, LabError, Message, Rendered, Reply

if TYPE_CHECKING:
    from lab.models import LoadedModel

Conversation = Sequence[Message]
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Turns:
    """The assistant turns of one conversation, per trait; NaN for a reply without tokens.

    ratios [turn, 2]: log-likelihood ratios (nats) under a push of `lab.likelihood.PUSH` along the trait's direction apart
    from the others (`lab.directions.apart`), up and down; projections [turn]: on the direction itself; norms: the
    residual norm at each trait's layer that pushes are measured in.
    """

    replies: tuple[Reply, ...]
    ratios: Values
    projections: Values
    norms: dict[str, float]

    def first(self, n: int) -> "Turns":
        """The first n turns."""
        ratios, projections = ({t: v[:n] for t, v in part.items()} for part in self._parts)
        return Turns(self.replies[:n], ratios, projections, self.norms)

    def then(self, later: "Turns") -> "Turns":
        """These turns and the later ones, on the same directions."""
        ratios, projections = (
            {t: np.concatenate([v, after[t]]) for t, v in part.items()}
            for part, after in zip(self._parts, later._parts, strict=True)
        )
        return Turns((*self.replies, *later.replies), ratios, projections, self.norms)

    @property
    def _parts(self) -> tuple[Values, Values]:
        return self.ratios, self.projections


def read_turns(
    model: "LoadedModel", conversations: Sequence[Conversation], directions: Sequence[Direction], *,
    history: bool = True, norms: Sequence[float] | None = None, skip: int = 0, traits: Sequence[str] | None = None,
) -> list[Turns]:  # fmt: skip
    """The assistant turns of each conversation, with ratios along and projections on every direction.

    Pushes go along each direction apart from the others given: what is read beside a trait is not counted as the trait.
    `traits`: those whose ratios are wanted; None: all.

    For projections each turn is read under what was said before it; where that is longer than the model's
    context, the oldest turns are left out and the system prompt is kept. For ratios (and without `history` for
    projections too, which saves half the time) it is read under the system prompt and the user turn before it.
    `norms`: residual norms at the directions' layers; None: those of these very turns. `skip`: so many turns of
    each conversation are known already and are left out; the others come out as they would without it.
    Raises LabError for a conversation without an assistant turn.
    """
    from lab.likelihood import likelihood_ratios
    from lab.reading import read

    chats, origins, texts = [], [], []
    rows: list[list[int]] = [[] for _ in conversations]
    for k, talk in enumerate(conversations):
        spoken = [i for i, message in enumerate(talk) if message.role == "assistant"]
        if not spoken:
            raise LabError(f"expected an assistant's turn in each conversation, number {k + 1} has none")
        for i in spoken[skip:]:
            room = len(model.tokenizer(talk[i].content, add_special_tokens=False)["input_ids"])
            origins.append(fitting(model, _origin(talk[:i]), room))
            chats.append(fitting(model, talk[:i], room) if history else origins[-1])
            rows[k].append(len(texts))
            texts.append(talk[i].content)
    acts = read(model, chats, texts, directions=directions)
    if norms is None:
        norms = [float(acts.norm[d.site.layer]) for d in directions]
    own = [
        (d, norm)
        for d, norm in zip(apart(directions), norms, strict=True)
        if traits is None or d.trait in traits
    ]
    ratios = likelihood_ratios(model, origins, texts, [d for d, _ in own], [norm for _, norm in own])
    return [
        Turns(
            tuple(acts.replies[i] for i in mine),
            {d.trait: np.array([ratios[i][d.trait].total for i in mine]).reshape(-1, 2) for d, _ in own},
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
