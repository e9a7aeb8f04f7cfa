"""Directions carried from one organism into another: the whole job in small, and what is kept of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lab.pipelines import bench
from lab.pipelines import transfer as job
from lab.pipelines.compare import DATA, shipped_scaffolds
from lab.pipelines.geometry import GeometryConfig, load_pair
from lab.pipelines.transfer import TransferConfig, load_transfer, pairing_p, transfer
from lab.records import LabError
from lab.store import Store

SCAFFOLDS = tuple(replace(s, paraphrases=s.paraphrases[:1]) for s in shipped_scaffolds()[:5])
TRAITS = ("warmth", "intimacy")
QUESTIONS = {"extract": 5, "select": 2, "test": 5}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Two traits of Hearth on a few of its questions."""
    data = json.loads((DATA / "traits" / "hearth.json").read_text(encoding="utf-8"))
    few = {split: texts[: QUESTIONS[split]] for split, texts in data["questions"].items()}
    file = tmp_path_factory.mktemp("traits") / "few.json"
    traits = {name: data["traits"][name] for name in TRAITS}
    file.write_text(json.dumps({**data, "traits": traits, "questions": few}), encoding="utf-8")
    return TransferConfig(
        GeometryConfig(("hearth-a", "hearth-b"), SCAFFOLDS, str(file), max_new_tokens=4), doses=(0.25,), controls=1,
        shuffled=2, reply_tokens=6,
    )  # fmt: skip


def silent(stage, fraction):
    """No progress shown."""


@pytest.fixture(scope="module")
def told():
    """Fractions of progress."""
    return []


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("runs"))


class Counts:
    """What is kept of replies: how often each letter stands in each."""

    def __init__(self, counts):
        self.counts, self.coherence = counts, np.ones(len(counts))

    def pooled(self, rows):
        return self.counts[rows].mean(axis=0)


class Letters:
    """A judge that counts a letter for each trait."""

    judge, unit, traits, letters = "letters", "letters", TRAITS, ("e", "o")

    def take(self, questions, replies):
        return Counts(np.array([[float(r.count(x)) for x in self.letters] for r in replies]))


@pytest.fixture(scope="module")
def pair(config):
    """Both models and the traits, loaded once."""
    return load_pair(config.geometry, silent)


@pytest.fixture(scope="module")
def book(config, runs, told, pair):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bench, "reader_of", lambda loaded, traits, reference: Letters())
        patched.setattr(job, "load_pair", lambda geometry, progress: progress("loading models", 0.0) or pair)
        return transfer(config, runs, lambda stage, fraction: told.append(fraction))


def rows(book, t, kind, dose):
    return [r for r in book.replies if (r.trait, r.source, r.kind, r.dose) == (t.trait, t.source, kind, dose)]


def test_progress_goes_evenly_from_nothing_to_all(book, told):
    assert told[0] == 0.0 and told[-1] == 1.0 and told == sorted(told)
    assert max(np.diff(told)) < 0.2


def test_every_push_keeps_its_replies_to_the_same_test_questions(book):
    assert [(t.trait, t.source) for t in book.transfers] == [(x, s) for s in book.labels for x in TRAITS]
    for t in book.transfers:
        plain = rows(book, replace(t, trait=""), "none", 0.0)
        questions = [(r.question, r.sample) for r in plain]
        assert len(questions) == len(set(questions)) == t.n == 2 * t.questions
        for kind in ("native", "carried", "random", "permuted", "wrong"):
            for dose in (t.up, t.down):
                mine = rows(book, t, kind, dose)
                assert [(r.question, r.sample) for r in mine] == questions
                assert {r.target for r in mine} == {t.target}
        draws = {
            kind: rows(book, t, kind, t.up)[0].draw for kind in ("native", "random", "permuted", "wrong")
        }
        (other,) = (x for x in TRAITS if x != t.trait)
        assert draws == {"native": "", "random": "1 of 1", "permuted": "1 of 2", "wrong": other}


def test_the_kept_replies_are_those_that_the_effects_were_read_from(book):
    for t in book.transfers:
        letter = Letters.letters[TRAITS.index(t.trait)]
        for kind in ("native", "carried"):
            up, down = ([r.text.count(letter) for r in rows(book, t, kind, dose)] for dose in (t.up, t.down))
            assert np.mean(up) - np.mean(down) == pytest.approx(getattr(t, kind))


def test_single_doses_add_up_to_the_effect(book):
    for t in book.transfers:
        mine = {(d.kind, d.dose): d for d in book.doses if (d.trait, d.source) == (t.trait, t.source)}
        for kind in ("native", "carried", "random", "permuted", "wrong"):
            up, down = mine[kind, t.up], mine[kind, t.down]
            assert up.change - down.change == pytest.approx(getattr(t, kind), abs=1e-9)
            assert up.n == t.n and 0 <= up.coherence <= 1
        assert mine["native", t.up].low < mine["native", t.up].change < mine["native", t.up].high
        assert np.isnan(mine["permuted", t.up].low), "two draws are no range"
        assert (mine["none", 0.0].change, mine["none", 0.0].draws) == (0.0, 0)


def test_a_saved_run_comes_back_and_is_found_again(config, book, pair, runs, monkeypatch):
    again = load_transfer(runs, book.run)
    assert repr(again) == repr(book) and again.replies == book.replies, "repr: NaN is not equal to itself"
    monkeypatch.setattr(job, "load_pair", lambda geometry, progress: pair)
    monkeypatch.setattr(job, "measure_sides", None)
    assert transfer(config, runs, silent).replies == book.replies
    monkeypatch.setattr(job, "VERSION", 3)
    with pytest.raises(LabError, match="another version of the lab"):
        load_transfer(runs, book.run)


def test_a_pairing_of_too_few_scaffolds_has_no_p():
    permuted = np.array([0.1, 0.3, 0.5, np.nan])
    assert pairing_p(0.4, permuted, 5) == (1 + 2) / (1 + 4), "an unknown draw counts against the effect"
    assert np.isnan(pairing_p(0.4, permuted, 4)) and np.isnan(pairing_p(float("nan"), permuted, 8))
