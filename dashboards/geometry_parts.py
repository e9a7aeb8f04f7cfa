"""Sections of the page Geometry: one picture with its files, landings, other recipes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import panels
from lab.figures import geometry, multiverse, scores, shared
from lab.figures import geometry_tables as tables
from lab.records import Position
from lab.records.geometry import GeometryBook

SCAFFOLD = "geometry_scaffold"


def picture(
    book: GeometryBook, stem: str, make: Callable[..., Any], table: Callable[[], pd.DataFrame],
    clicks: bool = False, **about: str,
) -> None:  # fmt: skip
    """A figure in the page's theme, and its files; a click on a scaffold's mark chooses the scaffold."""
    key = f"geometry_{stem}"
    taken = partial(panels.take_scaffold, key, SCAFFOLD)
    more = {"on_select": taken, "selection_mode": "points"} if clicks else {}
    panels.draw(make(theme=panels.shade()), key, **more)
    panels.give(book, key, make, table, **about)


def moved(book: GeometryBook, position: Position) -> None:
    """Whether landings on a trait agree, and what their variance comes from."""
    st.subheader("Are both moved alike?")
    trait = panels.choose("Trait", geometry.traits(book), "geometry_trait")
    dots = partial(shared.agreement, book, position, trait)
    table = partial(tables.landings, book, position, trait)
    picture(book, "agreement", dots, table, clicks=True, position=position, trait=trait)
    table = partial(tables.shares, book, position)
    picture(book, "shares", partial(scores.variance_shares, book, position), table, position=position)


def other_recipes(book: GeometryBook) -> None:
    """What estimators, poolings and depths other than the reported ones would have concluded of the trait."""
    what = panels.choose(
        "Conclusion", list(multiverse.CONCLUSIONS), "geometry_what", words=multiverse.CONCLUSIONS.__getitem__
    )
    trait = st.session_state["geometry_trait"]
    strip = partial(multiverse.multiverse_strip, book, trait, what)
    picture(book, "multiverse", strip, partial(tables.multiverse, book, trait), trait=trait, what=what)
