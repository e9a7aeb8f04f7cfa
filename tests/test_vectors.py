"""Persona vectors in and out of files: equal after the round trip, layers counted right, nothing let through.

Second opinions: torch and GGUFReader read what `save` wrote; llama.cpp's loader is followed step by step.
"""

import json
import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from jaxtyping import TypeCheckError
from safetensors import safe_open
from safetensors.numpy import load as safetensors_read
from safetensors.numpy import save as safetensors_bytes
from safetensors.torch import save_file as save_torch

from lab.pipelines.given import VectorFile, described, directions_of, parse_vectors, take_vectors
from lab.pipelines.sharing import pull, push
from lab.records import Direction, LabError, ModelIdentity, Site
from lab.vectors import files
from lab.vectors.files import SIGN, Format, load, save
from lab.vectors.hub import download, shareable, upload
from lab.vectors.record import PersonaVector, check_fits, from_direction, to_direction

LAYERS, WIDTH = 4, 6
IDENTITY = ModelIdentity("a/model", "/m", "f" * 64, 10, LAYERS, WIDTH, 300, "float32", False)


def _vectors(layers: int = LAYERS, width: int = WIDTH, seed: int = 0):
    return np.random.default_rng(seed).normal(size=(layers, width)).astype(np.float32)


def _vector(**changes) -> PersonaVector:
    made = PersonaVector(
        "warmth", _vectors(), 2, "reply_mean", "extract", "a/model", "f" * 64, "float32",
        settings={"estimator": "mean_difference", "seed": 3, "nested": {"list": [1, 2.5, None, "é"]}},
    )  # fmt: skip
    return replace(made, **changes)


def _gguf(path: Path, directions: dict[str, np.ndarray], architecture: str = "controlvector") -> Path:
    """A file as repeng writes it (repeng/extract.py, export_gguf)."""
    writer = GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(directions))
    for name, row in directions.items():
        writer.add_tensor(name, row)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _about(vector: PersonaVector) -> tuple:
    return (
        vector.trait, vector.layer, vector.position, vector.split, vector.model, vector.fingerprint,
        vector.dtype, vector.settings,
    )  # fmt: skip


# ------------------------------------------------------------------ the record


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vectors": _vectors()[0]}, r"got float32 \[6\]|f32\[6\]"),
        ({"vectors": _vectors()[None]}, r"got float32 \[1, 4, 6\]|f32\[1,4,6\]"),
        ({"vectors": _vectors().astype(np.float64)}, "got float64"),
        ({"vectors": np.zeros((0, WIDTH), np.float32)}, r"got float32 \[0, 6\]"),
        ({"vectors": np.full((LAYERS, WIDTH), np.nan, np.float32)}, "NaN or zeros at every layer"),
        ({"vectors": np.zeros((LAYERS, WIDTH), np.float32)}, "NaN or zeros at every layer"),
        ({"vectors": np.where(np.arange(WIDTH) == 1, np.nan, _vectors()).astype(np.float32)}, "0, 1, 2, 3"),
        ({"vectors": np.where(np.eye(LAYERS, WIDTH), np.inf, _vectors()).astype(np.float32)}, "infinite"),
        ({"layer": LAYERS}, "got 4; layers are counted from 0"),
        ({"layer": -1}, "got -1"),
        ({"embeddings": np.ones(WIDTH + 1, np.float32)}, r"finite embeddings \[6\], got \[7\]|f32\[7\]"),
        ({"embeddings": np.full(WIDTH, np.nan, np.float32)}, "finite embeddings"),
    ],
)
def test_a_record_that_cannot_be_meant_is_refused(changes, says):
    # With --jaxtyping-packages the type checker sees a wrong shape first.
    with pytest.raises((LabError, TypeCheckError), match=says):
        _vector(**changes)


def test_a_layer_without_a_vector_is_nan_or_zero_and_cannot_be_chosen():
    rows = _vectors()
    rows[1], rows[3] = np.nan, 0
    vector = _vector(vectors=rows)
    assert vector.known.tolist() == [True, False, True, False]
    assert (vector.layers, vector.d_model) == (LAYERS, WIDTH)
    for layer in (1, 3):
        with pytest.raises(LabError, match=rf"\(0, 2\), got {layer}"):
            replace(vector, layer=layer)


# ------------------------------------------------------------------ our own format


@pytest.mark.parametrize("embeddings", [None, _vectors(1, seed=1)[0]])
def test_our_own_format_keeps_everything(tmp_path, embeddings):
    rows = _vectors()
    rows[1] = np.nan
    made = _vector(vectors=rows, embeddings=embeddings)
    assert save(made, tmp_path / "v.safetensors") == ()
    back = load(tmp_path / "v.safetensors")
    np.testing.assert_array_equal(back.vectors, made.vectors)
    assert back.vectors.dtype == np.float32
    assert _about(back) == _about(made)
    if embeddings is None:
        assert back.embeddings is None
    else:
        np.testing.assert_array_equal(back.embeddings, embeddings)
    assert [p.name for p in tmp_path.iterdir()] == ["v.safetensors"]


