"""Directions, scaffolds and near twins in features, whole jobs in small: a dictionary that holds a trait is found out."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_feature_readout import save_sae
from typer.testing import CliRunner

import lab.models
from lab.estimators import mean_difference, unit
from lab.pipelines.compare import DATA, CompareConfig, resolve_model, resolve_trait_set
from lab.pipelines.decompose import DecomposeConfig, decompose_traits, left_out
from lab.pipelines.decomposition_runs import load_decomposition
from lab.pipelines.feature_causes import CausalConfig, alike
from lab.pipelines.model_difference import DifferenceConfig, load_difference, model_difference
from lab.pipelines.poles import poles_of
from lab.pipelines.readout import ReadoutConfig, load_readout, matching_from, readout
from lab.pipelines.replies import Runner
from lab.prompts.scaffolds import parse_scaffold
from lab.records import LabError
from lab.records.feature_cards import FeatureTwin
from lab.store import Store

LAYER, TOKENS = 3, 20
QUESTIONS = {"extract": 5, "select": 2, "test": 5}
SCAFFOLD = parse_scaffold(
    "# Friend\n\nName: Liora. Role: companion of the evening hours.\n\n## Memory\n- [user] Liora likes tea.\n",
    "friend",
)


def silent(stage, fraction):
    """No progress shown."""


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Every model is loaded once for this file."""
    made, plain = {}, lab.models.load
    patch = pytest.MonkeyPatch()

    def load(name, dtype="float32"):
        if name not in made:
            made[name] = plain(name, dtype)
        return made[name]

    patch.setattr(lab.models, "load", load)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def traits(tmp_path_factory):
    """One trait of Hearth on a few of its questions."""
    data = json.loads((DATA / "traits" / "hearth.json").read_text(encoding="utf-8"))
    few = {split: texts[: QUESTIONS[split]] for split, texts in data["questions"].items()}
    file = tmp_path_factory.mktemp("traits") / "hearth.json"
    some = {name: data["traits"][name] for name in ("warmth",)}
    file.write_text(
        json.dumps({**data, "name": "hearth", "traits": some, "questions": few}), encoding="utf-8"
    )
    return str(file)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def planted(runs, traits):
    """The name of a dictionary of hearth-a whose feature 0 is the direction of warmth."""
    model = lab.models.load(resolve_model("hearth-a"))
    found = resolve_trait_set(traits, [model])
    base = CompareConfig(("hearth-a",), (), traits, "float32", 0, TOKENS)
    poles = poles_of(found, Runner(model, base, runs, 0, lambda n: None))["warmth"].of(
        "reply_mean", "extract"
    )
    direction = unit(mean_difference(poles.acts[:, [LAYER]], poles.positive, poles.questions)[0])
    basis = np.random.default_rng(0).normal(size=(192, 192))
    basis[:, 0] = direction
    rows = np.linalg.qr(basis)[0].T
    rows[0] *= np.sign(rows[0] @ direction)
    save_sae(runs.root / "saes" / "planted", model, rows, LAYER)
    save_sae(runs.root / "saes" / "twin", model, rows, LAYER)
    return "planted"


# ------------------------------------------------------------------ directions


@pytest.fixture(scope="module")
def config(planted, traits):
    causal = CausalConfig((0.125,), 1)
    return DecomposeConfig(planted, "hearth-a", traits, 19, 1, causal, max_new_tokens=TOKENS)


@pytest.fixture(scope="module")
def book(config, runs):
    return decompose_traits(config, runs, silent)


def test_a_trait_that_is_a_feature_is_made_of_it(book):
    warmth = book.verdicts
    assert [v.method for v in warmth] == ["signed", "non-negative"]
    assert all(v.decomposable and v.half == 1 and v.mean > 0.999 for v in warmth)
    first = [p for p in book.parts if p.trait == "warmth" and p.k == 1]
    assert [(p.feature, p.rank) for p in first] == [(0, 1), (0, 1)]
    np.testing.assert_allclose([p.weight for p in first], 1.0, atol=1e-4)
    shares = [s for s in book.shares if s.method == "signed"]
    assert [s.k for s in shares] == [1, 2, 4, 8, 16, 32] and all(s.n == QUESTIONS["extract"] for s in shares)
    assert 0.5 < shares[0].held_out < 1 and shares[0].low < shares[0].share
    assert all(n.high < 0.5 for n in book.nulls if n.k == 1)
    assert {n.null for n in book.nulls} == {"random", "covariance", "permuted"}


def test_what_encoded_replies_say_of_it_agrees(book):
    (seen,) = [d for d in book.differences if d.trait == "warmth" and d.feature == 0]
    assert seen.difference > 0 and seen.positive > seen.negative and seen.n == QUESTIONS["test"]
    (part,) = [p for p in book.parts if (p.trait, p.method, p.k) == ("warmth", "signed", 1)]
    assert part.difference == seen.difference and part.q == seen.q


def test_the_feature_carries_what_the_direction_carries_and_the_rest_nothing(book):
    steer = {c.what: c for c in book.causal if c.trait == "warmth" and c.way == "steer" and c.draw < 1}
    assert steer["features"].effect == pytest.approx(steer["direction"].effect)
    assert steer["residual"].effect == 0.0 and steer["residual"].length < 1e-3
    assert steer["features"].length == pytest.approx(1.0, abs=1e-3)
    assert steer["direction"].effect > 0 and steer["features"].null_high >= 0
    ablate = {c.what: c for c in book.causal if c.trait == "warmth" and c.way == "ablate" and c.draw < 1}
    assert set(ablate) == {"instruction", "direction", "features", "random"}
    assert ablate["features"].coherence > 0 and np.isnan(ablate["instruction"].share)
    assert len([c for c in book.causal if c.what == "random"]) == 2


