"""How long does it take to read a trait's direction off given replies, and how much of that is unavoidable?

Question. The same trait, questions and replies on the same model and dtype, by turns in one run: how far
is `lab.reading` from the bare arithmetic, and from the ways others extract?

Ways. *floor*: bare Hugging Face, every unique token once (each pole's scaffold once, with KV cache), no
hooks, no logits; *floor_eager*: the same with the attention that the lab's models have. *lab*: `read` and
`mean_difference`, all layers, without the pooling "decision". *lab_decision*: the same with it, which needs the
logits at every reply token and a second pass over what follows the shared prefix; no floor and no peer reads
that, so it is timed beside them and no verdict hangs on it. (`lab extract` itself samples the replies and reads
all poolings in the same pass.) *one_prompt*: one sequence at a time with all hidden states, logits and the
gradient tape, as in Persona Vectors (generate_vec.py, arXiv 2507.21509); *one_prompt_no_grad*: the same
without the tape. *batch_16*: 16 padded sequences in the order given, a hook per layer, states stacked, then
one mean per reply, as in The Assistant Axis (pipeline/2_activations.py, arXiv 2601.10387). Both are
written anew from what those files do. *repeng*, *steering_vectors*, *nnsight*: the packages themselves, as
called by default (nnsight: batches of 16, means inside the trace), where they can be imported here or by
`--peers-python` (repeng 0.4.0 needs numpy < 2, steering-vectors 0.12.2 transformers < 5). repeng and
steering_vectors read the last token only, so their vectors say something else and are not compared.

Prediction. Ours takes at most 1.25 times the floor (the faster of the two) and one_prompt at least 8 times
ours.

Verdict rule. Supported when the medians say so, refuted otherwise. What can be won over one_prompt depends
on the lengths: a scaffold of 200 tokens before 20 of question and 32 of reply is about five times the tokens
that are unique, and with the logits, which only the peers compute, about 6.3 times the arithmetic: 8 is out of
anybody's reach there. It was refuted there twice (LOG.md, 2026-11-22). With replies of 8 to 16 tokens it is about
7 times the tokens and 9 times the arithmetic. So both are run: the document speaks of short replies, where the bar
can be met or missed, and "longer_replies" says the same of long ones; `--scaffold-tokens` and `--reply-tokens` give
other lengths.

Measured. Every way and run has a process of its own: load, one short forward pass, then the clock.
`--clock cpu` counts the process's CPU seconds instead of the wall's: for a machine that others use too, with
one thread. What others' ways cost is the same for every sequence, so `--peer-questions N` runs them on N
questions only and multiplies; the document says so under "scaled". peak_mb: highest resident memory (Linux:
VmHWM, reset before the run; on CUDA the allocator's peak) above what the process held before the run, so
the model is not in it. The model is random with Qwen2's shape at 0.5 B (vocabulary 151,936), unless `--model`
names a folder or hub name.

Run: python experiments/benchmarks/extraction.py [--json] [--clock cpu] [--runs 3]     (an hour and more)
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("repeng", "steering_vectors", "nnsight")
FLOORS = ("floor", "floor_eager")
LAB = ("lab", "lab_decision")
OURS = (*FLOORS, *LAB)
NORMED_LAST = ("one_prompt", "one_prompt_no_grad")
"""Ways whose last layer is read behind the final norm; it is left out of the comparison."""
BATCH = 16
"""Rows of a batch of the floor; 32 and 64 were slower on a CPU."""
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Config:
    """What to run."""

    model: str = ""
    """Folder or hub name; empty: a random model, made for the run."""
    dtype: str = "bfloat16"
    trait: str = "warmth"
    questions: int = 100
    scaffold_tokens: int = 200
    reply_tokens: tuple[int, int] = (8, 16)
    """Shortest and longest reply."""
    longer_replies: tuple[int, int] | None = (24, 40)
    """The same once more, if any; the lab stops replies at 40 (`CompareConfig.max_new_tokens`)."""
    peer_questions: int = 0
    """On how many of the questions others' ways run, their seconds multiplied; 0: on all."""
    runs: int = 3
    ways: tuple[str, ...] = (*OURS, "one_prompt", "one_prompt_no_grad", "batch_16", *PACKAGES)
    clock: str = "wall"
    peers_python: str = ""
    """A Python of another environment, for the packages that do not install beside our pins."""
    small: bool = False
    """A tiny model and few tokens, to try the script."""
    fresh: bool = True
    """A process for every run; False: all in this one, without peak memory (the tests do)."""


