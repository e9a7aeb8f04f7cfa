"""Paths of replies, mark by mark, and the section of the page that shows them."""

import json

import numpy as np
import pytest
from fake_geometry import LABELS, SCAFFOLDS, fake_geometry
from fake_trajectories import QUESTIONS, UNREAD, WORDS, fake_paths, place

from lab.figures import trajectories as figures
from lab.figures import trajectory_marks
from lab.figures.theme import DARK, LIGHT, MODEL_COLOURS
from lab.records import LabError
from lab.records.trajectories import PathPoint

BOOK, PATHS = fake_geometry(), fake_paths()
HERE, A, B = "reply_mean", *LABELS
CRITIC = SCAFFOLDS[3]


def draw(scaffold=CRITIC, asked=QUESTIONS[:1], shown="mean", theme=LIGHT, source=A, paths=PATHS):
    return figures.trajectories(BOOK, HERE, source, paths, scaffold, asked, shown, theme)


def traces(figure, role):
    return [t for t in figure.data if t.meta["role"] == role]


def note(figure):
    (found,) = [a.text for a in figure.layout.annotations if a.name == "panel note"]
    return found.replace("<br>", " ")


def refusal(figure):
    return " ".join(a.text.replace("<br>", " ") for a in figure.layout.annotations if a.name == "abstention")


def places(trace):
    return [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if x is not None]


@pytest.mark.parametrize("shown", figures.SHOWN)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda t: t.name)
def test_every_mark_has_ids_and_a_role_and_the_note_says_split_n_and_that_there_is_no_interval(shown, theme):
    figure = draw(shown=shown, theme=theme)
    for t in figure.data:
        assert t.meta["role"] and t.meta["model"] in LABELS
        assert len(t.customdata) == len(t.y)
        assert {c[0] for c in t.customdata} <= set(SCAFFOLDS), "a click chooses a scaffold"
    assert figure.layout.paper_bgcolor == theme.paper
    said = note(figure)
    for words in (
        "Unit: ",
        "Split: test",
        "n = 1 question (test-00)",
        "a 4",
        "b &lt;i&gt; 3",
        "no interval",
        "20 other",
    ):
        assert words in said, words
    assert ("Running mean: " in said) == (shown == "mean")
    assert "<b>m" not in str(figure.to_dict()["layout"]) and "&lt;b&gt;mean" in figure.layout.title.text
    assert "held-out R² 0.50 (random pairings, 95 %: −0.20)" in figure.layout.title.text
    assert "50%" in figure.layout.xaxis.title.text and "20%" in figure.layout.yaxis.title.text
    assert figure.layout.yaxis.scaleanchor == "x"


def test_a_running_mean_goes_from_the_first_token_to_the_landing():
    figure = draw()
    lines = {t.meta["model"]: t for t in traces(figure, "path")}
    assert {m: t.line.color for m, t in lines.items()} == dict(zip(LABELS, MODEL_COLOURS, strict=False))
    for model, line in lines.items():
        raw = np.array([place(model, CRITIC, QUESTIONS[0], k) for k in range(4 - LABELS.index(model))])
        np.testing.assert_allclose(places(line), [raw[: k + 1].mean(axis=0) for k in range(len(raw))])
        (start,) = [t for t in traces(figure, "start") if t.meta["model"] == model]
        (end,) = [t for t in traces(figure, "end") if t.meta["model"] == model]
        np.testing.assert_allclose(places(start), raw[:1])
        np.testing.assert_allclose(places(end), [raw.mean(axis=0)])


def test_single_tokens_are_drawn_as_they_are_and_the_landing_stays_their_mean():
    figure = draw(shown="tokens")
    for line, end in zip(traces(figure, "path"), traces(figure, "end"), strict=True):
        raw = [place(line.meta["model"], CRITIC, QUESTIONS[0], k) for k in range(len(places(line)))]
        np.testing.assert_allclose(places(line), raw)
        np.testing.assert_allclose(places(end), [np.mean(raw, axis=0)])


def test_hover_tells_the_token_and_what_came_before_it_as_text():
    line = next(t for t in traces(draw(), "path") if t.meta["model"] == A)
    told = [(c[3], c[4], c[5]) for c in line.customdata][:4]
    assert told == [
        (0, "", "Well"), (1, "Well", " &lt;b&gt;now"), (2, "Well &lt;b&gt;now", ",⏎"),
        (3, "Well &lt;b&gt;now,⏎", " go"),
    ]  # fmt: skip
    long = [PathPoint(B, A, CRITIC, QUESTIONS[0], k, "0123456789", 0.0, 0.0, 0.0, 0.0) for k in range(9)]
    line = next(t for t in traces(draw(paths=long), "path"))
    assert line.customdata[8][4] == "…" + ("0123456789" * 8)[-trajectory_marks.BEFORE :]


def test_landings_of_all_scaffolds_stand_behind_and_the_chosen_one_apart():
    figure = draw()
    faint = {t.meta["model"]: [c[0] for c in t.customdata] for t in traces(figure, "landing")}
    rest = [s for s in SCAFFOLDS if s != CRITIC]
    assert faint == {A: rest, B: rest}
    points = {(p.model, p.scaffold): (p.x, p.y) for p in BOOK.at(HERE).shared[0].points}
    for t in [*traces(figure, "landing"), *traces(figure, "chosen landing")]:
        assert places(t) == [points[t.meta["model"], c[0]] for c in t.customdata]
    for t in figure.data:
        axes = (
            (figure.layout.xaxis, figure.layout.yaxis)
            if t.xaxis == "x"
            else (figure.layout.xaxis2, figure.layout.yaxis2)
        )
        x, y = (a.range for a in axes)
        assert all(x[0] < u < x[1] and y[0] < v < y[1] for u, v in places(t)), "nothing is cut"


