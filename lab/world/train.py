"""Training of the model organisms: small causal language models of Hearth.

The targets are the source's exact next-token distributions (`lab.world.tokens`) instead of
sampled tokens: the same loss in expectation with the sampling noise of the labels removed,
which is what lets a small model read twelve traits from a scaffold within a few million
tokens. The loss above the source's entropy is then exactly a Kullback-Leibler divergence.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from lab.world.conversation import reply_text
from lab.world.corpus import Document, Encoded, Mix, documents, encode
from lab.world.latent import TRAITS
from lab.world.library import Library, library
from lab.world.tokens import CHATML_MARKS, ROLE_MARKS, ChatMarks, Pieces, train_tokenizer

CONTEXT = 1024
SHARD = 1000


@dataclass(frozen=True)
class Recipe:
    """Everything that makes one organism. Same recipe and machine, same organism."""

    name: str
    architecture: str
    d_model: int
    layers: int
    heads: int
    d_mlp: int
    vocab: int
    marks: ChatMarks
    seed: int
    shards: int = 45
    batch_tokens: int = 3000
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.05
    reading: float = 0.5
    """Weight of the reading loss while it is on."""
    mix: Mix = field(default_factory=Mix)


RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe("hearth-a", "llama", 192, 6, 3, 512, 3072, ROLE_MARKS, seed=11),
        Recipe("hearth-b", "qwen3", 256, 4, 4, 640, 2048, CHATML_MARKS, seed=23),
    )
}


@dataclass(frozen=True)
class Progress:
    """What the trainer tells as it goes.

    `excess` is nats per reply token above the source's entropy; `reading` the error of the reader's
    z in prior variances; `first` the step at which this
    session began; `seconds` are counted from there.
    """

    step: int
    steps: int
    tokens: int
    seconds: float
    excess: float
    reading: float
    first: int


def make_model(recipe: Recipe) -> torch.nn.Module:
    """A freshly initialised Hugging Face model of the recipe."""
    torch.manual_seed(recipe.seed)
    shared = {
        "hidden_size": recipe.d_model, "num_hidden_layers": recipe.layers, "intermediate_size": recipe.d_mlp,
        "num_attention_heads": recipe.heads, "num_key_value_heads": recipe.heads,
        "head_dim": recipe.d_model // recipe.heads, "vocab_size": recipe.vocab,
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": True, "attn_implementation": "eager",
    }  # fmt: skip
    if recipe.architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**shared))
    if recipe.architecture == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**shared))
    raise ValueError(f"architecture {recipe.architecture!r} is not one of llama, qwen3")


def _texts(docs: Iterator[Document]) -> Iterator[str]:
    for doc in docs:
        yield from filter(None, [doc.system])
        yield from doc.users
        for reply in doc.replies:
            yield reply_text(reply)
            yield " " + reply_text(reply)


def make_tokenizer(recipe: Recipe, lib: Library):
    """The tokenizer of the recipe, trained on documents of its own seed."""
    return train_tokenizer(_texts(documents(recipe.seed, lib, recipe.mix, 1500)), recipe.vocab, recipe.marks)


def pieces_of(tokenizer) -> Pieces:
    """Word pieces under a tokenizer whose merges stay inside words."""
    return Pieces(lambda text: tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id)


def write_shard(recipe: Recipe, folder: Path, index: int, tokenizer, lib: Library) -> None:
    """Encode shard `index` (1,000 documents) to `folder`; whole or absent."""
    path = folder / f"shard{index:04d}.npz"
    if path.exists():
        return
    pieces = pieces_of(tokenizer)
    docs = documents(recipe.seed * 100_000 + index, lib, recipe.mix, SHARD)
    rows = [encode(doc, tokenizer, pieces) for doc in docs]
    rows = [row for row in rows if len(row.ids) <= CONTEXT]
    arrays = {
        name: np.concatenate([getattr(row, name) for row in rows])
        for name in ("ids", "at", "row", "token", "p", "z")
    }
    for name in ("ids", "at", "row"):
        arrays[f"n_{name}"] = np.array([len(getattr(row, name)) for row in rows], np.int32)
    temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez(temporary, **{k: v.astype(np.float16) if k in ("p", "z") else v for k, v in arrays.items()})
    temporary.rename(path)


def read_shard(path: Path) -> list[Encoded]:
    """The documents of one shard."""
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    count = {"ids": "ids", "at": "at", "row": "row", "token": "row", "p": "row", "z": "at"}
    cut = {name: np.split(arrays[name], np.cumsum(arrays[f"n_{n}"])[:-1]) for name, n in count.items()}
    return [Encoded(*fields) for fields in zip(*(cut[k] for k in count), strict=True)]


def _produce(recipe: Recipe, folder: str, first: int, stride: int) -> None:
    """Worker: writes shards first, first + stride, …"""
    tokenizer = AutoTokenizer.from_pretrained(Path(folder) / "tokenizer")
    for index in range(first, recipe.shards, stride):
        write_shard(recipe, Path(folder) / "shards", index, tokenizer, library())


@dataclass(frozen=True)
class Batch:
    """Padded ids [batch, pos] and sparse targets over flattened positions."""

    ids: torch.Tensor
    at: torch.Tensor
    row: torch.Tensor
    token: torch.Tensor
    p: torch.Tensor
    z: torch.Tensor


def collate(docs: list[Encoded]) -> Batch:
    """One batch; right padding, which causal attention never sees."""
    width = max(len(d.ids) for d in docs)
    ids = np.zeros((len(docs), width), np.int64)
    at, rows, base = [], [], 0
    for i, doc in enumerate(docs):
        ids[i, : len(doc.ids)] = doc.ids
        at.append(doc.at.astype(np.int64) + i * width)
        rows.append(doc.row.astype(np.int64) + base)
        base += len(doc.at)
    token = np.concatenate([d.token for d in docs]).astype(np.int64)
    p = np.concatenate([d.p for d in docs]).astype(np.float32)
    z = np.concatenate([d.z for d in docs]).astype(np.float32)
    arrays = (ids, np.concatenate(at), np.concatenate(rows), token, p, z)
    return Batch(*(torch.from_numpy(a) for a in arrays))


def batches(docs: list[Encoded], budget: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Shuffled batches of documents of like length, at most `budget` padded tokens each."""
    order = sorted(range(len(docs)), key=lambda i: len(docs[i].ids) + rng.random() * 40)
    groups: list[list[Encoded]] = [[]]
    for i in order:
        widest = max((len(d.ids) for d in [*groups[-1], docs[i]]), default=0)
        if groups[-1] and widest * (len(groups[-1]) + 1) > budget:
            groups.append([])
        groups[-1].append(docs[i])
    for g in rng.permutation(len(groups)):
        yield collate(groups[g])


