"""Poles by instruction and by scenario, and what a filter takes out of them."""

import json
import weakref
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lab.judging.trust import Removed, Screened
from lab.pipelines import poles as poles_module
from lab.pipelines.compare import CompareConfig, extract_side
from lab.pipelines.extract import ExtractConfig, extract
from lab.pipelines.poles import LEAST_SCENARIOS, Poles, poles_of, scenario_jobs, screened
from lab.pipelines.replies import POOLED, Job, Measured
from lab.prompts.traits import read_trait_set, shipped_trait_sets
from lab.records import LabError, Question, Reply, Trait, TraitSet
from lab.store import Store
from lab.vectors.files import load


def silent(stage, fraction):
    """No progress shown."""


SET = shipped_trait_sets(Path(__file__).parents[1])["hearth"]
TRAIT = Trait("t", ("be",), ("be not",), scenarios=tuple((f"up {k}", f"down {k}") for k in range(44)))


def test_a_pair_of_scenarios_is_one_question_of_one_split_and_nobody_is_told_anything():
    up, down = scenario_jobs(TRAIT, "positive"), scenario_jobs(TRAIT, "negative")
    assert [j.question.id for j in up] == [j.question.id for j in down]
    assert [j.question.split for j in up] == [j.question.split for j in down]
    assert (up[3].question.text, down[3].question.text) == ("up 3", "down 3")
    assert {j.system for j in [*up, *down]} == {""}
    assert Counter(j.question.split for j in up) == {"extract": 22, "select": 9, "test": 13}


def test_the_fewest_scenarios_leave_enough_to_test_on():
    few = Trait("t", ("a",), ("b",), scenarios=TRAIT.scenarios[:LEAST_SCENARIOS])
    assert Counter(j.question.split for j in scenario_jobs(few, "positive"))["test"] >= 6


