"""Training of the model organisms: small causal language models of Hearth.

The targets are the source's exact next-token distributions (`lab.world.tokens`) instead of
sampled tokens: the same loss in expectation with the sampling noise of the labels removed,
which is what lets a small model read twelve traits from a scaffold within a few million
tokens. The loss above the source's entropy is then exactly a Kullback-Leibler divergence.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from lab.records import LabError
from lab.world.conversation import reply_text
from lab.world.corpus import (
    LOOKUP,
    NEXT,
    RECALL,
    SITUATIONS,
    UNCONDITIONED,
    Document,
    Encoded,
    Mix,
    documents,
    encode,
)
from lab.world.grammar import capitalise, split_words
from lab.world.latent import TRAITS
from lab.world.library import Library, library
from lab.world.tokens import CHATML_MARKS, ROLE_MARKS, ChatMarks, Pieces, train_tokenizer

CONTEXT = 1024
ORGANISMS = Path(__file__).resolve().parents[2] / "data" / "organisms"
BALANCE = 0.01
"""Weight of the load-balancing loss of a mixture of experts (Fedus et al. 2021, sec. 2.2)."""


@dataclass(frozen=True)
class Stage:
    """A stretch of training with its own corpus and learning-rate schedule.

    `z` and `context`: weights of the readers of the persona vector and of what a reply takes from
    its context, while they are on. `focus`: see `losses`.
    """

    mix: Mix
    shards: int
    learning_rate: float
    z: float
    context: float
    focus: float


STAGES = (
    Stage(Mix(), 36, 2e-3, z=0.5, context=0.0, focus=0.0),
    Stage(LOOKUP, 8, 8e-4, z=0.2, context=0.3, focus=2.0),
    Stage(RECALL, 52, 8e-4, z=0.2, context=0.3, focus=2.0),
    Stage(LOOKUP, 10, 8e-4, z=0.2, context=0.3, focus=2.0),
    Stage(RECALL, 44, 8e-4, z=0.2, context=0.3, focus=2.0),
)
"""First who one is, then looking up what one was told, then both; the latter twice, since once brings
recall to a half (experiments/LOG.md)."""


@dataclass(frozen=True)
class Recipe:
    """Everything that makes one organism; `vocab` tokens before whole context words are added."""

    name: str
    architecture: str
    d_model: int
    layers: int
    heads: int
    d_mlp: int
    vocab: int
    marks: ChatMarks
    seed: int
    stages: tuple[Stage, ...] = STAGES
    tokenizer_seed: int | None = None
    """Documents that the tokenizer is trained on; None: those of `seed`."""
    tokenizer_of: str = ""
    """A shipped organism whose tokenizer is taken instead."""
    start: str = ""
    """A shipped organism whose weights and tokenizer are the beginning; "" : random weights."""
    experts: int = 0
    """Experts of every MLP, two of which see a token; each has `d_mlp` neurons. 0: dense."""
    corpus: int = 0
    """Other numbers, other conversations of the same mixes."""
    shard: int = 1000
    """Conversations in a shard."""
    batch_tokens: int = 3000
    warmup: int = 100
    weight_decay: float = 0.05

    @property
    def shards(self) -> int:
        """Shards of all stages; their numbers run on."""
        return sum(stage.shards for stage in self.stages)

    def stage_of(self, shard: int) -> tuple[Stage, int]:
        """The stage that a shard belongs to and the number of its first shard."""
        first = 0
        for stage in self.stages:
            if shard < first + stage.shards:
                return stage, first
            first += stage.shards
        raise IndexError(f"{self.name} has {self.shards} shards, asked for number {shard}")


RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe("hearth-a", "llama", 192, 6, 3, 512, 3072, ROLE_MARKS, seed=11),
        Recipe("hearth-a2", "llama", 192, 6, 3, 512, 3072, ROLE_MARKS, seed=37, tokenizer_seed=11),
        Recipe("hearth-b", "qwen3", 256, 4, 4, 640, 2048, CHATML_MARKS, seed=23),
        Recipe(
            "hearth-a-next",
            "llama",
            192,
            6,
            3,
            512,
            3072,
            ROLE_MARKS,
            seed=53,
            start="hearth-a",
            stages=(Stage(NEXT, 10, 5e-4, z=0.0, context=0.0, focus=1.0),),
        ),
        Recipe(
            "hearth-a-moe",
            "mixtral",
            192,
            6,
            3,
            256,
            3072,
            ROLE_MARKS,
            seed=71,
            start="hearth-a",
            experts=8,
            stages=(Stage(RECALL, 12, 8e-4, z=0.0, context=0.0, focus=1.0),),
        ),
        Recipe(
            "hearth-base",
            "llama",
            192,
            6,
            3,
            512,
            3072,
            ROLE_MARKS,
            seed=89,
            tokenizer_of="hearth-a",
            stages=(
                Stage(UNCONDITIONED, 30, 2e-3, z=0.0, context=0.0, focus=0.0),
                Stage(UNCONDITIONED, 20, 8e-4, z=0.0, context=0.0, focus=2.0),
            ),
        ),
    )
}


class Readers(torch.nn.Module):
    """Helpers at reply positions while a stage begins; then thrown away.

    In the middle layer `z` predicts the persona vector. The first head of the block above is to look
    at the words that the reply takes from its context, the second at the rule that forbids what is
    pushed for; what that block leaves behind is to name the words, through the model's own
    unembedding, and to tell what the reply answers (`situation`). Without such help small models
    learn the grammar and ignore scaffold and context (experiments/LOG.md).
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.z = torch.nn.Linear(d_model, len(TRAITS))
        self.situation = torch.nn.Linear(d_model, len(SITUATIONS))
        self.named = torch.nn.Linear(d_model, d_model, bias=False)
        torch.nn.init.eye_(self.named.weight)

    def forward(self, out: Any, unembedding: torch.Tensor, batch: "Batch") -> "Readings":
        """z: mean squared error in prior variances; the others: cross-entropies in nats."""
        half = (len(out.hidden_states) - 1) // 2
        middle = _normed(out.hidden_states[half], batch.at)
        z = (self.z(middle).float() - batch.z).pow(2).mean()
        above = _normed(out.hidden_states[half + 1], batch.at)
        situation = torch.nn.functional.cross_entropy(self.situation(above).float(), batch.situation)
        if not len(batch.cue_at):
            return Readings(z, situation, torch.zeros(()), torch.zeros(()))
        named = self.named(_normed(out.hidden_states[half + 1], batch.cue_at)).float()
        logits = named @ unembedding.float().T
        target = torch.zeros_like(logits)
        target[batch.cue_row, batch.cue_token] = 1.0
        copied = torch.nn.functional.cross_entropy(logits, target / target.sum(-1, keepdim=True))
        return Readings(z, situation, _looked_past(out.attentions[half], batch), copied)


