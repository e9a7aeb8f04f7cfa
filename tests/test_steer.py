"""The steering battery end to end, on a tiny random model and (slow) on an organism with known truth."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from lab.dosage import binomial_interval
from lab.pipelines.bench import SteerConfig, make_bench
from lab.pipelines.compare import resolve_trait_set
from lab.pipelines.extract import ExtractConfig, export, extract
from lab.pipelines.given import VectorFile
from lab.pipelines.origins import Extracted, Given, above, around
from lab.pipelines.readers import ContrastReader, ExactReader
from lab.pipelines.replies import Runner
from lab.pipelines.steer import steer
from lab.prompts.tasks import is_right, read_task
from lab.records import LabError
from lab.store import Store
from lab.vectors.files import load, save

DATA = Path(__file__).resolve().parents[1] / "data"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A trait set and a task that a tiny model gets through in seconds."""
    folder = tmp_path_factory.mktemp("steer")
    things = "sea hill road tea moon bread rain song lamp boat tree wind snow book door fire".split()  # noqa: SIM905
    asked = {
        "extract": [f"What of the {x} today?" for x in things],
        "select": [f"Tell me of a {x}." for x in things[:6]],
        "test": [f"Is the {x} near?" for x in things[:6]],
    }
    traits = {
        name: {"instruction": [{"pos": f"You are very {name}.", "neg": f"You are never {name}."}] * 2}
        for name in ("warm", "calm")
    }
    for t in traits.values():
        t["instruction"][1] = {k: v + " Always." for k, v in t["instruction"][0].items()}
    (folder / "set.json").write_text(json.dumps({"name": "small", "traits": traits, "questions": asked}))
    task = {
        "name": "t",
        "items": [{"question": "Which?", "answers": ["a"]}, {"question": "Who?", "answers": ["zq"]}],
    }
    (folder / "task.json").write_text(json.dumps(task))
    return folder


def config(checkpoint, small, traits="", **changes):
    basis = {
        "doses": (1.0,), "positions": ("reply_mean",), "controls": 1, "percentiles": (90.0,), "release": 3,
        "window": 4, "max_new_tokens": 8,
    }  # fmt: skip
    return SteerConfig(
        str(checkpoint("llama")), f"{small / 'set.json'}{traits}", task=small / "task.json", **{**basis, **changes}
    )  # fmt: skip


def test_the_whole_battery_on_a_model_that_knows_nothing(checkpoint, small, tmp_path):
    stages = []
    asked = config(
        checkpoint, small, doses=(0.5, 1.0), positions=("reply_mean", "first_tokens"), controls=2, ablate=True,
        cap_layers=2,
    )  # fmt: skip
    found = steer(asked, Store(tmp_path), lambda stage, part: stages.append(part))
    assert found.judge == "contrast"
    assert stages == sorted(stages)
    assert {s.trait for s in found.summaries} == {"warm", "calm"}
    for s in found.summaries:
        mine = [r for r in found.doses if r.steered == s.trait]
        own = [r for r in mine if r.read == s.trait]
        kinds = {
            k: sum(r.kind == k for r in own)
            for k in ("none", "native", "ablate", "prompt", "random", "permuted", "other")
        }
        assert kinds == {
            "none": 1,
            "native": 4,
            "ablate": 1,
            "prompt": 2,
            "random": 4,
            "permuted": 4,
            "other": 2,
        }
        (out,) = [r for r in own if r.kind == "ablate"]
        assert out.coefficient == 0 and np.isnan(out.wrong_way) and out.low <= out.change <= out.high
        assert 0 <= out.task <= 1 and 0 <= out.coherence <= 1
        (base,) = [r for r in own if r.kind == "none"]
        assert base.change == 0
        up, down = (next(r for r in own if r.kind == "native" and r.coefficient == c) for c in (s.up, s.down))
        assert s.effect == pytest.approx(up.reading - down.reading)
        assert s.low <= s.effect <= s.high
        assert s.controls == 6
        assert all(r.n == 12 and r.split == "test" for r in mine)
        assert len({r.read for r in mine}) == 2
        told = {(p.position, p.split): p for p in found.poolings if p.trait == s.trait}
        assert set(told) == {(p, w) for p in ("reply_mean", "first_tokens") for w in ("select", "test")}
        for position in ("reply_mean", "first_tokens"):
            chose, kept = told[position, "select"], told[position, "test"]
            assert (chose.down, chose.up, chose.chosen, chose.reached) == (
                kept.down,
                kept.up,
                kept.chosen,
                kept.reached,
            )
            assert all(p.low <= p.effect <= p.high for p in (chose, kept))
        (best,) = [p for p in told.values() if p.chosen and p.split == "test"]
        assert (best.position, best.effect) == (s.position, pytest.approx(s.effect))
        assert told[s.position, "select"].effect == pytest.approx(s.select_effect)
    for c in found.caps:
        (s,) = [s for s in found.summaries if s.trait == c.trait]
        assert c.position == s.position, "capped where it steers best"
        assert len(c.layers) == len(c.taus) == 2 and c.tau == c.taus[1]
        assert (c.alarm_low, c.alarm_high) == binomial_interval(round(12 * c.alarm_replies), 12)
    assert {(c.kind, c.condition) for c in found.caps} == {
        (k, w) for k in ("cap", "floor") for w in ("neutral", "against")
    }
    pushed = [r.difference for r in found.releases if r.pushed]
    assert np.nanmean(pushed) == pytest.approx(1.0, abs=1e-3)
    again = steer(asked, Store(tmp_path), lambda *_: None)
    assert again.summaries == found.summaries
    assert repr(again.doses) == repr(found.doses)
    assert repr(again.caps) == repr(found.caps)


