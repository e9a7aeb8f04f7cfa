"""How likely given replies are, and which way a model would have to be steered to say them.

Replies are read teacher-forced under given chats. Besides their log-probs there are *slopes*: add
alpha * norm * v to the residual stream wherever a token of the reply is predicted; the slope is the
derivative of the reply's log-probability by alpha, at alpha = 0. Positive: the model would say this reply
sooner if it had more of the trait. Whatever the chat, a model's own replies (temperature 1) have slopes of
mean 0, because the score of a likelihood does (but for what their length says: the end of turn is not counted);
replies from elsewhere lean towards whom they come from. A projection has no such zero: it says who the chat
makes the model, also while it reads someone else's words.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lab.activations import LOGITS_AT_ONCE, batches
from lab.models import LoadedModel, hook_name
from lab.records import Direction, LabError, Rendered, Site
from lab.steering import Edit, steered

if TYPE_CHECKING:
    import torch


def token_log_probs(
    model: LoadedModel, chats: Sequence[Rendered], replies: Sequence[str], *, token_budget: int = 16384,
    edits: Sequence[Edit] = (),
) -> list[NDArray[np.float64]]:  # fmt: skip
    """Per reply the natural log-probs [token] of its tokens, each given the chat and the tokens before it.

    The end-of-turn token is not counted; a reply without tokens gives an empty array. With `edits` the
    model that reads is steered. LabError when there is not one reply per chat.
    """
    import torch

    coded, full = _coded(model, chats, replies)
    found: list[NDArray[np.float64]] = [np.zeros(0)] * len(chats)
    budget = min(token_budget, LOGITS_AT_ONCE // model.identity.vocab)
    with torch.inference_mode(), steered(model, edits):
        for batch in batches(_by_length(coded, full), full, 0, budget):
            for i, row in zip(batch, _forward(model, batch, coded, full), strict=True):
                found[i] = row.double().cpu().numpy()
    return found


@dataclass(frozen=True)
class Slope:
    """One reply's slope along one direction.

    places [token]: what the push does at the place that predicts token t, on this and all later tokens of
    the reply, in nats per residual norm along the direction: a split of the slope by cause, not by word.
    information: its variance if the model itself were speaking (Fisher information), estimated; NaN
    for a reply without tokens and where no draws were asked for.
    """

    places: NDArray[np.float64]
    information: float

    @property
    def total(self) -> float:
        """The slope; NaN for a reply without tokens."""
        return float(self.places.sum()) if len(self.places) else float("nan")


def likelihood_slopes(
    model: LoadedModel, chats: Sequence[Rendered], replies: Sequence[str], directions: Sequence[Direction],
    norms: Sequence[float], *, draws: int = 2, seed: int = 0, token_budget: int = 4096,
    edits: Sequence[Edit] = (),
) -> list[dict[str, Slope]]:  # fmt: skip
    """Per reply and trait the slope of its log-probability along the trait's direction.

    It is the derivative by the coefficient of `lab.steering.Add` with `norms[k]` (residual norm at the
    direction's layer), if the edit acted on the last prompt token and all reply tokens but the last.
    `draws` times every reply token is put in the place of another one that the model could have said there:
    the slope of these has the variance that is looked for, and mean 0; a reply's draws depend on `seed`
    and its number alone.

    One forward and 1 + `draws` backward passes for all traits; memory goes with the replies' tokens. With `edits`
    the model that reads is steered; the push comes after them. LabError for a direction from another model,
    or not one norm per direction and one reply per chat.
    """
    if len(norms) != len(directions):
        raise LabError(f"expected one norm per direction, got {len(norms)} for {len(directions)}")
    for direction in directions:
        if direction.fingerprint != model.identity.fingerprint:
            raise LabError(
                f"the direction {direction.trait!r} was made in another model; extract it in "
                f"{model.identity.name} first"
            )
    layers = sorted({d.site.layer for d in directions})
    found = [{d.trait: Slope(np.zeros(0), float("nan")) for d in directions} for _ in chats]
    for i, gradients in _gradients(model, chats, replies, layers, draws, seed, token_budget, edits):
        for direction, norm in zip(directions, norms, strict=True):
            pushed = gradients[direction.site.layer] @ (direction.vector * norm)
            information = float((pushed[1:].sum(-1) ** 2).mean()) if draws else float("nan")
            found[i][direction.trait] = Slope(pushed[0], information)
    return found


def padded(
    rows: Sequence[NDArray[np.int64]], model: LoadedModel
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Ids, mask and positions [row, pos] on the model's device, padded on the left."""
    import torch

    width = max(len(x) for x in rows)
    ids = torch.full((len(rows), width), model.tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for k, x in enumerate(rows):
        ids[k, width - len(x) :], mask[k, width - len(x) :] = torch.from_numpy(x), 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return ids.to(model.device), mask.to(model.device), positions.to(model.device)


# ------------------------------------------------------------------ one batch


def _coded(
    model: LoadedModel, chats: Sequence[Rendered], replies: Sequence[str]
) -> tuple[list[list[int]], list[Rendered]]:
    """The replies' tokens, and the chats with the replies behind them."""
    if len(chats) != len(replies):
        raise LabError(f"expected one reply per chat, got {len(replies)} replies for {len(chats)} chats")
    coded = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in replies]
    full = [
        Rendered(np.concatenate([c.ids, np.array(r, np.int64)]), (), "")
        for c, r in zip(chats, coded, strict=True)
    ]
    return coded, full


def _by_length(coded: Sequence[Sequence[int]], full: Sequence[Rendered]) -> list[int]:
    """Rows with a reply, short ones first."""
    return sorted((i for i in range(len(full)) if coded[i]), key=lambda i: len(full[i].ids))


def _forward(
    model: LoadedModel, batch: Sequence[int], coded: Sequence[Sequence[int]], full: Sequence[Rendered]
) -> list["torch.Tensor"]:
    """Log-probs [token] of each reply of a batch."""
    ids, mask, positions = padded([full[i].ids for i in batch], model)
    out = model.network(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False,
        logits_to_keep=max(len(coded[i]) for i in batch) + 1,
    )  # fmt: skip
    found = []
    for k, i in enumerate(batch):
        n = len(coded[i])
        logits = out.logits[k, -n - 1 : -1].float().log_softmax(-1)
        found.append(logits.gather(1, ids[k, -n:, None])[:, 0])
    return found


def _gradients(
    model: LoadedModel, chats: Sequence[Rendered], replies: Sequence[str], layers: Sequence[int], draws: int,
    seed: int, token_budget: int, edits: Sequence[Edit],
) -> Iterator[tuple[int, Mapping[int, NDArray[np.float64]]]]:  # fmt: skip
    """Row and gradients per layer, [1 + draw, token, d]: entry t by a push where token t is predicted.

    First that of the reply's log-prob, then those of what might have been said instead.
    """
    coded, full = _coded(model, chats, replies)
    budget = max(1, min(token_budget, LOGITS_AT_ONCE // (4 * model.identity.vocab)))
    for batch in batches(_by_length(coded, full), full, 0, budget):
        heads = [chats[i].ids[:-1] for i in batch]
        tails = [full[i].ids[len(chats[i].ids) - 1 : -1] for i in batch]
        uniforms = np.zeros((draws, len(batch), max(len(t) for t in tails)))
        for row, i in enumerate(batch):
            uniforms[:, row, : len(coded[i])] = np.random.default_rng([seed, i]).random(
                (draws, len(coded[i]))
            )
        with frozen(model), steered(model, edits):
            found = _push(model, heads, tails, [coded[i] for i in batch], layers, uniforms)
        for row, i in enumerate(batch):
            n = len(coded[i])
            yield i, {k: found[:, c, row, :n].double().cpu().numpy() for c, k in enumerate(layers)}


def _push(
    model: LoadedModel, heads: Sequence[NDArray[np.int64]], tails: Sequence[NDArray[np.int64]],
    targets: Sequence[Sequence[int]], layers: Sequence[int], uniforms: NDArray[np.float64],
) -> "torch.Tensor":  # fmt: skip
    """Gradients of the targets' log-probs, then of drawn ones', by the residual stream at the tails.

    [1 + draw, layer, row, pos, d]. The heads run first and without a way back, so that memory goes with
    the tails.
    """
    import torch
    from transformers import DynamicCache

    ids, mask, positions = padded(heads, model)
    cache = DynamicCache()
    if ids.shape[1]:
        with torch.no_grad():
            model.network(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                use_cache=True, logits_to_keep=1,
            )  # fmt: skip
    tail, after, places, wanted = _right_padded(tails, targets, mask.sum(-1), model)
    shape = (len(tails), tail.shape[1], model.identity.d_model)
    leaves = [torch.zeros(shape, device=model.device, requires_grad=True) for _ in layers]
    hooks = [
        (hook_name(Site(k)), lambda value, hook, leaf=leaf: value + leaf.to(value.dtype))
        for k, leaf in zip(layers, leaves, strict=True)
    ]
    with torch.enable_grad(), model.bridge.hooks(fwd_hooks=hooks):
        logits = model.network(
            input_ids=tail, attention_mask=torch.cat([mask, after], 1), position_ids=places,
            past_key_values=cache, use_cache=True,
        ).logits  # fmt: skip
        log_p, found = logits.float().log_softmax(-1), []
        for said in [wanted, *_instead(log_p.detach(), uniforms)]:
            total = (log_p.gather(2, said[..., None])[..., 0] * after).sum()
            found.append(torch.stack(torch.autograd.grad(total, leaves, retain_graph=True)))
    return torch.stack(found)


def _instead(log_p: "torch.Tensor", uniforms: NDArray[np.float64]) -> Iterator["torch.Tensor"]:
    """Per draw the tokens [row, pos] that the model says at these uniforms, each under what was really said."""
    import torch

    if not len(uniforms):
        return
    cumulative = log_p.exp().double().cumsum(-1)
    for u in uniforms:
        at = torch.from_numpy(u).to(log_p.device)[..., None] * cumulative[..., -1:]
        yield torch.searchsorted(cumulative, at)[..., 0].clamp(max=log_p.shape[-1] - 1)


def _right_padded(
    tails: Sequence[NDArray[np.int64]],
    targets: Sequence[Sequence[int]],
    before: "torch.Tensor",
    model: LoadedModel,
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Ids, mask, positions and targets [row, pos] of what follows `before` [row] tokens."""
    import torch

    shape = (len(tails), max(len(t) for t in tails))
    ids, mask, wanted = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    ids += model.tokenizer.pad_token_id
    for k, (tail, target) in enumerate(zip(tails, targets, strict=True)):
        ids[k, : len(tail)], mask[k, : len(tail)] = torch.from_numpy(tail), 1
        wanted[k, : len(tail)] = torch.tensor(target)
    places = before.cpu()[:, None] + torch.arange(shape[1])
    return tuple(t.to(model.device) for t in (ids, mask, places, wanted))  # type: ignore[return-value]


@contextmanager
def frozen(model: LoadedModel) -> Iterator[None]:
    """Weights need no gradient inside the block, so that nothing is kept for them."""
    weights: list[Any] = [p for p in model.network.parameters() if p.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
