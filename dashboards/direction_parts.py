"""A trait's direction in sparse features, inside the page Traits."""

from functools import partial

import streamlit as st

from dashboards import loaders, panels, related_features
from lab.figures import decomposition as figures
from lab.figures import feature_tables, steering
from lab.records import LabError
from lab.records.cards import TraitBook
from lab.records.decomposition import DecompositionBook

HEAVIEST = 8
"""Features of a direction that are drawn at first."""


def features(book: TraitBook, trait: str) -> None:
    """Which features make up the trait's direction, or how to find out."""
    st.subheader("In sparse features")
    info = related_features.decomposition_of(book.model, trait)
    if info is None:
        related_features.offer_decomposition(book.model, trait)
        return
    try:
        found = loaders.book(info, DecompositionBook)
    except LabError as error:
        st.error(panels.plain(error))
        return
    recipes = [c for c in book.cards if c.trait == trait and c.selected]
    chosen = ", ".join(
        f"{c.estimator} at layer {c.layer}, {steering.PLACES.get(c.position, c.position)}" for c in recipes
    )
    st.caption(
        f"Run {panels.plain(panels.run_words(info))}. It takes apart the mean difference over extract replies at layer "
        f"{found.layer}, where the dictionary is; the recipe chosen above is {panels.plain(chosen or 'not known')}."
    )
    show(found, trait)


def show(found: DecompositionBook, trait: str) -> None:
    """Share explained by k features, the features of one k, and what pushing and taking them out does."""
    make = partial(figures.share_curve, found, trait)
    panels.draw(make(theme=panels.shade()), "direction_shares")
    panels.give(found, "direction_shares", make, partial(feature_tables.shares, found, trait), trait=trait)
    ks = [str(k) for k in sorted({p.k for p in found.parts if p.trait == trait})]
    left, right = st.columns(2)
    with left:
        method = panels.choose("Weights", figures.methods(found), "direction_method")
    if not ks:
        st.info("No feature points along this direction.")
        return
    with right:
        usual = str(HEAVIEST) if str(HEAVIEST) in ks else ks[-1]
        k = int(panels.choose("Features", ks, "direction_k", usual))
    cards = related_features.cards_of([found.sae])
    names = loaders.feature_names(cards)[found.sae] if cards else None
    make = partial(figures.part_bars, found, trait, method, k, names=names)
    panels.draw_with_clicks(make(theme=panels.shade()), "direction_parts", {"direction_feature": 0})
    table = partial(feature_tables.parts, found, trait, method, k)
    panels.give(found, "direction_parts", make, table, trait=trait, method=method, k=str(k))
    lead(found, [str(p.feature) for p in figures.parts_of(found, trait, method, k)])
    if not any(c.trait == trait for c in found.causal):
        st.info(
            "Whether these features carry the trait was not tried: pushing and taking them out takes replies."
        )
        st.code(related_features.command("decompose", found.sae, "--causal"), language=None)
        return
    make = partial(figures.causal_effects, found, trait)
    panels.draw(make(theme=panels.shade()), "direction_causal")
    panels.give(found, "direction_causal", make, partial(feature_tables.causal, found, trait), trait=trait)


def lead(found: DecompositionBook, features: list[str]) -> None:
    """The way to the card of one of these features."""
    cards = related_features.cards_of([found.sae])
    if cards is None:
        st.caption("What each of these features stands for is said by its card; the cards are made by")
        st.code(related_features.command("features", found.sae), language=None)
        return
    if features:
        names = loaders.feature_names(cards)[found.sae]
        feature = panels.choose(
            "Feature (or click one above)",
            features,
            "direction_feature",
            words=lambda f: names.get(int(f), f),
        )
        link(cards.id, found.sae, feature, names.get(int(feature), feature))


def link(run: str, sae: str, feature: str, name: str) -> None:
    """To the card of a feature."""
    st.page_link(
        related_features.FEATURES_PAGE, label=f"Card of {panels.plain(name)}: page Features", icon=":material/style:",
        query_params={"features_run": run, "features_a": sae, "features_a_feature": feature},
    )  # fmt: skip
