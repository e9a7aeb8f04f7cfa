"""Claims: every verdict follows from its written rule, and is seldom "supported" where nothing is there."""

import json

import numpy as np
import pytest
from planted_claims import PLANTED

from lab.claims import Frame, all_of, any_of, conclude, mean_over, verdict
from lab.cli import main
from lab.pipelines.claims import SHIPPED, claims, findings, sections_of
from lab.records import LabError
from lab.records.claims import SECTIONS, Observation
from lab.stats import binomial_interval
from lab.store import Store

ALL = claims()
RUNS = 60
IDS = [f"claim {c.number}" for c in ALL]


@pytest.mark.parametrize(
    ("low", "high", "side", "p", "said"),
    [
        (1.1, 2.0, "above", np.nan, "supported"),
        (1.1, 2.0, "above", 0.2, "cannot tell"),
        (0.9, 2.0, "above", np.nan, "cannot tell"),
        (0.1, 0.9, "above", np.nan, "refuted"),
        (0.1, 0.9, "below", np.nan, "supported"),
        (1.1, 2.0, "below", np.nan, "refuted"),
        (np.nan, np.nan, "above", 0.001, "cannot tell"),
    ],
)
def test_the_verdict_follows_from_the_interval(low, high, side, p, said):
    assert verdict(low, high, side, 1.0, p) == said


def test_verdicts_combine():
    assert all_of(["supported", "refuted", "cannot tell"]) == "refuted"
    assert all_of(["supported", "cannot tell"]) == "cannot tell"
    assert all_of(["supported"] * 2) == "supported"
    assert any_of(["refuted", "supported"]) == "supported"
    assert any_of(["refuted", "cannot tell"]) == "cannot tell"
    assert any_of(["refuted"] * 2) == "refuted"
    assert all_of([]) == any_of([]) == "cannot tell"


def test_every_claim_has_a_planted_truth():
    assert {c.number for c in ALL} == set(PLANTED)


@pytest.mark.parametrize("claim", ALL, ids=IDS)
def test_the_docstring_says_everything_and_the_settings_are_frozen(claim):
    assert set(claim.sections) == set(SECTIONS)
    for config in (claim.experiment.CONFIG, claim.experiment.QUICK):
        with pytest.raises(AttributeError):
            config.seed = 1


def test_a_missing_section_is_named(tmp_path):
    with pytest.raises(LabError, match="Verdict rule"):
        sections_of("Question. Is it so?", tmp_path / "c99.py")


@pytest.mark.parametrize("claim", ALL, ids=IDS)
def test_planted_truths_get_their_verdicts(claim):
    rng = np.random.default_rng(claim.number)
    for where, wanted in (("beyond", "supported"), ("short", "refuted")):
        effects = claim.experiment.judge(PLANTED[claim.number](rng, where), rng)
        assert conclude(effects, claim.experiment.COMBINE)[0] == wanted, (where, effects)


@pytest.mark.parametrize("claim", ALL, ids=IDS)
def test_at_the_bar_supported_is_as_rare_as_promised(claim):
    rng = np.random.default_rng(100 + claim.number)
    said = []
    for _ in range(RUNS):
        effects = claim.experiment.judge(PLANTED[claim.number](rng, "bar"), rng)
        said.append(conclude(effects, claim.experiment.COMBINE)[0])
    low, _ = binomial_interval(said.count("supported"), RUNS, 0.99)
    assert low <= 0.05


def test_outcomes_that_all_agree_still_leave_doubt():
    rows = [Observation("m", "found", f"s{i}", 1.0) for i in range(10)]
    found = mean_over(
        rows, np.random.default_rng(0), Frame("m", "found", "share", "above", 0.8, "0", "scaffolds")
    )
    assert found.effect == found.high == 1.0
    assert found.low == pytest.approx(0.025 ** (1 / 10))  # the exact limit of 10 of 10
    assert found.verdict == "cannot tell"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "joy"], "expected a claim's number"),
        (["run", "99"], "no claim 99"),
        (["run", "6", "hearth-a"], "models come after --models"),
        (["run", "6", "--base", "hearth-base"], "claim 6 reads no companion; leave out base"),
        (["run", "4", "--models", "hearth-a"], "takes two models, got 1"),
        (["report", "--no-shipped"], "no claim was tested yet"),
    ],
)
def test_wrong_input_is_a_message_and_status_2(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["lab", "claims", *arguments, "--runs", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_the_list_says_what_is_measured(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["lab", "claims", "list", "--json"])
    with pytest.raises(SystemExit):
        main()
    listed = json.loads(capsys.readouterr().out)["claims"]
    assert [c["claim"] for c in listed] == list(range(1, 23))
    assert all(c["Measure"] and c["Verdict rule"] for c in listed)


def shipped():
    return {f.claim: f for f in findings([Store(SHIPPED)])}


def test_the_shipped_report_speaks_of_every_claim():
    found = shipped()
    assert set(found) == {c.number for c in ALL}
    table = (SHIPPED / "report.md").read_text(encoding="utf-8")
    assert all(f.run in table and f.title in table for f in found.values())
    assert all((SHIPPED / "figures" / f"{f.run}.svg").is_file() for f in found.values())
    assert not any(f.quick for f in found.values())


@pytest.mark.parametrize("claim", ALL, ids=IDS)
def test_every_shipped_verdict_follows_from_what_was_observed(claim):
    found = shipped()[claim.number]
    rng = np.random.default_rng([found.settings["seed"], claim.number])
    again = claim.experiment.judge(found.observations, rng)
    assert [e.what for e in again] == [e.what for e in found.effects]
    for one, other in zip(again, found.effects, strict=True):
        assert (one.effect, one.low, one.high) == pytest.approx(
            (other.effect, other.low, other.high), nan_ok=True
        )
        assert one.verdict == other.verdict
    assert conclude(again, claim.experiment.COMBINE) == (found.verdict, found.over)
    assert claim.sections == dict(found.sections)