def test_a_run_is_found_again_as_it_was_saved(book, config, runs):
    assert repr(load_decomposition(runs, book.run)) == repr(book)
    assert decompose_traits(config, runs, silent).run == book.run
    with pytest.raises(LabError, match="is a run of `lab decompose`"):
        load_readout(runs, book.run)


def test_the_command_prints_the_run(book, config, runs, traits):
    from lab.cli.common import app

    asked = [
        "sae", "decompose", "planted", "--model", "hearth-a", "--traits", traits, "--causal", "--k", "1", "--draws", "19",
        "--controls", "1", "--dose", "0.125", "--max-new-tokens", str(TOKENS), "--runs", str(runs.root),
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["run"] == book.run and len(document["verdicts"]) == 2
    assert all(d["q"] < 0.05 for d in document["differences"])
    shown = CliRunner().invoke(app, asked)
    assert "does it carry the trait?" in shown.stdout and book.run in shown.stdout


def test_what_cannot_be_run_is_refused(config, runs):
    for change, said in (
        ({"k": 3}, "k must be one of 1, 2, 4"),
        ({"draws": 5}, "at least 19 null directions"),
        ({"causal": CausalConfig(())}, "expected doses above 0"),
        ({"sae": "none"}, "there is no dictionary 'none'"),
    ):
        asked = replace(config, **change)
        with pytest.raises(LabError, match=said):
            decompose_traits(replace(asked, model="" if "sae" in change else "hearth-a"), runs, silent)


def test_groups_of_questions_are_left_out_and_stand_ins_are_alike():
    rng = np.random.default_rng(1)
    from lab.directions import Contrast

    up, questions = np.tile([True, False], 30), np.repeat(np.arange(30), 2)
    made = Contrast(rng.normal(size=(60, 1, 5)), up, questions, "extract")
    assert left_out(made).shape == (20, 5)
    assert left_out(Contrast(made.acts[:8], up[:8], questions[:8], "extract")).shape == (0, 5)
    on = np.linspace(0, 1, 200)
    for _ in range(20):
        features = np.array([3, 100, 199])
        found = alike(features, on, rng)
        assert len({*found, *features}) == 6
        assert (np.abs(on[found] - on[features]) < 0.2).all()
    with pytest.raises(LabError, match="expected more than 6 features"):
        alike(np.arange(3), np.ones(4), rng)


# ------------------------------------------------------------------ scaffolds


@pytest.fixture(scope="module")
def read(planted, traits, runs):
    config = ReadoutConfig(
        (planted, "twin"), (SCAFFOLD,), ("hearth-a", "hearth-a"), traits, max_new_tokens=TOKENS
    )
    same = {k: k for k in range(192)}
    return readout(config, runs, silent, (same, same)), config


def test_a_scaffold_is_read_in_both_and_segment_by_segment(read, runs):
    book, config = read
    assert book.labels == ("hearth-a (1)", "hearth-a (2)") and book.why == ""
    assert repr(load_readout(runs, book.run)) == repr(book)
    for label in book.labels:
        mine = [f for f in book.features if f.model == label]
        assert 50 < len(mine) <= 192 and all(f.n == QUESTIONS["test"] for f in mine)
        assert all((f.place == "") == (f.q >= 0.05) and f.match == f.feature for f in mine)
    alone = readout(replace(config, segments=False), runs, silent)
    assert alone.why.startswith("the features of the two") and not alone.segments
    assert {f.place for f in alone.features} == {""}
    found = {(s.segment, s.kind, s.provenance, s.said) for s in book.segments}
    kinds = [(0, "identity", "human"), (1, "memory", "user")]
    assert found == {(*k, said) for k in kinds for said in ("same", "anew")} or not book.segments


def test_matches_come_from_a_run_of_feature_cards(runs):
    nan = float("nan")
    twin = FeatureTwin("planted", 4, "model", "other", 9, 0.9, nan, nan, nan, 0.01, 0.01, 10)
    runs.save_records("features-x", "features", [], {"twins": [vars(twin)]}, {})
    assert matching_from(runs, "features-x", "saes/planted", "other") == ({4: 9}, {})
    with pytest.raises(LabError, match="no matched features of planted and twin; it has planted with other"):
        matching_from(runs, "features-x", "planted", "twin")


def test_a_readout_needs_scaffolds_and_dictionaries(runs):
    for config, said in (
        (ReadoutConfig(("a", "b", "c"), (SCAFFOLD,)), "expected one or two dictionaries"),
        (ReadoutConfig(("a",), (SCAFFOLD,), ("x", "y")), "expected one or two dictionaries"),
        (ReadoutConfig(("a",), ()), "expected scaffolds with a text"),
        (ReadoutConfig(("a",), (parse_scaffold("(no scaffold)", "none"),)), "expected scaffolds with a text"),
    ):
        with pytest.raises(LabError, match=said):
            readout(config, runs, silent)


# ------------------------------------------------------------------ near twins


def test_a_model_shares_all_latents_with_itself_and_others_are_told_why_not(planted, runs):
    config = DifferenceConfig(planted, "hearth-a", "hearth-a", texts=12)
    book = model_difference(config, runs, silent)
    assert {x.verdict for x in book.latents} == {"shared"} and len(book.latents) > 150
    assert book.coordinates == pytest.approx(1.0) and book.texts == 12 and book.why == ""
    assert repr(load_difference(runs, book.run)) == repr(book)
    apart = model_difference(replace(config, other="hearth-a2"), runs, silent)
    assert not apart.latents and "do not have the same coordinates" in apart.why
    with pytest.raises(LabError, match="one tokenizer and chat template"):
        model_difference(replace(config, other="hearth-b"), runs, silent)
