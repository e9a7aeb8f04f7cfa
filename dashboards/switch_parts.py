"""What a scaffold switches on in sparse features, inside the page Compare."""

from functools import partial

import streamlit as st

from dashboards import direction_parts, feature_parts, loaders, panels, related_features
from lab.figures import feature_readout as figures
from lab.figures import feature_tables
from lab.records import Comparison, LabError
from lab.records.decomposition import ReadoutBook
from lab.records.feature_cards import FeatureBook


def below(comparison: Comparison, scaffold: str) -> None:
    """The readout of a comparison's scaffold in its models, or how to make one."""
    st.subheader("What it switches on in sparse features")
    if not any(w.text for s in comparison.scaffolds if s.name == scaffold for w in s.paraphrases):
        st.info("This scaffold has no text: it is the neutral that others are held against.")
        return
    info = related_features.readout_of(comparison, scaffold)
    if info is None:
        related_features.offer_readout(comparison, scaffold)
        return
    try:
        read = loaders.book(info, ReadoutBook)
    except LabError as error:
        st.error(panels.plain(error))
        return
    st.caption(
        f"Run {panels.plain(panels.run_words(info))}, on the same test questions and with the same seed."
    )
    if len(read.models) < len(comparison.models):
        st.caption(f"Read in {panels.plain(', '.join(read.labels))} alone: what is common cannot be told.")
    show(read, scaffold)


def show(read: ReadoutBook, scaffold: str) -> None:
    """Counts of all models, then one of them feature by feature and segment by segment, then matched pairs."""
    st.dataframe(feature_tables.places(read, scaffold), hide_index=True, key="switch_places")
    st.caption(
        "Features with q < .05 (signs flipped, Benjamini-Hochberg over the features of a model). Common: the match in "
        "the other model is switched the same way. Only here: the whole interval of the match's change lies within half "
        "of this one's."
    )
    left, right = st.columns(2)
    with left:
        model = panels.choose("Model", list(read.labels), "switch_model")
    with right:
        said = panels.choose(
            "Segments left out", list(figures.SAID_WORDS), "switch_said", words=figures.SAID_WORDS.__getitem__
        )
    sae = read.saes[read.labels.index(model)]
    cards = related_features.cards_of([sae])
    names = loaders.feature_names(cards)[sae] if cards else None
    about = {"model": model, "scaffold": scaffold}
    make = partial(figures.readout_bars, read, model, scaffold, names=names)
    panels.draw_with_clicks(make(theme=panels.shade()), "switch_bars", {"switch_feature": 0})
    panels.give(read, "switch_bars", make, partial(feature_tables.switched, read, scaffold, model), **about)
    make = partial(figures.segment_map, read, model, scaffold, said, names=names)
    panels.draw_with_clicks(make(theme=panels.shade()), "switch_segments", {"switch_feature": 0})
    panels.give(
        read, "switch_segments", make, partial(feature_tables.segments, read, scaffold, model), **about
    )
    switched = [str(f.feature) for f in figures.switched_of(read, model, scaffold)]
    if names is not None and cards is not None and switched:
        feature = panels.choose(
            "Feature (or click one above)", switched, "switch_feature", words=lambda f: names.get(int(f), f)
        )
        direction_parts.link(cards.id, sae, feature, names.get(int(feature), feature))
    matched(read, scaffold)


def matched(read: ReadoutBook, scaffold: str) -> None:
    """Both models' matched features against each other, where a run matched them."""
    both = related_features.cards_of(read.saes) if len(set(read.saes)) == 2 else None
    if both is None:
        if len(read.saes) == 2:
            st.caption("No run here matched the features of both dictionaries; one is made by")
            st.code(
                related_features.command("features", read.saes[0], "--other", read.saes[1]), language=None
            )
        return
    try:
        feature_parts.show_scatter(loaders.book(both, FeatureBook), read, scaffold, {})
    except LabError as error:
        st.error(panels.plain(error))