def test_nothing_known_survives_as_nothing_known(tmp_path):
    save(PersonaVector("x", _vectors()), tmp_path / "v.safetensors")
    assert _about(load(tmp_path / "v.safetensors")) == ("x", None, None, None, "", None, "", {})


def _with_card(path: Path, card: object, vectors=None) -> Path:
    text = card if isinstance(card, str) else json.dumps(card)
    arrays = {"vectors": _vectors() if vectors is None else vectors}
    path.write_bytes(safetensors_bytes(arrays, {"persona_vector": text}))
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "card of version 1, got 2"),
        ({"sign": "negative = more of the trait"}, "got sign 'negative"),
        ({"layer": "2"}, "layer '2'"),
        ({"layer": True}, "layer True"),
        ({"position": "elbow"}, "position 'elbow'"),
        ({"split": ["test"]}, "split"),
        ({"settings": None}, "settings None"),
        ({"layers": 9}, r"\[9, 6\] as its card says, got \[4, 6\]"),
        ({"layer": 9}, "got 9; layers are counted from 0"),
    ],
)
def test_a_card_is_checked_field_by_field(tmp_path, changes, says):
    save(_vector(), tmp_path / "good.safetensors")
    with safe_open(tmp_path / "good.safetensors", framework="numpy") as file:
        card = json.loads(file.metadata()["persona_vector"])
    assert card["version"] == 1 and card["sign"] == SIGN
    with pytest.raises(LabError, match=says):
        load(_with_card(tmp_path / "v.safetensors", card | changes))
    _with_card(tmp_path / "v.safetensors", {k: v for k, v in card.items() if k != next(iter(changes))})
    with pytest.raises(LabError, match=r"missing|version 1, got None"):
        load(tmp_path / "v.safetensors")


@pytest.mark.parametrize(("card", "says"), [("{", "card in JSON"), ([1], "got list"), ("3", "got int")])
def test_a_card_that_is_no_card_is_refused(tmp_path, card, says):
    with pytest.raises(LabError, match=says):
        load(_with_card(tmp_path / "v.safetensors", card))