def poles(n=12):
    """Replies to n questions at both poles, four in every split."""
    splits = ["extract", "select", "test"] * (n // 3)
    jobs = tuple(
        Job(pole, 0, Question(f"q{k}", f"question {k}", splits[k]), pole)
        for pole in ("positive", "negative")
        for k in range(n)
    )
    acts = np.arange(2 * n, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    replies = tuple(Reply(f"reply {i}", ("reply",), {}) for i in range(2 * n))
    return Poles(jobs, {"reply_mean": acts}, replies)


def test_what_a_filter_removes_is_left_out_before_test_and_is_on_record():
    def judge(replies):
        assert len(replies.items) == len(replies.positive) == 16  # the 8 test replies are not judged
        assert [i.answer for i in replies.items[:3]] == ["reply 0", "reply 1", "reply 3"]
        gone = (Removed(0, ("too cold", "too short")), Removed(9, ("too warm",)))
        return Screened(np.ones(len(replies.items), bool), gone)

    kept, removed = screened(poles(), TRAIT, "scenario", judge)
    assert [(r.text, r.pole, r.split, r.reasons) for r in removed] == [
        ("reply 0", "positive", "extract", "too cold; too short"),
        ("reply 13", "negative", "select", "too warm"),
    ]
    assert np.isnan(kept.of("reply_mean", "extract").acts).any(axis=(1, 2)).tolist() == [True] + 7 * [False]
    assert np.isnan(kept.of("reply_mean", "select").acts).any(axis=(1, 2)).sum() == 1
    assert not np.isnan(kept.of("reply_mean", "test").acts).any()


class Cache:
    """Stands in for a Runner: makes states when they are asked for, and counts the arrays that are alive."""

    def __init__(self):
        self.prepared, self.recalled, self.alive, self.most = [], [], 0, 0

    def prepare(self, groups):
        self.prepared += [(g[0].system, len(g)) for g in groups]

    def recall(self, group):
        self.recalled.append(group[0].system)
        rng = np.random.default_rng(len(group[0].system))
        pooled = {p: self.counted(rng.normal(size=(len(group), 2, 3)).astype(np.float32)) for p in POOLED}
        replies = tuple(Reply(j.question.text, (), {}) for j in group)
        return Measured(pooled, np.ones(2), replies, tuple(j.system for j in group))

    def counted(self, array):
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(array, self._gone)
        return array

    def _gone(self):
        self.alive -= 1


def many(n):
    """n traits on the same questions."""
    traits = tuple(Trait(f"t{k}", ("be " * (k + 1),), ("be not " * (k + 1),)) for k in range(n))
    splits = ("extract", "select", "test")
    return TraitSet("many", traits, tuple(Question(f"q{k}", f"q {k}?", splits[k % 3]) for k in range(24)))


def test_the_states_of_one_trait_at_a_time_are_held_however_many_there_are(monkeypatch):
    def most(n):
        cache, join = Cache(), poles_module._join

        def counted(groups, measured):
            found = join(groups, measured)
            for states in found.pooled.values():
                cache.counted(states)
            return found

        monkeypatch.setattr(poles_module, "_join", counted)
        traits = many(n)
        told = poles_of(traits, cache)
        assert len(cache.prepared) == 2 * n and not cache.recalled, "generated together, read one by one"
        config = CompareConfig(("m",), (), permutations=10)
        model = SimpleNamespace(identity=SimpleNamespace(fingerprint="f" * 64))
        made = extract_side("m", model, traits, config, cache, np.random.default_rng(0), POOLED, told)
        assert len(made.directions) == n * len(POOLED)
        assert len(cache.recalled) == 2 * n, "read once for all poolings"
        monkeypatch.undo()
        return cache.most

    assert most(2) == most(9) <= 4 * len(POOLED)


def test_a_trait_that_is_asked_for_again_is_read_again_to_the_same():
    told = poles_of(many(3), Cache())
    first = told["t0"].of("spawn", "test").acts
    assert list(told) == ["t0", "t1", "t2"] and len(told) == 3
    assert told["t1"].of("spawn", "test").acts.shape == first.shape
    np.testing.assert_array_equal(told["t0"].of("spawn", "test").acts, first)
    lost = np.zeros(48, dtype=bool)
    lost[0] = True
    kept = told.without({"t1": lost})
    assert list(kept) == ["t1"]
    assert np.isnan(kept["t1"].of("spawn", "extract").acts[0]).all()
    assert not np.isnan(told["t1"].of("spawn", "extract").acts).any()
    with pytest.raises(KeyError):
        kept["t0"]


@pytest.fixture(scope="module")
def situated(tmp_path_factory):
    """The mission trait warmth of Hearth, with situations in its own words."""
    data = json.loads(SET.read_text(encoding="utf-8"))
    questions = [q.text for q in read_trait_set(SET).questions]
    pairs = [
        {"pos": questions[k % len(questions)], "neg": questions[-1 - k % len(questions)]} for k in range(20)
    ]
    data["traits"] = {"warmth": {**data["traits"]["warmth"], "scenarios": pairs}}
    path = tmp_path_factory.mktemp("set") / "situated.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_an_extraction_by_both_elicitations(situated, tmp_path):
    store = Store(tmp_path)
    found = extract(ExtractConfig("hearth-a", str(situated), max_new_tokens=30), store, silent)
    assert {(c.elicitation, c.selected) for c in found.cards} == {
        (way, taken) for way in ("instruction", "scenario") for taken in (True, False)
    }
    assert {(t.made_by, t.read_on) for t in found.transfers} == {
        ("instruction", "scenario"), ("scenario", "instruction"),
    }  # fmt: skip
    assert found.removed == ()
    assert store.load_traits(found.run) == found
    for which in ("spawn", "selected"):
        vector = load(store.folder(found.run) / f"warmth.{which}.scenario.safetensors")
        assert vector.settings["elicitation"] == "scenario"


def test_an_extraction_with_a_filter(situated, tmp_path):
    store = Store(tmp_path)
    found = extract(
        ExtractConfig("hearth-a", str(situated), max_new_tokens=30, screen="exact"), store, silent
    )
    assert found.removed and {r.split for r in found.removed} <= {"extract", "select"}
    assert {r.elicitation for r in found.removed} == {"instruction", "scenario"}
    assert store.load_traits(found.run).removed == found.removed
    assert load(store.folder(found.run) / "warmth.spawn.safetensors").settings["screened_by"] == "exact"
    # These scenarios bring out nothing, so the filter leaves none of them.
    assert {c.elicitation for c in found.cards} == {"instruction"}


def test_a_filter_that_leaves_too_little_is_told(situated, tmp_path, monkeypatch):
    monkeypatch.setattr("lab.pipelines.extract.LEAST_PAIRS", 1000)
    config = ExtractConfig("hearth-a", str(situated), max_new_tokens=12, screen="exact")
    with pytest.raises(LabError, match=r"warmth: the filter leaves .* expected at least 1000"):
        extract(config, Store(tmp_path), silent)


def test_a_judge_without_a_scale_cannot_filter(situated, tmp_path):
    config = ExtractConfig("hearth-a", str(situated), max_new_tokens=12, screen="contrast")
    with pytest.raises(LabError, match=r"0 to 100.*give --screen exact") as told:
        extract(config, Store(tmp_path), silent)
    assert "--judge" not in str(told.value)
    config = ExtractConfig("hearth-a", str(situated), max_new_tokens=12, screen="nobody")
    with pytest.raises(LabError, match="--screen model:my-folder") as told:
        extract(config, Store(tmp_path), silent)
    assert "--judge" not in str(told.value)
