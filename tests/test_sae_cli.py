"""`lab sae train`, `list` and `measure` as users type them, mistakes included."""

import json
import shutil
import sys

import pytest
from test_features_stream import json_lines, numbered

from lab.cli import main
from lab.features import quality
from lab.features import train as job
from lab.pipelines import sae as pipeline

LISTED = {
    "name", "model", "hook", "d_sae", "explained_variance", "l0", "l0_trained", "loss_recovered", "dead", "seed",
}  # fmt: skip


@pytest.fixture
def lab(monkeypatch, capsys):
    """lab(*arguments) -> (exit status, stdout, stderr), in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lab", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return run


@pytest.fixture(scope="module")
def shelf(checkpoint, tmp_path_factory):
    """A folder of runs with a dictionary of a tiny llama, made on a small corpus; (runs, checkpoint, corpus)."""
    root = tmp_path_factory.mktemp("sae")
    rows = [{"text": t} for t in numbered(400)]
    corpus = json_lines(root / "texts.jsonl", rows)
    return root / "runs", checkpoint("llama"), corpus


SIZES = (
    "--expansion",
    "2",
    "--k",
    "4",
    "--tokens",
    "640",
    "--batch",
    "64",
    "--buffer",
    "256",
    "--longest",
    "40",
)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No shipped dictionaries, a small early look."""
    monkeypatch.setattr(pipeline, "SHIPPED", tmp_path / "none")
    monkeypatch.setattr(job, "LOOKED_AT", 64)


def train(lab, shelf, *more):
    runs, model, corpus = shelf
    return lab("sae", "train", model, "--corpus", corpus, "--runs", runs, *SIZES, *more)


def test_the_help_names_every_command():
    from lab.cli.features import sae

    names = {command.name for command in sae.registered_commands}
    assert len(names) == 7 and all(name in str(sae.info.help) for name in names)


def test_training_says_how_good_it_loads_and_the_list_measures_it_once(lab, shelf, monkeypatch):
    runs, model, corpus = shelf
    assert json.loads(lab("sae", "list", "--json", "--runs", runs)[1]) == []
    status, out, err = train(lab, shelf, "--json")
    assert status == 0, err
    card = json.loads(out)
    name = f"{model.name}-l1-topk4-x2-s0"
    assert (card["name"], card["origin"]["hook"], card["held_out"]) == (name, "blocks.1.hook_out", corpus)
    assert card["quality"]["loss_on"] == "all" and card["quality"]["texts"] > 5
    monkeypatch.setattr(quality, "measure", lambda *a, **k: pytest.fail("measured already"))
    (row,) = json.loads(lab("sae", "list", "--json", "--runs", runs)[1])
    assert set(row) == LISTED
    assert (row["name"], row["model"], row["d_sae"], row["seed"]) == (name, model.name, 64, 0)
    assert row["explained_variance"] == card["quality"]["explained_variance"]
    assert row["l0"] == pytest.approx(row["l0_trained"], rel=0.1)
    status, out, _ = lab("sae", "measure", name, "--runs", runs)
    assert status == 0 and "variance explained" in out and "loss recovered when spliced in" in out
    assert json.loads(lab("sae", "measure", name, "--runs", runs, "--json")[1]) == card
    again = train(lab, shelf)
    assert again[0] == 0 and name in again[1], "found, not trained again"


def test_a_dictionary_that_cannot_be_measured_is_listed_with_the_reason(lab, shelf):
    runs, _, _ = shelf
    train(lab, shelf)
    (made,) = (runs / "saes").iterdir()
    stranger, broken = runs / "saes" / "stranger", runs / "saes" / "broken"
    for folder in (stranger, broken):
        shutil.copytree(made, folder)
    config = json.loads((stranger / "cfg.json").read_text())
    config["metadata"] |= {"lab_model": "/nowhere/model"}
    (stranger / "cfg.json").write_text(json.dumps(config))
    (broken / "cfg.json").write_text("{}")
    rows = {r["name"]: r for r in json.loads(lab("sae", "list", "--json", "--runs", runs)[1])}
    assert set(rows) == {made.name, "stranger", "broken"}
    assert rows["stranger"]["explained_variance"] is None and rows["stranger"]["d_sae"] == 64
    assert rows["broken"]["l0"] is None and rows["broken"]["l0_trained"] is None
    assert "/nowhere/model" in lab("sae", "list", "--runs", runs)[1]
    shutil.rmtree(stranger)
    shutil.rmtree(broken)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--layer", "7"), "has the layers 0 to 2, got layer 7"),
        (("--architecture", "lasso"), "architecture must be one of topk"),
        (("--corpus", "missing.jsonl"), "expected a corpus"),
        (("--k", "65"), "expected k of at most 64"),
        (("--buffer", "100"), "buffer of at least"),
        (("--stored", "int4"), "stored must be one of"),
    ],
)
def test_wrong_input_is_a_message_and_status_2(lab, shelf, arguments, said):
    status, _, err = train(lab, shelf, "--seed", "9", *arguments)
    assert status == 2 and said in err and "Traceback" not in err


def test_what_cannot_be_measured_says_why(lab, shelf, checkpoint, hub_offline):
    runs, _, corpus = shelf
    train(lab, shelf)
    name = next(p.name for p in (runs / "saes").iterdir())
    for arguments, said in (
        (("nothing",), f"there is no dictionary 'nothing'; there are: {name} (lab sae list)"),
        (("far/off",), "does not say of which model it was made; give --model"),
        (("far/off", "--model", checkpoint("llama")), "give --corpus"),
        (("far/off", "--model", checkpoint("llama"), "--corpus", corpus), "no SAE 'far/off'"),
        ((name, "--model", checkpoint("llama", "base")), "give --force"),
        ((name, "--corpus", "missing.jsonl"), "expected a corpus"),
        ((name, "--texts", "2"), "at least 5 held-out texts, got 2"),
    ):
        status, _, err = lab("sae", "measure", *arguments, "--runs", runs)
        assert status == 2 and said in err, (arguments, err)
    status, out, _ = lab(
        "sae", "measure", name, "--model", checkpoint("llama", "base"), "--force", "--json", "--runs", runs
    )
    assert status == 0 and json.loads(out)["quality"]["l0"] > 0


def test_ctrl_c_keeps_what_was_done_and_says_so(lab, shelf, monkeypatch):
    def interrupted(self, progress):
        if self.trainer.n_training_steps == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job.Run, "tell", interrupted)
        status, _, err = train(lab, shelf, "--seed", "3")
    assert status == 130 and "the same command goes on there" in err
    status, out, _ = train(lab, shelf, "--seed", "3", "--json")
    assert status == 0 and json.loads(out)["origin"]["seed"] == 3