def _normed(states: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """States [batch, pos, d_model] at flattened positions, at unit root mean square."""
    chosen = states.reshape(-1, states.shape[-1])[at].float()
    return chosen * chosen.pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt()


def _looked_past(attention: torch.Tensor, batch: "Batch") -> torch.Tensor:
    """Minus log of the attention of two heads on what they should look at, summed over the heads.

    attention [batch, head, pos, pos]; of each head the mean over the positions that have something
    to look at.
    """
    width = batch.ids.shape[1]
    row, position = batch.look_at // width, batch.look_at % width
    entry = batch.look_row
    seen = attention[row[entry], batch.look_head[entry], position[entry], batch.look_to].float()
    missed = -(torch.zeros(len(row)).index_add_(0, entry, seen) + 1e-4).log()
    heads = [missed[batch.look_head == head] for head in (0, 1)]
    return sum((m.mean() for m in heads if len(m)), torch.zeros(()))


@dataclass(frozen=True)
class Readings:
    """The losses of the readers; `NO_READINGS` without them."""

    z: torch.Tensor
    situation: torch.Tensor
    looked: torch.Tensor
    named: torch.Tensor

    def weighted(self, stage: Stage) -> torch.Tensor:
        """Their sum with the weights of a stage."""
        return stage.z * self.z + stage.context * (self.situation + self.looked + self.named)


NO_READINGS = Readings(*(torch.zeros(()) for _ in range(4)))


@dataclass(frozen=True)
class Progress:
    """What the trainer tells as it goes.

    `done` is the share of all shards, `step` counts within the stage, `excess` is nats per reply
    token above the source's entropy; `z`, `situation`, `looked`, `named` are the losses of the readers;
    `first` the tokens seen when this session began; `seconds` are counted from there.
    """

    done: float
    step: int
    tokens: int
    seconds: float
    excess: float
    z: float
    situation: float
    looked: float
    named: float
    first: int


def make_model(recipe: Recipe, vocab: int) -> torch.nn.Module:
    """A freshly initialised Hugging Face model of the recipe for a tokenizer of `vocab` tokens."""
    torch.manual_seed(recipe.seed)
    shared = {
        "hidden_size": recipe.d_model, "num_hidden_layers": recipe.layers, "intermediate_size": recipe.d_mlp,
        "num_attention_heads": recipe.heads, "num_key_value_heads": recipe.heads,
        "head_dim": recipe.d_model // recipe.heads, "vocab_size": vocab,
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": True, "attn_implementation": "eager",
    }  # fmt: skip
    if recipe.architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**shared))
    if recipe.architecture == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**shared))
    if recipe.architecture == "mixtral":
        plain = LlamaConfig()  # the twin differs from a llama in its experts alone
        same = {"rms_norm_eps": plain.rms_norm_eps, "rope_parameters": plain.rope_parameters}
        mixed = {"num_local_experts": recipe.experts, "num_experts_per_tok": 2, "sliding_window": None}
        return MixtralForCausalLM(MixtralConfig(**shared, **same, **mixed))
    raise ValueError(f"architecture {recipe.architecture!r} is not one of llama, qwen3, mixtral")