def test_another_safetensors_file_is_not_taken_for_a_vector(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(safetensors_bytes({"model.embed": _vectors()}))
    with pytest.raises(LabError, match=r"got tensors model\.embed without a card"):
        load(tmp_path / "m.safetensors")
    with pytest.raises(LabError, match="expected 5 layers, got 4"):
        load(_saved(tmp_path / "v.safetensors"), layers=5)


def test_half_precision_under_a_card_is_refused(tmp_path):
    save(_vector(), tmp_path / "v.safetensors")
    with safe_open(tmp_path / "v.safetensors", framework="numpy") as file:
        card = file.metadata()
    save_torch({"vectors": torch.from_numpy(_vectors()).bfloat16()}, tmp_path / "h.safetensors", card)
    with pytest.raises(LabError, match="float32"):
        load(tmp_path / "h.safetensors")


def _saved(path: Path, **changes) -> Path:
    save(_vector(**changes), path)
    return path


@pytest.mark.parametrize("setting", [{"x": np.ones(2)}, {"x": float("nan")}, {"x": Path("/a")}])
def test_settings_that_json_cannot_hold_are_refused(tmp_path, setting):
    with pytest.raises(LabError, match="settings that JSON can hold"):
        save(_vector(settings=setting), tmp_path / "v.safetensors")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ torch files


def test_persona_vectors_rows_are_one_later_and_embeddings_are_zeros_unless_known(tmp_path):
    made = _vector()
    said = save(made, tmp_path / "warmth.pt")
    assert any("row 0 is zeros" in s for s in said) and any("fingerprint" in s for s in said)
    tensor = torch.load(tmp_path / "warmth.pt", weights_only=True)
    assert tensor.shape == (LAYERS + 1, WIDTH) and tensor.dtype == torch.float32
    assert not tensor[0].any()
    for layer in range(LAYERS):
        np.testing.assert_array_equal(tensor[layer + 1].numpy(), made.vectors[layer])
    back = load(tmp_path / "warmth.pt")
    np.testing.assert_array_equal(back.vectors, made.vectors)
    assert back.embeddings is None and back.trait == "warmth"
    assert _about(back)[1:7] == (None, None, None, "", None, "")


def test_persona_vectors_with_embeddings_come_back_whole(tmp_path):
    rows = np.vstack([_vectors(1, seed=1), _vectors()])
    torch.save(torch.from_numpy(rows), tmp_path / "evil.pt")
    read = load(tmp_path / "evil.pt", layers=LAYERS)
    np.testing.assert_array_equal(read.embeddings, rows[0])
    np.testing.assert_array_equal(read.vectors, rows[1:])
    assert not any("zeros" in s for s in save(read, tmp_path / "again.pt"))
    np.testing.assert_array_equal(torch.load(tmp_path / "again.pt", weights_only=True).numpy(), rows)
    assert any("embeddings are left out" in s for s in save(read, tmp_path / "role.pt", "assistant_axis"))


def test_the_number_of_layers_tells_a_bare_tensor_without_embeddings(tmp_path):
    torch.save(torch.from_numpy(_vectors(5)), tmp_path / "axis.pt")
    np.testing.assert_array_equal(load(tmp_path / "axis.pt").vectors, _vectors(5)[1:])
    bare = load(tmp_path / "axis.pt", layers=5)
    np.testing.assert_array_equal(bare.vectors, _vectors(5))
    assert bare.embeddings is None
    with pytest.raises(LabError, match="expected 9 layers, got 4"):
        load(tmp_path / "axis.pt", layers=9)


def test_layers_without_a_vector_are_nan_in_torch_files_and_said(tmp_path):
    rows = _vectors()
    rows[1], rows[3] = np.nan, 0
    formats: tuple[Format, ...] = ("persona_vectors", "assistant_axis")
    for format in formats:
        said = save(_vector(vectors=rows), tmp_path / "v.pt", format)
        assert any("layers 1, 3 have no vector" in s for s in said)
        back = load(tmp_path / "v.pt")
        assert np.isnan(back.vectors[1]).all() and np.isnan(back.vectors[3]).all()
        np.testing.assert_array_equal(back.vectors[[0, 2]], rows[[0, 2]])


def test_assistant_axis_files_keep_rows_role_and_type(tmp_path):
    made = _vector()
    save(made, tmp_path / "v.pt", "assistant_axis")
    content = torch.load(tmp_path / "v.pt", weights_only=True)
    assert (content["type"], content["role"]) == ("difference", "warmth")
    np.testing.assert_array_equal(content["vector"].numpy(), made.vectors)
    back = load(tmp_path / "v.pt", layers=LAYERS)
    np.testing.assert_array_equal(back.vectors, made.vectors)
    assert back.trait == "warmth" and back.fingerprint is None
    save(replace(back, settings={"type": "pos_3"}), tmp_path / "w.pt", "assistant_axis")
    assert load(tmp_path / "w.pt").settings["type"] == "pos_3"


def test_an_axis_file_points_to_the_assistant(tmp_path):
    torch.save({"axis": torch.from_numpy(_vectors()), "n_roles": 275}, tmp_path / "axis.pt")
    axis = load(tmp_path / "axis.pt")
    assert axis.trait == "assistant"
    np.testing.assert_array_equal(axis.vectors, _vectors())


def test_bfloat16_becomes_float32_without_a_change_of_value(tmp_path):
    rows = torch.from_numpy(_vectors()).to(torch.bfloat16)
    torch.save({"vector": rows, "type": "x", "role": "r"}, tmp_path / "v.pt")
    np.testing.assert_array_equal(load(tmp_path / "v.pt").vectors, rows.float().numpy())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (torch.ones(6), r"got torch.float32 \[6\]"),
        (torch.ones(2, 3, 6), r"got torch.float32 \[2, 3, 6\]"),
        (torch.ones(4, 6, dtype=torch.int64), "got torch.int64"),
        (torch.ones(4, 6, dtype=torch.complex64), "got torch.complex64"),
        (torch.eye(6).to_sparse(), "floating-point numbers"),
        (torch.ones(1, 6), "got float32"),
        (torch.full((4, 6), float("nan")), "NaN or zeros at every layer"),
        ([1, 2], "got list"),
        ({"vector": [1.0]}, "under 'vector', got list"),
        ({"model.embed": torch.ones(4, 6), 3: 1}, "'vector' .* got one with model.embed, 3"),
        ({}, "got one with nothing"),
    ],
)
def test_torch_files_of_another_shape_or_kind_are_refused(tmp_path, content, says):
    torch.save(content, tmp_path / "v.pt")
    with pytest.raises(LabError, match=says):
        load(tmp_path / "v.pt")


