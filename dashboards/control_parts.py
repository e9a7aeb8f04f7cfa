"""Parts of the page Geometry: untrained networks, states prepared otherwise, another run beside this one."""

from functools import partial

import streamlit as st

from dashboards import loaders, panels
from dashboards.geometry_parts import Look
from lab.figures import beside, geometry_tables
from lab.records import LabError

NONE = "none"
UNTRAINED = {
    "position": "read at", "what": "measure or map", "source": "from", "target": "to", "value": "the two models",
    "words": "untrained, median", "words_high": "untrained, largest", "p": "p", "questions": "questions", "why": "why not",
}  # fmt: skip
PREPARED = {
    "position": "read at", "measure": "measure", "prepared": "states", "value": "value", "low": "low", "high": "high",
    "null_high": "null 95 %", "p": "p", "questions": "questions", "why": "why not",
}  # fmt: skip


def what_words_do(look: Look) -> None:
    """The two models beside networks that never trained, and what depends on how states are prepared."""
    st.caption(
        "Scaffolds that share words lie near each other in any network. Untrained twins of both models read the same "
        "texts: what they reach needs no learning. Maps are drawn only where the models do better."
    )
    table = geometry_tables.untrained(look.book)
    st.dataframe(
        table,
        hide_index=True,
        key="geometry_untrained",
        column_order=list(UNTRAINED),
        column_config=UNTRAINED,
    )
    with st.expander("With and without massive dimensions, and in units of each dimension's noise"):
        table = geometry_tables.prepared(look.book)
        st.dataframe(
            table,
            hide_index=True,
            key="geometry_prepared",
            column_order=list(PREPARED),
            column_config=PREPARED,
        )


def another_run(look: Look) -> None:
    """Choose a reference run: two seeds, say; is this pair less alike than that?"""
    book = look.book
    runs = {x.id: x for x in loaders.saved_runs("geometry") if x.id != book.run}
    reference = panels.choose(
        "Reference run (such as a model and its second seed)", [NONE, *runs], "geometry_beside",
        words=lambda r: r if r == NONE else panels.run_words(runs[r]),
    )  # fmt: skip
    if reference == NONE:
        st.caption(
            "Choose a run to hold this one against. To make one, put in the second seed of the first model:"
        )
        st.code(f"lab geometry {book.labels[0]} SECOND-SEED", language=None)
        return
    try:
        rows = loaders.beside(book.run, runs[reference])
    except LabError as error:
        st.warning(panels.plain(error))
        return
    names = " and ".join(book.labels), runs[reference].title
    strip = partial(beside.beside_strip, rows, *names)
    clicks = {look.position_key: 0, f"{look.prefix}_measure": 1}
    panels.draw_with_clicks(strip(theme=panels.shade()), "geometry_beside_strip", clicks)
    panels.give(
        book, "geometry_beside_strip", strip, partial(geometry_tables.beside, rows), reference=reference
    )