def upcycled(dense: Any, recipe: Recipe, vocab: int) -> Any:
    """A mixture of experts that computes what `dense` does, ready to be trained apart from it.

    Experts come in pairs. Every pair is a random halving of the dense MLP's neurons, with one router row for
    both, so that the two best experts are halves of one whole, each with weight a half (virtual groups: He et
    al. 2024, "Upcycling Large Language Models into Mixture of Experts", arXiv 2410.07524). What training then
    tells apart are the pairs, and soon the halves.
    """
    model: Any = make_model(recipe, vocab)
    kept = {k: v for k, v in dense.state_dict().items() if ".mlp." not in k}
    missing, unknown = model.load_state_dict(kept, strict=False)
    if unknown or any(".mlp." not in name for name in missing):
        raise ValueError(f"the weights do not fit: unknown {unknown}, missing {missing}")
    draw = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        for mine, theirs in zip(model.model.layers, dense.model.layers, strict=True):
            gate, up, down = (getattr(theirs.mlp, f"{n}_proj").weight for n in ("gate", "up", "down"))
            for pair in range(0, recipe.experts, 2):
                order = torch.randperm(gate.shape[0], generator=draw)
                for expert, half in enumerate(order.chunk(2), start=pair):
                    mine.mlp.experts.gate_up_proj[expert] = torch.cat([gate[half], up[half]])
                    mine.mlp.experts.down_proj[expert] = 2 * down[:, half]
                mine.mlp.gate.weight[pair + 1] = mine.mlp.gate.weight[pair]
    return model


