"""Models with changed weights: made, landed, and held against the model that they were.

Every changed model makes its own directions and has its own unit, so what is compared is where scaffolds land in the
terrain that a model has now. Replies are drawn with the same uniforms, so that no change is no displacement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.pipelines.claim_landings import Landings
from lab.records import LabError, Message, Position
from lab.stats import average
from lab.store import Store, content_key
from lab.weights import Draw, Weight, moved, relative_size, towards, unlike

if TYPE_CHECKING:
    from lab.models import Checkpoint, LoadedModel

Change = Callable[["Checkpoint"], "Checkpoint"]
"""From a checkpoint to one with other weights."""


def drawn(draw: Draw, size: float, seed: int, name: str) -> Change:
    """Every matrix changed by what `draw` gives with `seed`, at a relative size."""

    def change(checkpoint: "Checkpoint") -> "Checkpoint":
        from lab.models import matrices, with_matrices

        weights = moved(matrices(checkpoint), draw, size, np.random.default_rng([seed, 10]))
        return with_matrices(checkpoint, weights, name)

    return change


def led(other: dict[str, Weight], size: float, name: str) -> Change:
    """Every matrix led towards another model's, at a relative size."""

    def change(checkpoint: "Checkpoint") -> "Checkpoint":
        from lab.models import matrices, with_matrices

        return with_matrices(checkpoint, towards(matrices(checkpoint), other, size), name)

    return change


def distance(checkpoint: "Checkpoint", other: "Checkpoint") -> float:
    """Relative size of what lies between two models. LabError where they do not have the same weights."""
    from lab.models import matrices

    one, two = matrices(checkpoint), matrices(other)
    if why := unlike(one, two):
        raise LabError(why)
    return relative_size(one, two)


# ------------------------------------------------------------------ displacement


@dataclass(frozen=True)
class Displacement:
    """How far scaffolds moved, in noise floors; each [scaffold].

    value: root mean square distance over traits between landings of the two models, over the wordings; NaN where no
    trait's poles lie apart in both. wordings: root mean square distance of two wordings inside the unchanged model.
    The unit of both is the latter over all scaffolds, on the same traits; lost: traits without a unit.
    """

    scaffolds: tuple[str, ...]
    value: Float[ndarray, " scaffold"]
    wordings: Float[ndarray, " scaffold"]
    lost: tuple[str, ...]


def displacement(before: Landings, after: Landings, position: Position = "reply_mean") -> Displacement:
    """Where the scaffolds land in a changed model, held against where they landed."""
    lost = tuple(
        t for t in before.traits if any(np.isnan(side.L[t, position]).all() for side in (before, after))
    )
    kept = [t for t in before.traits if t not in lost]
    nothing = np.full(len(before.scaffolds), np.nan)
    if not kept:
        return Displacement(before.scaffolds, nothing, nothing, lost)
    one, two = (np.stack([side.L[t, position] for t in kept]) for side in (before, after))
    moved_by = np.asarray(average(two - one, 3))
    places = np.asarray(average(one, 3))
    squared = np.nanmean((moved_by**2).sum(axis=0), axis=1)
    first, second = np.triu_indices(places.shape[2], 1)
    if not len(first):
        return Displacement(before.scaffolds, nothing, nothing, lost)
    apart = ((places[:, :, first] - places[:, :, second]) ** 2).sum(axis=0).mean(axis=1)
    unit = np.sqrt(apart.mean())
    return Displacement(before.scaffolds, np.sqrt(squared) / unit, np.sqrt(apart) / unit, lost)


# ------------------------------------------------------------------ loss


def reading_loss(
    model: "LoadedModel", before: Landings, questions: Sequence[str], store: Store
) -> Float[ndarray, "scaffold question"]:
    """Nats per token at which a model reads what the unchanged one said under the first wording of every scaffold.

    The end of turn is not counted; NaN for an empty reply. Above the unchanged model's own: the divergence of the
    two, estimated on what the latter says.
    """
    from lab.likelihood import token_log_probs
    from lab.prompts.chat import render

    chats, replies = [], []
    for k, scaffold in enumerate(before.scaffolds):
        jobs = {j.question.id: j for j in reversed(before.landed.groups[1 + k]) if j.paraphrase == 0}
        for q in questions:
            said = [Message("system", jobs[q].system), Message("user", jobs[q].question.text)]
            chats.append(render(model.tokenizer, said))
            replies.append(before.reply(scaffold, q))
    key = content_key("reading-loss-1", model.identity.fingerprint, [c.text for c in chats], replies)
    hit = store.cached(key)
    if hit is None:
        rows = token_log_probs(model, chats, replies)
        loss = np.array([-row.mean() if len(row) else np.nan for row in rows])
        store.put(key, {"loss": loss}, {})
        hit = store.cached(key)
    assert hit is not None
    return hit[0]["loss"].reshape(len(before.scaffolds), len(questions))