@dataclass(frozen=True)
class Case:
    """Everything a way needs. Rows alternate between the poles: positive, negative, positive, …"""

    model: str
    dtype: str
    prompts: tuple[str, ...]
    replies: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    """Of each row the prompt's and the reply's ids in one, and where the reply begins."""
    positive: tuple[bool, ...]
    questions: tuple[int, ...]


Vectors = np.ndarray | None
Way = Callable[[Any, Any, Case], Vectors]


def main(config: Config) -> dict[str, Any]:
    """Measure all ways by turns; the document that `--json` prints."""
    if config.small:
        config = replace(
            config,
            questions=4,
            scaffold_tokens=40,
            reply_tokens=(4, 8),
            longer_replies=None,
            dtype="float32",
            runs=1,
        )
    found = one_length(config)
    if config.longer_replies:
        found["longer_replies"] = one_length(replace(config, reply_tokens=config.longer_replies))
    return found


def one_length(config: Config) -> dict[str, Any]:
    """All ways by turns on replies of `config.reply_tokens`."""
    with tempfile.TemporaryDirectory() as scratch:
        case = make_case(config, Path(scratch))
        part = _first(case, config.peer_questions or config.questions)
        found: dict[str, list[dict[str, Any]]] = {}
        left_out: dict[str, str] = {}
        for run in range(config.runs):
            for way in config.ways:
                if way in left_out:
                    continue
                mine = case if way in OURS else part
                one = _apart(config, way, mine, Path(scratch)) if config.fresh else measure(way, mine)
                if "left_out" in one:
                    left_out[way] = one["left_out"]
                    continue
                found.setdefault(way, []).append(one)
                which = f"replies of {config.reply_tokens}, run {run + 1}, {way}"
                say = f"{which}: {one['wall_s']:.1f} s wall, {one['cpu_s']:.1f} s CPU"
                print(f"{say}, {one['peak_mb']:.0f} MB", file=sys.stderr, flush=True)
        compared = found["lab"][0]["vectors"]
        if part is not case:
            apart = _apart(config, "lab", part, Path(scratch)) if config.fresh else measure("lab", part)
            compared = apart["vectors"]
        return report(config, case, len(case.ids) / len(part.ids), compared, found, left_out)


