"""The card of one sparse feature, as the page Features shows it in one of its columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import streamlit as st

from dashboards import loaders, panels
from lab.figures import feature_cards, feature_tables
from lab.figures import feature_words as words
from lab.records.feature_cards import FeatureBook, FeatureTwin
from lab.store import RunInfo

BADGES = {"recurs": "high", "does not recur": "low"}
BESIDE = "features_b"
LABEL_CLICK = {"features_find": 0, "features_trait": 1, "features_persona": 1}
"""What a click on a trait or persona of a card looks for; a label that is not of the other kind falls away there."""


@dataclass(frozen=True)
class Look:
    """One dictionary of a run, in one of the page's columns (0 or 1)."""

    info: RunInfo
    book: FeatureBook
    sae: str
    column: int

    @property
    def key(self) -> str:
        """Of the choice of a feature."""
        return f"features_{'ab'[self.column]}_feature"

    @property
    def names(self) -> dict[int, str]:
        """Words for its features."""
        return loaders.feature_names(self.info)[self.sae]


def option(run: str, sae: str) -> str:
    """How a dictionary of a run is named among the choices for the second column."""
    return f"{run} {sae}"


def card(look: Look, feature: int, looks: Sequence[Look]) -> None:
    """Everything that is known of one feature."""
    book, sae = look.book, look.sae
    found = words.card_of(book, sae, feature)
    badge, why = words.stability(book, sae, feature)
    theme = panels.shade()
    colour = getattr(theme, BADGES.get(badge, "faint"))
    st.html(
        f'<div style="font-size:1.1rem"><b>{escape(look.names[feature])}</b> <span title="{escape(why)}" '
        f'style="border:1px solid {colour};color:{colour};border-radius:8px;padding:1px 8px;font-size:.8rem">'
        f"{escape(badge)}</span></div>"
    )
    st.caption(panels.plain(words.fires_words(found)))
    st.caption(f"**In another seed:** {panels.plain(why)}.")
    choice = words.choice_words(words.choice_of(book, sae, feature))
    if choice:
        st.caption(f"**Choice of the grammar:** {panels.plain(choice)}")
    twin = words.twin_of(book, sae, feature, "model")
    st.caption(f"**In the other model:** {panels.plain(words.counterpart(twin))}")
    if twin is not None and twin.twin >= 0:
        lead(look, twin, looks)
    st.html(feature_cards.examples(book, sae, feature, theme))
    if not found.texts:
        return
    about = {"sae": sae, "feature": str(feature)}
    figures: tuple[tuple[str, Any, Any, dict[str, int]], ...] = (
        ("labels", feature_cards.goes_with, feature_tables.labels, LABEL_CLICK),
        ("tokens", feature_cards.token_bars, feature_tables.tokens, {}),
        ("histogram", feature_cards.activation_histogram, feature_tables.histogram, {}),
    )
    for stem, make, table, into in figures:
        if stem == "labels" and not words.labels_of(book, sae, feature):
            st.caption("Nothing is known of the speakers of these texts, so not with what it goes.")
            continue
        picture(
            look, stem, partial(make, book, sae, feature), partial(table, book, sae, feature), into, **about
        )


def lead(look: Look, twin: FeatureTwin, looks: Sequence[Look]) -> None:
    """A button that shows the nearest feature of the other model."""
    other = next((x for x in looks if x.sae == twin.other and x.column != look.column), None)
    if other is not None:
        into = {other.key: str(twin.twin)}
    elif look.column == 0:
        into = {BESIDE: option(look.info.id, twin.other), "features_b_feature": str(twin.twin)}
    else:
        return
    st.button(
        f"Show feature {twin.twin} of {panels.plain(twin.other)}",
        key=f"{look.key} twin",
        on_click=turn_to,
        args=(into,),
    )


def turn_to(into: dict[str, str]) -> None:
    """Make choices of the page."""
    st.session_state.update(into)


def picture(
    look: Look, stem: str, make: Any, table: Any, into: dict[str, int] | None = None, **about: str
) -> None:
    """A figure in the page's theme, and its files; a click on a mark makes the choices of `into`."""
    key = f"features_{'ab'[look.column]}_{stem}"
    panels.draw_in_column(make(theme=panels.shade()), key, into or {})
    panels.give(look.book, key, make, table, **about)
