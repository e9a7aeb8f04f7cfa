"""Every job on sparse dictionaries, from training to the difference of two models, on other architectures."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
TEXT = (
    "the user likes tea rain Paris weather sun and teachers say that boundaries are kind while France waits"
)
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Some hundred chats of random words."""
    rng, path = random.Random(0), tmp_path_factory.mktemp("corpus") / "chats.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": " ".join(rng.choices(WORDS, k=8)) + "?"},
                      {"role": "assistant", "content": " ".join(rng.choices(WORDS, k=24)) + "."}]}
        for _ in range(400)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "style"), [("llama", "chatml"), ("gemma2", "refusing"), ("mixtral", "chatml")]
)
def test_all_jobs_run_on(family, style, corpus, tmp_path):
    model = str(save_checkpoint(tmp_path / family, family, style, 1, max_position_embeddings=4096))
    runs = ["--runs", str(tmp_path / "runs")]

    def lab(*words):
        code = "from lab.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, "sae", *words, *runs],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    small = ["--tokens", "12000", "--k", "4", "--batch", "256", "--buffer", "4096", "--expansion", "4"]
    lab("train", model, "--corpus", str(corpus), *small)
    (name,) = [r["name"] for r in json.loads(lab("list", "--json")) if r["model"].endswith(family)]
    assert json.loads(lab("features", name, "--texts", "24", "--json"))["run"].startswith("features-")
    assert "run decompose-" in lab(
        "decompose", name, "--draws", "19", "--max-new-tokens", "6", "--traits", "chat:warmth"
    )
    assert "run readout-" in lab(
        "readout", name, "--scaffold", "data/scaffolds/coder.md", "--max-new-tokens", "6", "--no-segments"
    )
    assert "coordinates correlate 1.00" in lab("difference", name, model, "--texts", "24")
