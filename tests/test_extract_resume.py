"""An extraction that was killed goes on to the same vectors, byte for byte."""

import json
import os
import subprocess
import sys

import pytest

from lab.pipelines import extract as job
from lab.pipelines.extract import ExtractConfig, extract
from lab.store import Store
from lab.vectors.files import load

THINGS = "sea hill road tea moon bread rain song lamp boat tree wind snow book door fire desk rope milk barn".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def trait_set(tmp_path_factory):
    """Two traits, one with situations too; lengths differ, so that other batches give other bits."""
    asked = {
        "extract": [f"What of the {x} {'and the sky ' * (k % 3)}today?" for k, x in enumerate(THINGS[:8])],
        "select": [f"Tell me of {'a long ' * (k % 2)}{x}." for k, x in enumerate(THINGS[:6])],
        "test": [f"Is the {x} near?" for x in THINGS[:6]],
    }
    long = " and you say so in whatever words there are, slowly, for the whole of the evening" * 2
    traits = {
        name: {
            "instruction": [
                {"pos": f"You are {name}{end}{more}.", "neg": f"You are not {name}{end}{more}."}
                for end in ("", " now")
            ]
        }
        for name, more in (("warm", ""), ("calm", long))
    }
    traits["warm"]["scenarios"] = [{"pos": f"My {x} is gone.", "neg": f"Count the {x}."} for x in THINGS]
    path = tmp_path_factory.mktemp("set") / "set.json"
    path.write_text(json.dumps({"name": "small", "traits": traits, "questions": asked}))
    return path


def vectors(folder):
    """Every vector file of the one run in a folder of runs."""
    (run,) = [p.parent for p in folder.glob("extract-*/manifest.json")]
    return {p.name: p.read_bytes() for p in run.glob("*.safetensors")}


@pytest.fixture
def patched(monkeypatch, loaded):
    """The model is loaded once, and a stage is small, so that there are many of them."""
    monkeypatch.setattr("lab.models.load", lambda *_: loaded("llama"))
    monkeypatch.setattr("lab.pipelines.replies.STAGE_ROWS", 48)


def run(checkpoint, trait_set, folder):
    config = ExtractConfig(str(checkpoint("llama")), str(trait_set), max_new_tokens=4)
    return extract(config, Store(folder), lambda *_: None)