@dataclass(frozen=True)
class Losses:
    """Nats per reply token: cross-entropy to the source and the source's own entropy.

    `reading`: mean squared error of the reader's z, in prior variances (0 without a reader).
    """

    loss: torch.Tensor
    entropy: torch.Tensor
    reading: torch.Tensor


def losses(model, batch: Batch, reader: torch.nn.Linear | None = None) -> Losses:
    """Losses of one batch. `reader` reads z from the middle layer at every reply token."""
    out = model.model(input_ids=batch.ids, use_cache=False, output_hidden_states=reader is not None)

    def at(hidden: torch.Tensor) -> torch.Tensor:
        return hidden.reshape(-1, hidden.shape[-1])[batch.at]

    logits = (at(out.last_hidden_state) @ model.lm_head.weight.T).float()
    target = torch.zeros(len(batch.at), logits.shape[-1])
    target.index_put_((batch.row, batch.token), batch.p, accumulate=True)
    target /= target.sum(-1, keepdim=True)
    entropy = -torch.special.xlogy(target, target).sum(-1).mean()
    reading = torch.zeros(())
    if reader is not None:
        middle = at(out.hidden_states[(len(out.hidden_states) - 1) // 2]).float()
        middle = middle * middle.pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt()
        reading = (reader(middle).float() - batch.z).pow(2).mean()
    return Losses(torch.nn.functional.cross_entropy(logits, target), entropy, reading)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then cosine to a twentieth."""
    if step < warmup:
        return (step + 1) / warmup
    x = (step - warmup) / max(1, steps - warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, x)))


def reading_weight(step: int, steps: int, recipe: Recipe) -> float:
    """Weight of the reading loss: full for 0.4 of the way, nothing after 0.7."""
    x = step / max(1, steps)
    return recipe.reading * min(1.0, max(0.0, (0.7 - x) / 0.3))


def _optimizer(model, reader: torch.nn.Linear, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
        {"params": list(reader.parameters()), "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


@dataclass
class _State:
    """Where a training stands; what a checkpoint holds."""

    model: Any
    reader: torch.nn.Linear
    optimizer: torch.optim.Optimizer
    shard: int = 0
    step: int = 0
    steps: int = 0
    tokens: int = 0

    def save(self, path: Path) -> None:
        """Whole or absent."""
        counts = {"shard": self.shard, "step": self.step, "steps": self.steps, "tokens": self.tokens}
        parts = {"model": self.model, "reader": self.reader, "optimizer": self.optimizer}
        torch.save({**{k: v.state_dict() for k, v in parts.items()}, **counts}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        saved = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.reader.load_state_dict(saved["reader"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.shard, self.step = saved["shard"], saved["step"]
        self.steps, self.tokens = saved["steps"], saved["tokens"]


def _tokenizer_of(recipe: Recipe, folder: Path):
    """The recipe's tokenizer, trained once and kept in `folder`."""
    if not folder.exists():
        temporary = folder.with_suffix(".tmp")
        make_tokenizer(recipe, library()).save_pretrained(temporary)
        temporary.rename(folder)
    return AutoTokenizer.from_pretrained(folder)


def _start_producers(recipe: Recipe, folder: Path, workers: int) -> list[Any]:
    context = get_context("spawn")
    producers = [
        context.Process(target=_produce, args=(recipe, str(folder), w, workers), daemon=True)
        for w in range(workers)
    ]
    for process in producers:
        process.start()
    return producers


def _await(path: Path, producers: list[Any]) -> None:
    while not path.exists():
        if not any(p.is_alive() for p in producers):
            raise RuntimeError(f"{path.name} was not written; the processes that write the corpus have ended")
        time.sleep(0.5)


def train(
    recipe: Recipe,
    folder: Path,
    report: Callable[[Progress], None],
    probe: Callable[[Any, Any, int], None] | None = None,
    workers: int = 1,
    probe_every: int = 5,
) -> tuple[Any, Any]:
    """Train the recipe in `folder` (shards, checkpoint); returns (model, tokenizer).

    Resumes at the last finished shard. `report` is called every 25 steps, `probe` with
    (model, tokenizer, step) every `probe_every` shards. Raises FloatingPointError when the
    loss is no longer finite.
    """
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer_of(recipe, folder / "tokenizer")
    producers = _start_producers(recipe, folder, workers)
    model = make_model(recipe)
    reader = torch.nn.Linear(recipe.d_model, len(TRAITS))
    state = _State(model, reader, _optimizer(model, reader, recipe))
    if (folder / "checkpoint.pt").exists():
        state.restore(folder / "checkpoint.pt")
    first, began = state.step, time.monotonic()
    while state.shard < recipe.shards:
        path = folder / "shards" / f"shard{state.shard:04d}.npz"
        _await(path, producers)
        plan = list(
            batches(read_shard(path), recipe.batch_tokens, np.random.default_rng([recipe.seed, state.shard]))
        )
        state.steps = state.steps or len(plan) * recipe.shards
        for batch in plan:
            found = _step(recipe, state, batch)
            if state.step % 25 == 0:
                seconds, excess = time.monotonic() - began, float(found.loss.detach() - found.entropy)
                reading = float(found.reading.detach())
                report(Progress(state.step, state.steps, state.tokens, seconds, excess, reading, first))
        state.shard += 1
        state.save(folder / "checkpoint.pt")
        if probe is not None and (state.shard % probe_every == 0 or state.shard == recipe.shards):
            probe(model, tokenizer, state.step)
    return model, tokenizer


def _step(recipe: Recipe, state: _State, batch: Batch) -> Losses:
    """One optimiser step."""
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.learning_rate * schedule(state.step, state.steps, recipe.warmup)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(state.model, batch, state.reader)
    weight = reading_weight(state.step, state.steps, recipe)
    (found.loss + weight * found.reading).backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.step += 1
    state.tokens += batch.ids.numel()
    if not math.isfinite(float(found.loss.detach())):
        raise FloatingPointError(f"the loss is not finite at step {state.step}; lower the learning rate")
    return found
