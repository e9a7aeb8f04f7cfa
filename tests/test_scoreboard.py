"""The scoreboard on a shipped organism: what it says is what a reader would compute."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lab.cli import app
from lab.pipelines.scoreboard import (
    Agreement,
    Row,
    Scoreboard,
    ScoreConfig,
    hearth_traits,
    markdown,
    scoreboard,
)
from lab.records import LabError, TraitSet
from lab.store import Store


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    config = ScoreConfig(("hearth-a",), ("warmth", "energy"), 16, 20, 24)
    return scoreboard(config, Store(tmp_path_factory.mktemp("runs")), lambda stage, share: None)


def test_one_row_per_estimator_and_pooling_and_one_selected_per_trait(found):
    assert len(found.rows) == 2 * 16
    for trait in ("warmth", "energy"):
        rows = [r for r in found.rows if r.trait == trait]
        assert len({(r.estimator, r.pooling) for r in rows}) == 16
        (chosen,) = [r for r in rows if r.selected]
        assert chosen.select_r2 == max(r.select_r2 for r in rows)
        assert {r.ceiling for r in rows} == {chosen.ceiling}
    for row in found.rows:
        assert 0 <= row.low <= row.r2 <= row.high <= 1
        assert row.share_of_ceiling == pytest.approx(row.r2 / row.ceiling)
        assert row.n == 20


def test_directions_read_the_known_truth(found):
    warmth = next(r for r in found.rows if r.trait == "warmth" and r.selected)
    assert warmth.r2 > 0.4
    assert 0.2 < warmth.ceiling < 1  # ten replies of 24 tokens tell the judge this much


def test_recipes_of_one_trait_agree_with_each_other(found):
    warmth = next(a for a in found.agreements if a.trait == "warmth")
    assert warmth.r.shape == (16, 16)
    np.testing.assert_allclose(np.diag(warmth.r), 1.0)
    assert np.median(warmth.r) > 0.5


def test_traits_of_hearth_can_be_picked():
    picked = hearth_traits(TraitSet("q", (), ()), ("candour",))
    assert [t.name for t in picked.traits] == ["candour"]
    everything = hearth_traits(TraitSet("q", (), ()))
    assert picked.traits[0] == next(t for t in everything.traits if t.name == "candour")


def test_mistakes_are_refused(tmp_path):
    def run(**changes):
        scoreboard(ScoreConfig(("hearth-a",), **changes), Store(tmp_path), lambda stage, share: None)

    with pytest.raises(LabError, match="Hearth has no trait sloth"):
        run(traits=("sloth",))
    with pytest.raises(LabError, match="at least 15 characters"):
        run(test=5)


ISSUED = {
    "organism",
    "trait",
    "estimator",
    "pooling",
    "layer",
    "r2",
    "ceiling",
    "share_of_ceiling",
    "leakage",
    "selected",
}
"""The keys that other work builds on."""


def planted():
    rows, agreements = [], []
    for organism in ("hearth-a", "hearth-b"):
        for trait in ("assistant", "warmth"):
            for k, (estimator, pooling) in enumerate(
                (("paired_pca", "spawn"), ("mean_difference", "reply_mean"))
            ):
                numbers = (0.934 - k / 10, 0.89, 1.0, 0.82, 1.14 - k / 10, -0.004, 0.95)
                rows.append(Row(organism, trait, estimator, pooling, 2, *numbers, k == 0, 72))
            makers = (("paired_pca", "spawn"), ("mean_difference", "reply_mean"))
            agreements.append(Agreement(organism, trait, makers, np.array([[1.0, 0.634], [0.634, 1.0]])))
    return Scoreboard(tuple(rows), tuple(agreements))


@pytest.fixture
def told(monkeypatch, tmp_path):
    """told(option, …): what `lab scoreboard` prints of planted rows."""
    asked = []
    monkeypatch.setattr("lab.pipelines.scoreboard.scoreboard", lambda *a: asked.append(a[0]) or planted())

    def run(*options):
        done = CliRunner().invoke(app, ["scoreboard", *options, "--runs", str(tmp_path)])
        assert done.exit_code == 0, done.output
        assert asked[-1].models == ("hearth-a", "hearth-b")
        return done.stdout

    return run


def test_the_rows_of_the_json_have_exactly_the_keys_that_were_agreed_on(told):
    document = json.loads(told("--json"))
    assert all(set(row) == ISSUED for row in document["rows"])
    assert len(document["rows"]) == len(document["details"]) == 8
    for row, more in zip(document["rows"], document["details"], strict=True):
        assert all(more[k] == row[k] for k in ("organism", "trait", "estimator", "pooling", "layer"))
        assert {"low", "high", "select_r2", "n"} <= set(more)
    (first, *others) = document["agreements"]
    assert first == {
        "organism": "hearth-a", "trait": "assistant", "r": [[1.0, 0.634], [0.634, 1.0]],
        "recipes": ["paired_pca spawn", "mean_difference reply_mean"],
    }  # fmt: skip
    assert len(others) == 3


def test_the_command_prints_recipes_and_how_alike_they_are(told):
    said = told()
    assert (
        "hearth-b: how alike recipes order the test characters: correlation in hundredths, mean over 2 traits"
        in said
    )
    assert "  2 paired_pca spawn            63\n" in said


def test_one_command_makes_the_table_of_the_readme(told):
    table = told("--markdown")
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    head = "| trait | hearth-a R² with z | judge | leakage | hearth-b R² with z | judge | leakage |\n"
    head += "|---|---|---|---|---|---|---|\n"
    assert head in readme, "the README's table is the one that is printed"
    assert table == head + "".join(
        f"| {t} | .93 [.89, 1.00] | .82 | -.00 | .93 [.89, 1.00] | .82 | -.00 |\n"
        for t in ("assistant", "warmth")
    )
    assert markdown(Scoreboard(planted().rows[:4], ())).splitlines()[0].count("|") == 5
