"""Figures say what the records say: every mark, its null, its ids; nothing from people gets through raw."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from fake_comparison import LABELS, SCAFFOLDS, TRAITS, fake_comparison
from fake_talk import held

from lab.figures import lookup, tables, theme
from lab.figures.drift import turn_course
from lab.figures.export import NO_BROWSER, export
from lab.figures.landing import depth_profile, landing_forest, trait_profiles
from lab.figures.reading import difference_words, probability, reading, signed
from lab.figures.report import write_report
from lab.figures.tokens import scale_limit, shade, token_L, token_strip
from lab.records import Interaction, LabError

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def comparison():
    return fake_comparison(3)


def traces(figure, role):
    return [t for t in figure.data if (t.meta or {}).get("role") == role]


@pytest.mark.parametrize("colours", [theme.LIGHT, theme.DARK], ids=lambda t: t.name)
def test_forest_draws_every_landing_with_interval_null_and_ids(comparison, colours):
    figure = landing_forest(comparison, "warmth", "reply_mean", colours)
    for i, (mark, null) in enumerate(zip(traces(figure, "landing"), traces(figure, "null"), strict=True)):
        rows = [lookup.landing(comparison, LABELS[i], s, "warmth", "reply_mean")[0] for s in SCAFFOLDS]
        np.testing.assert_allclose(mark.x, [r.L for r in rows])
        np.testing.assert_allclose(np.add(mark.x, mark.error_x.array), [r.high for r in rows])
        np.testing.assert_allclose(np.subtract(mark.x, mark.error_x.arrayminus), [r.low for r in rows])
        np.testing.assert_allclose(null.base, [r.null_low for r in rows])
        np.testing.assert_allclose(np.add(null.base, null.x), [r.null_high for r in rows])
        assert [list(c[:3]) for c in mark.customdata] == [[s, LABELS[i], "warmth"] for s in SCAFFOLDS]
        assert mark.marker.color == theme.MODEL_COLOURS[i]


def test_forest_draws_D_with_test_and_noise_floor(comparison):
    figure = landing_forest(comparison, "warmth")
    (d,), (floor,) = traces(figure, "interaction"), traces(figure, "noise floor")
    rows = [lookup.interaction(comparison, s, "warmth", "reply_mean") for s in SCAFFOLDS]
    np.testing.assert_allclose(d.x, [r.D for r in rows])
    assert [s == "square" for s in d.marker.symbol] == [r.q < 0.05 for r in rows]
    assert set(floor.base) == {-0.19}, "the wider of the two models' noise floors"
    words = traces(figure, "numbers")[0].text
    assert signed(rows[0].D) in words[0]
    assert probability("q", rows[0].q) in words[0]


def test_every_trace_carries_ids_and_every_panel_its_note(comparison):
    for figure in (landing_forest(comparison, "warmth"), trait_profiles(comparison, "old-friend")):
        for trace in figure.data:
            if trace.meta["role"] != "noise floor":
                assert len(trace.customdata) == len(trace.y)
        note = next(a.text for a in figure.layout.annotations if a.name == "panel note")
        for word in ("Split: test", "n = 72", "Null", "own neutral"):
            assert word in note


def test_axes_hold_every_value_and_zero(comparison):
    for figure in (landing_forest(comparison, "warmth"), landing_forest(comparison, "assistant", "spawn")):
        low, high = figure.layout.xaxis.range
        values = [v for t in figure.data if t.xaxis == "x" and t.type == "scatter" for v in t.x]
        assert low < min(*values, 0)
        assert high > max(*values, 0)
        far = figure.layout.xaxis2.range
        assert far[0] == -far[1], "D is drawn around 0"


def test_depth_profile_marks_the_chosen_layer_and_its_null(comparison):
    figure = depth_profile(comparison, "warmth")
    assert [len(traces(figure, r)) for r in ("score", "null", "chosen")] == [2, 2, 2]
    assert list(traces(figure, "score")[0].x) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert list(traces(figure, "chosen")[0].x) == [0.8]
    assert figure.layout.yaxis.range[0] == 0
    assert "n = 16 questions" in figure.layout.annotations[0].text


def test_what_could_not_be_measured_is_said_not_drawn(comparison):
    nan = float("nan")
    first = comparison.landings[0]
    key = (first.model, first.scaffold, first.trait, first.position)
    landings = tuple(
        replace(x, L=nan, low=nan, high=nan, null_low=nan, null_high=nan)
        if (x.model, x.scaffold, x.trait, x.position) == key
        else x
        for x in comparison.landings
    )
    interactions = (
        replace(comparison.interactions[0], D=nan, low=nan, high=nan, p=nan, q=nan),
        *comparison.interactions[1:],
    )
    broken = replace(comparison, landings=landings, interactions=interactions)
    figure = landing_forest(broken, first.trait, first.position)
    assert len(traces(figure, "landing")[0].x) == len(SCAFFOLDS) - 1
    assert traces(figure, "gap")[0].text == (f"{first.model}: cannot tell",)
    assert traces(figure, "numbers")[0].text[0] == "cannot tell"
    assert "cannot tell" in reading(broken, first.scaffold, first.trait, first.position)
    json.loads(figure.to_json())


def test_unknown_names_say_what_there_is(comparison):
    with pytest.raises(LabError, match=r"No trait 'wit'.*assistant, warmth, intimacy"):
        landing_forest(comparison, "wit")
    with pytest.raises(LabError, match="No scaffold 'nobody'"):
        trait_profiles(comparison, "nobody")


def test_diverging_scale_is_symmetric_about_the_models_own_neutral():
    assert scale_limit([-3.0, 0.5]) == 3.0
    assert scale_limit([]) == 1.0
    for colours in (theme.LIGHT, theme.DARK):
        assert shade(0.0, 3.0, colours)[0] == colours.paper
        assert shade(3.0, 3.0, colours)[0] == colours.high
        assert shade(-3.0, 3.0, colours)[0] == colours.low


def test_token_strip_is_in_L_and_names_every_token(comparison):
    rows = lookup.replies(comparison, "old-friend", 0, "q-rain")
    anchor = lookup.anchors(comparison, rows[1].model, "warmth", "reply_mean")
    raw = rows[1].reply.projections["warmth"][0]
    assert token_L(comparison, rows[1], "warmth")[0] == pytest.approx((raw - anchor.neutral) / anchor.unit)
    html = token_strip(comparison, rows, "warmth")
    assert html.count("data-token=") == sum(len(r.reply.tokens) for r in rows)
    assert html.count('data-trait="warmth"') == html.count("data-token=")
    short = replace(rows[0], reply=replace(rows[0].reply, projections={"warmth": (0.1,)}))
    assert token_L(comparison, short, "warmth")[1:] == [None] * (len(short.reply.tokens) - 1)
    assert "no projection" in token_strip(comparison, [short], "warmth")


def hostile():
    c = fake_comparison(1, scaffolds=(HOSTILE, *SCAFFOLDS[1:]), labels=(HOSTILE, "b"), run=HOSTILE)
    replies = tuple(
        replace(
            r, reply=replace(r.reply, text=HOSTILE, tokens=(HOSTILE, *r.reply.tokens[1:])), prompt=HOSTILE
        )
        for r in c.replies
    )
    scaffolds = tuple(replace(s, description=HOSTILE) for s in c.scaffolds)
    return replace(c, replies=replies, scaffolds=scaffolds, settings={**c.settings, HOSTILE: HOSTILE})


def test_people_s_words_are_escaped_everywhere(tmp_path):
    c = hostile()
    assert HOSTILE not in token_strip(c, c.replies[:2], "warmth")
    figure = landing_forest(c, "warmth")
    shown = [*figure.layout.yaxis.ticktext, *(a.text for a in figure.layout.annotations)]
    shown += [str(t.name) for t in figure.data] + [str(t.hovertemplate) for t in figure.data]
    shown += [str(x) for t in figure.data for x in (t.text if t.text is not None else ())]
    assert not any("<script" in x for x in shown)
    html = write_report(c, tmp_path).read_text(encoding="utf-8")
    assert 'alert("x")</script>' not in html
    assert "&lt;script&gt;" in html


def test_report_stands_alone(comparison, tmp_path):
    path = write_report(comparison, tmp_path / "new")
    html = path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert len(re.findall(r"plotly\.js v\d", html[:2_000_000])) == 1, "plotly.js once"
    assert html.count("Plotly.newPlot(") >= 2 * len(TRAITS) + 3
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", html)
    assert "default-src 'none'" in html
    for word in (comparison.models[0].fingerprint, "Benjamini", "2000 draws", "24 test questions", "Seed 3"):
        assert word in html


def test_words_say_who_lands_higher_and_when_nobody_can_tell():
    x = Interaction("s", "warmth", "reply_mean", -0.4, -0.7, -0.1, 0.01, 0.02, 24)
    said = difference_words(x, ("A", "B"), 0.2)
    assert said == "B lands higher than A by 0.40 [0.10, 0.70], q = .020."
    assert "not more than rewording" in difference_words(x, ("A", "B"), 0.5)
    assert "does not hold up" in difference_words(replace(x, q=0.2), ("A", "B"), None)
    assert "cannot be told apart at this n" in difference_words(replace(x, high=0.1), ("A", "B"), None)
    assert "too few questions" in difference_words(replace(x, low=float("nan")), ("A", "B"), None)
    assert probability("p", 0.0004) == "p < .001"
    assert probability("p", float("nan")) == "p not computed"


def test_tables_hold_the_records(comparison):
    assert len(tables.landings(comparison)) == len(comparison.landings)
    assert len(tables.depth(comparison)) == len(comparison.depth)
    assert len(tables.interactions(comparison)) == len(comparison.interactions)
    assert len(tables.noise_floor(comparison)) == len(comparison.noise_floor)
    table = tables.summary(comparison, "warmth", "reply_mean")
    assert list(table["scaffold"]) == list(SCAFFOLDS)
    expected = lookup.landing(comparison, LABELS[1], SCAFFOLDS[2], "warmth", "reply_mean")[0].L
    assert table[f"{LABELS[1]}: L"][2] == expected
    assert list(tables.profile(comparison, "old-friend", "spawn")["trait"]) == list(TRAITS)
    rows = comparison.replies[:2]
    assert len(tables.tokens(rows, "warmth")) == sum(len(r.reply.tokens) for r in rows)


def test_export_without_chrome_says_what_to_install(comparison, tmp_path, monkeypatch):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    table = tables.summary(comparison, "warmth", "reply_mean")
    done = export(landing_forest(comparison, "warmth"), tmp_path / "out", "forest", table, {"run": "r"})
    assert done.note == NO_BROWSER
    assert "apt install chromium" in done.note
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "forest.csv",
        "forest.html",
        "forest.json",
    ]
    record = json.loads((tmp_path / "out" / "forest.json").read_text())
    assert record["manifest"] == {"run": "r"}
    assert set(record["files"]) == {"forest.csv", "forest.html"}
    html = (tmp_path / "out" / "forest.html").read_text()
    assert not re.search(r"<script[^>]+src=", html)


@pytest.mark.browser
def test_export_with_chrome_writes_pictures(comparison, tmp_path):
    from lab.figures.export import find_browser

    if find_browser() is None:
        pytest.skip("no Chrome or Chromium on this machine (set BROWSER_PATH)")
    table = tables.summary(comparison, "warmth", "reply_mean")
    done = export(landing_forest(comparison, "warmth"), tmp_path, "forest", table, {})
    assert done.note is None
    assert {p.suffix for p in done.files} == {".html", ".csv", ".json", ".pdf", ".svg", ".png"}
    assert all(p.stat().st_size > 1000 for p in done.files)


def test_export_refuses_a_stem_with_folders(comparison, tmp_path):
    with pytest.raises(LabError, match="plain file name"):
        export(landing_forest(comparison, "warmth"), tmp_path, "../x", tables.depth(comparison), {})


def test_a_course_shows_what_adds_up_to_its_alarms():
    watched = held("warmth", [0, 0.2, -0.1, 0.5, -0.2, -1, -2, -2.5, -1.5, -2.4])
    replies = [f"reply <{t}>" for t in range(10)]
    figure = turn_course(watched, "ratio", replies, "A note.")
    parts = {t.meta["role"]: t for t in figure.data}
    (alarm,) = watched.course.alarms
    assert [k for k, symbol in enumerate(parts["value"].marker.symbol) if symbol == "x"] == [alarm]
    less = parts["sum for less of it"]
    np.testing.assert_allclose(less.y, -watched.course.down)
    np.testing.assert_allclose(parts["sum for more of it"].y, watched.course.up)
    assert less.yaxis == "y2" != parts["value"].yaxis
    assert less.customdata[alarm] == [alarm, f"reply &lt;{alarm}&gt;", "ALARM ", "sum for less of it"]
    lines = sorted(shape.y0 for shape in figure.layout.shapes)
    assert lines == [-watched.threshold, watched.threshold]
    assert less.y[alarm] < lines[0]
    low, high = figure.layout.yaxis2.range
    assert low < min(less.y)
    assert high > watched.threshold