def test_a_killed_battery_goes_on_to_the_same_numbers(checkpoint, small, tmp_path, monkeypatch):
    asked = config(checkpoint, small, ":calm")
    whole = steer(asked, Store(tmp_path / "whole"), lambda *_: None)
    made, calls = Runner._generate, 0

    def killed(self, *args):
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return made(self, *args)

    monkeypatch.setattr(Runner, "_generate", killed)
    with pytest.raises(KeyboardInterrupt):
        steer(asked, Store(tmp_path / "killed"), lambda *_: None)
    monkeypatch.setattr(Runner, "_generate", made)
    again = steer(asked, Store(tmp_path / "killed"), lambda *_: None)
    assert repr(again) == repr(whole)


@pytest.fixture(scope="module")
def extracted(checkpoint, small, tmp_path_factory):
    """An extraction of the small set: where its run is, and whose file warmth was exported to."""
    store = Store(tmp_path_factory.mktemp("runs"))
    config = ExtractConfig(str(checkpoint("llama")), str(small / "set.json"), max_new_tokens=8)
    run = extract(config, store, lambda *_: None).run
    export(store, run, "warm", store.root / "warm.safetensors", "reply_mean")
    return store


def bench_of(loaded, small, store, asked):
    model = loaded("llama")
    traits = resolve_trait_set(asked.trait_set, [model])
    return make_bench(asked, model, traits, read_task(small / "task.json"), store, lambda _: None)


def test_a_push_can_be_shared_by_layers(checkpoint, loaded, small, extracted):
    bench = bench_of(loaded, small, extracted, config(checkpoint, small, spread=2))
    push = bench.push("warm", "reply_mean")
    first, second = (d.site.layer for d in push.directions)
    assert second == first + 1
    assert [e.coefficient for e in push.edits(1.0)] == [0.5, 0.5]
    chosen = bench.origin.direction("warm", "reply_mean")
    assert chosen.site.layer in (first, second)
    assert around(bench.origin, "warm", "reply_mean", 9)[-1].site.layer == 2, "as many as there are"
    assert above(bench.origin, "warm", "reply_mean", 0, 2).site.layer == 1
    assert above(bench.origin, "warm", "reply_mean", 2, 2).site.layer == 2


def test_a_vector_out_of_a_file_pushes_as_the_extraction_that_it_came_from(
    checkpoint, loaded, small, extracted, monkeypatch
):
    own = bench_of(loaded, small, extracted, config(checkpoint, small))
    file = VectorFile(extracted.root / "warm.safetensors")
    monkeypatch.setattr("lab.pipelines.bench.extract_side", lambda *_: pytest.fail("extracted anyway"))
    given = bench_of(loaded, small, extracted, config(checkpoint, small, vectors=(file,)))
    assert isinstance(own.origin, Extracted) and isinstance(given.origin, Given)
    mine, theirs = (b.push("warm", "reply_mean") for b in (own, given))
    assert mine.norms == theirs.norms
    for a, b in zip(mine.directions, theirs.directions, strict=True):
        assert (a.site, a.position, a.fingerprint, a.split) == (b.site, b.position, b.fingerprint, b.split)
        np.testing.assert_allclose(a.vector, b.vector, atol=1e-6)
        assert a.length == pytest.approx(b.length, rel=1e-6)
    controls = given.origin.controls("warm", "reply_mean", 1, 3, np.random.default_rng(0))
    assert {kind for kind, _ in controls} == {"random", "covariance"}, "no replies at the poles to swap"
    np.testing.assert_allclose([np.linalg.norm(v) for v in controls.values()], 1.0)
    everything = own.origin.controls("warm", "reply_mean", 1, 3, np.random.default_rng(0))
    assert {kind for kind, _ in everything} == {"random", "permuted", "covariance", "other"}
    np.testing.assert_array_equal(controls["random", "0"], everything["random", "0"])


