"""The page Claims, without a browser."""

from dataclasses import replace
from html import escape

import numpy as np
import pytest
from pages import assert_no_torch, charts, click, page, query, role, values
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
    chart, observed = charts(at)
    assert len(role(observed, "observation")) == 1
    assert "supported" in chart["layout"]["title"]["text"] and len(role(chart, "effect")) == 3
    assert any("measures of models" in c.value for c in at.caption)
    table = next(d.value for d in at.dataframe if "verdict" in d.value)
    assert table[table["#"] == 6]["verdict"].tolist() == ["supported"]
    assert (table[table["#"] != 6]["verdict"] == "not tested").all()
    at.selectbox(key="claim").set_value("7").run()
    assert not at.exception and "lab claims run 7" in [c.value for c in at.code]


def texts(at):
    return [t.value for t in at.text]


def test_a_row_or_mark_leads_to_what_was_read(store, monkeypatch):
    """Of two models alike, a reply of the second only was kept."""
    monkeypatch.setattr(pipeline, "SHIPPED", store.root / "none")
    each = pipeline.claim(6)
    one = PLANTED[6](np.random.default_rng(0), "beyond")
    other = [replace(o, models="n") for o in one]
    other[60] = read = replace(other[60], note="<i>reply</i> 60 | more")
    place = [o for o in (*one, *other) if o.series == read.series].index(read)
    tested = [ReadModel(name, name, "digest") for name in "mn"]
    made = pipeline.judged(each, each.experiment.QUICK, tested, [*one, *other], "claim06-read")
    pipeline.save(made, store)
    at = page("claims", claim="6", claim_read=str(place))
    assert at.selectbox(key="claim_series").value == read.series, "to begin with: where something was read"
    assert ["<i>reply</i> 60", "more"] == texts(at)[-2:]
    (dots,) = [c for c in charts(at) if c["data"] and c["data"][0]["meta"]["role"] == "observation"]
    marks = {
        m[0]: (x, t["name"])
        for t in dots["data"]
        for m, x in zip(t["customdata"], values(t["x"]), strict=True)
    }
    assert marks[str(place)] == (read.value, "n")
    assert click(monkeypatch, [str(place), "q00"], {"claim_read": 0}) == {"claim_read": str(place)}
    at.selectbox(key="claim_models").set_value("m").run()
    assert not at.exception and "<i>reply</i> 60" not in texts(at)
    assert any("but the number" in c.value for c in at.caption)


def test_quick_looks_are_counted_only_where_nothing_else_is(finding):
    from dashboards.claim_parts import counted

    quick = replace(finding, settings={**finding.settings, "quick": True}, verdict="refuted")
    other = replace(quick, claim=7)
    said = counted([finding, quick, other], [8, 9])
    assert said == "4 claims, 3 tests: 2 not tested, 1 supported, 1 refuted (quick look)."


def test_a_claim_is_tested_in_the_background_and_the_result_opens(finding, store, monkeypatch):
    from dashboards import loaders

    asked = []

    def fake(job, where, progress):
        asked.append(job)
        progress("replies of hearth-a", 0.5)
        made = replace(
            finding, run="claim06-fresh", settings={"quick": True}, models=(ReadModel("n", "n", "e"),)
        )
        pipeline.save(made, where)
        return pipeline.load(made.run, where)

    monkeypatch.setattr(pipeline, "put_to_test", fake)
    at = page("claims", claim="6")
    at.selectbox(key="claim_b").set_value("hearth-b").run()
    assert any("lab claims run 6 --models hearth-a hearth-b --quick" in c.value for c in at.code)
    next(b for b in at.button if b.label == "Run").click().run()
    loaders.runner().job.outcome.result(timeout=30)
    at.run()
    assert [(j.number, j.models, j.quick) for j in asked] == [(6, ("hearth-a", "hearth-b"), True)]
    assert any("Claim 6: supported (quick look)" in s.value for s in at.success)
    next(b for b in at.button if b.label == "Open the result").click().run()
    assert not at.exception and query(at)["claim_run"] == "claim06-fresh"


def test_reading_findings_loads_no_torch(finding, monkeypatch, store):
    monkeypatch.setenv("LAB_RUNS", str(store.root))
    assert_no_torch("claims", 2, claim="6")


def test_the_report_stands_alone(finding, tmp_path, monkeypatch):
    monkeypatch.setattr("lab.figures.export.find_browser", lambda: None)
    found = write_report([finding], tmp_path).read_text(encoding="utf-8")
    assert (
        escape(STANCE) in found
        and "supported" in found
        and "http://" not in found.split("<body>")[1].split("<script")[0]
    )
    table = markdown([finding])
    assert table.count("\n| ") >= 1 and finding.run in table and "noise floors" in table