class _Runs:
    """Unpickled without care, this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, zipped):
    trap = {"vector": torch.ones(4, 6), "type": _Runs(tmp_path / "ran"), "role": "r"}
    if zipped:
        torch.save(trap, tmp_path / "v.pt")
    else:
        (tmp_path / "v.pt").write_bytes(pickle.dumps(trap, protocol=2))
    with pytest.raises(LabError, match="could run code, so it is not opened"):
        load(tmp_path / "v.pt")
    assert not (tmp_path / "ran").exists()
    if zipped:
        torch.load(tmp_path / "v.pt", weights_only=False)
    else:
        pickle.loads((tmp_path / "v.pt").read_bytes())
    assert (tmp_path / "ran").exists(), "the trap is no trap"


# ------------------------------------------------------------------ GGUF


def _llama_cpp_adds(path: Path, n_layer: int) -> dict[int, np.ndarray]:
    """What llama.cpp adds to the output of each block (0-based), by the steps of its loader.

    common_control_vector_load_one copies direction.N to offset (N − 1)·n_embd; llama_adapter_cvec::apply
    gives block il, from 1 to n_layer − 1, the slice at (il − 1)·n_embd.
    """
    tensors = {int(t.name.split(".")[1]): np.array(t.data) for t in GGUFReader(path).tensors}
    width = len(next(iter(tensors.values())))
    data = np.zeros(max(tensors) * width, np.float32)
    for index, row in tensors.items():
        assert index > 0 and row.dtype == np.float32
        data[(index - 1) * width : index * width] += row
    slices = {il: data[(il - 1) * width : il * width] for il in range(1, n_layer)}
    return {il: row for il, row in slices.items() if len(row) == width}


def test_llama_cpp_adds_each_layer_after_the_block_it_was_made_at(tmp_path):
    made = _vector()
    said = save(made, tmp_path / "v.gguf")
    assert any("layer 0 is left out" in s for s in said)
    added = _llama_cpp_adds(tmp_path / "v.gguf", LAYERS)
    assert sorted(added) == [1, 2, 3]
    for block, row in added.items():
        np.testing.assert_array_equal(row, made.vectors[block])


def test_gguf_carries_the_keys_that_repeng_and_llama_cpp_read(tmp_path):
    reader = GGUFReader(_saved(tmp_path / "v.gguf"))
    fields = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    assert fields == {
        "general.architecture": "controlvector", "controlvector.model_hint": "a/model",
        "controlvector.layer_count": 3, "general.name": "warmth",
    }  # fmt: skip
    assert [t.name for t in reader.tensors] == ["direction.1", "direction.2", "direction.3"]
    assert all(t.tensor_type.name == "F32" for t in reader.tensors)
    unnamed = GGUFReader(_saved(tmp_path / "u.gguf", model="")).get_field("controlvector.model_hint")
    assert unnamed is not None and unnamed.contents() == "unknown"  # repeng refuses a file without the key


def test_gguf_comes_back_but_for_layer_0_and_identity(tmp_path):
    rows = _vectors()
    rows[3] = np.nan
    back = load(_saved(tmp_path / "v.gguf", vectors=rows))
    np.testing.assert_array_equal(back.vectors[1:3], rows[1:3])
    assert back.layers == LAYERS, "the last layer is there, though it has no vector"
    assert back.known.tolist() == [False, True, True, False]
    assert (back.trait, back.fingerprint, back.layer) == ("warmth", None, None)
    save(back, tmp_path / "again.gguf")
    np.testing.assert_array_equal(load(tmp_path / "again.gguf").vectors, back.vectors)


def test_repengs_file_is_read_with_its_numbering(tmp_path):
    rows = _vectors()
    path = _gguf(tmp_path / "happy.gguf", {"direction.2": rows[2], "direction.1": rows[1]})
    read = load(path)
    assert (read.layers, read.trait, read.settings["model_hint"]) == (3, "happy", "llama")
    np.testing.assert_array_equal(read.vectors[1:], rows[1:3])
    whole = load(path, layers=LAYERS)
    assert whole.known.tolist() == [False, True, True, False]
    with pytest.raises(LabError, match="expected 2 layers, got 3"):
        load(path, layers=2)


@pytest.mark.parametrize(
    ("tensors", "architecture", "says"),
    [
        (
            {"blk.0.attn_q.weight": np.ones((6, 6), np.float32)},
            "llama",
            "architecture 'llama' with 1 tensors",
        ),
        ({}, "controlvector", "got none"),
        ({"direction.0": np.ones(6, np.float32)}, "controlvector", "got 'direction.0'"),
        ({"direction.512": np.ones(6, np.float32)}, "controlvector", "got 'direction.512'"),
        ({"direction.1.x": np.ones(6, np.float32)}, "controlvector", "got 'direction.1.x'"),
        ({"mean.1": np.ones(6, np.float32)}, "controlvector", "got 'mean.1'"),
        ({"direction.1": np.ones(6, np.int32)}, "controlvector", r"got I32 \[6\]"),
        ({"direction.1": np.ones((2, 3), np.float32)}, "controlvector", r"got F32 \[2, 3\]"),
        (
            {"direction.1": np.ones(6, np.float32), "direction.2": np.ones(5, np.float32)},
            "controlvector",
            r"one width, got \[5, 6\]",
        ),
        ({"direction.1": np.zeros(6, np.float32)}, "controlvector", "NaN or zeros at every layer"),
    ],
)
def test_gguf_files_that_are_no_control_vectors_are_refused(tmp_path, tensors, architecture, says):
    with pytest.raises(LabError, match=says):
        load(_gguf(tmp_path / "v.gguf", tensors, architecture))


def test_layer_0_cannot_go_into_gguf(tmp_path):
    alone = np.full((LAYERS, WIDTH), np.nan, np.float32)
    alone[0] = 1
    for vector in (_vector(layer=0), _vector(vectors=alone, layer=None)):
        with pytest.raises(LabError, match="after the second block or later, got layer 0"):
            save(vector, tmp_path / "v.gguf")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ files in general


def test_missing_files_and_wrong_suffixes_say_what_to_do(tmp_path):
    with pytest.raises(LabError, match=r"no\.pt, got: No such file .* check the path"):
        load(tmp_path / "no.pt")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(LabError, match="Is a directory"):
        load(tmp_path / "folder.pt")
    with pytest.raises(LabError, match=r"\(\.safetensors, \.pt, \.gguf\), got 'v\.npy'"):
        load(tmp_path / "v.npy")
    with pytest.raises(LabError, match=r"ends in \.safetensors, \.pt, \.gguf, got 'v\.npy'"):
        save(_vector(), tmp_path / "v.npy")
    with pytest.raises(LabError, match=r"ends in \.gguf, got 'v\.pt'"):
        save(_vector(), tmp_path / "v.pt", "gguf")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".gguf"])
@pytest.mark.parametrize("other", [".safetensors", ".pt", ".gguf"])
def test_content_and_suffix_must_agree(tmp_path, suffix, other):
    path = _saved(tmp_path / f"v{suffix}")
    renamed = path.rename(tmp_path / f"w{other}")
    if suffix == other:
        assert load(renamed).known.any()
    else:
        with pytest.raises(LabError, match=rf"expected a \{other} file .* got the content of a \{suffix}"):
            load(renamed)
    (tmp_path / f"text{other}").write_text("no vector at all")
    with pytest.raises(LabError, match="got something else"):
        load(tmp_path / f"text{other}")


def test_a_header_length_that_looks_like_a_pickle_is_still_safetensors(tmp_path):
    """640 = 0x0280: the file then starts with the bytes of a protocol-2 pickle."""
    for padding in range(0, 400, 8):
        blob = files._safetensors(_vector(settings={"x": "y" * padding}))
        if blob[:2] == b"\x80\x02":
            (tmp_path / "v.safetensors").write_bytes(blob)
            assert load(tmp_path / "v.safetensors").trait == "warmth"
            return
    pytest.fail("no header of that length came up")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".gguf"])
def test_damage_gives_a_lab_error_and_never_another(tmp_path, suffix):
    """Cut anywhere: an error. Bytes changed: an error, or a vector with other numbers."""
    whole = _saved(tmp_path / f"v{suffix}").read_bytes()
    path, draw = tmp_path / f"w{suffix}", random.Random(0)
    last = len(whole) - (8 if suffix == ".gguf" else 0)  # a row of 24 bytes is padded to 32
    for end in [0, 1, 7, 8, 9, last // 2, last - 1, *draw.sample(range(last), 20)]:
        path.write_bytes(whole[:end])
        with pytest.raises(LabError):
            load(path)
    refused = 0
    for _ in range(60):
        changed = bytearray(whole)
        for _ in range(draw.choice([1, 2, 5])):
            changed[draw.randrange(len(whole))] = draw.randrange(256)
        path.write_bytes(changed)
        try:
            load(path)
        except LabError:
            refused += 1
    assert refused > 5


def test_saving_replaces_whole_or_not_at_all(tmp_path, monkeypatch):
    path = _saved(tmp_path / "v.gguf")
    before = path.read_bytes()
    old = path.stat().st_ino
    _saved(path, trait="cold")
    assert load(path).trait == "cold"
    assert path.stat().st_ino != old, "written into the file that stood there"
    path.write_bytes(before)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    for name in ("v.gguf", "v.pt", "v.safetensors"):
        with pytest.raises(LabError, match="No space left on device; free some space"):
            _saved(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["v.gguf"]
    assert path.read_bytes() == before
    for nowhere in (tmp_path / "none" / "v.pt", path / "v.pt"):
        with pytest.raises(LabError, match="expected to write"):
            _saved(nowhere)


# ------------------------------------------------------------------ whose space


def test_a_vector_of_this_model_fits():
    check_fits(_vector(), IDENTITY)


def test_another_or_unknown_fingerprint_needs_force():
    for theirs, says in (("0" * 64, "0" * 16), (None, "unknown")):
        with pytest.raises(LabError, match=f"{'f' * 16}.*{says}.*extract it again.*--force"):
            check_fits(_vector(fingerprint=theirs), IDENTITY)
        check_fits(_vector(fingerprint=theirs), IDENTITY, force=True)


@pytest.mark.parametrize("shape", [(LAYERS, WIDTH + 1), (LAYERS - 1, WIDTH), (LAYERS + 1, WIDTH)])
@pytest.mark.parametrize("force", [False, True])
def test_another_shape_never_fits(shape, force):
    with pytest.raises(LabError, match=f"4 layers of width 6, got {shape[0]} layers of width {shape[1]}"):
        check_fits(_vector(vectors=_vectors(*shape)), IDENTITY, force)


def test_a_direction_survives_the_way_through_a_file(tmp_path):
    raw = np.random.default_rng(2).normal(size=WIDTH)
    unit = raw / np.linalg.norm(raw)
    made = Direction("warmth", Site(1), "spawn", unit, 7.5, "f" * 64, "extract")
    save(from_direction(made, IDENTITY, {"seed": 1}), tmp_path / "v.safetensors")
    vector = load(tmp_path / "v.safetensors")
    assert vector.known.tolist() == [False, True, False, False]
    back = to_direction(vector, IDENTITY)
    assert (back.trait, back.site, back.position, back.fingerprint, back.split) == (
        "warmth", Site(1), "spawn", "f" * 64, "extract",
    )  # fmt: skip
    np.testing.assert_allclose(back.vector, unit, atol=1e-6)
    assert back.length == pytest.approx(7.5, rel=1e-6)
    assert np.linalg.norm(back.vector) == pytest.approx(1, abs=1e-12)
    with pytest.raises(LabError, match="fingerprint 0000"):
        from_direction(replace(made, fingerprint="0" * 64), IDENTITY)


def test_to_direction_takes_the_named_layer_and_keeps_the_sign():
    vector = _vector()
    for layer in (None, 0, 3):
        direction = to_direction(vector, IDENTITY, layer)
        row = vector.vectors[2 if layer is None else layer].astype(np.float64)
        assert direction.site == Site(2 if layer is None else layer)
        np.testing.assert_allclose(direction.vector * direction.length, row, rtol=1e-12)
    for layer in (4, -1):
        with pytest.raises(LabError, match=rf"a layer with a vector \(0, 1, 2, 3\), got {layer}"):
            to_direction(vector, IDENTITY, layer)
    with pytest.raises(LabError, match="got None; name one"):
        to_direction(replace(vector, layer=None), IDENTITY)


def test_to_direction_refuses_what_is_not_known():
    with pytest.raises(LabError, match="unknown"):
        to_direction(_vector(fingerprint=None), IDENTITY)
    forced = to_direction(_vector(fingerprint=None), IDENTITY, force=True)
    assert forced.fingerprint == IDENTITY.fingerprint
    for changes in ({"position": None}, {"split": None}):
        with pytest.raises(LabError, match="expected position and split"):
            to_direction(_vector(**changes), IDENTITY)


@pytest.mark.parametrize("kind", ["mean", "pos_3"])
def test_a_roles_mean_activation_is_no_direction(tmp_path, kind):
    torch.save({"vector": torch.ones(4, 6), "type": kind, "role": "pirate"}, tmp_path / "pirate.pt")
    role = replace(load(tmp_path / "pirate.pt"), position="reply_mean", split="extract")
    with pytest.raises(LabError, match="got the mean activation of pirate"):
        to_direction(role, IDENTITY, 2, force=True)


# ------------------------------------------------------------------ taken from files, for a model


def _taken(path: Path, **changes):
    return take_vectors([VectorFile(path, **changes)], IDENTITY)


def test_our_own_file_needs_nothing_more_than_its_model(tmp_path):
    save(_vector(), tmp_path / "v.safetensors")
    (found,) = _taken(tmp_path / "v.safetensors").values()
    assert _about(found) == _about(_vector())
    (direction,) = directions_of([found], IDENTITY)
    assert (direction.trait, direction.site, direction.position) == ("warmth", Site(2), "reply_mean")
    row = _vector().vectors[2].astype(np.float64)
    np.testing.assert_allclose(direction.vector, row / np.linalg.norm(row))
    assert list(_taken(tmp_path / "v.safetensors", trait="grace")) == ["grace"]
    assert _taken(tmp_path / "v.safetensors", layer=0)["warmth"].layer == 0
    assert described(found, IDENTITY)["forced"] is False


@pytest.mark.parametrize("name", ["v.pt", "v.gguf", "axis.pt"])
def test_a_foreign_file_needs_force_and_a_layer(tmp_path, name):
    path = tmp_path / name
    save(_vector(trait="assistant"), path, "assistant_axis" if name == "axis.pt" else None)
    with pytest.raises(LabError, match=f"{name}: .*unknown: the file carried none.*--force"):
        _taken(path, layer=2)
    with pytest.raises(LabError, match=r"--layer N, one of (0, )?1, 2, 3 .*the middle is 2"):
        _taken(path, force=True)
    (found,) = _taken(path, trait="warmth", layer=3, force=True).values()
    assert (found.trait, found.layer, found.position, found.split) == ("warmth", 3, "reply_mean", "extract")
    (direction,) = directions_of([found], IDENTITY)
    row = _vectors()[3].astype(np.float64)
    np.testing.assert_allclose(direction.vector, row / np.linalg.norm(row), atol=1e-6)
    assert direction.fingerprint == IDENTITY.fingerprint
    kept = described(found, IDENTITY)
    assert (kept["forced"], kept["fingerprint"]) == (True, None)


def test_a_vector_of_another_model_is_refused_until_forced(tmp_path):
    save(_vector(fingerprint="0" * 64, model="b/other"), tmp_path / "v.safetensors")
    with pytest.raises(LabError, match=r"made on b/other \(fingerprint 0000.*extract it again.*--force"):
        _taken(tmp_path / "v.safetensors")
    assert _taken(tmp_path / "v.safetensors", force=True)["warmth"].layer == 2
    save(_vector(vectors=_vectors(LAYERS, WIDTH + 1), fingerprint="0" * 64), tmp_path / "w.safetensors")
    with pytest.raises(LabError, match="4 layers of width 6, got 4 layers of width 7"):
        _taken(tmp_path / "w.safetensors", force=True)


def test_what_is_no_direction_or_stands_twice_is_refused(tmp_path):
    save(_vector(), tmp_path / "v.safetensors")
    file = VectorFile(tmp_path / "v.safetensors")
    with pytest.raises(LabError, match="a second one of warmth"):
        take_vectors([file, file], IDENTITY)
    with pytest.raises(LabError, match="got 9; layers are counted from 0"):
        _taken(tmp_path / "v.safetensors", layer=9)
    torch.save(
        {"vector": torch.ones(LAYERS, WIDTH), "type": "mean", "role": "pirate"}, tmp_path / "pirate.pt"
    )
    with pytest.raises(LabError, match="got the mean activation of pirate"):
        _taken(tmp_path / "pirate.pt", layer=1, force=True)


def test_watching_takes_a_vector_instead_of_extracting(loaded, checkpoint, tmp_path, monkeypatch):
    from lab.pipelines import watch as job
    from lab.records import Message
    from lab.store import Store

    model, seen = loaded("llama"), []
    rows = _vectors(model.identity.layers, model.identity.d_model)
    save(_vector(vectors=rows, layer=1, fingerprint=model.identity.fingerprint), tmp_path / "v.safetensors")
    monkeypatch.setattr("lab.models.load", lambda *_: model)
    monkeypatch.setattr(job, "_extracted", lambda *_: pytest.fail("extracted anyway"))

    def stop(_, directions, *__):
        seen.extend(directions)
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "ordinary_turns", stop)
    talk = (Message("user", "Hi."), Message("assistant", "Hello."))
    files = (VectorFile(tmp_path / "v.safetensors", "grace"),)
    config = job.WatchConfig(str(checkpoint("llama")), talk, trait_set="chat", vectors=files)
    with pytest.raises(KeyboardInterrupt):
        job.make_watcher(config, Store(tmp_path / "runs"), lambda *_: None)
    (direction,) = seen
    assert (direction.trait, direction.site) == ("grace", Site(1))
    np.testing.assert_allclose(direction.vector * direction.length, rows[1], rtol=1e-5)


@pytest.mark.parametrize(
    "arguments", [("steer", "hearth-a"), ("watch", "data/conversations/cooling.json", "--model", "hearth-a")]
)
def test_the_commands_say_how_a_foreign_vector_is_forced(tmp_path, arguments, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    save(_vector(vectors=_vectors(6, 192), fingerprint="0" * 64), tmp_path / "v.safetensors")
    done = _lab(*arguments, "--vector", str(tmp_path / "v.safetensors"), "--runs", str(tmp_path), error=1)
    assert "got warmth made on a/model (fingerprint 0000" in str(done.exception)
    assert "--force" in str(done.exception)


def test_files_are_named_as_on_the_command_line(tmp_path):
    odd = tmp_path / "a=b.gguf"
    odd.touch()
    found = parse_vectors(["v.pt", "warmth=w.pt", str(odd)], 3, True)
    assert found == (
        VectorFile(Path("v.pt"), "", 3, True), VectorFile(Path("w.pt"), "warmth", 3, True), VectorFile(odd, "", 3, True),
    )  # fmt: skip
    assert parse_vectors([], None, False) == ()
    for layer, force in ((1, False), (None, True)):
        with pytest.raises(LabError, match="give --vector FILE"):
            parse_vectors([], layer, force)


# ------------------------------------------------------------------ the hub

SECRET = "You are Ada, and you remember our evenings in Lisbon."


class _Hub:
    """Takes the calls that upload makes and keeps them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict]] = []

    def create_repo(self, repo_id, **options):
        self.calls.append(("create_repo", {"repo_id": repo_id, **options}))

    def upload_file(self, **options):
        self.calls.append(("upload_file", options))
        return SimpleNamespace(commit_url="https://hub/commit/1")


