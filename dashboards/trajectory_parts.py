"""The section of the page Geometry that follows replies token by token through the shared frame."""

from collections.abc import Sequence
from functools import partial
from html import escape

import streamlit as st

from dashboards import loaders, panels
from dashboards.geometry_parts import Look
from lab.figures import theme, trajectories
from lab.figures.shared import shared_of
from lab.records.geometry import GeometryBook, Place
from lab.records.maps import SharedMap
from lab.records.trajectories import PathPoint

SCAFFOLD, QUESTION, SHOWN, CHART = "path_scaffold", "path_question", "path_shown", "geometry_paths"
EVERY = "all"


def way_of_a_reply(look: Look) -> None:
    """The section for the run of the page, in the frame that its map is drawn in."""
    source = st.session_state.get(f"{look.prefix}_source", look.book.labels[0])
    info = next((x for x in loaders.saved_runs("geometry") if x.id == look.book.run), None)
    drawn, _ = shared_of(look.book, look.position, source)
    if drawn is None or info is None:
        st.info("No layers were chosen at this place, so there is no frame to follow replies in.")
        return
    show(look.book, look.book.at(look.position), drawn, loaders.paths(info))


def show(book: GeometryBook, place: Place, shared: SharedMap, paths: Sequence[PathPoint]) -> None:
    """One scaffold's replies on their way to their landing, and what they say; `paths` of any frame of the run."""
    if place.position != trajectories.POSITION:
        st.info("A reply's path ends at a landing over the whole reply: choose that place above.")
        return
    if shared.why or not shared.points:
        st.info("Without a shared map there is no frame to follow replies in; the reason stands above.")
        return
    asked = trajectories.questions(paths, shared.target)
    if not asked:
        st.info("This run kept no paths of replies: make it again with `lab geometry`.")
        return
    left, middle, right = st.columns(3)
    with left:
        known = list(dict.fromkeys(p.scaffold for p in paths if p.target == shared.target))
        scaffold = panels.choose("Scaffold (or click a landing)", known, SCAFFOLD)
    with middle:
        question = panels.choose("Question", [*asked, EVERY], QUESTION, words=_question_words)
    with right:
        shown = panels.choose("Show", list(trajectories.SHOWN), SHOWN, words=trajectories.SHOWN.__getitem__)
    chosen = asked if question == EVERY else [question]
    make = partial(
        trajectories.trajectories, book, place.position, shared.source, paths, scaffold, chosen, shown
    )
    panels.draw_with_clicks(make(theme=panels.shade()), CHART, {SCAFFOLD: 0})
    table = partial(trajectories.table, paths, shared.target, scaffold, chosen)
    about = {"position": place.position, "source": shared.source, "scaffold": scaffold, "question": question}
    panels.give(book, CHART, make, table, **about, shown=shown)
    said(book, trajectories.replies(paths, shared.target, scaffold, chosen))


def _question_words(question: str) -> str:
    return "all questions" if question == EVERY else question


def said(book: GeometryBook, replies: Sequence[trajectories.Reply]) -> None:
    """Both models' replies side by side, a row per question."""
    for question in dict.fromkeys(r.question for r in replies):
        st.caption(panels.plain(question))
        mine = sorted(
            (r for r in replies if r.question == question), key=lambda r: book.labels.index(r.model)
        )
        for column, reply in zip(st.columns(max(1, len(mine))), mine, strict=False):
            colour = theme.MODEL_COLOURS[book.labels.index(reply.model)]
            column.html(
                f'<b style="border-left:4px solid {colour};padding-left:8px">{escape(reply.model)}</b>'
            )
            column.text(reply.text or "(an empty reply)")
