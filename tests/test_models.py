"""Loading: every family, the wiring, the fingerprint, and what is said of broken folders."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import FAMILIES, make_tokenizer, residuals, save_checkpoint

from lab.models import catalogue, fingerprint_of, hook_name, load, verify
from lab.records import LabError, Site


@pytest.fixture
def copy(checkpoint, tmp_path):
    """copy(family): a private copy of a checkpoint, to be broken."""

    def make(family="llama", name="copy"):
        return shutil.copytree(checkpoint(family), tmp_path / name)

    return make


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("style", ["chatml", "base"])
def test_every_family_loads_with_its_identity(loaded, checkpoint, reference, family, style):
    model, folder = loaded(family, style), checkpoint(family, style)
    config = reference(family, style).config
    identity = model.identity
    assert (identity.layers, identity.d_model) == (config.num_hidden_layers, config.hidden_size)
    assert identity.vocab == config.vocab_size
    assert identity.parameters == reference(family, style).num_parameters()
    assert (identity.name, identity.path, identity.dtype) == (folder.name, str(folder), "float32")
    assert not identity.processed_weights
    assert len(identity.fingerprint) == 64
    assert (model.context, model.trait_set) == (512, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_hooks_see_the_residual_stream_of_hugging_face(loaded, reference, family):
    import torch

    model = loaded(family)
    ids = torch.randint(5, model.identity.vocab, (12,), generator=torch.Generator().manual_seed(1))
    found = {}
    hooks = [
        (hook_name(Site(n)), lambda value, hook, n=n: found.__setitem__(n, value.detach()))
        for n in range(model.identity.layers)
    ]
    with torch.no_grad(), model.bridge.hooks(fwd_hooks=hooks):
        logits = model.network(input_ids=ids[None], use_cache=False).logits
    with torch.no_grad():
        expected = reference(family)(input_ids=ids[None]).logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    for layer, state in enumerate(residuals(reference(family), ids)):
        torch.testing.assert_close(found[layer][0], state, atol=1e-4, rtol=1e-4)


def test_a_model_in_bfloat16_stays_so(checkpoint):
    import torch

    folder = str(checkpoint("llama"))
    model = load(folder, dtype="bfloat16")
    assert {p.dtype for p in model.network.parameters()} == {torch.bfloat16}
    assert model.identity.dtype == "bfloat16"
    assert model.identity.fingerprint != load(folder).identity.fingerprint


def test_unknown_dtype(checkpoint):
    with pytest.raises(LabError, match="float32, bfloat16"):
        load(str(checkpoint("llama")), dtype="int3")


def test_trait_set_and_context_come_from_the_config(copy):
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "lab_trait_set": "tempers", "max_position_embeddings": 77})
    )
    model = load(str(folder))
    assert (model.trait_set, model.context) == ("tempers", 77)


# ------------------------------------------------------------------ fingerprint


def test_fingerprint_of_a_copy_is_equal(loaded, copy):
    assert load(str(copy(name="other"))).identity.fingerprint == loaded("llama").identity.fingerprint


def test_fingerprint_depends_on_the_template(loaded):
    prints = [loaded("llama", style).identity.fingerprint for style in ("chatml", "refusing", "base")]
    assert len(set(prints)) == 3


def test_fingerprint_depends_on_a_single_weight(reference):
    import copy

    import torch

    network, tokenizer = reference("llama"), make_tokenizer()
    before = fingerprint_of(network, tokenizer, "float32")
    assert before == fingerprint_of(network, tokenizer, "float32")
    assert before != fingerprint_of(network, tokenizer, "bfloat16")
    changed = copy.deepcopy(network)
    with torch.no_grad():
        changed.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-3
    assert before != fingerprint_of(changed, tokenizer, "float32")


def test_fingerprint_depends_on_the_tokenizer(reference):
    network, tokenizer = reference("llama"), make_tokenizer()
    before = fingerprint_of(network, tokenizer, "float32")
    tokenizer.add_tokens(["<new>"])
    assert before != fingerprint_of(network, tokenizer, "float32")


def test_fingerprint_depends_on_what_the_weights_compute(checkpoint, copy):
    """Same weights, another rotary base: another model."""
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = {"rope_theta": 500.0, "rope_type": "default"}
    (folder / "config.json").write_text(json.dumps(config))
    assert load(str(folder)).identity.fingerprint != load(str(checkpoint("llama"))).identity.fingerprint


def test_fingerprint_does_not_depend_on_earlier_calls(reference):
    network, tokenizer = reference("llama"), make_tokenizer()
    before = fingerprint_of(network, tokenizer, "float32")
    tokenizer(["a", "longer text"], padding=True, truncation=True, max_length=4)
    assert before == fingerprint_of(network, tokenizer, "float32")


# ------------------------------------------------------------------ the end of a reply


def test_a_chat_model_stops_where_its_template_closes_a_message(copy):
    """Also when its files call another token the end, as base checkpoints with a chat template do."""
    folder = copy()
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "eos_token_id": 2}))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "eos_token": "<eos>"}))
    model = load(str(folder))
    assert model.tokenizer.eos_token_id == 2
    assert model.stop_ids == (2, model.tokenizer.convert_tokens_to_ids("<|im_end|>"))


def test_a_base_model_stops_at_every_token_with_a_line_break(loaded):
    model = loaded("gpt2", "base")
    texts = {i: model.tokenizer.decode([i]) for i in range(len(model.tokenizer))}
    breaks = {i for i, text in texts.items() if "\n" in text}
    assert breaks
    assert set(model.stop_ids) == breaks | {model.tokenizer.eos_token_id}
    assert not breaks & set(loaded("gpt2").stop_ids)


# ------------------------------------------------------------------ broken input


def _refused(folder, *words):
    with pytest.raises(LabError) as caught:
        load(str(folder))
    text = str(caught.value)
    for word in words:
        assert word in text, text
    assert "Traceback" not in text
    assert "\n" not in text


def test_missing_folder(tmp_path):
    _refused(tmp_path / "nowhere", "no model folder", "nowhere")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    _refused(tmp_path / "model.bin", "no model folder")


def test_folder_without_config(tmp_path):
    _refused(tmp_path, "no config.json")


def test_config_that_is_no_json(copy):
    folder = copy()
    (folder / "config.json").write_text("{oh no")
    _refused(folder, "cannot read", str(folder))


def test_truncated_weights(copy):
    folder = copy()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    _refused(folder, "cannot read the weights", str(folder))


def test_no_weights(copy):
    folder = copy()
    (folder / "model.safetensors").unlink()
    _refused(folder, "cannot read the weights", str(folder))


def test_weights_that_lack_a_tensor_are_not_made_up(copy):
    from safetensors.torch import load_file, save_file

    folder = copy()
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _refused(folder, "cannot read the weights", "model.layers.1.mlp.up_proj.weight")


def test_padding_that_gives_nan_is_refused(loaded, monkeypatch):
    from lab import models

    plain = models._states

    def broken(model, ids, mask):
        return {n: s * (1 if mask.all() else float("nan")) for n, s in plain(model, ids, mask).items()}

    monkeypatch.setattr(models, "_states", broken)
    with pytest.raises(LabError, match="left padding changes layer 0"):
        verify(loaded("llama"))


def test_broken_tokenizer(copy):
    folder = copy()
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    _refused(folder, "cannot read the tokenizer", str(folder))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_missing_tokenizer(copy, family):
    folder = copy(family)
    for file in folder.glob("*token*"):
        file.unlink()
    _refused(folder, "cannot read the tokenizer", str(folder))


def test_unknown_architecture(copy):
    folder = copy()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "nonsense", "architectures": ["NonsenseForCausalLM"]})
    )
    _refused(folder, "nonsense")


def test_an_architecture_that_is_no_causal_model(copy):
    from transformers import AutoConfig

    folder = copy()
    AutoConfig.for_model("vit").save_pretrained(folder)
    _refused(folder, str(folder))


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing-of-that-name"])
def test_hub_name_offline(hub_offline, name):
    _refused(name, f"no model '{name}'", "no folder", "network")


@pytest.mark.parametrize("name", ["", "a/b/c", "./x", "~/x"])
def test_names_that_can_be_no_hub_name(name):
    _refused(name, "no model folder")


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_nan_weights(tmp_path, family):
    import torch
    from transformers import AutoModelForCausalLM

    folder = save_checkpoint(tmp_path / family, family)
    network = AutoModelForCausalLM.from_pretrained(folder)
    name = next(n for n, _ in network.named_parameters() if ".1.mlp" in n and n.endswith("weight"))
    with torch.no_grad():
        network.get_parameter(name)[0, 0] = float("nan")
    network.save_pretrained(folder)
    _refused(folder, "NaN or infinite activations at layer 1", folder.name)


def test_verify_names_a_layer_whose_hook_is_silent(loaded):
    import dataclasses

    model = loaded("llama")
    wrong = dataclasses.replace(model.identity, d_model=7)
    with pytest.raises(LabError, match="layer 0"):
        verify(dataclasses.replace(model, identity=wrong))


def test_a_tokenizer_of_another_model_is_refused(copy):
    folder = copy()
    make_tokenizer().save_pretrained(folder)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["Ada"])
    tokenizer.save_pretrained(folder)
    _refused(folder, "its embedding has", "different models")


def test_offsets_that_lie_are_refused(loaded, monkeypatch):
    import dataclasses

    from lab import models

    def shifted(tokenizer, messages):
        chat = render(tokenizer, messages)
        spans = tuple(dataclasses.replace(s, start=s.start + 2, end=s.end + 2) for s in chat.spans)
        return dataclasses.replace(chat, spans=spans)

    render = models.render
    monkeypatch.setattr(models, "render", shifted)
    with pytest.raises(LabError, match="offsets are wrong"):
        verify(loaded("llama"))


def test_hooks_that_cannot_write_are_refused(loaded, monkeypatch):
    model = loaded("llama")
    hooks = model.bridge.hooks

    def reading_only(fwd_hooks):
        return hooks(fwd_hooks=[(n, lambda v, hook, f=f: (f(v, hook), None)[1]) for n, f in fwd_hooks])

    monkeypatch.setattr(type(model.bridge), "hooks", lambda self, fwd_hooks: reading_only(fwd_hooks))
    with pytest.raises(LabError, match="writing at layer 0 does not reach the output"):
        verify(model)


# ------------------------------------------------------------------ catalogue


def test_catalogue_says_what_the_loaded_model_says(checkpoint, loaded, tmp_path):
    for family in FAMILIES:
        (tmp_path / family).symlink_to(checkpoint(family))
    (tmp_path / "not-a-model").mkdir()
    entries = catalogue(tmp_path)
    assert [e["name"] for e in entries] == sorted(FAMILIES)
    for entry in entries:
        identity = loaded(entry["name"]).identity
        for field in ("parameters", "layers", "d_model", "vocab"):
            assert entry[field] == getattr(identity, field), (entry["name"], field)


def test_catalogue_outlives_a_broken_folder(copy, tmp_path):
    good, bad, worse = copy(name="a"), copy(name="b"), copy(name="c")
    (good / "README.md").write_text("# A card", encoding="utf-8")
    (bad / "model.safetensors").write_bytes(b"1234")
    (worse / "config.json").write_text("{")
    entries = {e["name"]: e for e in catalogue(tmp_path)}
    assert entries["a"]["card"] == "# A card"
    assert entries["b"]["parameters"] == 0
    assert "c" not in entries


def test_catalogue_does_not_import_torch(checkpoint):
    code = (
        "import sys; from pathlib import Path; from lab.models import catalogue;"
        f"print(len(catalogue(Path({str(checkpoint('llama').parent)!r}))), 'torch' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(out[0]) >= 1
    assert out[1] == "False"
