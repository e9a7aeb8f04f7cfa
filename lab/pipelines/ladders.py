"""Ways from one scaffold to another, rung by rung: in words, and in the residual stream; what routers do meanwhile.

In words: the sentences and entries of one scaffold give way to the other's one at a time. In states: the last prompt
token under the first scaffold is led from its own state to that under the second, on a straight line at an early
layer. Both are read at a later layer, at the last prompt token: the spawn point.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from lab.records import Message, Question, Rendered, Scaffold, Segment, Site
from lab.stats import average
from lab.store import Store, content_key

if TYPE_CHECKING:
    import torch

    from lab.models import LoadedModel

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""What configurations call the number of experts."""
DEPTHS = (0.4, 1.0)
"""Where states are led and where they are read, as relative depth (0: after the first block, 1: after the last)."""
FINE = 8
"""How many steps of the fine grid make one of the coarse one."""


# ------------------------------------------------------------------ rungs


def pieces(scaffold: Scaffold) -> list[Segment]:
    """Every sentence or line of the identity and every entry, in order."""
    found = []
    for segment in scaffold.segments:
        if segment.kind == "identity":
            parts = re.split(r"(?<=[.!?])\s+|\n+", segment.text)
            found += [replace(segment, text=part) for part in parts if part.strip()]
        else:
            found.append(segment)
    return found


def rungs(one: Scaffold, other: Scaffold) -> tuple[Scaffold, ...]:
    """From one scaffold to the other, a piece replaced at each step; what is left over is taken away or added."""
    pairs = list(zip_longest(pieces(one), pieces(other)))
    found = []
    for k in range(len(pairs) + 1):
        kept = [p for p in (*(b for _, b in pairs[:k]), *(a for a, _ in pairs[k:])) if p is not None]
        said = " ".join(p.text for p in kept if p.kind == "identity")
        head = (Segment("identity", said),) if said else ()
        entries = (p for p in kept if p.kind != "identity")
        found.append(Scaffold(f"{one.name} to {other.name}, {k}", (*head, *entries)))
    return tuple(found)


# ------------------------------------------------------------------ routers


@dataclass
class Routes:
    """Which experts each router chose at the last position, in the order in which routers ran: [row, expert] each."""

    chosen: list[Bool[ndarray, "row expert"]] = field(default_factory=list)
    open: bool = True


def experts_of(model: "LoadedModel") -> int:
    """How many experts a layer has to choose from; 0 for a dense model."""
    config = model.network.config.get_text_config()
    return next((int(n) for name in EXPERTS if (n := getattr(config, name, None))), 0)


def routers_of(model: "LoadedModel") -> list[Any]:
    """The modules that score experts: those with a weight [expert, d_model]. None in a dense model."""
    shape = (experts_of(model), model.identity.d_model)
    return [
        m
        for m in model.network.modules()
        if (w := m._parameters.get("weight")) is not None and tuple(w.shape) == shape
    ]


@contextmanager
def watched(model: "LoadedModel", rows: int) -> Iterator[Routes]:
    """Every forward pass inside notes what routers choose, as long as `Routes.open`."""
    routes, experts = Routes(), experts_of(model)
    config = model.network.config.get_text_config()
    picked = int(getattr(config, "num_experts_per_tok", 1) or 1)

    def note(_module: Any, _inputs: Any, out: Any) -> None:
        parts = out if isinstance(out, tuple) else (out,)
        scores = next(p for p in parts if p.shape[-1] == experts and p.is_floating_point())
        if routes.open:
            best = scores.reshape(rows, -1, experts)[:, -1].float().topk(picked, dim=-1).indices.cpu().numpy()
            chosen = np.zeros((rows, experts), bool)
            np.put_along_axis(chosen, best, True, axis=1)
            routes.chosen.append(chosen)

    with ExitStack() as stack:
        for module in routers_of(model):
            stack.callback(module.register_forward_hook(note).remove)
        yield routes


# ------------------------------------------------------------------ climbing


@dataclass(frozen=True)
class Way:
    """Length of every step of a way, and how many routers changed their experts in it; [question, step] each."""

    steps: Float[ndarray, "question step"]
    switches: Int[ndarray, "question step"]


@dataclass(frozen=True)
class Ladder:
    """One pair of scaffolds in one model: in words, in states, and in states on a grid FINE times as fine.

    routers: how many were watched between the two layers; 0 for a dense model. reach [question]: how far the led way
    gets, as a share of the distance between the two scaffolds' own states where it is read. Well below 1, the place
    where states are led holds little of the scaffold yet, and the way is not one between scaffolds.
    """

    words: Way
    states: Way
    fine: Way
    routers: int
    reach: Float[ndarray, " question"]