def test_the_battery_on_a_vector_of_one_layer_out_of_a_file(checkpoint, small, extracted, tmp_path):
    vector = load(extracted.root / "warm.safetensors")
    rows = np.full_like(vector.vectors, np.nan)
    rows[1] = vector.vectors[1]
    save(dataclasses.replace(vector, vectors=rows, layer=1, trait="nameless"), tmp_path / "one.safetensors")
    files = (VectorFile(tmp_path / "one.safetensors", "calm"),)
    store = Store(tmp_path)
    found = steer(config(checkpoint, small, ":calm", vectors=files), store, lambda *_: None)
    (s,) = found.summaries
    assert (s.trait, s.layers, s.position, s.controls) == ("calm", (1,), "reply_mean", 2)
    assert {p.position for p in found.poolings} == {"reply_mean"}
    assert {h.layer for h in found.half_lives} == {1}, "none is known above"
    (kept,) = found.settings["vectors"]
    assert (kept["trait"], kept["layer"], kept["forced"]) == ("calm", 1, False)
    again = steer(config(checkpoint, small, ":calm", vectors=files), store, lambda *_: None)
    assert again.run == found.run and again.settings["vectors"] == found.settings["vectors"]
    with pytest.raises(LabError, match="expected directions of calm at 2 layers around 1, got them at 1"):
        steer(config(checkpoint, small, ":calm", vectors=files, spread=2), store, lambda *_: None)


def test_a_vector_of_a_trait_without_prompts_is_refused(checkpoint, small, extracted, tmp_path):
    files = (VectorFile(extracted.root / "warm.safetensors", "grumpy"),)
    with pytest.raises(LabError, match=r"of the set 'small' \(calm\).*got one of 'grumpy'; name it with"):
        steer(config(checkpoint, small, ":calm", vectors=files), Store(tmp_path), lambda *_: None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"doses": ()}, "doses"), ({"doses": (0.1, -0.2)}, "doses"), ({"controls": 0}, "controls"),
        ({"percentiles": (40.0,)}, "percentiles"), ({"max_new_tokens": 2}, "max_new_tokens"), ({"release": 0}, "release"),
        ({"cap_layers": 0}, "cap-layers"), ({"positions": ()}, "poolings"), ({"percentiles": ()}, "percentiles"),
        ({"positions": ("middle",)}, "no pooling middle"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_run_are_refused(checkpoint, small, tmp_path, changes, said):
    with pytest.raises(LabError, match=said):
        steer(config(checkpoint, small, **changes), Store(tmp_path), lambda *_: None)
    assert not (tmp_path / "cache").exists()


def test_tasks_that_are_shipped_are_fair():
    """No question of a trait set is a task item, and every answer counts as itself."""
    for name in ("hearth", "chat"):
        task = read_task(DATA / "tasks" / f"{name}.json")
        assert len(task.questions) >= 24
        assert len({q.text for q in task.questions}) == len(task.questions)
        assert all(is_right(f"Well, {a}!", answers) for answers in task.answers for a in answers)
    assert is_right("It is CARBON DIOXIDE.", ("carbon dioxide",))
    assert not is_right("Iced tea", ("ice",))


def test_a_task_file_with_a_fault_is_refused_with_its_place(tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"name": "t", "items": [{"question": "Q?", "answers": []}]}))
    with pytest.raises(LabError, match=r"t\.json.*items\[0\]\.answers"):
        read_task(path)


def test_the_exact_reader_pools_replies_and_the_contrast_reader_averages_them(loaded, small):
    from lab.prompts.traits import read_trait_set
    from lab.world.judge import judge_texts
    from lab.world.library import library

    texts = ["I will gladly help you with that task.", "", "xx yy zz."]
    taken = ExactReader(("assistant", "warmth")).take(["q"] * 3, texts)
    assert np.isnan(taken.coherence[1])
    assert taken.coherence[2] == 0
    expected = judge_texts(library(), texts)[1]
    assert np.nansum(taken.coherence * [1, 1, 1]) == expected.parsed
    assert np.isnan(taken.pooled(np.array([2]))).all()

    model, traits = loaded("llama"), read_trait_set(small / "set.json").traits
    questions = [f"What is {k}?" for k in range(48)]
    reader = ContrastReader(model, traits, (questions, ["a b c"] * 48))
    weighed = reader.take(questions[:4], ["a b c", "", "c", "b b b b"])
    assert np.isnan(weighed.values[1]).all()
    np.testing.assert_allclose(weighed.pooled(np.arange(4)), np.nanmean(weighed.values, axis=0))
    assert weighed.coherence[0] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hearth-a", "hearth-b"])
def test_mission_traits_move_by_a_prior_sd_while_coherent(name, tmp_path):
    """The bar: at least 1 prior sd between coherent doses, beyond every control of equal norm."""
    config = SteerConfig(name, doses=(0.25,), controls=7, percentiles=(99.0,), positions=("reply_mean",))
    found = steer(config, Store(tmp_path), lambda *_: None)
    for s in found.summaries:
        assert s.reached, s
        assert s.low >= 1.0, s
        assert s.p < 0.05, s
