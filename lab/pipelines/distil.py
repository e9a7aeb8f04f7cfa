"""Students trained on what a teacher said, and how near their terrain lies to whose.

A student begins as a base model (or as an untrained network of the first teacher's family), reads a teacher's sampled
replies under scaffolds and questions, and learns them: the teacher's probabilities of every token where both have the
same tokens, else the tokens that were said. Its weights are kept in the store.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.geometry.cka import CKA
from lab.geometry.grids import agreement, gram
from lab.pipelines.replies import Job, Runner, Sampling
from lab.records import LabError, Message, Question, Scaffold
from lab.store import Store, content_key

if TYPE_CHECKING:
    import torch

    from lab.models import Checkpoint, LoadedModel


@dataclass(frozen=True)
class Training:
    """How a student is trained: steps of so many replies each, highest learning rate (a tenth of the steps to warm up)."""

    steps: int = 80
    rows: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.05


@dataclass(frozen=True)
class Said:
    """A chat and what was replied: system prompt, question, reply."""

    system: str
    question: str
    reply: str


def taught(
    teacher: "LoadedModel", scaffolds: Sequence[Scaffold], questions: Sequence[Question], sample: int,
    config: Sampling, store: Store,
) -> list[Said]:  # fmt: skip
    """One reply to every question under every scaffold, empty ones left out; another `sample`, other replies."""
    runner = Runner(teacher, config, store, 0, lambda _: None)
    groups = [[Job(s.name, k, q, s.text, sample) for q in questions] for k, s in enumerate(scaffolds)]
    return [
        Said(job.system, job.question.text, reply.text)
        for jobs, measured in zip(groups, runner.measure(groups), strict=True)
        for job, reply in zip(jobs, measured.replies, strict=True)
        if reply.text
    ]


# ------------------------------------------------------------------ training


def beginning(base: "Checkpoint | None", teacher: "Checkpoint", seed: int) -> "Checkpoint":
    """The network that students begin as: the base, or the first teacher's architecture as it is before training."""
    from lab.models import fresh

    return base if base is not None else fresh(teacher, seed)


def same_tokens(one: "Checkpoint | LoadedModel", other: "Checkpoint | LoadedModel") -> bool:
    """Whether two models cut and number words alike, so that one can learn the other's probabilities."""
    return one.tokenizer.get_vocab() == other.tokenizer.get_vocab()


def student(
    start: "Checkpoint", lessons: Sequence[Said], training: Training, seed: int, name: str, store: Store,
    teacher: "Checkpoint | None" = None,
) -> "Checkpoint":  # fmt: skip
    """The start trained on the lessons in an order drawn with `seed`; from the store where it is there.

    teacher: whose probabilities of every token of the replies are learned; None: the tokens that were said.
    LabError when the loss is no longer finite, or there are fewer lessons than a step takes.
    """
    from lab.models import with_matrices

    told = [asdict(each) for each in lessons]
    source = teacher.fingerprint if teacher else ""
    key = content_key("student-2", start.fingerprint, source, told, asdict(training), seed)
    hit = store.cached(key)
    if hit is None:
        store.put(key, trained(start, lessons, training, np.random.default_rng([seed, 12]), teacher), {})
        hit = store.cached(key)
    assert hit is not None
    return with_matrices(start, hit[0], name)


