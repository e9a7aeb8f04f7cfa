"""The steering battery end to end, on a tiny random model and (slow) on an organism with known truth."""

import json
from pathlib import Path

import numpy as np
import pytest

from lab.pipelines.bench import SteerConfig
from lab.pipelines.readers import ContrastReader, ExactReader
from lab.pipelines.replies import Runner
from lab.pipelines.steer import steer
from lab.prompts.tasks import is_right, read_task
from lab.records import LabError
from lab.store import Store

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


def config(checkpoint, small, **changes):
    basis = {
        "doses": (0.5, 1.0), "positions": ("reply_mean", "spawn"), "controls": 2, "percentiles": (90.0,), "release": 3,
        "window": 4, "max_new_tokens": 8,
    }  # fmt: skip
    return SteerConfig(
        str(checkpoint("llama", layers=3)) if "layers" in changes else str(checkpoint("llama")), str(small / "set.json"),
        task=small / "task.json", **{**basis, **{k: v for k, v in changes.items() if k != "layers"}},
    )  # fmt: skip


def test_the_whole_battery_on_a_model_that_knows_nothing(checkpoint, small, tmp_path):
    stages = []
    found = steer(config(checkpoint, small), Store(tmp_path), lambda stage, part: stages.append(part))
    assert found.judge == "contrast"
    assert stages == sorted(stages)
    assert {s.trait for s in found.summaries} == {"warm", "calm"}
    for s in found.summaries:
        mine = [r for r in found.doses if r.steered == s.trait]
        own = [r for r in mine if r.read == s.trait]
        kinds = {
            k: sum(r.kind == k for r in own)
            for k in ("none", "native", "prompt", "random", "permuted", "other")
        }
        assert kinds == {"none": 1, "native": 4, "prompt": 2, "random": 4, "permuted": 4, "other": 2}
        (base,) = [r for r in own if r.kind == "none"]
        assert base.change == 0
        up, down = (next(r for r in own if r.kind == "native" and r.coefficient == c) for c in (s.up, s.down))
        assert s.effect == pytest.approx(up.reading - down.reading)
        assert s.low <= s.effect <= s.high
        assert s.controls == 6
        assert all(r.n == 12 and r.split == "test" for r in mine)
        assert len({r.read for r in mine}) == 2
    assert {(c.kind, c.condition) for c in found.caps} == {
        (k, w) for k in ("cap", "floor") for w in ("neutral", "against")
    }
    pushed = [r.difference for r in found.releases if r.pushed]
    assert np.nanmean(pushed) == pytest.approx(1.0, abs=1e-3)
    again = steer(config(checkpoint, small), Store(tmp_path), lambda *_: None)
    assert again.summaries == found.summaries
    assert repr(again.doses) == repr(found.doses)


def test_a_killed_battery_goes_on_to_the_same_numbers(checkpoint, small, tmp_path, monkeypatch):
    whole = steer(config(checkpoint, small), Store(tmp_path / "whole"), lambda *_: None)
    made, calls = Runner._generate, 0

    def killed(self, *args):
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return made(self, *args)

    monkeypatch.setattr(Runner, "_generate", killed)
    with pytest.raises(KeyboardInterrupt):
        steer(config(checkpoint, small), Store(tmp_path / "killed"), lambda *_: None)
    monkeypatch.setattr(Runner, "_generate", made)
    again = steer(config(checkpoint, small), Store(tmp_path / "killed"), lambda *_: None)
    assert repr(again) == repr(whole)


def test_a_push_can_be_shared_by_layers(checkpoint, small, tmp_path):
    found = steer(config(checkpoint, small, spread=2), Store(tmp_path), lambda *_: None)
    assert all(len(s.layers) == 2 and s.layers[1] == s.layers[0] + 1 for s in found.summaries)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"doses": ()}, "doses"), ({"doses": (0.1, -0.2)}, "doses"), ({"controls": 0}, "controls"),
        ({"percentiles": (40.0,)}, "percentiles"), ({"max_new_tokens": 2}, "max_new_tokens"), ({"release": 0}, "release"),
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
    with pytest.raises(LabError, match=r"t\.json: items\[0\]\.answers"):
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
