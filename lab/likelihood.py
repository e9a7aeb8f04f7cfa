"""How likely given replies are, and which way a model would have to be steered to say them.

Replies are read teacher-forced under given chats. *Ratios*: add alpha * norm * v to the residual stream wherever
a token of the reply is predicted, once up and once down; how many nats sooner does the model say the reply then?
*Slopes* are the limit of small pushes: the derivative of the reply's log-probability by alpha, at alpha = 0. Positive: the
model would say this reply sooner if it had more of the trait. Whatever the chat, a model's own replies (temperature 1)
have slopes of mean 0, because the score of a likelihood does, and ratios of a mean below 0 on either side, the
divergence of the pushed model (but for what their length says: the end of turn is not counted); replies from elsewhere
lean towards whom they come from. A projection has no such zero: it says who the chat makes the model, also while it
reads someone else's words.
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
from lab.steering import Add, Edit, steered

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


PUSH = 0.1
"""Of ratios, in residual norms; twice as much told less of planted drift (experiments/LOG.md)."""


@dataclass(frozen=True)
class Ratio:
    """What a push along one direction does to a reply: log-prob of each token under it less that without it, in nats.

    up, down [token]: pushed towards more and towards less of the trait.
    """

    up: NDArray[np.float64]
    down: NDArray[np.float64]

    @property
    def total(self) -> tuple[float, float]:
        """Log-likelihood ratios of the whole reply, up and down; NaN for a reply without tokens."""
        none = float("nan")
        return (float(self.up.sum()), float(self.down.sum())) if len(self.up) else (none, none)


def likelihood_ratios(
    model: LoadedModel, chats: Sequence[Rendered], replies: Sequence[str], directions: Sequence[Direction],
    norms: Sequence[float], *, size: float = PUSH, token_budget: int = 4096, edits: Sequence[Edit] = (),
) -> list[dict[str, Ratio]]:  # fmt: skip
    """Per reply and trait how much sooner the model says it when pushed along the trait's direction, and against it.

    The push is `lab.steering.Add` with coefficient ± `size` and `norms[k]` (residual norm at the direction's layer), on
    the last prompt token and all reply tokens but the last. The prompts run once; what follows them runs once as it is
    and twice per direction. With `edits` the model that reads is steered; the push comes after them. LabError for a
    direction from another model, or not one norm per direction and one reply per chat.
    """
    import torch

    _check(model, directions, norms)
    coded, full = _coded(model, chats, replies)
    found = [{d.trait: Ratio(np.zeros(0), np.zeros(0)) for d in directions} for _ in chats]
    with torch.inference_mode(), steered(model, edits):
        for batch in batches(_by_length(coded, full), full, 0, _budget(model, token_budget)):
            part = _begin(model, chats, full, coded, batch)
            plain = _log_probs(model, part)
            for direction, norm in zip(directions, norms, strict=True):
                moved = []
                for push in (size, -size):
                    with steered(model, [Add(direction, push, norm)]):
                        moved.append((_log_probs(model, part) - plain).double().cpu().numpy())
                for row, i in enumerate(batch):
                    n = len(coded[i])
                    found[i][direction.trait] = Ratio(*(x[row, :n] for x in moved))
    return found


@dataclass(frozen=True)
class Slope:
    """One reply's slope along one direction.

    places [token]: what the push does at the place that predicts token t, on this and all later tokens of
    the reply, in nats per residual norm along the direction: a split of the slope by cause, not by word.
    """

    places: NDArray[np.float64]

    @property
    def total(self) -> float:
        """The slope; NaN for a reply without tokens."""
        return float(self.places.sum()) if len(self.places) else float("nan")


def likelihood_slopes(
    model: LoadedModel, chats: Sequence[Rendered], replies: Sequence[str], directions: Sequence[Direction],
    norms: Sequence[float], *, token_budget: int = 4096, edits: Sequence[Edit] = (),
) -> list[dict[str, Slope]]:  # fmt: skip
    """Per reply and trait the slope of its log-probability along the trait's direction.

    What `likelihood_ratios` becomes for a small push, over its size, by one forward and one backward pass for
    all traits; memory goes with the replies' tokens. Errors as there.
    """
    _check(model, directions, norms)
    layers = sorted({d.site.layer for d in directions})
    found = [{d.trait: Slope(np.zeros(0)) for d in directions} for _ in chats]
    for i, gradients in _gradients(model, chats, replies, layers, token_budget, edits):
        for direction, norm in zip(directions, norms, strict=True):
            found[i][direction.trait] = Slope(gradients[direction.site.layer] @ (direction.vector * norm))
    return found


def _check(model: LoadedModel, directions: Sequence[Direction], norms: Sequence[float]) -> None:
    if len(norms) != len(directions):
        raise LabError(f"expected one norm per direction, got {len(norms)} for {len(directions)}")
    for direction in directions:
        if direction.fingerprint != model.identity.fingerprint:
            raise LabError(
                f"the direction {direction.trait!r} was made in another model; extract it in "
                f"{model.identity.name} first"
            )


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


@dataclass(frozen=True)
class _Begun:
    """A batch whose prompts, but for their last token, are in `cache`; the rest is [row, pos], padded on the right.

    tail: the last prompt token and the reply's but the last; said: what each of them is followed by; after: where a
    reply is.
    """

    cache: Any
    mask: "torch.Tensor"
    tail: "torch.Tensor"
    after: "torch.Tensor"
    positions: "torch.Tensor"
    said: "torch.Tensor"


def _budget(model: LoadedModel, token_budget: int) -> int:
    """Tokens of a batch whose logits at every place of the replies are held a few times over."""
    return max(1, min(token_budget, LOGITS_AT_ONCE // (4 * model.identity.vocab)))


def _begin(
    model: LoadedModel, chats: Sequence[Rendered], full: Sequence[Rendered], coded: Sequence[Sequence[int]],
    batch: Sequence[int],
) -> _Begun:  # fmt: skip
    """Run the prompts of a batch without a way back, so that memory goes with what follows them."""
    import torch
    from transformers import DynamicCache

    ids, mask, positions = padded([chats[i].ids[:-1] for i in batch], model)
    cache = DynamicCache()
    if ids.shape[1]:
        with torch.no_grad():
            model.network(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                use_cache=True, logits_to_keep=1,
            )  # fmt: skip
    tails = [full[i].ids[len(chats[i].ids) - 1 : -1] for i in batch]
    return _Begun(cache, mask, *_right_padded(tails, [coded[i] for i in batch], mask.sum(-1), model))


def _log_probs(model: LoadedModel, part: _Begun) -> "torch.Tensor":
    """Log-probs of what is said in a batch, [row, pos], 0 behind a reply; leaves the batch as it was."""
    import torch

    logits = model.network(
        input_ids=part.tail, attention_mask=torch.cat([part.mask, part.after], 1), position_ids=part.positions,
        past_key_values=part.cache, use_cache=True,
    ).logits  # fmt: skip
    part.cache.crop(-part.tail.shape[1])
    return logits.float().log_softmax(-1).gather(2, part.said[..., None])[..., 0] * part.after


def _gradients(
    model: LoadedModel, chats: Sequence[Rendered], replies: Sequence[str], layers: Sequence[int],
    token_budget: int, edits: Sequence[Edit],
) -> Iterator[tuple[int, Mapping[int, NDArray[np.float64]]]]:  # fmt: skip
    """Row and gradients of its log-prob per layer, [token, d]: entry t by a push where token t is predicted."""
    import torch

    coded, full = _coded(model, chats, replies)
    for batch in batches(_by_length(coded, full), full, 0, _budget(model, token_budget)):
        with frozen(model), steered(model, edits):
            part = _begin(model, chats, full, coded, batch)
            shape = (*part.tail.shape, model.identity.d_model)
            leaves = [torch.zeros(shape, device=model.device, requires_grad=True) for _ in layers]
            hooks = [
                (hook_name(Site(k)), lambda value, hook, leaf=leaf: value + leaf.to(value.dtype))
                for k, leaf in zip(layers, leaves, strict=True)
            ]
            with torch.enable_grad(), model.bridge.hooks(fwd_hooks=hooks):
                found = torch.autograd.grad(_log_probs(model, part).sum(), leaves)
        for row, i in enumerate(batch):
            n = len(coded[i])
            yield i, {k: g[row, :n].double().cpu().numpy() for k, g in zip(layers, found, strict=True)}


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