def report(
    config: Config, case: Case, scale: float, ours: np.ndarray, found: dict[str, list[dict[str, Any]]],
    left_out: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    """The JSON document: medians by way, and the verdicts."""
    clock = f"{config.clock}_s"
    seconds = {
        way: median(one[clock] for one in runs) * (1 if way in OURS else scale) for way, runs in found.items()
    }
    peaks = {way: median(one["peak_mb"] for one in runs) for way, runs in found.items()}
    peers = [way for way in config.ways if way not in OURS]
    floor = min(seconds[way] for way in FLOORS if way in seconds)
    times = {way: seconds[way] / seconds["lab"] for way in seconds}
    return {
        "floor_s": floor,
        "lab_s": seconds["lab"],
        "lab_decision_s": seconds.get("lab_decision"),
        "peers": {way: seconds.get(way) for way in peers},
        "max_abs_diff": {
            way: _gap(way, ours, found[way][0]["vectors"]) if way in found else None for way in peers
        },
        "peak_mb": {way: peaks.get(way) for way in ("floor", *LAB, *peers)},
        "left_out": left_out,
        "times_floor": seconds["lab"] / floor,
        "times_one_prompt": times.get("one_prompt"),
        "times": times,
        "supported": {
            "at most 1.25 floors": seconds["lab"] <= 1.25 * floor,
            "one_prompt takes at least 8 times as long": times.get("one_prompt", 0.0) >= 8,
        },
        "largest_entry": float(np.abs(ours).max()),
        "tokens": _tokens(case),
        "scaled": scale,
        "runs": {
            way: [{k: v for k, v in one.items() if k != "vectors"} for one in all_of]
            for way, all_of in found.items()
        },
        "config": asdict(config),
    }


def _gap(way: str, ours: np.ndarray, theirs: Vectors) -> float | None:
    """Largest difference of the vectors; None where they are not the same quantity."""
    if theirs is None:
        return None
    last = -1 if way in NORMED_LAST else None
    return float(np.abs(ours[:last] - theirs[:last]).max())


def _tokens(case: Case) -> dict[str, float]:
    """How many there are; "unique": when each pole's common prefix is run once."""
    unique = 0
    for pole in (True, False):
        rows = [case.ids[i] for i in _pole(case, pole)]
        unique += sum(map(len, rows)) - (len(rows) - 1) * _prefix(rows)
    whole, prompts = sum(map(len, case.ids)), sum(case.starts)
    return {
        "rows": len(case.ids),
        "all": whole,
        "prompts": prompts,
        "replies": whole - prompts,
        "unique": unique,
    }


def _first(case: Case, questions: int) -> Case:
    """The case cut to its first questions."""
    n = 2 * questions
    if n >= len(case.ids):
        return case
    return replace(
        case, prompts=case.prompts[:n], replies=case.replies[:n], ids=case.ids[:n], starts=case.starts[:n],
        positive=case.positive[:n], questions=case.questions[:n],
    )  # fmt: skip


def _pole(case: Case, positive: bool) -> list[int]:
    return [i for i, p in enumerate(case.positive) if p == positive]


def _prefix(rows: Sequence[Sequence[int]]) -> int:
    """Tokens that all rows begin with."""
    return next((k for k, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1), 0)


# ------------------------------------------------------------------ one run


def measure(way: str, case: Case) -> dict[str, Any]:
    """Load, warm up and run one way in this process; or say why it cannot be run."""
    if way in PACKAGES:
        try:
            if importlib.util.find_spec(way) is None:
                return {"left_out": "not installed"}
            __import__(way)
        except (ImportError, AttributeError) as error:
            return {"left_out": f"installed, but cannot be imported: {error}"}
    import torch

    model, tokenizer = _load(way, case)
    network = model.network if way in LAB else model
    with torch.no_grad():
        network(input_ids=torch.tensor([case.ids[0][:16]], device=network.device))
    before = _memory(reset=True)
    wall, cpu = time.perf_counter(), time.process_time()
    vectors = WAYS[way](model, tokenizer, case)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    found: dict[str, Any] = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    found |= {"peak_mb": _memory() - before, "held_before_mb": before, "vectors": vectors}
    return {**found, "device": str(network.device), "transformers": version("transformers")}


def _apart(config: Config, way: str, case: Case, scratch: Path) -> dict[str, Any]:
    """`measure` in a process of its own; in the other environment where a package is missing in ours."""
    file = scratch / "case.json"
    file.write_text(json.dumps(asdict(case)), encoding="utf-8")
    one = _process(sys.executable, way, file)
    if "left_out" in one and config.peers_python:
        one = _process(config.peers_python, way, file)
    return one


def _process(python: str, way: str, file: Path) -> dict[str, Any]:
    done = subprocess.run(
        [python, __file__, "--way", way, "--case", str(file)], capture_output=True, text=True
    )
    if done.returncode:
        if way in PACKAGES:
            return {"left_out": f"failed: {done.stderr.strip().splitlines()[-1]}"}
        raise SystemExit(f"{way} ended with status {done.returncode}:\n{done.stderr}")
    one = json.loads(done.stdout.splitlines()[-1])
    return {**one, "vectors": None if one.get("vectors") is None else np.array(one["vectors"])}


def _worker(way: str, file: Path) -> None:
    """What `_process` runs: the last line is JSON."""
    one = measure(way, Case(**json.loads(file.read_text(encoding="utf-8"))))
    vectors = one.get("vectors")
    print(json.dumps({**one, "vectors": None if vectors is None else vectors.tolist()}))


def _memory(reset: bool = False) -> float:
    """Highest memory so far in MB; with `reset`, what is held now, and a new start for the highest."""
    import torch

    if torch.cuda.is_available():
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    wanted = "VmRSS:" if reset else "VmHWM:"
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith(wanted))
    return int(line.split()[1]) / 1024