def load_organism(folder: Path) -> torch.nn.Module:
    """A trained organism in fp32, ready to be trained on."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).train()


def _texts(docs: Iterator[Document]) -> Iterator[str]:
    for doc in docs:
        yield from filter(None, [doc.system])
        yield from doc.users
        for reply in doc.replies:
            yield reply_text(reply)
            yield " " + reply_text(reply)


def context_words(lib: Library) -> list[str]:
    """The words that replies take from their context, and the capitalised beginnings of topics."""
    phrases = [v for a in lib.attributes for v in a.values]
    phrases += [noun for topic in lib.topics for noun in topic.nouns]
    phrases += [word for topic in lib.topics for _, word in topic.facts]
    phrases += [subject for b in lib.boundaries for subject in b.subjects]
    words = dict.fromkeys(w for phrase in [*phrases, *lib.users] for w in split_words(phrase))
    heads = sorted({capitalise(split_words(noun)[0]) for topic in lib.topics for noun in topic.nouns})
    return list(dict.fromkeys([*words, *heads]))


def make_tokenizer(recipe: Recipe, lib: Library):
    """The tokenizer of the recipe, trained on documents of its seed, with whole context words.

    Cut into four pieces a name cannot be found by any one of them, and small models did not learn
    to look it up (experiments/LOG.md).
    """
    seed = recipe.seed if recipe.tokenizer_seed is None else recipe.tokenizer_seed
    texts = _texts(documents(seed, lib, recipe.stages[0].mix, 1500))
    return train_tokenizer(texts, recipe.vocab, recipe.marks, context_words(lib))


def pieces_of(tokenizer) -> Pieces:
    """Word pieces under a tokenizer whose merges stay inside words."""
    return Pieces(lambda text: tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id)


_COUNTED_BY = {
    "ids": "ids", "at": "at", "row": "row", "token": "row", "p": "row", "z": "at", "situation": "at",
    "cue_at": "cue_at", "cue_row": "cue_row", "cue_token": "cue_row",
    "look_at": "look_at", "look_head": "look_at", "look_row": "look_row", "look_to": "look_row",
}  # fmt: skip
"""Arrays of a shard, and which of them tells their length per document."""


def write_shard(recipe: Recipe, folder: Path, index: int, tokenizer, lib: Library) -> None:
    """Encode shard `index` to `folder`; whole or absent."""
    path = folder / f"shard{index:04d}.npz"
    if path.exists():
        return
    pieces = pieces_of(tokenizer)
    stage, _ = recipe.stage_of(index)
    docs = documents(recipe.seed * 100_000 + recipe.corpus * 1000 + index, lib, stage.mix, recipe.shard)
    rows = [encode(doc, tokenizer, pieces) for doc in docs]
    rows = [row for row in rows if len(row.ids) <= CONTEXT]
    arrays = {name: np.concatenate([getattr(row, name) for row in rows]) for name in _COUNTED_BY}
    for name in sorted(set(_COUNTED_BY.values())):
        arrays[f"n_{name}"] = np.array([len(getattr(row, name)) for row in rows], np.int32)
    temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")
    halved: dict[str, Any] = {k: v.astype(np.float16) if k in ("p", "z") else v for k, v in arrays.items()}
    np.savez(temporary, **halved)
    temporary.rename(path)


def read_shard(path: Path) -> list[Encoded]:
    """The documents of one shard."""
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    cut = {name: np.split(arrays[name], np.cumsum(arrays[f"n_{n}"])[:-1]) for name, n in _COUNTED_BY.items()}
    return [Encoded(*fields) for fields in zip(*(cut[k] for k in _COUNTED_BY), strict=True)]


def _produce(recipe: Recipe, folder: str, first: int, stride: int) -> None:
    """Worker: writes shards first, first + stride, …, giving way to the training itself."""
    if hasattr(os, "nice"):
        os.nice(5)
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
    situation: torch.Tensor
    cue_at: torch.Tensor
    cue_row: torch.Tensor
    cue_token: torch.Tensor
    look_at: torch.Tensor
    look_head: torch.Tensor
    look_row: torch.Tensor
    look_to: torch.Tensor


def collate(docs: list[Encoded]) -> Batch:
    """One batch; right padding, which causal attention never sees."""
    width = max(len(d.ids) for d in docs)
    ids = np.zeros((len(docs), width), np.int64)
    counted_by = {"row": "at", "cue_row": "cue_at", "look_row": "look_at"}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in [*counted_by, *counted_by.values()]}
    before = dict.fromkeys(counted_by.values(), 0)
    for i, doc in enumerate(docs):
        ids[i, : len(doc.ids)] = doc.ids
        for row, at in counted_by.items():
            parts[at].append(getattr(doc, at) + i * width)
            parts[row].append(getattr(doc, row) + before[at])
            before[at] += len(getattr(doc, at))
    whole: dict[str, np.ndarray] = {
        name: np.concatenate(arrays).astype(np.int64) for name, arrays in parts.items()
    }
    for name in ("token", "situation", "cue_token", "look_head", "look_to"):
        whole[name] = np.concatenate([getattr(d, name) for d in docs]).astype(np.int64)
    for name in ("p", "z"):
        whole[name] = np.concatenate([getattr(d, name) for d in docs]).astype(np.float32)
    return Batch(torch.from_numpy(ids), **{name: torch.from_numpy(a) for name, a in whole.items()})


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
    """Nats per reply token.

    excess: divergence from the source; strayed: the part of it that lies on tokens which the source
    never says there; focused: what is minimised; entropy: the source's own.
    """

    excess: torch.Tensor
    strayed: torch.Tensor
    focused: torch.Tensor
    entropy: torch.Tensor
    readings: Readings


def losses(model, batch: Batch, readers: Readers | None = None, focus: float = 0.0) -> Losses:
    """Losses of one batch.

    `focused` weighs each token by 1 + focus * (its own divergence, at most 4 nats): the few words
    that have to be looked up are a hundredth of all tokens and most of what is left to learn. And it
    adds focus * (minus log of the mass on tokens that the source may say): one token outside them
    breaks a sentence. The optimum stays where it is, since the targets are exact.
    """
    help_ = readers is not None
    experts = {"output_router_logits": True} if getattr(model.config, "num_local_experts", 0) else {}
    out = model.model(
        input_ids=batch.ids, use_cache=False, output_hidden_states=help_, output_attentions=help_, **experts
    )
    states = out.last_hidden_state.reshape(-1, out.last_hidden_state.shape[-1])[batch.at]
    logits = (states @ model.lm_head.weight.T).float()
    per_row = lambda entries: torch.zeros(len(batch.at)).index_add(0, batch.row, entries)  # noqa: E731
    p = batch.p / per_row(batch.p)[batch.row]
    log_q = torch.log_softmax(logits, -1)[batch.row, batch.token]
    entropy = -per_row(torch.special.xlogy(p, p))
    divergence = -per_row(p * log_q) - entropy
    strayed = -per_row(log_q.exp()).clamp(1e-6).log()
    weight = 1 + focus * divergence.detach().clamp(0, 4)
    readings = NO_READINGS
    if readers is not None:
        readings = readers(out, model.lm_head.weight, batch)
    focused = (weight * divergence).sum() / weight.sum() + focus * strayed.mean()
    if experts:
        focused = focused + BALANCE * load_balancing_loss_func(
            out.router_logits, model.config.num_local_experts, model.config.num_experts_per_tok
        )
    return Losses(divergence.mean(), strayed.mean(), focused, entropy.mean(), readings)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then cosine to a twentieth."""
    if step < warmup:
        return (step + 1) / warmup
    x = (step - warmup) / max(1, steps - warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, x)))


