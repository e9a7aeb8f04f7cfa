"""Where the same scaffold lands in two models: start a comparison, or read a saved one."""

import streamlit as st

from dashboards import geometry_parts, loaders, panels, related, start, switch_parts
from lab.figures import landing, lookup, tables
from lab.figures.reading import reading
from lab.records import Comparison, LabError

VIEWS = ["Saved run", "New run"]


def show(comparison: Comparison) -> None:
    """One comparison: all scaffolds on one trait, then one scaffold in depth."""
    left, right = st.columns(2)
    with left:
        trait = panels.choose("Trait", lookup.traits(comparison), "trait")
    with right:
        known = lookup.positions(comparison)
        position = panels.choose("Read at", known, "position", words=panels.POSITIONS.__getitem__)
    theme = panels.shade()
    forest = landing.landing_forest(comparison, trait, position, theme)
    panels.draw_with_clicks(forest, "forest", {"scaffold": 0})
    panels.take_away(
        comparison, "landing", lambda: landing.landing_forest(comparison, trait, position),
        lambda: tables.summary(comparison, trait, position), trait=trait, position=position,
    )  # fmt: skip
    panels.report(comparison)

    st.subheader("One scaffold")
    scaffold = panels.choose("Scaffold (or click a mark above)", lookup.scaffolds(comparison), "scaffold")
    st.text(reading(comparison, scaffold, trait, position))
    panels.draw_with_clicks(
        landing.trait_profiles(comparison, scaffold, position, theme), "profile", {"trait": 2}
    )
    panels.take_away(
        comparison, "profile", lambda: landing.trait_profiles(comparison, scaffold, position),
        lambda: tables.profile(comparison, scaffold, position), scaffold=scaffold, position=position,
    )  # fmt: skip
    panels.replies(comparison, scaffold, trait)
    switch_parts.below(comparison, scaffold)

    st.subheader("Where the trait is read")
    panels.draw(landing.depth_profile(comparison, trait, position, theme), "depth")
    panels.take_away(
        comparison, "depth", lambda: landing.depth_profile(comparison, trait, position),
        lambda: tables.depth(comparison), trait=trait, position=position,
    )  # fmt: skip
    related.link_poles(comparison, trait)
    geometry_parts.below(comparison, trait, position)


def saved() -> None:
    """Choose a finished run and show it."""
    runs = {x.id: x for x in loaders.saved_runs()}
    if not runs:
        st.info("No run is saved here yet: start one under “New run”.")
        return
    asked = st.query_params.get("run")
    if asked and asked not in runs:
        st.warning(f"There is no run {panels.plain(asked)} in {panels.plain(loaders.runs_folder())}.")
    run = panels.choose("Run", list(runs), "run", words=lambda x: panels.run_words(runs[x]))
    try:
        comparison = loaders.book(runs[run], Comparison)
    except LabError as error:
        st.error(panels.plain(error))
        return
    show(comparison)


st.title("Where a scaffold lands")
st.caption("The same system prompt and memory, two language models: where each is put, with error bars.")
something_saved = "run" in st.query_params or bool(loaders.saved_runs())
panels.settle(VIEWS, "view", VIEWS[not something_saved])
view = st.segmented_control("View", VIEWS, key="view", required=True, bind="query-params")
if view == "New run":
    start.form()
else:
    saved()
