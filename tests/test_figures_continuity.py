"""The picture of the battery: every score at its place with chance and ceiling, and nothing that is not comparable."""

import json
from dataclasses import replace
from math import isnan

import pytest
from fake_continuity import CONDITIONS, EACH, fake_continuity
from pages import role, values

from lab.figures import continuity as figures
from lab.figures.theme import DARK, LIGHT, MODEL_COLOURS
from lab.pipelines.continuity_items import FULL, NONE, wearing
from lab.pipelines.continuity_shown import asked, check_words, shown
from lab.records import LabError, Scaffold, ScaffoldFile, Segment
from lab.records.continuity import FAMILIES, Check

ONE = fake_continuity()
OTHER = fake_continuity("continuity-b", "hearth-b", rng=1)
ROWS = [*FAMILIES, "all"]


def spec(figure):
    return json.loads(figure.to_json())


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("found", [[ONE], [ONE, OTHER]])
def test_every_score_is_a_mark_in_its_familys_row(found, theme):
    chart = spec(figures.battery(found, theme))
    marks = role(chart, "passed")
    assert len(marks) == len(found) * len(CONDITIONS) == len(role(chart, "tone"))
    for name, value, low in (("passed", "passed", "low"), ("tone", "tone", "tone_low")):
        for trace in role(chart, name):
            run = next(r for r in found if r.run == trace["meta"]["run"])
            scores = {s.family: s for s in run.scores if s.condition == trace["meta"]["condition"]}
            assert [d[0] for d in trace["customdata"]] == ROWS == list(scores)
            assert values(trace["x"]) == [getattr(s, value) for s in scores.values()]
            assert [round(y) for y in values(trace["y"])] == list(range(len(ROWS)))
            bars = values(trace["error_x"]["arrayminus"])
            assert bars == pytest.approx([getattr(s, value) - getattr(s, low) for s in scores.values()])
    heights = [values(t["y"])[0] for t in marks]
    assert len(set(heights)) == len(heights) and heights == sorted(heights)


def test_models_keep_their_colours_and_conditions_their_symbols():
    alone, both = (role(spec(figures.battery(f)), "passed") for f in ([ONE], [ONE, OTHER]))
    assert [t["marker"]["color"] for t in both] == [c for c in MODEL_COLOURS[:2] for _ in CONDITIONS]
    assert [t["marker"]["color"] for t in alone] == [MODEL_COLOURS[0]] * 3
    symbols = [t["marker"]["symbol"] for t in both]
    assert symbols[:3] == symbols[3:] and len(set(symbols)) == 3


def test_chance_and_ceiling_stand_in_the_row_they_are_of():
    chart = spec(figures.battery([ONE]))
    for name in ("chance", "ceiling"):
        (ticks,) = role(chart, name)
        scores = {s.family: getattr(s, name) for s in ONE.scores if s.condition == "full"}
        known = {f: v for f, v in scores.items() if not isnan(v)}
        assert dict(zip([d[0] for d in ticks["customdata"]], values(ticks["x"]), strict=True)) == known
        assert [ROWS[round(y)] for y in values(ticks["y"])] == list(known)
    shown_names = [t["name"] for t in role(chart, "legend")]
    assert shown_names == [*CONDITIONS, "chance", "ceiling"]
    assert {"hearth-a", "hearth-b"} < {t["name"] for t in role(spec(figures.battery([ONE, OTHER])), "legend")}


def test_what_could_not_be_scored_says_so_and_has_no_mark():
    lost = fake_continuity(items="chat", judge="literal", lost=("agency_left",))
    chart = spec(figures.battery([lost]))
    k = ROWS.index("agency_left")
    assert all(values(t["x"])[k] is None for t in role(chart, "passed"))
    assert [a["y"] for a in chart["layout"]["annotations"] if a.get("name") == "unscored"] == [k]
    names = chart["layout"]["yaxis"]["ticktext"]
    assert f"n 0, {EACH} unscored" in names[k] and "unscored" not in names[0]
    assert not any(values(t["x"]) for t in role(chart, "chance")), "unknown outside Hearth"
    notes = [a["text"] for a in chart["layout"]["annotations"] if a.get("name") == "panel note"]
    assert "No chance or ceiling is known" in notes[0].replace("<br>", " ")


def test_runs_that_no_axis_holds_together_are_refused():
    for other in (
        replace(OTHER, set_name="chat"),
        replace(OTHER, judge="literal"),
        replace(OTHER, tone_unit="m"),
    ):
        with pytest.raises(LabError, match="same items, judge and unit"):
            figures.battery([ONE, other])
    with pytest.raises(LabError, match="expected one to"):
        figures.battery([])


def test_names_are_text_and_runs_of_one_model_are_told_apart():
    twice = [ONE, replace(ONE, run="again")]
    assert figures.labels(twice) == ["hearth-a (continuity-fake)", "hearth-a (again)"]
    evil = replace(ONE, model=replace(ONE.model, name="<b>x</b>"), set_name="<i>")
    title = spec(figures.battery([evil]))["layout"]["title"]["text"]
    assert "&lt;b&gt;x" in title and "<i>" not in title


def test_tables_hold_every_row_of_every_run():
    for table, name in (
        (figures.scores_table, "scores"), (figures.changes_table, "changes"), (figures.outcomes_table, "outcomes"),
    ):  # fmt: skip
        found = table([ONE, OTHER])
        assert found["run"].value_counts().to_dict() == {r.run: len(getattr(r, name)) for r in (ONE, OTHER)}


# ------------------------------------------------------------------ what was asked


def test_chats_come_back_as_the_conditions_make_them():
    known = asked(ONE)
    assert set(known) == {o.item for o in ONE.outcomes}
    item = next(iter(known.values()))
    wordings = {"Caring nurse": (Scaffold("Caring nurse", (Segment("identity", "I am a nurse."),)),)}
    assert shown(item, "full", wordings).chat == FULL.chat(item)
    assert shown(item, "none", wordings).chat == NONE.chat(item) == item.chat
    nurse = shown(item, "Caring nurse", wordings)
    worn = wearing(ScaffoldFile("Caring nurse", "", wordings["Caring nurse"]), {}).chat(item)
    assert nurse.chat == worn and nurse.chat[0].content.startswith("I am a nurse.") and not nurse.missing
    other = shown(item, "a log", wordings)
    assert other.chat == item.chat and "a log" in other.missing


def test_items_that_are_no_longer_as_asked_are_left_out():
    first, *rest = ONE.outcomes
    moved = replace(ONE, outcomes=tuple(
        replace(o, who="somebody else") if o.item == first.item else o for o in (first, *rest)))  # fmt: skip
    assert set(asked(ONE)) - set(asked(moved)) == {first.item}
    with pytest.raises(LabError, match="expected a file"):
        asked(replace(ONE, set_name="no such set"))


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (Check("says", ("tea", "cake")), "it says “tea” or “cake”"),
        (Check("avoids", ("milk",)), "it does not say “milk”"),
        (
            Check("derives", ("keep",), {"subject": "law"}),
            "it has a sentence of the kind “keep”, subject “law”",
        ),
        (Check("underives", ("free",)), "it has no sentence of the kind “free”"),
        (Check("voice"), "its judged traits are nearer to the stated ones than to their opposite"),
        (Check("leans", ("energy +", "warmth -")), "its judged traits lean to more energy, less warmth"),
    ],
)
def test_checks_in_words(check, words):
    assert check_words(check) == words