def _load(way: str, case: Case) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    if way in LAB:
        from lab.models import load

        return load(case.model, case.dtype), None
    attention = {"attn_implementation": "eager"} if way == "floor_eager" else {}
    network: Any = AutoModelForCausalLM.from_pretrained(
        case.model, dtype=getattr(torch, case.dtype), **attention
    )
    tokenizer = _tokenizer_of(case.model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return network.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


# ------------------------------------------------------------------ the ways


def floor(network: Any, tokenizer: Any, case: Case) -> Vectors:
    """Each unique token once, nothing read."""
    import torch
    from transformers import DynamicCache

    with torch.inference_mode():
        for pole in (True, False):
            rows = sorted((case.ids[i] for i in _pole(case, pole)), key=len)
            prefix = _prefix(rows)
            head = torch.tensor([rows[0][:prefix]], device=network.device)
            cache = network.base_model(input_ids=head, use_cache=True).past_key_values
            kept = [(layer.keys, layer.values) for layer in cache.layers]
            for start in range(0, len(rows), BATCH):
                ids, mask = _padded([row[prefix:] for row in rows[start : start + BATCH]], network.device)
                behind = DynamicCache()
                for k, (keys, values) in enumerate(kept):
                    behind.update(keys.expand(len(ids), -1, -1, -1), values.expand(len(ids), -1, -1, -1), k)
                whole = torch.cat([mask.new_ones((len(ids), prefix)), mask], dim=1)
                network.base_model(
                    input_ids=ids, attention_mask=whole, past_key_values=behind, use_cache=True
                )


def lab(model: Any, tokenizer: Any, case: Case) -> Vectors:
    """`lab.reading` and the estimator."""
    return _lab(model, case, ("reply_mean",))


def lab_decision(model: Any, tokenizer: Any, case: Case) -> Vectors:
    """The same with the pooling by the entropy of the next token, and its vectors too."""
    return _lab(model, case, ("reply_mean", "decision"))


def _lab(model: Any, case: Case, positions: Sequence[Any]) -> Vectors:
    """Mean differences at every pooling; those of reply means are compared."""
    from lab.estimators import mean_difference
    from lab.reading import read
    from lab.records import Rendered

    chats = [
        Rendered(np.array(row[:start], np.int64), (), "")
        for row, start in zip(case.ids, case.starts, strict=True)
    ]
    acts = read(model, chats, case.replies, decision="decision" in positions)
    up, questions = np.array(case.positive), np.array(case.questions)
    made = {p: mean_difference(acts.pooled[p], up, questions) for p in positions}
    return made["reply_mean"]


def one_prompt(network: Any, tokenizer: Any, case: Case) -> Vectors:
    """One sequence at a time, every hidden state; means of prompt and reply and the last prompt state."""
    import torch

    replies, others = [], []
    for row, start in zip(case.ids, case.starts, strict=True):
        out = network(input_ids=torch.tensor([row], device=network.device), output_hidden_states=True)
        replies.append(torch.stack([h[0, start:].mean(0).detach().cpu() for h in out.hidden_states]))
        others.append(
            [(h[:, :start].mean(1).detach().cpu(), h[:, start - 1].detach().cpu()) for h in out.hidden_states]
        )
        del out
    return _difference(case, torch.stack(replies)[:, 1:])


def one_prompt_no_grad(network: Any, tokenizer: Any, case: Case) -> Vectors:
    """The same without the gradient tape."""
    import torch

    with torch.no_grad():
        return one_prompt(network, tokenizer, case)


def batch_16(network: Any, tokenizer: Any, case: Case) -> Vectors:
    """Batches of 16 with a hook per layer, all states of a batch stacked, then one mean per reply."""
    import torch

    states: dict[int, torch.Tensor] = {}
    handles = [
        layer.register_forward_hook(lambda _, args, out, k=k: states.__setitem__(k, _tensor(out)))
        for k, layer in enumerate(network.base_model.layers)
    ]
    means = []
    try:
        for start in range(0, len(case.ids), 16):
            rows = case.ids[start : start + 16]
            ids, mask = _padded(rows, network.device)
            with torch.no_grad():
                network(input_ids=ids, attention_mask=mask)
            stacked = torch.stack([states[k] for k in range(len(handles))])
            for k, row in enumerate(rows):
                means.append(stacked[:, k, case.starts[start + k] : len(row)].mean(1).cpu())
    finally:
        for handle in handles:
            handle.remove()
    return _difference(case, torch.stack(means))


def repeng(network: Any, tokenizer: Any, case: Case) -> Vectors:
    """ControlVector.train with its defaults: batches of 32, last token, PCA."""
    from repeng import ControlVector, DatasetEntry  # type: ignore[import-not-found]

    texts = [p + r for p, r in zip(case.prompts, case.replies, strict=True)]
    entries = [DatasetEntry(positive=a, negative=b) for a, b in zip(texts[::2], texts[1::2], strict=True)]
    ControlVector.train(network, tokenizer, entries)


def steering_vectors(network: Any, tokenizer: Any, case: Case) -> Vectors:
    """train_steering_vector with its defaults: one text at a time, last token, mean difference."""
    from steering_vectors import train_steering_vector  # type: ignore[import-not-found]

    texts = [p + r for p, r in zip(case.prompts, case.replies, strict=True)]
    train_steering_vector(network, tokenizer, list(zip(texts[::2], texts[1::2], strict=True)))


def nnsight(network: Any, tokenizer: Any, case: Case) -> Vectors:
    """A trace per batch of 16, in which every layer's reply means are saved."""
    import torch
    from nnsight import TransformersModel, save  # type: ignore[import-not-found]

    traced = TransformersModel(network, tokenizer=tokenizer, task="text-generation")
    means = []
    for start in range(0, len(case.ids), 16):
        ids, mask = _padded(case.ids[start : start + 16], network.device)
        begin = torch.tensor(case.starts[start : start + 16], device=ids.device)[:, None]
        reply = (mask * (torch.arange(ids.shape[1], device=ids.device) >= begin)).to(network.dtype)
        weights = (reply / reply.sum(1, keepdim=True))[:, None]
        with torch.no_grad(), traced.trace({"input_ids": ids, "attention_mask": mask}):
            saved = save([weights @ _tensor(layer.output) for layer in traced.model.layers])
        means.append(torch.cat(saved, dim=1).cpu())
    return _difference(case, torch.cat(means))


WAYS: dict[str, Way] = {
    "floor": floor, "floor_eager": floor, "lab": lab, "lab_decision": lab_decision,
    "one_prompt": one_prompt, "one_prompt_no_grad": one_prompt_no_grad, "batch_16": batch_16,
    "repeng": repeng, "steering_vectors": steering_vectors, "nnsight": nnsight,
}  # fmt: skip


def _tensor(out: Any) -> Any:
    """A block's output, which is a tensor or a tuple that begins with one."""
    return out[0] if isinstance(out, tuple) else out


def _padded(rows: Sequence[Sequence[int]], device: Any) -> tuple[Any, Any]:
    """Ids and mask [row, pos], padded on the right."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)


def _difference(case: Case, means: Any) -> np.ndarray:
    """Positive minus negative mean, [layer, d_model], of the rows' means [row, layer, d_model]."""
    up = np.array(case.positive)
    values = means.float().numpy().astype(np.float64)
    return values[up].mean(0) - values[~up].mean(0)


# ------------------------------------------------------------------ the case


def make_case(config: Config, scratch: Path) -> Case:
    """Chats of both poles with replies. The replies are other questions' text: their words do not matter."""
    from lab.prompts.chat import render
    from lab.prompts.traits import read_trait_set
    from lab.records import Message

    traits = read_trait_set(ROOT / "data" / "traits" / "persona.json")
    trait = next(t for t in traits.traits if t.name == config.trait)
    asked = [q.text for q in traits.of("extract")][: config.questions]
    if len(asked) < config.questions:
        raise SystemExit(f"expected at most {len(asked)} questions, got {config.questions}")
    folder = config.model or str(_random_model(config, scratch / "model"))
    tokenizer = _tokenizer_of(folder)
    words = _ids(tokenizer, " ".join(q.text for q in traits.questions if q.split != "extract"))
    scaffolds = [_cut(tokenizer, side, config.scaffold_tokens) for side in (trait.positive, trait.negative)]
    rng = np.random.default_rng(0)
    rows = []
    for k, question in enumerate(asked):
        for positive, scaffold in zip((True, False), scaffolds, strict=True):
            chat = render(tokenizer, [Message("system", scaffold), Message("user", question)])
            size = int(rng.integers(config.reply_tokens[0], config.reply_tokens[1] + 1))
            at = int(rng.integers(len(words) - size))
            reply = tokenizer.decode(words[at : at + size]).strip()
            ids = (*chat.ids.tolist(), *_ids(tokenizer, reply))
            rows.append((chat.text, reply, ids, len(chat.ids), positive, k))
    prompts, replies, ids, starts, positive, questions = (tuple(column) for column in zip(*rows, strict=True))
    return Case(folder, config.dtype, prompts, replies, ids, starts, positive, questions)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _cut(tokenizer: Any, sentences: Sequence[str], size: int) -> str:
    """The sentences, over again where they are too few, cut to about `size` tokens."""
    text = " ".join(sentences)
    while len(ids := _ids(tokenizer, text)) < size:
        text = f"{text} {text}"
    return tokenizer.decode(ids[:size]).strip()


def _tokenizer_of(folder: str) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        return AutoTokenizer.from_pretrained(folder)
    except ValueError:  # transformers 4 does not know the name under which transformers 5 saves a tokenizer
        return PreTrainedTokenizerFast.from_pretrained(folder)


def _random_model(config: Config, folder: Path) -> Path:
    """A checkpoint with random weights, and a byte-level BPE made from the lab's own data."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    ends = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    files = [str(p) for p in sorted((ROOT / "data").rglob("*.json")) if "organisms" not in p.parts]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = 512 if config.small else 8192
    bpe.train(
        files,
        trainers.BpeTrainer(
            vocab_size=size, special_tokens=ends, initial_alphabet=alphabet, show_progress=False
        ),
    )
    PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=ends[2], pad_token=ends[0], chat_template=CHAT
    ).save_pretrained(folder)  # fmt: skip
    vocab, d_model, d_mlp, layers, heads = (
        (size, 32, 64, 3, 4) if config.small else (151936, 896, 4864, 24, 14)
    )
    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=vocab, hidden_size=d_model, intermediate_size=d_mlp, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=2, max_position_embeddings=4096,
        tie_word_embeddings=True, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    network = AutoModelForCausalLM.from_config(shape, dtype=getattr(torch, config.dtype))
    network.save_pretrained(folder)
    return folder


# ------------------------------------------------------------------ the command


def _config(arguments: argparse.Namespace) -> Config:
    given: dict[str, Any] = {f.name: getattr(arguments, f.name, None) for f in fields(Config)}
    chosen: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None
    }
    if "reply_tokens" in chosen:
        chosen["longer_replies"] = None
    return Config(**chosen)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--model", help="folder or hub name (default: a random one is made)")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"))
    parser.add_argument("--trait")
    parser.add_argument("--questions", type=int)
    parser.add_argument("--scaffold-tokens", type=int)
    parser.add_argument(
        "--reply-tokens", type=int, nargs=2, metavar=("SHORTEST", "LONGEST"), help="only these"
    )
    parser.add_argument("--peer-questions", type=int, help="others' ways on this many, multiplied")
    parser.add_argument("--runs", type=int, help="alternations")
    parser.add_argument("--ways", nargs="+", choices=sorted(WAYS))
    parser.add_argument("--clock", choices=("wall", "cpu"))
    parser.add_argument("--peers-python", help="another environment's Python for packages missing here")
    parser.add_argument("--small", action="store_true", default=None, help="tiny model, float32, one run")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    asked = _arguments()
    if asked.way:
        _worker(asked.way, Path(asked.case))
    else:
        document = main(_config(asked))
        print(json.dumps(document, indent=None if asked.json else 2))