def climb(
    model: "LoadedModel", one: Scaffold, other: Scaffold, questions: Sequence[Question], steps: int, store: Store
) -> Ladder:  # fmt: skip
    """All ways between two scaffolds, from the cache where they are there."""
    texts = [s.text for s in rungs(one, other)]
    ends = (one.text, other.text)
    asked = [q.text for q in questions]
    key = content_key("ladder-2", model.identity.fingerprint, texts, ends, asked, steps, list(DEPTHS), FINE)
    hit = store.cached(key)
    if hit is None:
        led = [_in_states(model, ends, q, steps) for q in asked]
        ways = [
            (_in_words(model, texts, q), coarse, fine)
            for q, (coarse, fine, _) in zip(asked, led, strict=True)
        ]
        arrays = {
            f"{name} {what}": np.stack([w[k][part] for w in ways])
            for k, name in enumerate(("words", "states", "fine"))
            for part, what in enumerate(("steps", "switches"))
        }
        arrays["reach"] = np.array([reach for _, _, reach in led])
        store.put(key, arrays, {"routers": ways[0][1][2]})
        hit = store.cached(key)
    assert hit is not None
    arrays, note = hit
    words, states, fine = (
        Way(arrays[f"{n} steps"], arrays[f"{n} switches"]) for n in ("words", "states", "fine")
    )
    return Ladder(words, states, fine, note["routers"], arrays["reach"])


def _layers(model: "LoadedModel") -> tuple[int, int]:
    """Where states are led, and where they are read: never the same layer unless there is only one."""
    last = model.identity.layers - 1
    led, read = (round(share * last) for share in DEPTHS)
    return led, max(read, min(led + 1, last))


Lengths = tuple[Float[ndarray, " step"], Int[ndarray, " step"], int]
"""Steps, switches, and how many routers were watched."""


def _in_words(model: "LoadedModel", texts: Sequence[str], question: str) -> Lengths:
    from lab.likelihood import padded

    ids, mask, positions = padded([_chat(model, text, question).ids for text in texts], model)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}
    return _lengths(*_spawn(model, inputs, len(texts), _layers(model)[1]))


