"""Replies of a model with what its residual stream did meanwhile (`lab.reading`: replies that are given).

One pass generates and captures. A reply token's state is the one in which the token is the
input, so the last token of a reply is run once more than sampling needs; the end-of-turn token
is never counted. A prefix that several chats share is computed once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lab.models import LoadedModel, hook_name
from lab.records import FIRST_TOKENS, Activations, Direction, LabError, Position, Rendered, Reply, Site
from lab.steering import Edit, Gate, steered

if TYPE_CHECKING:
    import torch

SHARED_PREFIX = 24
"""A common prefix of at least this many tokens is worth computing once."""
LOGITS_AT_ONCE = 2**28
"""Logits that reading may hold in one batch when it needs them at every reply token."""


@dataclass(frozen=True)
class _Cache:
    """Keys and values per layer [row, head, pos, d_head], the mask [row, pos] and the last logits."""

    layers: list[tuple["torch.Tensor", "torch.Tensor"]]
    mask: "torch.Tensor"
    logits: "torch.Tensor"


class _Tap:
    """Collects the residual states of one forward pass, [row, d_model] per layer, at one position."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self.states: list[Any] = [None] * model.identity.layers

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Every forward pass inside leaves the states at its last position in `states`."""
        hooks = [
            (hook_name(Site(layer)), lambda value, hook, layer=layer: self._keep(layer, value))
            for layer in range(len(self.states))
        ]
        with self._model.bridge.hooks(fwd_hooks=hooks):
            yield

    def _keep(self, layer: int, value: "torch.Tensor") -> None:
        self.states[layer] = value[:, -1]


def generate(
    model: LoadedModel, chats: Sequence[Rendered], *, max_new_tokens: int, seeds: Sequence[int],
    temperature: float = 1.0, token_budget: int = 24576, directions: Sequence[Direction] = (),
    edits: Sequence[Edit] = (), release: int | None = None, progress: Callable[[int], None] | None = None,
) -> Activations:  # fmt: skip
    """Sample one reply per chat and capture `Activations` in the same pass.

    `edits` hold for the prompt and for the first `release` reply tokens (None: for all). `seeds` has
    one seed per chat: a reply depends on its own seed, not on what it is batched with (up to
    rounding). `progress(n)` is told how many chats are finished. A reply whose first token ends the turn
    has text "" and NaN states. LabError for NaN activations.
    """
    import torch

    if len(seeds) != len(chats):
        raise LabError(f"expected one seed per chat, got {len(seeds)} seeds for {len(chats)} chats")
    rows = Rows.empty(model, len(chats), directions)
    order = sorted(range(len(chats)), key=lambda i: (len(chats[i].ids) // 64, chats[i].ids.tolist()))
    done = 0
    tap, gate = _Tap(model), Gate(release)
    with torch.inference_mode(), steered(model, edits, gate), tap():
        for batch in batches(order, chats, max_new_tokens, token_budget):
            uniforms = np.stack([np.random.default_rng(seeds[i]).random(max_new_tokens) for i in batch])
            prompts = [chats[i].ids for i in batch]
            share = _can_share(model, prompts, max_new_tokens)
            gate.at(0)
            cache = _prefill(model, prompts, share, tap, rows, batch)
            _decode(model, cache, tap, rows, batch, uniforms, temperature, _positions(chats, batch), gate)
            done += len(batch)
            if progress is not None:
                progress(done)
    return rows.finish(model)


def _positions(chats: Sequence[Rendered], batch: Sequence[int]) -> NDArray[np.int64]:
    return np.array([len(chats[i].ids) for i in batch])


def batches(order: Sequence[int], chats: Sequence[Rendered], new: int, budget: int) -> Iterator[list[int]]:
    """Neighbours in `order` whose padded chats, each with room for `new` tokens, stay inside `budget` tokens."""
    batch: list[int] = []
    for i in order:
        longest = max(len(chats[j].ids) for j in [*batch, i]) + new
        if batch and longest * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


# ------------------------------------------------------------------ what is collected


@dataclass
class Rows:
    """Sums over reply tokens while they are made; arrays are [row, layer, d_model].

    `decision` is the sum weighted by entropy, `entropy` [row] its weights' sum.
    """

    total: NDArray[np.float32]
    spawn: NDArray[np.float32]
    first: NDArray[np.float32]
    decision: NDArray[np.float32] | None
    entropy: NDArray[np.float64]
    count: NDArray[np.int64]
    norm: NDArray[np.float64]
    ids: list[list[int]]
    projections: list[dict[str, list[float]]]
    vectors: dict[str, tuple[int, "torch.Tensor"]]

    @staticmethod
    def empty(model: LoadedModel, n: int, directions: Sequence[Direction], decision: bool = True) -> "Rows":
        import torch

        shape = (n, model.identity.layers, model.identity.d_model)
        vectors = {
            d.trait: (d.site.layer, torch.from_numpy(np.asarray(d.vector, np.float32)).to(model.device))
            for d in directions
        }
        zeros = lambda: np.zeros(shape, np.float32)  # noqa: E731
        return Rows(
            zeros(), zeros(), zeros(), zeros() if decision else None, np.zeros(n), np.zeros(n, np.int64),
            np.zeros(shape[1]), [[] for _ in range(n)], [{t: [] for t in vectors} for _ in range(n)], vectors,
        )  # fmt: skip

    def project(self, states: Sequence["torch.Tensor"], rows: Sequence[int]) -> None:
        """Note the rows' projections on the directions."""
        for trait, (layer, vector) in self.vectors.items():
            values = (states[layer].float() @ vector).tolist()
            for i, value in zip(rows, values, strict=True):
                self.projections[i][trait].append(value)

    def finish(self, model: LoadedModel) -> Activations:
        """Means, texts and token strings. LabError for states that are not finite."""
        count = self.count[:, None, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled: dict[Position, NDArray[np.float32]] = {
                "reply_mean": (self.total / count).astype(np.float32),
                "spawn": self.spawn,
                "first_tokens": (self.first / np.minimum(count, FIRST_TOKENS)).astype(np.float32),
            }
            if self.decision is not None:
                weight = np.where(self.count > 0, self.entropy, np.nan)[:, None, None]
                pooled["decision"] = (self.decision / weight).astype(np.float32)
        mean = pooled["reply_mean"][self.count > 0]
        for name, array in (("prompt", self.spawn), ("reply", mean)):
            bad = ~np.isfinite(array).all(axis=(0, 2))
            if bad.any():
                raise LabError(
                    f"{model.identity.name}: NaN or infinite activations at layer {int(np.argmax(bad))} "
                    f"({name}); try --dtype float32, or check the weights"
                )
        replies = [
            _reply(model.tokenizer, ids, projections)
            for ids, projections in zip(self.ids, self.projections, strict=True)
        ]
        return Activations(pooled, self.norm / max(1, int(self.count.sum())), tuple(replies))


def _reply(tokenizer: Any, ids: list[int], projections: dict[str, list[float]]) -> Reply:
    """The pieces join to the text; a character of several tokens belongs to the last of them."""
    text, pieces, shown = tokenizer.decode(ids, skip_special_tokens=True), [], 0
    for i in range(1, len(ids) + 1):
        whole = tokenizer.decode(ids[:i], skip_special_tokens=True).rstrip("\ufffd") if i < len(ids) else text
        pieces.append(whole[shown:])
        shown = max(shown, len(whole))
    return Reply(text, tuple(pieces), {k: tuple(v) for k, v in projections.items()})


# ------------------------------------------------------------------ prefill


def _prefill(
    model: LoadedModel, prompts: Sequence[NDArray[np.int64]], share: bool, tap: _Tap, rows: Rows,
    batch: Sequence[int],
) -> _Cache:  # fmt: skip
    """Run all prompts; if `share`, their shared prefixes once. Leaves the spawn states in `rows`."""
    parts = []
    for start, stop, prefix in _prefix_groups(prompts, share):
        parts.append(_run_group(model, prompts[start:stop], prefix))
        states = np.stack([s.float().cpu().numpy() for s in tap.states], axis=1)
        rows.spawn[np.array(batch[start:stop])] = states
    return _merge(parts)


def _can_share(model: LoadedModel, prompts: Sequence[NDArray[np.int64]], new: int) -> bool:
    """Sharing shifts index distances by padding, which a sliding window would notice."""
    window = getattr(model.network.config.get_text_config(), "sliding_window", None)
    return window is None or max(len(p) for p in prompts) * 2 + new < window


def _prefix_groups(prompts: Sequence[NDArray[np.int64]], share: bool) -> Iterator[tuple[int, int, int]]:
    """(start, stop, prefix length): neighbouring prompts that share a long prefix, else one group."""
    start = 0
    while start < len(prompts):
        stop, prefix = start + 1, len(prompts[start]) - 1
        while share and stop < len(prompts):
            common = min(prefix, common_prefix(prompts[start], prompts[stop]))
            if common < max(SHARED_PREFIX, prefix // 2):
                break
            stop, prefix = stop + 1, common
        if stop == start + 1:
            while stop < len(prompts) and not (share and _begins_group(prompts, stop)):
                stop += 1
            prefix = 0
        yield start, stop, prefix
        start = stop


def _begins_group(prompts: Sequence[NDArray[np.int64]], i: int) -> bool:
    if i + 1 >= len(prompts):
        return False
    limit = max(SHARED_PREFIX, (len(prompts[i]) - 1) // 2)
    return min(len(prompts[i]) - 1, common_prefix(prompts[i], prompts[i + 1])) >= limit


def common_prefix(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Tokens that two prompts share at the start, the last token of each left out."""
    n = min(len(a), len(b)) - 1
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def _run_group(model: LoadedModel, prompts: Sequence[NDArray[np.int64]], prefix: int) -> _Cache:
    import torch
    from transformers import DynamicCache

    n, width = len(prompts), max(len(p) for p in prompts) - prefix
    cache = DynamicCache()
    if prefix:
        head = torch.from_numpy(prompts[0][None, :prefix]).to(model.device)
        _forward(model, head, torch.ones_like(head), torch.arange(prefix, device=model.device)[None], cache)
        cache.batch_repeat_interleave(n)
    ids = torch.full((n, width), model.tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros((n, prefix + width), dtype=torch.long)
    mask[:, :prefix] = 1
    for i, prompt in enumerate(prompts):
        tail = torch.from_numpy(prompt[prefix:])
        ids[i, width - len(tail) :] = tail
        mask[i, prefix + width - len(tail) :] = 1
    mask = mask.to(model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, prefix:]
    logits = _forward(model, ids.to(model.device), mask, positions, cache)
    return _Cache(_layers(cache), mask, logits)


def _forward(model: LoadedModel, ids, mask, positions, cache) -> "torch.Tensor":
    """Logits after the last position, [row, vocab]."""
    out = model.network(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
        logits_to_keep=1,
    )  # fmt: skip
    return out.logits[:, -1]


def _layers(cache: Any) -> list[tuple["torch.Tensor", "torch.Tensor"]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _merge(parts: Sequence[_Cache]) -> _Cache:
    """Caches of several groups as one, shorter ones padded on the left."""
    import torch
    from torch.nn.functional import pad

    if len(parts) == 1:
        return parts[0]
    width = max(p.mask.shape[1] for p in parts)

    def wide(tensors: Sequence["torch.Tensor"]) -> "torch.Tensor":
        return torch.cat([pad(t, (0, 0, width - t.shape[2], 0)) for t in tensors])

    layers = [
        (wide([p.layers[i][0] for p in parts]), wide([p.layers[i][1] for p in parts]))
        for i in range(len(parts[0].layers))
    ]
    mask = torch.cat([pad(p.mask, (width - p.mask.shape[1], 0)) for p in parts])
    return _Cache(layers, mask, torch.cat([p.logits for p in parts]))


# ------------------------------------------------------------------ decode


def _decode(
    model: LoadedModel, start: _Cache, tap: _Tap, rows: Rows, batch: Sequence[int],
    uniforms: NDArray[np.float64], temperature: float, lengths: NDArray[np.int64], gate: Gate,
) -> None:  # fmt: skip
    """Sample token by token; every kept token is run once and its states are added up."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    for i, (keys, values) in enumerate(start.layers):
        cache.update(keys, values, i)
    assert rows.decision is not None
    done = np.array(batch)
    spawn = torch.from_numpy(rows.spawn[done]).to(model.device)
    entropy = entropy_of(start.logits)
    total, first, decision = torch.zeros_like(spawn), torch.zeros_like(spawn), entropy[:, None, None] * spawn
    norm = torch.zeros(len(tap.states), device=model.device, dtype=torch.float64)
    count = np.zeros(len(batch), np.int64)
    stops = np.array(model.stop_ids, np.int64)
    mask, logits, live = start.mask, start.logits, np.arange(len(batch))
    for step in range(uniforms.shape[1]):
        tokens = _sample(logits, uniforms[live, step], temperature)
        keep = ~np.isin(tokens, stops)
        live, tokens, mask = _drop(live, tokens, mask, cache, keep)
        if not len(live):
            break
        where = [batch[k] for k in live.tolist()]
        for row, token in zip(where, tokens.tolist(), strict=True):
            rows.ids[row].append(token)
        mask = torch.cat([mask, mask.new_ones((len(live), 1))], dim=1)
        ids = torch.from_numpy(tokens[:, None]).to(model.device)
        positions = torch.from_numpy((lengths[live] + step)[:, None]).to(model.device)
        gate.at(step)
        logits = _forward(model, ids, mask, positions, cache)
        states = torch.stack(list(tap.states), dim=1).float()
        at = torch.from_numpy(live).to(model.device)
        total[at] += states
        if step < FIRST_TOKENS:
            first[at] += states
        weight = entropy_of(logits)
        decision[at] += weight[:, None, None] * states
        entropy[at] += weight
        norm += states.norm(dim=-1).sum(0).double()
        count[live] += 1
        rows.project(tap.states, where)
    rows.total[done], rows.count[done] = total.cpu().numpy(), count
    rows.first[done], rows.decision[done] = first.cpu().numpy(), decision.cpu().numpy()
    rows.entropy[done] = entropy.double().cpu().numpy()
    rows.norm += norm.cpu().numpy()


def _drop(live, tokens, mask, cache, keep: NDArray[np.bool_]):
    """Only the rows to keep, in the cache too."""
    import torch

    if keep.all():
        return live, tokens, mask
    index = torch.from_numpy(np.flatnonzero(keep)).to(mask.device)
    if len(index):
        cache.batch_select_indices(index)
    return live[keep], tokens[keep], mask[index]


def entropy_of(logits: "torch.Tensor") -> "torch.Tensor":
    """Entropy of the distribution over the next token, in nats; [..., vocab] to [...]."""
    log_p = logits.float().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def _sample(logits: "torch.Tensor", uniforms: NDArray[np.float64], temperature: float) -> NDArray[np.int64]:
    """One token per row by inverse CDF of its uniform; temperature 0 takes the most likely."""
    import torch

    if temperature == 0:
        return logits.argmax(-1).cpu().numpy()
    cumulative = (logits.float() / temperature).softmax(-1).double().cumsum(-1)
    u = torch.from_numpy(uniforms).to(logits.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, u).clamp(max=logits.shape[-1] - 1)[:, 0].cpu().numpy()