def trained(
    start: "Checkpoint", lessons: Sequence[Said], training: Training, rng: np.random.Generator,
    teacher: "Checkpoint | None" = None,
) -> dict[str, ndarray]:  # fmt: skip
    """Weights by name after training; the start stays as it is. Arguments and errors as for `student`."""
    import copy

    import torch

    if len(lessons) < training.rows:
        raise LabError(f"expected at least {training.rows} replies to learn from, got {len(lessons)}")
    network = copy.deepcopy(start.network).float().train()
    network.set_attn_implementation("eager")  # several times faster here than the alternative (PLATFORM)
    optimizer = torch.optim.AdamW(
        network.parameters(), training.learning_rate, betas=(0.9, 0.98), weight_decay=training.weight_decay
    )
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.steps, pct_start=0.1, cycle_momentum=False
    )
    coded = [_coded(start, each) for each in lessons]
    for step, rows in enumerate(_plan([len(ids) for ids, _ in coded], training, rng)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = _loss(network, [coded[i] for i in rows], teacher)
        if not torch.isfinite(loss):
            raise LabError(f"the student's loss is not finite at step {step}; lower the learning rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rates.step()
        optimizer.zero_grad()
    return {name: weight.detach().numpy() for name, weight in network.named_parameters()}


def _loss(
    network: Any, rows: Sequence[tuple[list[int], int]], teacher: "Checkpoint | None"
) -> "torch.Tensor":
    """Nats per token of the replies: cross-entropy with the tokens, or with the teacher's probabilities of them.

    Rows are ids and where the reply begins; padding is on the right, which causal attention never sees.
    """
    import torch

    width = max(len(ids) for ids, _ in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    reply = torch.zeros((len(rows), width - 1), dtype=torch.bool)
    for k, (row, start) in enumerate(rows):
        ids[k, : len(row)] = torch.tensor(row)
        reply[k, start - 1 : len(row) - 1] = True

    def logits(of: Any) -> "torch.Tensor":
        states = of.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][reply]
        return of.get_output_embeddings()(states).float()

    target: torch.Tensor = ids[:, 1:][reply]
    if teacher is not None:
        with torch.no_grad():
            target = logits(teacher.network).softmax(-1)
    return torch.nn.functional.cross_entropy(logits(network), target)


def _plan(lengths: Sequence[int], training: Training, rng: np.random.Generator) -> list[ndarray]:
    """Rows of every step: of like length, in random order, all lessons once before any comes again (but for a rest)."""
    found: list[ndarray] = []
    while len(found) < training.steps:
        kept = rng.permutation(len(lengths))[: len(lengths) // training.rows * training.rows]
        order = kept[np.argsort(np.array(lengths)[kept] + 40 * rng.random(len(kept)))]
        found += list(rng.permutation(order.reshape(-1, training.rows)))
    return found[: training.steps]


def _coded(model: "Checkpoint | LoadedModel", said: Said) -> tuple[list[int], int]:
    """Ids of chat and reply, and where the reply begins."""
    chat = _chat(model, said.system, said.question)
    return [*chat.ids.tolist(), *model.tokenizer(said.reply, add_special_tokens=False)["input_ids"]], len(
        chat.ids
    )


def _chat(model: "Checkpoint | LoadedModel", system: str, question: str):
    from lab.prompts.chat import render

    return render(
        model.tokenizer, [*([Message("system", system)] if system else []), Message("user", question)]
    )


# ------------------------------------------------------------------ what came of it


def losses(model: "LoadedModel", said: Sequence[Said], store: Store) -> Float[ndarray, " row"]:
    """Nats per token at which a model reads replies; NaN for one without tokens. The end of turn is not counted."""
    from lab.likelihood import token_log_probs

    key = content_key("said-loss-1", model.identity.fingerprint, [asdict(each) for each in said])
    hit = store.cached(key)
    if hit is None:
        chats = [_chat(model, each.system, each.question) for each in said]
        rows = token_log_probs(model, chats, [each.reply for each in said])
        loss = np.array([-row.mean() if len(row) else np.nan for row in rows])
        store.put(key, {"loss": loss}, {})
        return loss
    return hit[0]["loss"]


def spawn_states(
    model: "LoadedModel", scaffolds: Sequence[Scaffold], questions: Sequence[Question], store: Store
) -> Float[ndarray, "scaffold question layer d_model"]:
    """States at the last prompt token, before a word is said: the same words for every model."""
    from lab.reading import read

    texts = [(s.text, q.text) for s in scaffolds for q in questions]
    key = content_key("spawn-states-1", model.identity.fingerprint, texts)
    hit = store.cached(key)
    if hit is None:
        acts = read(model, [_chat(model, *each) for each in texts], [""] * len(texts))
        store.put(key, {"spawn": acts.spawn}, {})
        hit = store.cached(key)
    assert hit is not None
    found = hit[0]["spawn"]
    return found.reshape(len(scaffolds), len(questions), *found.shape[1:])


def nearness(
    one: Float[ndarray, "scaffold question layer_a d_a"],
    other: Float[ndarray, "scaffold question layer_b d_b"],
) -> Float[ndarray, " question"]:
    """Debiased CKA over scaffolds, a question at a time, mean over the first model's layers at equal relative depth.

    1: the same geometry, 0: chance. Needs 5 scaffolds for a meaning; NaN where scaffolds do not differ.
    """
    depth = np.linspace(0, 1, one.shape[2]) * (other.shape[2] - 1)
    found = np.zeros((one.shape[2], one.shape[1]))
    for layer, there in enumerate(np.rint(depth).astype(int)):
        for q in range(one.shape[1]):
            a, b = (x.astype(np.float64) for x in (one[:, [q], layer], other[:, [q], there]))
            found[layer, q] = agreement(CKA.relate(gram(a)), CKA.relate(gram(b)))
    return found.mean(axis=0)