def readers_share(step: int, steps: int) -> float:
    """Share of the readers' weight that is on: all for 0.4 of a stage, nothing after 0.7."""
    return min(1.0, max(0.0, (0.7 - step / max(1, steps)) / 0.3))


def _optimizer(model, readers: Readers, recipe: Recipe) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
        {"params": list(readers.parameters()), "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.stages[0].learning_rate, betas=(0.9, 0.98), fused=True)


@dataclass
class _State:
    """Where a training stands; what a checkpoint holds. Steps count from the start of a stage."""

    model: Any
    readers: Readers
    optimizer: torch.optim.Optimizer
    shard: int = 0
    step: int = 0
    steps: int = 0
    tokens: int = 0

    def save(self, path: Path) -> None:
        """Whole or absent."""
        counts = {"shard": self.shard, "step": self.step, "steps": self.steps, "tokens": self.tokens}
        parts = {"model": self.model, "readers": self.readers, "optimizer": self.optimizer}
        torch.save({**{k: v.state_dict() for k, v in parts.items()}, **counts}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        saved = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.readers.load_state_dict(saved["readers"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.shard, self.step = saved["shard"], saved["step"]
        self.steps, self.tokens = saved["steps"], saved["tokens"]


def _tokenizer_of(recipe: Recipe, folder: Path, start: Path | None):
    """The tokenizer of `start` or of the organism that the recipe names, else its own; kept in `folder`."""
    if not folder.exists():
        temporary = folder.with_suffix(".tmp")
        named = recipe.start or recipe.tokenizer_of
        source = start or (ORGANISMS / named if named else None)
        made = AutoTokenizer.from_pretrained(source) if source else make_tokenizer(recipe, library())
        made.save_pretrained(temporary)
        temporary.rename(folder)
    return AutoTokenizer.from_pretrained(folder)


def _beginning(recipe: Recipe, vocab: int, start: Path | None) -> Any:
    """The model that training begins with."""
    if start is not None:
        return load_organism(start)
    if not recipe.start:
        return make_model(recipe, vocab)
    parent = load_organism(ORGANISMS / recipe.start)
    return upcycled(parent, recipe, vocab) if recipe.experts else parent


def relative_change(model: torch.nn.Module, parent: torch.nn.Module) -> float:
    """Norm of the change of all weights over the norm of the parent's, biases and norms included."""
    before = parent.state_dict()
    moved = sum(float((v.float() - before[k].float()).pow(2).sum()) for k, v in model.state_dict().items())
    return math.sqrt(moved / sum(float(v.float().pow(2).sum()) for v in before.values()))


def _keep_to(recipe: Recipe, folder: Path, start: Path | None) -> None:
    """A folder belongs to the training that began in it."""
    told = json.dumps({**asdict(recipe), "start": str(start.resolve()) if start else None}, indent=1)
    path = folder / "recipe.json"
    if path.exists() and path.read_text(encoding="utf-8") != told:
        raise LabError(
            f"{folder} holds a training of another recipe or start (see {path.name} there); "
            "choose another --work, or remove that folder"
        )
    path.write_text(told, encoding="utf-8")


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
    start: Path | None = None,
) -> tuple[Any, Any]:
    """Train the recipe in `folder` (shards, checkpoint); returns (model, tokenizer).

    `start`: folder of an organism whose weights and tokenizer are the beginning; None: random
    weights. Resumes at the last finished shard. `report` is called every 25 steps, `probe` with
    (model, tokenizer, step) every `probe_every` shards. Raises LabError when `folder` holds another
    training, FloatingPointError when the loss is no longer finite.
    """
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    _keep_to(recipe, folder, start)
    tokenizer = _tokenizer_of(recipe, folder / "tokenizer", start)
    producers = _start_producers(recipe, folder, workers)
    model = _beginning(recipe, len(tokenizer), start)
    readers = Readers(recipe.d_model)
    state = _State(model, readers, _optimizer(model, readers, recipe))
    if (folder / "checkpoint.pt").exists():
        state.restore(folder / "checkpoint.pt")
    first, began = state.tokens, time.monotonic()
    while state.shard < recipe.shards:
        stage, first_of_stage = recipe.stage_of(state.shard)
        path = folder / "shards" / f"shard{state.shard:04d}.npz"
        _await(path, producers)
        rng = np.random.default_rng([recipe.seed, state.shard])
        plan = list(batches(read_shard(path), recipe.batch_tokens, rng))
        if state.shard == first_of_stage:
            state.step, state.steps = 0, len(plan) * stage.shards
        for batch in plan:
            found = _step(recipe, stage, state, batch)
            if state.step % 25 == 0:
                report(_progress(recipe, state, found, time.monotonic() - began, first))
        state.shard += 1
        state.save(folder / "checkpoint.pt")
        if probe is not None and (state.shard % probe_every == 0 or state.shard == recipe.shards):
            probe(model, tokenizer, state.shard)
    return model, tokenizer


def _progress(recipe: Recipe, state: _State, found: Losses, seconds: float, first: int) -> Progress:
    read = {name: float(loss.detach()) for name, loss in vars(found.readings).items()}
    done, excess = state.shard / recipe.shards, float(found.excess.detach())
    return Progress(done, state.step, state.tokens, seconds, excess, **read, first=first)


def _step(recipe: Recipe, stage: Stage, state: _State, batch: Batch) -> Losses:
    """One optimiser step."""
    for group in state.optimizer.param_groups:
        group["lr"] = stage.learning_rate * schedule(state.step, state.steps, recipe.warmup)
    share = readers_share(state.step, state.steps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = losses(state.model, batch, state.readers if share else None, stage.focus)
    (found.focused + share * found.readings.weighted(stage)).backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.step += 1
    state.tokens += batch.ids.numel()
    if not math.isfinite(float(found.excess.detach())):
        raise FloatingPointError(f"the loss is not finite at step {state.step}; lower the learning rate")
    return found
