"""What do we add to SAELens' training, what does a growing corpus cost in memory, and how fast is coding a corpus?

Question. (1) The same batches of activations, held in memory, through our loop and through SAELens' own
`SAETrainer.fit`: how much longer is a step? (2) A corpus ten times as large, read to its end: how much more memory?
(3) Coding every token of a corpus with a dictionary against the bare forward pass of the whole model.

Ways. (1) *ours*: `lab.features.train.fit` with what training does behind every step (place, progress, checkpoint
clock; no early look, which is held-out measuring and no part of a step); *SAELens*: `SAETrainer.fit`. Both from equal
weights on equal batches; what comes out is compared, too. By turns, `--runs` times. (2) A new process each, a tiny model
with random weights, an activation stream over a .jsonl file until all its texts were read. (3) One organism, the
same texts in the same batches: the whole model without logits (*bare*), the pass that ends at the site (*states*), and
`encode_tokens` (*coded*).

Prediction. (1) at most 5 % longer; (2) at most 10 % more memory; (3) coding is not slower than the bare forward pass,
because it ends at the site.

Verdict rule. Supported when (1) the tenth percentiles of the seconds of all steps (what else runs on a machine only
adds to them; their medians scatter by 10 % on a busy one), (3) the median over `--runs` of the ratio of neighbouring
runs say so, refuted otherwise; it holds for the machine, the threads ("threads") and the load ("load") in the document.

`--clock cpu` counts the process's CPU seconds: for a machine that others use too, with one thread.

Run: OMP_NUM_THREADS=1 python experiments/benchmarks/sae.py [--json] [--clock cpu]     (about two minutes)
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch

from lab.features.corpora import open_corpus, samples
from lab.features.load import Sae, encode_tokens
from lab.features.stream import ActivationStream, Tokens, by_length, padded, states, tokens_at_once, tokens_of
from lab.features.train import SAVE_EVERY, Run
from lab.features.trainer import begin, finish, fit, new_trainer
from lab.models import LoadedModel, load
from lab.pipelines.compare import resolve_model
from lab.records import Site
from lab.records.features import SaeSettings

FASTEST = 0.1
"""Steps are compared at this quantile of their seconds: whatever else runs on a machine only adds to them."""
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Config:
    """What to time."""

    model: str = "hearth-a"
    layer: int = 3
    expansion: int = 8
    k: int = 32
    batch: int = 2048
    steps: int = 12
    """Training steps of a run."""
    texts: int = 48
    """Texts that are coded."""
    corpus: int = 2000
    """Texts of the smaller corpus; the larger one has ten times as many."""
    runs: int = 5
    clock: str = "wall"
    seed: int = 0
    small: bool = False
    """Tiny, to try the script."""


def main(config: Config) -> dict[str, Any]:
    """Time everything; the document that `--json` prints."""
    if config.small:
        config = replace(config, batch=64, steps=3, texts=4, corpus=200, runs=2)
    model = load(resolve_model(config.model))
    training, reading = train_both(config, model.identity.d_model), read_all(config, model)
    memory = grow(config)
    return {
        "training": training,
        "memory": memory,
        "reading": reading,
        "supported": {
            "at most 5 % longer a step": training["overhead"] <= 0.05,
            "at most 10 % more memory for ten times the corpus": memory["growth"] <= 0.1,
            "coding not slower than the bare forward pass": reading["coded_over_bare"] >= 1,
        },
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "config": asdict(config),
    }


def timed(way: Callable[[], object], clock: str) -> float:
    """Seconds of one call."""
    began = CLOCKS[clock]()
    way()
    return CLOCKS[clock]() - began


# ------------------------------------------------------------------ training


def train_both(config: Config, d_in: int) -> dict[str, Any]:
    """Activations per second of both loops on the same batches, and whether both end with the same weights."""
    rng = torch.Generator().manual_seed(config.seed)
    batches = [torch.randn(config.batch, d_in, generator=rng) for _ in range(config.steps)]
    settings = SaeSettings(
        expansion=config.expansion, k=config.k, batch=config.batch, tokens=config.batch * config.steps,
        buffer=8 * (config.batch + 1024), look_every=10**9,
    )  # fmt: skip
    seconds: dict[str, list[float]] = {"ours": [], "SAELens": []}
    ended: dict[str, dict[str, torch.Tensor]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(config.runs + 1):
            for name in ("ours", "SAELens") if run % 2 else ("SAELens", "ours"):
                trainer = new_trainer(settings, d_in, "cpu", {})
                begin(trainer, batches[0])
                ticking = Ticking(batches, CLOCKS[config.clock])
                if name == "ours":
                    _ours(trainer, ticking, Path(folder))
                    finish(trainer, batches[0])
                else:
                    trainer.data_provider = ticking
                    trainer.fit()
                seconds[name] += ticking.seconds() if run else []  # the first runs warm up
                ended[name] = trainer.sae.state_dict()
    ours, theirs = (float(np.quantile(seconds[name], FASTEST)) for name in ("ours", "SAELens"))
    return {
        "ours_per_s": config.batch / ours,
        "saelens_per_s": config.batch / theirs,
        "overhead": ours / theirs - 1,
        "same_weights": all(torch.equal(v, ended["SAELens"][n]) for n, v in ended["ours"].items()),
        "seconds": seconds,
    }


class Ticking:
    """Batches from memory, and the time at which each was asked for."""

    def __init__(self, batches: list[torch.Tensor], clock: Callable[[], float]) -> None:
        self._batches, self._clock = iter(batches), clock
        self._at: list[float] = []

    def __iter__(self) -> "Ticking":
        return self

    def __next__(self) -> torch.Tensor:
        self._at.append(self._clock())
        return next(self._batches)

    def seconds(self) -> list[float]:
        """From one batch to the next: a step with everything that stands around it in the loop."""
        return [b - a for a, b in pairwise(self._at)]


def _ours(trainer: Any, batches: Ticking, folder: Path) -> None:
    run = Run(trainer, cast(ActivationStream, _Still()), [], folder / "checkpoint", {}, "")
    said: list[str] = []

    def after() -> None:
        run.place = run.stream.place
        run.tell(lambda text, fraction: said.append(text))
        run.save(SAVE_EVERY)

    fit(trainer, batches, after)


class _Still:
    """A stream that stands where it is: batches come from memory."""

    place: Any = None


# ------------------------------------------------------------------ memory


def grow(config: Config) -> dict[str, Any]:
    """Peak megabytes of a process that streams a whole corpus, small and ten times as large."""
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for n in (config.corpus, 10 * config.corpus):
            path = Path(folder) / f"{n}.jsonl"
            words = np.random.default_rng(config.seed).choice(["tea", "rain", "sun", "Paris"], size=(n, 40))
            path.write_text(
                "".join(json.dumps({"text": " ".join(w)}) + "\n" for w in words), encoding="utf-8"
            )
            done = subprocess.run(
                [sys.executable, __file__, "--stream", str(path), "--corpus", str(n)],
                capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
            )  # fmt: skip
            peaks.append(float(done.stdout.split()[-1]))
    return {"texts": [config.corpus, 10 * config.corpus], "peak_mb": peaks, "growth": peaks[1] / peaks[0] - 1}


def stream_all(path: str, texts: int) -> float:
    """Stream every text of a file through a tiny model; this process's peak megabytes."""
    model = _tiny()
    stream = ActivationStream(model, Site(0), open_corpus(path), batch=256, buffer=16384, seed=0, longest=256)
    while stream.place.start.epoch == 0:
        next(stream)
    assert stream.seen > 20 * texts
    return peak_mb()