def test_the_enlarged_square_is_marked_among_all_landings_and_holds_the_whole_path():
    for asked in (QUESTIONS[:1], QUESTIONS):
        figure = draw(asked=asked)
        (square,) = [s for s in figure.layout.shapes if s.name == "enlarged"]
        assert (square.x0, square.x1) == figure.layout.xaxis2.range
        assert (square.y0, square.y1) == figure.layout.yaxis2.range
        assert square.x1 - square.x0 == pytest.approx(square.y1 - square.y0)
        assert [places(t) for t in traces(figure, "overview")] == [places(t) for t in traces(figure, "path")]
        assert {t.xaxis for t in traces(figure, "overview")} == {"x"}
        assert {t.xaxis for t in traces(figure, "path")} == {"x2"}


def test_what_all_scaffolds_share_at_a_token_is_drawn_as_far_as_half_of_the_replies_go():
    for shown in figures.SHOWN:
        for t in traces(draw(shown=shown, asked=QUESTIONS), "common"):
            model = t.meta["model"]
            raw = np.array([
                [place(model, s, q, k) for k in range(4 - LABELS.index(model))]
                for s in SCAFFOLDS for q in QUESTIONS if (model, s, q) != UNREAD
            ])  # fmt: skip
            mean = raw.mean(axis=0)
            if shown == "mean":
                mean = np.cumsum(mean, axis=0) / np.arange(1, len(mean) + 1)[:, None]
            np.testing.assert_allclose(places(t), mean)
    short = [p for p in PATHS if p.token < 2 or p.scaffold in SCAFFOLDS[:2]]
    assert len(figures.common_path(short, B, B, QUESTIONS[:1], "tokens")) == 2


def test_several_questions_are_several_lines_in_one_colour():
    figure = draw(asked=QUESTIONS)
    for line in traces(figure, "path"):
        n = 4 - LABELS.index(line.meta["model"])
        assert [x is None for x in line.x] == ([False] * n + [True]) * 2
    assert all(len(t.x) == 2 for t in traces(figure, "end"))
    assert "n = 2 questions (test-00, test-01)" in note(figure)


def test_a_reply_that_was_read_otherwise_is_told_and_not_drawn():
    figure = draw(scaffold=UNREAD[1])
    assert [t.meta["model"] for t in traces(figure, "path")] == [B]
    assert "other tokens than they were generated in: a on test-00." in note(figure)
    mine = [p for p in PATHS if (p.model, p.scaffold, p.question) == UNREAD]
    assert "into other tokens" in refusal(draw(scaffold=UNREAD[1], paths=mine))


def test_without_a_map_or_paths_there_is_a_sentence_and_wrong_names_are_refused():
    assert "R² is &lt;b&gt;low" in refusal(draw(source=B, asked=()))
    assert "no paths of these replies" in refusal(draw(asked=()))
    spawn = figures.trajectories(BOOK, "spawn", A, PATHS, CRITIC, QUESTIONS)
    assert "these landings are of last prompt token" in refusal(spawn)
    for wrong in ({"scaffold": "nobody"}, {"asked": ["test-99"]}, {"source": "c"}, {"shown": "smooth"}):
        with pytest.raises(LabError, match=r"nobody|test-99|'c'|smooth"):
            draw(**wrong)


def test_the_table_holds_the_marks():
    table = figures.table(PATHS, B, CRITIC, QUESTIONS)
    assert len(table) == 14 and set(table["question"]) == set(QUESTIONS)
    assert table[(table["model"] == A) & (table["question"] == QUESTIONS[0])]["text"].str.cat() == "".join(
        WORDS
    )


# ------------------------------------------------------------------ the page


def section():
    from fake_geometry import fake_geometry
    from fake_trajectories import fake_paths

    from dashboards import trajectory_parts

    book = fake_geometry()
    place = book.at("reply_mean")
    trajectory_parts.show(book, place, place.shared[0], fake_paths())


def test_the_section_shows_path_and_replies_and_follows_its_pickers():
    from streamlit.testing.v1 import AppTest

    at = AppTest.from_function(section, default_timeout=60).run()
    assert not at.exception, at.exception
    assert at.selectbox(key="path_scaffold").options == list(SCAFFOLDS)
    assert [t.value for t in at.text] == ["".join(WORDS), "".join(WORDS[:3]).strip()]
    at.selectbox(key="path_scaffold").set_value(CRITIC)
    at.selectbox(key="path_shown").set_value("tokens")
    at.selectbox(key="path_question").set_value("all").run()
    assert not at.exception, at.exception
    spec = json.loads(at.get("plotly_chart")[0].proto.spec)
    assert "mean&lt;/b&gt; critic" in spec["layout"]["title"]["text"]
    assert len(at.text) == 4
    assert {t["meta"]["role"] for t in spec["data"]} == {
        "landing", "chosen landing", "path", "start", "end", "common", "overview",
    }  # fmt: skip


def unmapped():
    from fake_geometry import fake_geometry

    from dashboards import trajectory_parts

    book = fake_geometry()
    place = book.at("reply_mean")
    trajectory_parts.show(book, place, place.shared[1], ())
    trajectory_parts.show(book, place, place.shared[0], ())
    trajectory_parts.show(book, book.at("spawn"), place.shared[0], ())


def test_without_a_map_or_without_paths_the_section_says_so():
    from streamlit.testing.v1 import AppTest

    at = AppTest.from_function(unmapped, default_timeout=60).run()
    assert not at.exception, at.exception
    assert "no frame to follow" in at.info[0].value and "kept no paths" in at.info[1].value
    assert "choose that place" in at.info[2].value
