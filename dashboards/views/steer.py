"""Push traits: talk to one or two models with sliders, or read saved steering curves."""

import streamlit as st

from dashboards import loaders, panels, talk
from lab.figures import steering, tables
from lab.records import LabError
from lab.records.steering import Steering

VIEWS = ["Talk", "Saved curves"]


def curves(found: Steering) -> None:
    """One run of `lab steer`: dose and response, what else moves, caps, the return."""
    theme = panels.shade()
    trait = panels.choose("Trait", steering.traits(found), "steer_trait")
    panels.draw(steering.dose_response(found, trait, theme), "dose")
    panels.give(
        found, "dose", lambda: steering.dose_response(found, trait), lambda: tables.doses(found, trait),
        trait=trait,
    )  # fmt: skip
    st.caption("How well a direction steers by where it was pooled, on the questions that choose:")
    st.dataframe(tables.poolings(found, trait), hide_index=True, key="poolings")
    panels.draw_with_clicks(steering.entanglement(found, theme), "entanglement", {"steer_trait": 0})
    panels.give(found, "entanglement", lambda: steering.entanglement(found), lambda: tables.doses(found))
    panels.draw(steering.letting_go(found, trait, theme), "letting_go")
    panels.give(
        found, "letting_go", lambda: steering.letting_go(found, trait),
        lambda: tables.releases(found, trait), trait=trait,
    )  # fmt: skip
    st.subheader("Capping")
    st.caption(
        "Thresholds are percentiles of unscaffolded token projections on other questions. “neutral” is what "
        "the edit costs ordinary work, “against” what it does to the pole that it is meant against."
    )
    st.dataframe(tables.caps(found), hide_index=True, key="caps")


def saved() -> None:
    """Choose a finished run."""
    runs = {x.id: x for x in loaders.saved_runs("steer")}
    if not runs:
        st.info("No steering curves are saved here yet. Make some:")
        st.code("lab steer hearth-a", language=None)
        return
    run = panels.choose("Run", list(runs), "steer_run", words=lambda x: panels.run_words(runs[x]))
    try:
        curves(loaders.book(runs[run], Steering))
    except LabError as error:
        st.error(panels.plain(error))


st.title("Steer")
st.caption("Add a trait's direction while a model speaks, and see what else it does.")
panels.settle(VIEWS, "steer_view", VIEWS[0])
view = st.segmented_control("View", VIEWS, key="steer_view", required=True, bind="query-params")
if view == "Talk":
    talk.page()
else:
    saved()