def peak_mb() -> float:
    """The most memory that this process has held; `ru_maxrss` would count what its parent held before it began."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
    return float(line.split()[1]) / 1024


def _tiny() -> LoadedModel:
    """Random weights of a small Llama with the tokenizer of an organism."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(resolve_model("hearth-a"), local_files_only=True)
    shape: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return load(folder)


# ------------------------------------------------------------------ reading


def read_all(config: Config, model: LoadedModel) -> dict[str, Any]:
    """Tokens per second of the bare forward pass, of states at the site, and of coding them."""
    corpus = open_corpus("hearth", "held_out")
    found = [s for s, _ in islice(samples(corpus, config.seed), config.texts)]
    rows = [row for s in found for row in tokens_of(model.tokenizer, s, model.context)]
    sae = _untrained(config, model)
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: bare(model, rows),
        "states": lambda: sum(1 for _ in states(model, sae.site, rows)),
        "coded": lambda: sum(1 for _ in encode_tokens(sae, model, rows)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(config.runs + 1):
        for name, way in ways.items():
            seconds[name].append(timed(way, config.clock))
    seconds = {name: rows[1:] for name, rows in seconds.items()}
    tokens = sum(len(row.ids) for row in rows)
    pairs = zip(seconds["bare"], seconds["states"], seconds["coded"], strict=True)
    ratios = [(b / s, b / c) for b, s, c in pairs]
    return {
        **{f"{name}_per_s": tokens / median(each) for name, each in seconds.items()},
        "states_over_bare": median(s for s, _ in ratios),
        "coded_over_bare": median(c for _, c in ratios),
        "tokens": tokens,
        "seconds": seconds,
    }


def bare(model: LoadedModel, rows: list[Tokens]) -> None:
    """The whole model over the rows, without logits, in the batches of `states`."""
    for batch in by_length(rows, tokens_at_once(model)):
        with torch.no_grad():
            model.network.base_model(**padded([rows[i] for i in batch], model), use_cache=False)


def _untrained(config: Config, model: LoadedModel) -> Sae:
    """A dictionary of the right shape; how fast it codes does not depend on its weights."""
    from sae_lens import TopKSAE, TopKSAEConfig

    d_in = model.identity.d_model
    module = TopKSAE(TopKSAEConfig(d_in=d_in, d_sae=d_in * config.expansion, k=config.k))
    return Sae("untrained", "", Site(min(config.layer, model.identity.layers - 1)), None, module.eval())  # type: ignore[arg-type]


# ------------------------------------------------------------------ the command


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--model", help="a shipped name, a folder or a hub name")
    for name in ("layer", "expansion", "k", "batch", "steps", "texts", "corpus", "runs", "seed"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--clock", choices=sorted(CLOCKS))
    parser.add_argument("--small", action="store_true", default=None, help="tiny, to try the script")
    parser.add_argument("--stream", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    asked = _arguments()
    if asked.stream:
        print(stream_all(asked.stream, asked.corpus))
        sys.exit()
    given = {f.name: getattr(asked, f.name, None) for f in fields(Config)}
    document = main(Config(**{k: v for k, v in given.items() if v is not None}))
    print(json.dumps(document, indent=None if asked.json else 2))
