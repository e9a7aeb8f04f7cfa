"""The command line as its users type it, mistakes included."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lab.vectors.files import load

ROOT = Path(__file__).resolve().parents[1]
LAB = [sys.executable, "-c", "from lab.cli import main; main()"]
CARD = str(ROOT / "data" / "scaffolds" / "companion-card.md")
STRANGER = str(ROOT / "data" / "scaffolds" / "cold-stranger.md")


def lab(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LAB, *arguments], capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def document(runs):
    done = lab(
        "compare", "--models", "hearth-a", "hearth-b", "--scaffold", CARD, "--scaffold", STRANGER,
        "--max-new-tokens", "12", "--runs", str(runs), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_is_fast_and_loads_no_torch():
    code = "import sys; sys.argv = ['lab', '--help']\nfrom lab.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules or 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")
    assert "compare" in done.stdout
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        lab("--help")
        seconds.append(time.perf_counter() - began)
    bare = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(time.perf_counter() - began)
    # Half a second on an idle machine; a busy one slows a bare interpreter in the same measure.
    assert min(seconds) < max(0.5, 12 * min(bare))


def test_models_json():
    found = json.loads(lab("models", "--json").stdout)
    assert {m["name"] for m in found} >= {"hearth-a", "hearth-b"}
    assert all(set(m) == {"name", "path", "parameters", "layers", "d_model", "vocab", "card"} for m in found)
    assert all(2e6 <= m["parameters"] <= 9e6 for m in found)


def test_compare_json_has_the_promised_form(document):
    row = document["landing"][0]
    assert {
        "model", "scaffold", "trait", "L", "low", "high", "null_low", "null_high", "d_prime", "n", "split", "layer",
    } <= set(row)  # fmt: skip
    assert {"scaffold", "trait", "D", "low", "high", "p", "q", "n"} <= set(document["interaction"][0])
    assert len(document["landing"]) == 2 * 2 * 3
    assert len(document["interaction"]) == 2 * 3
    assert document["noise_floor"]
    assert document["run"].startswith("compare-")


def test_saved_run_is_listed_and_shown(document, runs):
    listed = json.loads(lab("runs", "--runs", str(runs), "--json").stdout)
    assert [r["id"] for r in listed] == [document["run"]]
    again = json.loads(lab("show", document["run"], "--runs", str(runs), "--json").stdout)
    assert again == document
    table = lab("show", document["run"], "--runs", str(runs)).stdout
    assert "warmth" in table
    assert "noise floor" in table


def test_report_is_written(document, runs):
    report = runs / document["run"] / "report.html"
    assert report.is_file()
    assert "Companion card" in report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def extraction(runs):
    done = lab("extract", "hearth-a", "--max-new-tokens", "12", "--runs", str(runs), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["run"]


def test_extract_keeps_vectors_of_every_pooling(runs, extraction):
    found = {p.stem: load(p) for p in (runs / extraction).glob("*.safetensors")}
    poolings = ("reply_mean", "spawn", "first_tokens", "decision")
    kinds = (*poolings, "selected")
    assert set(found) == {f"{t}.{p}" for t in ("assistant", "warmth", "intimacy") for p in kinds}
    for vector in found.values():
        assert vector.vectors.shape == (6, 192)
        assert vector.known.all()
        assert vector.layer is not None
        assert vector.split == "extract"


@pytest.mark.parametrize(
    ("name", "lost"), [("w.gguf", "layer"), ("w.pt", "fingerprint"), ("w.safetensors", "")]
)
def test_a_vector_goes_out_in_the_formats_of_other_tools(runs, extraction, tmp_path, name, lost):
    done = lab("export", extraction, "warmth", str(tmp_path / name), "--runs", str(runs))
    assert done.returncode == 0, done.stderr
    assert lost in done.stderr
    ours = load(runs / extraction / "warmth.selected.safetensors")
    np.testing.assert_array_equal(load(tmp_path / name).vectors[1:], ours.vectors[1:])
    done = lab(
        "export", extraction, "warmth", str(tmp_path / name), "--position", "spawn", "--runs", str(runs)
    )
    assert done.returncode == 0, done.stderr
    spawn = load(runs / extraction / "warmth.spawn.safetensors")
    np.testing.assert_array_equal(load(tmp_path / name).vectors[1:], spawn.vectors[1:])


def test_what_cannot_be_exported_is_refused(runs, extraction, tmp_path):
    for arguments, message in (
        (("candour", "x.gguf"), "it has assistant.decision"),
        (("warmth", "x.txt"), ".safetensors, .pt, .gguf"),
        (("warmth", "x.pt", "--position", "middle"), "--position must be one of"),
        (("warmth", "x.pt", "--format", "zip"), "--format must be one of"),
        (("warmth", "x.pt", "--elicitation", "dream"), "--elicitation must be one of"),
        (("warmth", "x.pt", "--elicitation", "scenario"), "has no vector warmth.selected.scenario; it has"),
    ):
        done = lab("export", extraction, *arguments, "--runs", str(runs), cwd=tmp_path)
        assert done.returncode == 2, done.stdout
        assert message in done.stderr
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "--models", "hearth-a", "--scaffold", CARD), "two models"),
        (("compare", "--models", "hearth-a", "/no/such", "--scaffold", CARD), "no model folder"),
        (("compare", "--models", "hearth-a", "hearth-b", "--scaffold", "/no/such.md"), "/no/such.md"),
        (("compare", "--scaffold", CARD), "--models"),
        (("show", "compare-none"), "no run"),
        (("extract", "."), "config.json"),
        (("nonsense",), "nonsense"),
        (("world", "train", "hearth-z"), "no recipe"),
        (("world", "measure", "hearth-z"), "no organism"),
    ],
)
def test_mistakes_end_with_a_message_and_status_2(arguments, message, tmp_path):
    done = lab(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_empty_scaffold_and_bad_traits(tmp_path):
    (tmp_path / "empty.md").write_text("")
    done = lab(
        "compare", "--models", "hearth-a", "hearth-b", "--scaffold", str(tmp_path / "empty.md"), cwd=tmp_path
    )
    assert done.returncode == 2
    assert "empty" in done.stderr
    (tmp_path / "bad.json").write_text('{"name": "x",')
    done = lab(
        "compare",
        "--models",
        "hearth-a",
        "hearth-b",
        "--scaffold",
        CARD,
        "--traits",
        "bad.json",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "not JSON" in done.stderr
    assert "Traceback" not in done.stderr
