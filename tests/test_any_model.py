"""The same job on any architecture, chat or base: nothing in it knows which model it has."""

import json
from pathlib import Path

import numpy as np
import pytest

from lab.cli.comparing import comparison_document
from lab.pipelines.compare import CompareConfig, compare
from lab.pipelines.geometry import GeometryConfig, geometry
from lab.pipelines.geometry_runs import load_geometry
from lab.pipelines.transfer import TransferConfig, transfer
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


SCAFFOLDS = tuple(
    parse_scaffold(f"# {name}\n\nYou are {name}, {what}.", name)
    for name, what in (
        ("Ada", "a patient teacher"), ("Bo", "a stern judge"), ("Cleo", "a playful friend"), ("Dorn", "a gardener"),
        ("Elin", "a nurse at night"), ("Faro", "a sailor"),
    )
)  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("qwen2", "chatml"), ("gpt_neox", "base")),
        (("llama", "chatml"), ("mixtral", "chatml")),
    ],
    ids=str,
)
def test_geometry_runs_between_tokenizers_chat_and_base_dense_and_mixture(
    checkpoint, trait_file, tmp_path, one, other
):
    """Everything has a value or says why not; what untrained networks say of each other is no shared map."""
    models = (str(checkpoint(*one)), str(checkpoint(*other)))
    config = GeometryConfig(
        models, SCAFFOLDS, str(trait_file), max_new_tokens=4, permutations=39, pairings=19, untrained=2
    )
    store = Store(tmp_path)
    book = geometry(config, store, lambda stage, fraction: None)
    for place in book.places:
        for s in (*place.similarities, *place.maps, *place.shares, *place.agreements, *place.untrained):
            told = getattr(s, "value", getattr(s, "r2", getattr(s, "share", getattr(s, "r", None))))
            assert s.why or np.isfinite(told), s
        assert not any(m.points for m in place.shared), "two twins a side cannot reach p < .05"
    assert {m.d_model for m in book.models} == {32}
    again = load_geometry(store, book.run)
    assert again.labels == book.labels and len(again.places[0].untrained) == len(book.places[0].untrained)


def test_transfer_runs_between_any_two(checkpoint, trait_file, tmp_path):
    """Its judge learns from 40 ordinary replies what is strange."""
    document = json.loads(trait_file.read_text())
    document["questions"]["select"] = [f"What about number {i}?" for i in range(20)]
    trait_file = tmp_path / "more.json"
    trait_file.write_text(json.dumps(document))
    models = (str(checkpoint("qwen2", "chatml")), str(checkpoint("gpt_neox", "base")))
    inner = GeometryConfig(models, SCAFFOLDS, str(trait_file), max_new_tokens=4)
    config = TransferConfig(inner, controls=1, shuffled=1, doses=(0.1,), reply_tokens=4)
    book = transfer(config, Store(tmp_path), lambda stage, fraction: None)
    assert [(t.source, t.target) for t in book.transfers] == [book.labels, book.labels[::-1]]
    assert all(t.judge == "contrast" for t in book.transfers)


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
