"""The page Claims, without a browser."""

from html import escape

import numpy as np
import pytest
from pages import assert_no_torch, charts, page, role
from planted_claims import PLANTED

from lab.figures.claims_report import STANCE, markdown, write_report
from lab.pipelines import claims as pipeline
from lab.records.claims import TestedModel as ReadModel


@pytest.fixture
def finding(store, monkeypatch):
    """Claim 6, planted and stored; nothing that came with the lab."""
    monkeypatch.setattr(pipeline, "SHIPPED", store.root / "none")
    each = pipeline.claim(6)
    observed = PLANTED[6](np.random.default_rng(0), "beyond")
    tested = [ReadModel("m", "m", "digest")]
    made = pipeline.judged(each, each.experiment.QUICK, tested, observed, "claim06-planted")
    pipeline.save(made, store)
    return pipeline.load(made.run, store)


def test_a_finding_comes_back_as_it_was(finding, store):
    each = pipeline.claim(6)
    again = pipeline.judged(each, each.experiment.QUICK, finding.models, finding.observations, finding.run)
    assert repr(again.effects) == repr(finding.effects) and again.verdict == finding.verdict == "supported"
    assert repr(pipeline.findings([store])) == repr((finding,))
    (first, *_) = pipeline.rows([finding], lambda f: f"{f.run}.svg")
    assert set(first) >= {
        "claim",
        "verdict",
        "effect",
        "low",
        "high",
        "unit",
        "null",
        "n",
        "models",
        "figure",
        "run",
    }


def test_the_page_shows_table_card_and_observations(finding):
    at = page("claims", claim="6")
    (chart,) = charts(at)
    assert "supported" in chart["layout"]["title"]["text"] and len(role(chart, "effect")) == 3
    assert any("measures of models" in c.value for c in at.caption)
    table = next(d.value for d in at.dataframe if "verdict" in d.value)
    assert table[table["#"] == 6]["verdict"].tolist() == ["supported"]
    assert (table[table["#"] != 6]["verdict"] == "not tested").all()
    at.selectbox(key="claim").set_value("7").run()
    assert not at.exception and "lab claims run 7" in [c.value for c in at.code]


def test_reading_findings_loads_no_torch(finding, monkeypatch, store):
    monkeypatch.setenv("LAB_RUNS", str(store.root))
    assert_no_torch("claims", 1, claim="6")


def test_the_report_stands_alone(finding, tmp_path, monkeypatch):
    monkeypatch.setattr("lab.figures.claims_report.find_browser", lambda: None)
    found = write_report([finding], tmp_path).read_text(encoding="utf-8")
    assert (
        escape(STANCE) in found
        and "supported" in found
        and "http://" not in found.split("<body>")[1].split("<script")[0]
    )
    table = markdown([finding])
    assert table.count("\n| ") >= 1 and finding.run in table and "noise floors" in table
