"""Reading given replies, teacher-forced: a prefix that chats share is run once, then only what follows it.

Nothing is held but sums: every layer's hook adds up its reply tokens where they are and lets the states
go. What follows a prefix is padded on the right, where causal attention never looks, so distances between
tokens stay as they are and a sliding window sees what it would see in one chat alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lab.activations import LOGITS_AT_ONCE, SHARED_PREFIX, Rows, common_prefix, entropy_of
from lab.models import LoadedModel, hook_name
from lab.records import FIRST_TOKENS, Activations, Direction, LabError, Rendered, Site
from lab.steering import Edit, steered

if TYPE_CHECKING:
    import torch

TOKENS_AT_ONCE = (4096, 32768)
"""Tokens of a batch without and with a GPU. On a CPU, larger batches took up to a third longer: their
intermediate results are too large for its caches and for memory that is at hand."""
DEEPEST = 200
"""Prefixes within prefixes that are weighed; a conversation read turn by turn nests as deep as it is long."""
Group = tuple[list[int], int]
"""Rows and how many of their first tokens are run once for all of them."""


def read(
    model: LoadedModel, chats: Sequence[Rendered], replies: Sequence[str], *, token_budget: int | None = None,
    directions: Sequence[Direction] = (), edits: Sequence[Edit] = (), decision: bool = False,
) -> Activations:  # fmt: skip
    """`Activations` of given reply texts under given chats.

    With `edits` the model that reads is steered, shared prefixes too. The position "decision" is read only
    if asked for: it needs the logits at every reply token and so a second pass over what follows the
    prefix. Beside the model, memory goes with `token_budget` (padded tokens of a batch, prefix included;
    None: `TOKENS_AT_ONCE` of the device) and with the result, not with the number of replies times their
    length. LabError when there is not one reply per chat, or for states that are not finite.
    """
    import torch

    if len(chats) != len(replies):
        raise LabError(f"expected one reply per chat, got {len(replies)} replies for {len(chats)} chats")
    rows = Rows.empty(model, len(chats), directions, decision)
    token_budget = token_budget or TOKENS_AT_ONCE[model.device.type == "cuda"]
    if decision:
        token_budget = min(token_budget, LOGITS_AT_ONCE // model.identity.vocab)
    rows.ids = [list(model.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in replies]
    rows.count[:] = [len(ids) for ids in rows.ids]
    whole = [np.concatenate([c.ids, np.array(r, np.int64)]) for c, r in zip(chats, rows.ids, strict=True)]
    starts = [len(c.ids) for c in chats]
    with torch.inference_mode(), steered(model, edits):
        for part in _passes(model, whole, starts, token_budget):
            _take(model, rows, part)
    return rows.finish(model)


# ------------------------------------------------------------------ what is run together


@dataclass(frozen=True)
class _Pass:
    """One batch behind its prefix: `inputs` of the network, and where its replies are.

    `start`, `stop` [row]: the reply's tokens, counted from the first of the last `window` positions, which
    reach from the earliest spawn point to the end.
    """

    rows: NDArray[np.int64]
    inputs: Mapping[str, Any]
    window: int
    start: NDArray[np.int64]
    stop: NDArray[np.int64]


def groups(whole: Sequence[NDArray[np.int64]], starts: Sequence[int]) -> list[Group]:
    """Which rows share how long a prefix: every row once, those without a prefix worth sharing last.

    `starts` [row]: where the reply begins; the token before it is never part of a prefix. A prefix is worth
    sharing when it saves `SHARED_PREFIX` tokens. Rows with a longer prefix of their own leave the others
    where that saves more.
    """
    order = sorted(range(len(whole)), key=lambda i: whole[i].tolist())
    shared = [
        min(common_prefix(whole[i], whole[j]), starts[i] - 1, starts[j] - 1) for i, j in pairwise(order)
    ]
    _, found = _best(order, shared) if order else (0, [])
    placed = {i for rows, _ in found for i in rows}
    alone = [i for i in order if i not in placed]
    return [*found, (alone, 0)] if alone else found


def _best(order: list[int], shared: list[int], depth: int = 0) -> tuple[int, list[Group]]:
    """The most tokens saved among sorted rows whose neighbours share `shared` tokens, and the groups."""
    if len(order) == 1 or depth == DEEPEST:
        return 0, []
    prefix = min(shared)
    cuts = [0, *(k + 1 for k, s in enumerate(shared) if s == prefix), len(order)]
    parts = [(order[a:b], *_best(order[a:b], shared[a : b - 1], depth + 1)) for a, b in pairwise(cuts)]
    apart = sum(saved for _, saved, _ in parts)
    joined = [i for rows, saved, _ in parts if saved <= len(rows) * prefix for i in rows]
    together = sum(max(saved, len(rows) * prefix) for rows, saved, _ in parts) - prefix - SHARED_PREFIX
    if together < apart:
        return apart, [group for _, _, own in parts for group in own]
    kept = [group for rows, saved, own in parts if saved > len(rows) * prefix for group in own]
    return together, [(joined, prefix), *kept]


def _passes(
    model: LoadedModel, whole: Sequence[NDArray[np.int64]], starts: Sequence[int], token_budget: int
) -> Iterator[_Pass]:
    """Batches of rows, each behind the prefix of its group, which is run when the group comes up."""
    for rows, prefix in groups(whole, starts):
        cache = _run_prefix(model, whole[rows[0]][:prefix]) if prefix else None
        batch: list[int] = []
        for i in sorted(rows, key=lambda i: len(whole[i])):
            if batch and len(whole[i]) * (len(batch) + 1) > token_budget:
                yield _pass(model, whole, starts, batch, prefix, cache)
                batch = []
            batch.append(i)
        yield _pass(model, whole, starts, batch, prefix, cache)


def _pass(
    model: LoadedModel, whole: Sequence[NDArray[np.int64]], starts: Sequence[int], batch: Sequence[int],
    prefix: int, cache: Any,
) -> _Pass:  # fmt: skip
    import torch

    width = max(len(whole[i]) for i in batch) - prefix
    ids = torch.full((len(batch), width), model.tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(batch), prefix + width), dtype=torch.long)
    for k, i in enumerate(batch):
        tail = torch.from_numpy(whole[i][prefix:])
        ids[k, : len(tail)], mask[k, : prefix + len(tail)] = tail, 1
    at = torch.arange(prefix, prefix + width, device=model.device)
    inputs = {
        "input_ids": ids.to(model.device),
        "attention_mask": mask.to(model.device),
        "position_ids": at[None].expand(len(batch), -1),
        "past_key_values": cache,
        "use_cache": cache is not None,
    }
    start = np.array([starts[i] for i in batch]) - prefix
    stop = np.array([len(whole[i]) for i in batch]) - prefix
    first = int(start.min()) - 1
    return _Pass(np.array(batch), inputs, width - first, start - first, stop - first)


def _run_prefix(model: LoadedModel, ids: NDArray[np.int64]) -> Any:
    """A cache that shows the prefix's keys and values to every row of a batch and keeps no others.

    So it serves any number of batches, and no row's keys and values outlive their layer.
    """
    import torch
    from transformers import DynamicCache

    cache: Any = DynamicCache()
    head = torch.from_numpy(ids[None]).to(model.device)
    model.network.base_model(
        input_ids=head, attention_mask=torch.ones_like(head),
        position_ids=torch.arange(len(ids), device=model.device)[None], past_key_values=cache, use_cache=True,
    )  # fmt: skip
    for layer in cache.layers:
        layer.update = lambda keys, values, *_, layer=layer, **__: (
            torch.cat([layer.keys.expand(len(keys), -1, -1, -1), keys], dim=-2),
            torch.cat([layer.values.expand(len(values), -1, -1, -1), values], dim=-2),
        )
    return cache


# ------------------------------------------------------------------ what is taken


def _take(model: LoadedModel, rows: Rows, part: _Pass) -> None:
    """Run one pass and add up its rows."""
    import torch

    at = np.arange(part.window)
    reply = (at >= part.start[:, None]) & (at < part.stop[:, None])
    kinds = [at == part.start[:, None] - 1, reply, reply & (at < part.start[:, None] + FIRST_TOKENS)]
    weights = torch.from_numpy(np.stack(kinds, axis=1)).to(model.device, torch.float32)
    if rows.decision is not None:
        logits = model.network(**part.inputs, logits_to_keep=part.window).logits
        decides = entropy_of(logits) * (weights[:, 0] + weights[:, 1])
        rows.entropy[part.rows] = decides.sum(1).double().cpu().numpy()
        weights = torch.cat([weights, decides[:, None]], dim=1)
        del logits
    hooks = [
        (
            hook_name(Site(layer)),
            lambda value, hook, layer=layer: _add_up(rows, part, layer, value[:, -part.window :], weights),
        )
        for layer in range(model.identity.layers)
    ]
    with model.bridge.hooks(fwd_hooks=hooks):
        model.network.base_model(**part.inputs)  # no logits


def _add_up(rows: Rows, part: _Pass, layer: int, states: "torch.Tensor", weights: "torch.Tensor") -> None:
    """Sums of the window's states [row, pos, d_model] at a layer, each with its weights [row, kind, pos]."""
    import torch

    states = states.float()
    sums = torch.bmm(weights, states).cpu().numpy()
    kept = [rows.spawn, rows.total, rows.first, *([] if rows.decision is None else [rows.decision])]
    for k, array in enumerate(kept):
        array[part.rows, layer] = sums[:, k]
    rows.norm[layer] += float(
        (torch.linalg.vector_norm(states, dim=-1) * weights[:, 1]).sum(dtype=torch.float64)
    )
    for trait, (where, vector) in rows.vectors.items():
        if where == layer:
            values = (states @ vector).cpu().numpy()
            for k, i in enumerate(part.rows.tolist()):
                rows.projections[i][trait] = values[k, part.start[k] : part.stop[k]].tolist()
