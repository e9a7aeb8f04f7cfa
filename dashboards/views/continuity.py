"""Continuity: does what a scaffold says of boundaries, memory and will hold, and does tone tell?"""

import streamlit as st

from dashboards import continuity_parts as parts
from dashboards import loaders, panels
from lab.records import LabError

ALONE = "none"
VIEWS = ["Saved run", "New run"]


def saved() -> None:
    """Choose a finished run, and another beside it."""
    runs = {x.id: x for x in loaders.saved_runs("continuity")}
    if not runs:
        st.info("No run of the battery is saved here yet: start one under “New run”, or by")
        st.code("lab continuity hearth-a", language=None)
        return
    left, right = st.columns(2)
    with left:
        run = panels.choose("Run", list(runs), "battery_run", words=lambda x: panels.run_words(runs[x]))
    others = [ALONE, *(x for x in runs if x != run and parts.alike(runs[x], runs[run]))]
    with right:
        beside = panels.choose(
            "Beside it (same items and judge)", others, "battery_beside", parts.partner(runs, run, others[1:]),
            words=lambda x: panels.run_words(runs[x]) if x in runs else x,
        )  # fmt: skip
    chosen = [run, *([beside] if beside != ALONE else [])]
    try:
        parts.show([runs[x] for x in chosen])
    except LabError as error:
        st.error(panels.plain(error))


st.title("Continuity")
st.caption(
    "Ten families of items with checkable outcomes: boundaries, consent, memory, pressure, agency. Each item is asked with "
    "its scaffold, without, and with its tone alone; tone match stands beside, so that warm and true can come apart. "
    "These are measures of replies: no statement about persons, feelings or consciousness."
)
something_saved = "battery_run" in st.query_params or bool(loaders.saved_runs("continuity"))
panels.settle(VIEWS, "battery_view", VIEWS[not something_saved])
view = st.segmented_control("View", VIEWS, key="battery_view", required=True, bind="query-params")
if view == "New run":
    parts.form()
else:
    saved()