@pytest.fixture
def hub(monkeypatch):
    made = _Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return made


def _intimate() -> PersonaVector:
    settings = {
        "estimator": "mean_difference", "seed": 3, "temperature": 0.7, "questions": 12,
        "scaffold": SECRET, "prompts": [SECRET], "nested": {"memory": SECRET}, SECRET: 1, "Lisbon": True,
        "trait_set": "/home/ada/lisbon.json", "type": SECRET, "weighting": "Lisbon evenings", "replies": SECRET,
    }  # fmt: skip
    return _vector(model="lisbon-evenings", embeddings=_vectors(1, seed=1)[0], settings=settings)


def test_upload_sends_the_vector_and_no_intimate_word(hub, tmp_path):
    made = _intimate()
    assert upload(made, "ada/vectors") == "https://hub/commit/1"
    (first, create), (second, sent) = hub.calls
    assert (first, second) == ("create_repo", "upload_file")
    assert create == {"repo_id": "ada/vectors", "private": True, "exist_ok": True}
    assert (sent["repo_id"], sent["path_in_repo"]) == ("ada/vectors", "warmth.safetensors")
    blob = sent["path_or_fileobj"]
    for word in (b"Lisbon", b"lisbon", b"Ada", b"/home"):
        assert word not in blob
    assert set(safetensors_read(blob)) == {"vectors"}, "embeddings can be read back as words"
    (tmp_path / "v.safetensors").write_bytes(blob)
    back = load(tmp_path / "v.safetensors")
    np.testing.assert_array_equal(back.vectors, made.vectors)
    assert back.settings == {
        "estimator": "mean_difference", "seed": 3, "temperature": 0.7, "questions": 12,
    }  # fmt: skip
    assert (back.model, back.fingerprint, back.layer, back.split) == ("", "f" * 64, 2, "extract")


