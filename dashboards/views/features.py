"""Sparse features: what each stands for, whether it recurs, and its nearest in another model."""

import streamlit as st

from dashboards import feature_parts as parts
from dashboards import loaders, panels, related_features
from dashboards.feature_card_parts import BESIDE, Look, option
from lab.records import LabError
from lab.records.feature_cards import FeatureBook
from lab.store import RunInfo

NOBODY = "nothing"


def show(runs: dict[str, RunInfo], run: str) -> None:
    """One or two dictionaries: how good they are, both under a scaffold, what is found in them."""
    book = loaders.book(runs[run], FeatureBook)
    left, right = st.columns(2)
    with left:
        sae = panels.choose("Dictionary", list(book.saes), "features_a")
    others = {option(run, name): f"{name} (same run)" for name in book.saes if name != sae}
    for info in (x for x in runs.values() if x.id != run):
        for name in loaders.manifest(info)["saes"]:
            others[option(info.id, name)] = f"{name}: {panels.run_words(info)}"
    options = [*others, NOBODY]
    first = options[0] if len(book.saes) > 1 else NOBODY
    with right:
        beside = panels.choose("Beside it", options, BESIDE, first, words=lambda x: others.get(x, x))
    looks = [Look(runs[run], book, sae, 0)]
    if beside != NOBODY:
        there, name = beside.split(" ", 1)
        looks.append(Look(runs[there], loaders.book(runs[there], FeatureBook), name, 1))
    parts.quality(looks)
    parts.scaffolded(looks)
    st.subheader("Features")
    parts.find(looks)


def nothing() -> None:
    """How to make cards, or a dictionary first."""
    saes = related_features.pair_of_dictionaries()
    if not saes:
        st.info("No sparse dictionary is here yet. One is trained, and its cards made, by")
        st.code("lab sae train hearth-a\nlab sae features NAME", language=None)
        return
    st.info("No cards of features are saved here yet. They are made by")
    related_features.offer_cards(saes)
    st.caption(
        "Reads some hundred conversations in each model and thousands for the grammar's choices: minutes."
    )


st.title("Features")
st.caption(
    "Sparse dictionaries of a layer, feature by feature: where it fires, what it goes with, whether it comes back."
)
runs = {x.id: x for x in loaders.saved_runs("features")}
if not runs:
    nothing()
else:
    run = panels.choose("Run", list(runs), "features_run", words=lambda x: panels.run_words(runs[x]))
    try:
        show(runs, run)
    except LabError as error:
        st.error(panels.plain(error))
