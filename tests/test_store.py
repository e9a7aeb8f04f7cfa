"""Runs and caches on disk: whole or absent, loaded back equal, damage said plainly."""

import json

import numpy as np
import pytest
from fake_comparison import fake_comparison

from lab.records import LabError
from lab.store import Store, content_key


def _same(a: object, b: object) -> bool:
    """Equality in which NaN equals NaN."""
    return repr(a) == repr(b)


def test_comparison_survives_the_round_trip(tmp_path):
    store, made = Store(tmp_path), fake_comparison()
    store.save_comparison(made, "a vs b")
    back = store.load_comparison(made.run)
    for name in ("run", "models", "labels", "scaffolds", "trait_set", "landings", "interactions", "noise_floor",
                 "anchors", "depth"):  # fmt: skip
        assert _same(getattr(back, name), getattr(made, name)), name
    assert len(back.replies) == len(made.replies)
    assert back.replies[0].reply.text == made.replies[0].reply.text
    assert back.replies[0].reply == made.replies[0].reply
    assert [r.id for r in store.runs()] == [made.run]


def test_unfinished_folder_is_no_run(tmp_path):
    (tmp_path / "compare-x").mkdir()
    (tmp_path / "compare-x" / "landings.parquet").write_bytes(b"half")
    assert Store(tmp_path).runs() == []
    with pytest.raises(LabError, match="no run 'compare-x'"):
        Store(tmp_path).load_comparison("compare-x")


def test_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    store, made = Store(tmp_path), fake_comparison()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lab.store._write", full)
    with pytest.raises(LabError, match="No space left on device"):
        store.save_comparison(made, "a vs b")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LabError, match="free some space"):
        store.put("k", {"x": np.ones(2)}, {})


def test_damaged_run_says_so(tmp_path):
    store, made = Store(tmp_path), fake_comparison()
    folder = store.save_comparison(made, "a vs b")
    (folder / "landings.parquet").write_bytes(b"not parquet")
    with pytest.raises(LabError, match="damaged"):
        store.load_comparison(made.run)


def test_cache_keeps_arrays_and_note_and_forgets_broken_files(tmp_path):
    store = Store(tmp_path)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    store.put("key", {"x": array}, {"replies": ["héllo"]})
    arrays, note = store.cached("key")
    np.testing.assert_array_equal(arrays["x"], array)
    assert note == {"replies": ["héllo"]}
    path = tmp_path / "cache" / "key.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    assert store.cached("key") is None
    assert store.cached("other") is None


def test_content_key_depends_on_content_only():
    assert content_key({"a": 1, "b": [1, 2]}) == content_key({"b": [1, 2], "a": 1})
    assert content_key(np.ones(3)) == content_key(np.ones(3))
    assert content_key(np.ones(3)) != content_key(np.zeros(3))
    assert content_key("x", 1) != content_key("x", 2)


def test_manifest_is_plain_json(tmp_path):
    store, made = Store(tmp_path), fake_comparison()
    folder = store.save_comparison(made, "a vs b")
    data = json.loads((folder / "manifest.json").read_text())
    assert data["info"]["kind"] == "compare"
    assert data["models"][0]["fingerprint"] == made.models[0].fingerprint