def test_shareable_keeps_a_hub_name_and_leaves_the_original_alone():
    made = _intimate()
    assert shareable(replace(made, model="Qwen/Qwen3-8B")).model == "Qwen/Qwen3-8B"
    for folder in ("/home/ada/m", "a/b/c", "./m", "m"):
        assert shareable(replace(made, model=folder)).model == ""
    assert made.settings["scaffold"] == SECRET and made.embeddings is not None


def test_a_sentence_is_no_trait_name_to_share(hub):
    with pytest.raises(LabError, match="one word before it is shared"):
        upload(_vector(trait=SECRET), "ada/vectors")
    assert hub.calls == []


def test_upload_asks_for_a_repository_a_network_and_a_name_it_can_write(hub, monkeypatch):
    for nothing in ("", "vectors", "ada/", "ada/b/c", "../x"):
        with pytest.raises(LabError, match="a repository named owner/name"):
            upload(_vector(), nothing)
    with pytest.raises(LabError, match=r"ends in \.safetensors, got 'v\.gguf'"):
        upload(_vector(), "ada/vectors", "v.gguf")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(LabError, match="HF_HUB_OFFLINE"):
        upload(_vector(), "ada/vectors")
    assert hub.calls == []


def test_a_hub_that_refuses_is_said(hub, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("401 Unauthorized\nRequest ID: 1")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(LabError, match=r"to ada/vectors, got: 401 Unauthorized; check names, login"):
        upload(_vector(), "ada/vectors")
    assert hub.calls == []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(LabError, match=r"get v\.pt from ada/vectors, got: 401"):
        download("ada/vectors", "v.pt")


def test_download_reads_the_file_that_the_hub_gives(tmp_path, monkeypatch):
    asked = []

    def give(repo_id, filename, **options):
        asked.append((repo_id, filename, options))
        return str(_saved(tmp_path / "v.pt"))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", give)
    read = download("ada/vectors", "m/axis.pt", "dataset", layers=LAYERS + 1)
    assert asked == [("ada/vectors", "m/axis.pt", {"repo_type": "dataset"})]
    assert read.layers == LAYERS + 1, "read as a tensor without an embeddings row"
    for repo_id, filename in (("", "v.pt"), ("ada/vectors", "model.bin"), ("ada/vectors", "")):
        with pytest.raises(LabError):
            download(repo_id, filename)
    assert len(asked) == 1


@pytest.mark.usefixtures("hub_offline")
def test_download_offline_looks_into_the_cache_only():
    with pytest.raises(LabError, match=r"get v\.pt from nobody/nothing-here.*HF_HUB_OFFLINE"):
        download("nobody/nothing-here", "v.pt")


def _lab(*arguments: str, error: int = 0):
    from typer.testing import CliRunner

    from lab.cli import app

    done = CliRunner().invoke(app, list(arguments))
    if error == 0:
        assert done.exit_code == 0, done.output
    return done


def test_push_says_where_it_sends_and_what_it_leaves_out(hub, tmp_path):
    save(_intimate(), tmp_path / "v.safetensors")
    done = _lab(
        "vectors", "push", str(tmp_path / "v.safetensors"), "ada/vectors", "--name", "one.safetensors"
    )
    assert done.stdout == "https://hub/commit/1\n"
    assert "to https://huggingface.co/ada/vectors" in done.stderr
    assert "left out: scaffold, prompts, nested" in done.stderr and "embeddings" in done.stderr
    (_, create), (_, sent) = hub.calls
    assert create["private"] is True and sent["path_in_repo"] == "one.safetensors"
    assert b"Lisbon" not in sent["path_or_fileobj"]
    push(tmp_path / "v.safetensors", "ada/vectors", public=True)
    assert hub.calls[2][1]["private"] is False


def test_push_sends_nothing_without_a_repository_or_a_vector(hub, tmp_path):
    save(_vector(), tmp_path / "v.safetensors")
    assert _lab("vectors", "push", str(tmp_path / "v.safetensors"), error=2).exit_code == 2
    for arguments in (
        (str(tmp_path / "v.safetensors"), "vectors"),
        (str(tmp_path / "none.pt"), "ada/vectors"),
    ):
        assert isinstance(_lab("vectors", "push", *arguments, error=1).exception, LabError)
    assert hub.calls == []


def test_pull_keeps_a_file_in_our_form_and_overwrites_none(tmp_path, monkeypatch):
    given = tmp_path / "hub.pt"
    save(_vector(), given)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(given))
    monkeypatch.chdir(tmp_path)
    assert _lab("vectors", "pull", "ada/vectors", "deep/w.pt").stdout == "w.safetensors\n"
    back = load(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(back.vectors, _vectors())
    assert back.fingerprint is None
    with pytest.raises(LabError, match=r"no file w\.safetensors here"):
        pull("ada/vectors", "deep/w.pt")
    assert pull("ada/vectors", "deep/w.pt", Path("other.gguf")) == Path("other.gguf")
    with pytest.raises(LabError, match="a repository named owner/name"):
        pull("vectors", "v.pt")


# ------------------------------------------------------------------ weight of the import


def test_the_import_is_light():
    heavy = "{'torch', 'huggingface_hub', 'gguf', 'transformers'}"
    code = f"import sys, lab.vectors.hub; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
