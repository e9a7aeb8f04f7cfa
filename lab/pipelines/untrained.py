"""The states of untrained twins of both models under the same prompts and replies: a control of every geometry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.geometry.fits import Linear
from lab.geometry.grids import Measure
from lab.geometry.untrained import Networks, chosen_layers, control, map_table, similarities, why_not
from lab.pipelines.replies import Measured
from lab.records import Message, Position, Split
from lab.records.geometry import StateGrid
from lab.records.similarity import UntrainedControl
from lab.store import Store, content_key

if TYPE_CHECKING:
    from lab.models import LoadedModel

Pair = tuple[StateGrid, StateGrid]
Twins = dict[Split, tuple[Networks, Networks]]
"""Per split and side: the model, then its twins; one wording of each scaffold."""


@dataclass(frozen=True)
class Texts:
    """What one model was given and said, in the order of its states: scaffold, then question, first wording.

    systems [scaffold]; questions and replies per split, replies [scaffold x question].
    """

    systems: tuple[str, ...]
    questions: dict[Split, tuple[str, ...]] = field(repr=False)
    replies: dict[Split, tuple[str, ...]] = field(repr=False)


def texts_of(
    systems: Sequence[str], questions: dict[Split, tuple[str, ...]], measured: dict[Split, Sequence[Measured]]
) -> Texts:
    """Of the replies to the first wording of every scaffold."""
    replies: dict[Split, tuple[str, ...]] = {
        split: tuple(r.text for m in found for r in m.replies[: len(questions[split])])
        for split, found in measured.items()
    }
    return Texts(tuple(systems), questions, replies)


def read_twins(
    model: "LoadedModel", texts: Texts, positions: Sequence[Position], seeds: Sequence[int], store: Store,
    tick: Callable[[], None],
) -> list[dict[tuple[Split, Position], Float[ndarray, "row layer d_model"]]]:  # fmt: skip
    """Per seed the pooled states of one untrained twin; from the cache where they are there."""
    from lab.models import untrained

    found = []
    for seed in seeds:
        key = content_key(
            "untrained-1", model.identity.fingerprint, seed, list(positions), texts.systems, texts.questions, texts.replies
        )  # fmt: skip
        hit = store.cached(key)
        if hit is None:
            arrays = _read(untrained(model, seed), texts, positions)
            store.put(key, arrays, {})
        else:
            arrays = hit[0]
        found.append({(s, p): arrays[f"{s} {p}"] for s in texts.questions for p in positions})
        tick()
    return found


def _read(model: "LoadedModel", texts: Texts, positions: Sequence[Position]) -> dict[str, ndarray]:
    from lab.prompts.chat import render
    from lab.reading import read

    splits = list(texts.questions)
    chats = [
        render(model.tokenizer, [*([Message("system", system)] if system else []), Message("user", question)])
        for split in splits
        for system in texts.systems
        for question in texts.questions[split]
    ]
    acts = read(model, chats, [r for split in splits for r in texts.replies[split]])
    arrays, start = {}, 0
    for split in splits:
        rows = slice(start, start + len(texts.replies[split]))
        start = rows.stop
        arrays |= {f"{split} {p}": acts.pooled[p][rows].astype(np.float32) for p in positions}
    return arrays


def twins_at(
    position: Position, pairs: dict[Split, Pair],
    states: Sequence[Sequence[dict[tuple[Split, Position], ndarray]]],
) -> Twins:  # fmt: skip
    """Grids of the two models (first wording) and of their twins, in one design."""
    found: Twins = {}
    for split, pair in pairs.items():
        sides = []
        for grid, twins in zip(pair, states, strict=True):
            shape = (len(grid.scaffolds), 1, len(grid.questions), *grid.acts.shape[3:])
            acts = [grid.acts[:, :1], *(twin[split, position].reshape(shape) for twin in twins)]
            sides.append(
                [
                    StateGrid(
                        grid.model,
                        f"{grid.fingerprint} {k}",
                        position,
                        split,
                        grid.scaffolds,
                        grid.questions,
                        x,
                    )
                    for k, x in enumerate(acts)
                ]
            )
        found[split] = (sides[0], sides[1])
    return found


def controls(
    twins: Twins, measures: Sequence[Measure], methods: Sequence[Linear]
) -> tuple[UntrainedControl, ...]:
    """Every measure at the layers that it chooses on select, and every map both ways at those of the first.

    Layers are chosen for each pair of networks by itself: those of the two models would favour them over their twins
    (two random networks then came out ahead of theirs in up to 17 % of 100 pairs at 5 %, experiments/LOG.md).
    Maps are fitted on *extract* alone, which makes them cheaper and their R² lower than those that are reported.
    """
    test = twins["test"]
    questions = {split: len(a[0].questions) for split, (a, _) in twins.items()}
    why = why_not(len(test[0][0].scaffolds), questions, len(test[0]) - 1)
    if why:
        return (
            UntrainedControl(
                "", "", "", len(test[0]) - 1, len(test[0][0].scaffolds), questions["test"], "test", why
            ),
        )
    layers = {m.name: chosen_layers(twins["select"], m) for m in measures}
    found = [control(m.name, similarities(layers[m.name], test, m), test) for m in measures]
    at = layers[measures[0].name]
    for method in methods:
        for back in (False, True):
            train, asked = (_turned(twins[split], back) for split in ("extract", "test"))
            table = map_table(train, asked, at.transpose(1, 0, 2)[:, :, ::-1] if back else at, method)
            found.append(control(method.name, table, asked, directed=True))
    return tuple(found)


def _turned(both: tuple[Networks, Networks], back: bool) -> tuple[Networks, Networks]:
    return (both[1], both[0]) if back else both