def test_killed_at_any_save_it_resumes_to_the_same_bytes(
    checkpoint, trait_set, tmp_path, monkeypatch, patched
):
    puts, saves, stop = [], [], {}
    put, save = Store.put, job.save

    def counted(self, key, arrays, note):
        puts.append(key)
        if stop.get("put") == len(puts):
            raise KeyboardInterrupt
        put(self, key, arrays, note)

    def saved(vector, path):
        saves.append(path.name)
        if stop.get("save") == len(saves):
            raise KeyboardInterrupt
        return save(vector, path)

    monkeypatch.setattr(Store, "put", counted)
    monkeypatch.setattr(job, "save", saved)
    run(checkpoint, trait_set, tmp_path / "whole")
    whole = vectors(tmp_path / "whole")
    assert {"warm.selected.safetensors", "warm.selected.scenario.safetensors", "calm.spawn.safetensors"} <= {
        *whole
    }
    assert len(puts) >= 8, "two plans, and six groups of replies"
    points = [("put", k) for k in range(1, len(puts) + 1)] + [("save", len(saves) // 2)]
    for what, k in points:
        folder = tmp_path / f"{what}{k}"
        puts.clear()
        saves.clear()
        stop[what] = k
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint, trait_set, folder)
        stop.clear()
        assert not list(folder.glob("extract-*")), "a killed run is no run"
        run(checkpoint, trait_set, folder)
        assert vectors(folder) == whole, f"stopped at {what} {k}"


DRIVER = """
import os, signal, sys
from pathlib import Path
from lab import store
from lab.cli import main
from lab.pipelines import replies
import lab.models, lab.pipelines.extract, torch

model, trait_set, root = sys.argv[1:]
torch.set_num_threads(1)
loaded = lab.models.load(model)
lab.models.load = lambda *_: loaded
replies.STAGE_ROWS, write, written = 48, store._write, 0

def child(folder, at):
    # A fork has the model loaded. It is killed in the middle of its write number `at`.
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    def counted(path, blob):
        global written
        written += 1
        if written == at:
            path.with_name(f".{path.name}.{os.getpid()}.tmp").write_bytes(blob[: len(blob) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, blob)
    store._write = counted
    sys.stdout = open(os.devnull, "w")
    sys.argv = ["lab", "extract", model, "--traits", trait_set, "--max-new-tokens", "4", "--json"]
    sys.argv += ["--runs", f"{root}/{folder}"]
    try:
        main()
    except SystemExit as end:
        Path(f"{root}/writes").write_text(str(written))
        os._exit(end.code or 0)

assert child("whole", 0) == 0
last = int(Path(f"{root}/writes").read_text())
for at in (2, last // 2, last):
    assert child(f"at{at}", at) == -signal.SIGKILL, at
    assert child(f"at{at}", 0) == 0, at
print(last)
"""


def test_lab_extract_killed_by_the_system_resumes_to_the_same_bytes(checkpoint, trait_set, tmp_path):
    """SIGKILL in the middle of a write: of the first plan, of replies, and of the manifest."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(checkpoint("llama")), str(trait_set), str(tmp_path)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    last = int(done.stdout)
    assert last >= 9, "plans, groups of replies and the manifest"
    whole = vectors(tmp_path / "whole")
    for at in (2, last // 2, last):
        assert vectors(tmp_path / f"at{at}") == whole, f"killed in write {at}"


def test_the_selected_recipe_is_the_one_that_is_saved(checkpoint, trait_set, tmp_path, monkeypatch, patched):
    """With a selection forced to another estimator, pooling and layer, the file says and holds these."""
    import numpy as np

    from lab import cards
    from lab.estimators import paired_pca

    monkeypatch.setattr(cards, "_selected", lambda *_: ("paired_pca", "decision"))
    found = run(checkpoint, trait_set, tmp_path)
    card = next(c for c in found.cards if c.selected and (c.trait, c.elicitation) == ("warm", "instruction"))
    folder = tmp_path / found.run
    vector = load(folder / "warm.selected.safetensors")
    assert (vector.settings["estimator"], vector.position, vector.split) == (
        "paired_pca",
        "decision",
        "extract",
    )
    assert vector.layer == card.layer
    config = ExtractConfig(str(checkpoint("llama")), str(trait_set), max_new_tokens=4)
    told = job.poles_of(*_traits_and_runner(config, tmp_path))
    contrast = told["warm"].of("decision", "extract")
    made = paired_pca(contrast.acts, contrast.positive, contrast.questions)
    np.testing.assert_array_equal(vector.vectors, made.astype(np.float32))
    assert load(folder / "warm.selected.scenario.safetensors").settings["elicitation"] == "scenario"
    for position in ("reply_mean", "spawn", "first_tokens", "decision"):
        assert load(folder / f"warm.{position}.safetensors").settings["estimator"] == "mean_difference"
    out = tmp_path / "out.safetensors"
    job.export(Store(tmp_path), found.run, "warm", out)
    assert out.read_bytes() == (folder / "warm.selected.safetensors").read_bytes()
    job.export(Store(tmp_path), found.run, "warm", out, "spawn", "scenario")
    assert out.read_bytes() == (folder / "warm.spawn.scenario.safetensors").read_bytes()


def _traits_and_runner(config, folder):
    from lab.models import load as load_model
    from lab.pipelines.compare import CompareConfig, resolve_trait_set
    from lab.pipelines.replies import Runner

    model = load_model(config.model)
    base = CompareConfig((config.model,), (), config.trait_set, max_new_tokens=config.max_new_tokens)
    return resolve_trait_set(config.trait_set, [model]), Runner(model, base, Store(folder), 0, lambda _: None)
