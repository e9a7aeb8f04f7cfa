"""The same job on any architecture, chat or base: nothing in it knows which model it has."""

import json
from pathlib import Path

import pytest

from lab.cli.comparing import comparison_document
from lab.pipelines.compare import CompareConfig, compare
from lab.prompts.scaffolds import parse_scaffold
from lab.records import LabError
from lab.store import Store


@pytest.fixture(scope="module")
def trait_file(tmp_path_factory):
    """A small trait set in the lab's format."""
    pairs = [{"pos": f"You are kind, way {i}.", "neg": f"You are cold, way {i}."} for i in range(2)]
    questions = {
        "extract": [f"How was day {w}?" for w in ("one", "two", "three", "four")],
        "select": [f"What about {w}?" for w in ("tea", "rain", "Paris")],
        "test": [
            f"Tell me about {w}." for w in ("France", "weather", "sun", "boundaries", "the user", "teachers")
        ],
    }
    path = tmp_path_factory.mktemp("traits") / "small.json"
    trait = {"instruction": pairs, "eval_prompt": ""}
    path.write_text(json.dumps({"name": "small", "traits": {"warmth": trait}, "questions": questions}))
    return path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("llama", "chatml"), ("gpt2", "base")),
        (("qwen3", "chatml"), ("gemma2", "refusing")),
        (("gpt_neox", "base"), ("mixtral", "dropping")),
    ],
    ids=str,
)
def test_compare_runs_on_every_family(checkpoint, trait_file, tmp_path, one, other):
    scaffolds = (
        parse_scaffold("# Ada\n\nYou are Ada, a patient teacher.\n---\nAda is a patient teacher.", "ada"),
    )
    models = (str(checkpoint(*one)), str(checkpoint(*other)))
    config = CompareConfig(models, scaffolds, str(trait_file), max_new_tokens=6, draws=100, permutations=20)
    found = compare(config, Store(tmp_path), lambda stage, fraction: None)
    document = comparison_document(found)
    assert len(document["landing"]) == 2
    assert len(document["interaction"]) == 1
    assert {m["layers"] for m in document["models"]} <= {2, 3}
    assert Store(tmp_path).load_comparison(found.run).labels == found.labels


def test_nan_weights_are_refused(checkpoint, trait_file, tmp_path):
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(checkpoint("llama", "chatml"), tmp_path / "broken"))
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if "mlp" in n)
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = CompareConfig(
        (str(folder), str(folder)), (parse_scaffold("You are Ada.", "ada"),), str(trait_file)
    )
    with pytest.raises(LabError, match="NaN or infinite"):
        compare(config, Store(tmp_path / "runs"), lambda stage, fraction: None)