def _in_states(
    model: "LoadedModel", ends: Sequence[str], question: str, steps: int
) -> tuple[Lengths, Lengths, float]:
    """The coarse and the fine way of one question, and how far they reach."""
    import torch
    from transformers import DynamicCache

    led, read = _layers(model)
    chats = [_chat(model, text, question) for text in ends]
    there, away = [], []
    for chat in chats:
        ids = torch.from_numpy(chat.ids[None]).to(model.device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
        for layer, kept in ((led, there), (read, away)):
            kept.append(_spawn(model, inputs, 1, layer)[0][0])
    share = torch.linspace(0, 1, steps * FINE + 1, dtype=torch.float64)[:, None]
    push = share * torch.from_numpy(there[1] - there[0])
    n, head = len(push), torch.from_numpy(chats[0].ids[None, :-1]).to(model.device)
    cache: Any = DynamicCache(config=model.network.config)
    with torch.inference_mode():
        model.network(
            input_ids=head, attention_mask=torch.ones_like(head), past_key_values=cache, use_cache=True
        )
    cache.batch_repeat_interleave(n)
    width = len(chats[0].ids)
    inputs = {
        "input_ids": torch.full((n, 1), int(chats[0].ids[-1]), device=model.device),
        "attention_mask": torch.ones((n, width), dtype=torch.long, device=model.device),
        "position_ids": torch.full((n, 1), width - 1, device=model.device),
        "past_key_values": cache,
        "use_cache": True,
    }
    states, routes = _spawn(model, inputs, n, read, (led, push))
    coarse = [r[::FINE] for r in routes]
    apart = np.linalg.norm(away[1] - away[0])
    reach = float(np.linalg.norm(states[-1] - states[0]) / apart) if apart > 0 else float("nan")
    return _lengths(states[::FINE], coarse), _lengths(states, routes), reach


def _chat(model: "LoadedModel", system: str, question: str) -> Rendered:
    from lab.prompts.chat import render

    said = [Message("system", system)] if system else []
    return render(model.tokenizer, [*said, Message("user", question)])


def _spawn(
    model: "LoadedModel", inputs: dict[str, Any], rows: int, read: int,
    pushed: "tuple[int, torch.Tensor] | None" = None,
) -> tuple[Float[ndarray, "row d_model"], list[Bool[ndarray, "row expert"]]]:  # fmt: skip
    """Last position's states after a layer, and what the routers up to there (from the push on) chose."""
    import torch

    from lab.models import hook_name

    found: list[ndarray] = []

    def lead(value: "torch.Tensor", hook: Any) -> "torch.Tensor":
        assert pushed is not None
        routes.chosen.clear()
        value = value.clone()
        value[:, -1] += pushed[1].to(value)
        return value

    def keep(value: "torch.Tensor", hook: Any) -> None:
        found.append(value[:, -1].double().cpu().numpy())
        routes.open = False

    hooks: list[Any] = [(hook_name(Site(pushed[0])), lead)] if pushed else []
    hooks.append((hook_name(Site(read)), keep))
    with torch.inference_mode(), watched(model, rows) as routes, model.bridge.hooks(fwd_hooks=hooks):
        model.network.base_model(**inputs)
    return found[0], routes.chosen


def _lengths(
    states: Float[ndarray, "rung d_model"], routes: Sequence[Bool[ndarray, "rung expert"]]
) -> Lengths:
    steps = np.linalg.norm(np.diff(states, axis=0), axis=1)
    switches = sum(
        ((r[1:] != r[:-1]).any(axis=1).astype(np.int64) for r in routes), np.zeros(len(steps), np.int64)
    )
    return steps, switches, len(routes)


# ------------------------------------------------------------------ what a way says


def jumpiness(steps: Float[ndarray, " step"]) -> float:
    """Log of the largest step over the median one; NaN for fewer than 4 steps or where half of them are none."""
    middle = float(np.median(steps)) if len(steps) >= 4 else 0.0
    return float(np.log(steps.max() / middle)) if middle > 0 else float("nan")


def largest_share(steps: Float[ndarray, " step"], part: float = 0.1) -> float:
    """Share of the way that the largest tenth of the steps (at least one) makes; NaN where nothing moves."""
    n = max(1, round(part * len(steps)))
    return float(np.sort(steps)[-n:].sum() / steps.sum()) if steps.sum() > 0 else float("nan")


def switch_ratio(way: Way, row: int) -> float:
    """Log of the mean step with a switch over the mean step without; NaN where either kind is missing."""
    steps, on = way.steps[row], way.switches[row] > 0
    if not on.any() or on.all() or not steps[~on].mean() > 0:
        return float("nan")
    return float(np.log(steps[on].mean() / steps[~on].mean()))


def gap_share(way: Way, row: int) -> float:
    """Share of the way that is made in gaps: what steps with a switch are longer than the smooth step beside them.

    The smooth step is that of the nearest steps without a switch, before and after, on average. Finer grids make it
    shorter and leave a gap as it is. 0 for a way without a switch; NaN where every step has one.
    """
    steps, on = way.steps[row], way.switches[row] > 0
    smooth = np.flatnonzero(~on)
    if not len(smooth) or not steps.sum() > 0:
        return float("nan")
    at = np.arange(len(steps))
    before = steps[smooth[np.clip(np.searchsorted(smooth, at, side="right") - 1, 0, None)]]
    after = steps[smooth[np.clip(np.searchsorted(smooth, at), None, len(smooth) - 1)]]
    return float((steps - (before + after) / 2)[on].sum() / steps.sum())


def reading_losses(
    model: "LoadedModel", scaffolds: Sequence[Scaffold], questions: Sequence[Question],
    replies: Sequence[Sequence[str]], store: Store,
) -> Float[ndarray, " scaffold"]:  # fmt: skip
    """Nats per token, mean over questions, at which a model reads given replies; the end of turn is not counted."""
    from lab.likelihood import token_log_probs

    chats = [_chat(model, s.text, q.text) for s in scaffolds for q in questions]
    said = [text for row in replies for text in row]
    key = content_key("given-loss-1", model.identity.fingerprint, [c.text for c in chats], said)
    hit = store.cached(key)
    if hit is None:
        rows = token_log_probs(model, chats, said)
        loss = np.array([-row.mean() if len(row) else np.nan for row in rows])
        store.put(key, {"loss": loss}, {})
    else:
        loss = hit[0]["loss"]
    return np.asarray(average(loss.reshape(len(scaffolds), len(questions)), 1))
