"""What the pages Geometry and Compare show of a run of `lab geometry`: one function a part, each takes a `Look`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import loaders, panels, related
from lab.figures import controls, dissimilarities, geometry, multiverse, scores, shared, tables
from lab.figures import geometry_tables as numbers
from lab.records import Comparison, LabError, Position
from lab.records.geometry import GeometryBook


@dataclass(frozen=True)
class Look:
    """One run at one place and on one trait, on one page.

    prefix: of the keys of choices that parts make for themselves. trait_key, scaffold_key, position_key: the page's
    choices that a click on a mark of a trait, a scaffold or a place makes.
    """

    book: GeometryBook
    position: Position
    trait: str
    prefix: str = "geometry"
    trait_key: str = "geometry_trait"
    scaffold_key: str = "geometry_scaffold"
    position_key: str = "geometry_position"


Part = Callable[[Look], None]
OTHER = "geometry_other"
"""The second scaffold of a pair that was clicked."""


def picture(
    look: Look, stem: str, make: Callable[..., Any], table: Callable[[], pd.DataFrame],
    into: Mapping[str, int] | None = None, **about: str,
) -> None:  # fmt: skip
    """A figure in the page's theme, and its files; a click on a mark makes the choices of `into`."""
    key = f"{look.prefix}_{stem}"
    figure = make(theme=panels.shade())
    if into:
        panels.draw_with_clicks(figure, key, into)
    else:
        panels.draw(figure, key)
    panels.give(look.book, key, make, table, **about)


# ------------------------------------------------------------------ do the scaffolds lie alike?


def alike(look: Look) -> None:
    """The layer grid of one measure, the matrices at its layers, and what every value is held against."""
    book, position = look.book, look.position
    measure = panels.choose("Measure", geometry.measures(book, position), f"{look.prefix}_measure")
    grid = partial(geometry.layer_grid, book, position, measure)
    table = partial(numbers.grid, book, position, measure)
    layers = {f"{look.prefix}_layer_a": 1, f"{look.prefix}_layer_b": 2}
    picture(look, "grid", grid, table, layers, position=position, measure=measure)
    one_cell(look, measure, *(str(st.session_state.get(key, "")) for key in layers))
    strip = partial(controls.controls_strip, book)
    places = {f"{look.prefix}_measure": 0, look.position_key: 1}
    picture(look, "controls", strip, partial(numbers.similarities, book), places)
    apart = partial(dissimilarities.dissimilarities, book, position, measure)
    table = partial(numbers.dissimilarities, book, position, measure)
    pairs = {look.scaffold_key: 0, OTHER: 1}
    picture(look, "dissimilarities", apart, table, pairs, position=position, measure=measure)


def one_cell(look: Look, measure: str, layer_a: str, layer_b: str) -> None:
    """The numbers of the cell of the layer grid that was clicked, and the way to what it was computed from."""
    cells = look.book.at(look.position).cells
    one = next(
        (c for c in cells if (c.measure, str(c.layer_a), str(c.layer_b)) == (measure, layer_a, layer_b)), None
    )
    if one is None:
        st.caption("Click a cell for its numbers.")
        return
    number, (a, b) = geometry.number, map(panels.plain, look.book.labels[:2])
    s = geometry.similarity_of(look.book, look.position, measure)
    st.markdown(
        f"**Layer {layer_a} of {a}, layer {layer_b} of {b}**: {number(one.value)}; 95 % of its own null below "
        f"{number(one.null_high)}, of the largest cell's below {number(s.max_high)}. Split: {s.split}, n = {s.scaffolds} "
        f"scaffolds, {s.questions} questions. Every cell reads the same prompts and replies, at other layers: they "
        "stand under [One scaffold](#one-scaffold)."
    )


# ------------------------------------------------------------------ does one map onto the other?


def map_scores(look: Look) -> None:
    """How well every map predicts; a click on a score chooses whose landings are carried."""
    make = partial(scores.map_scores, look.book, look.position)
    table = partial(numbers.maps, look.book, look.position)
    picture(look, "maps", make, table, {f"{look.prefix}_source": 1}, position=look.position)


def shared_frame(look: Look) -> None:
    """One model's landings in the other's frame, or why there is no such picture."""
    source = panels.choose("Carry the landings of", shared.sources(look.book), f"{look.prefix}_source")
    make = partial(shared.shared_map, look.book, look.position, source)
    table = partial(numbers.shared, look.book, look.position, source)
    picture(look, "shared_map", make, table, {look.scaffold_key: 0}, position=look.position, source=source)


# ------------------------------------------------------------------ are both moved alike?


def agreement(look: Look) -> None:
    """Landings on the trait in one model against the other, with the ceiling."""
    make = partial(shared.agreement, look.book, look.position, look.trait)
    table = partial(numbers.landings, look.book, look.position, look.trait)
    about = {"position": look.position, "trait": look.trait}
    picture(look, "agreement", make, table, {look.scaffold_key: 0}, **about)


def shares(look: Look) -> None:
    """What the variance of landings comes from, trait by trait; a click on a bar chooses its trait."""
    make = partial(scores.variance_shares, look.book, look.position)
    table = partial(numbers.shares, look.book, look.position)
    picture(look, "shares", make, table, {look.trait_key: 0}, position=look.position)


def shares_of_trait(look: Look) -> None:
    """The same of one trait."""
    make = partial(scores.variance_shares, look.book, look.position, trait=look.trait)
    table = partial(numbers.shares, look.book, look.position)
    picture(look, "shares", make, table, position=look.position, trait=look.trait)


def other_recipes(look: Look) -> None:
    """What estimators, poolings and depths other than the reported ones would have concluded of the trait."""
    words = multiverse.CONCLUSIONS
    what = panels.choose("Conclusion", list(words), f"{look.prefix}_what", words=words.__getitem__)
    strip = partial(multiverse.multiverse_strip, look.book, look.trait, what)
    table = partial(numbers.multiverse, look.book, look.trait)
    picture(look, "multiverse", strip, table, {look.position_key: 2}, trait=look.trait, what=what)


# ------------------------------------------------------------------ one scaffold


def one_scaffold(look: Look) -> None:
    """Where one scaffold lands, and what both models said under it, from the comparison with the same replies."""
    book, position = look.book, look.position
    name = panels.choose("Scaffold (or click a mark above)", geometry.scaffolds(book), look.scaffold_key)
    found = related.comparison_of(book)
    other = st.session_state.get(OTHER)
    if other in geometry.scaffolds(book) and other != name:
        st.caption(f"Clicked as a pair with {panels.plain(other)}.")
        st.button(
            f"Show {panels.plain(other)}",
            key="geometry_turn",
            on_click=turn,
            args=(look.scaffold_key, name, other),
        )
    if found is None:
        st.dataframe(numbers.scaffold(book, position, name), hide_index=True, key="geometry_landings")
        st.info(
            "L on every trait, mean over wordings and test questions. Intervals, nulls and the replies are in a "
            "comparison of these models under these scaffolds; none is saved here. Its replies were made already:"
        )
        st.code(related.compare_command(book), language=None)
        return
    st.dataframe(tables.profile(found, name, position), hide_index=True, key="geometry_landings")
    related.tell_distance(found, book)
    panels.replies(found, name, look.trait)


def turn(key: str, name: str, other: str) -> None:
    """From one scaffold of a pair to the other."""
    st.session_state.update({key: other, OTHER: name})


# ------------------------------------------------------------------ on the page Compare

BELOW_A_COMPARISON: tuple[Part, ...] = (shares_of_trait, agreement, shared_frame, other_recipes)


def beside(look: Look) -> None:
    """Parts that belong under a comparison, and the way to all the others."""
    st.page_link(
        "views/geometry.py", label="All of it: page Geometry", icon=":material/grid_on:",
        query_params={"geometry_run": look.book.run, "geometry_position": look.position, "geometry_trait": look.trait},
    )  # fmt: skip
    for part in BELOW_A_COMPARISON:
        part(look)


def below(comparison: Comparison, trait: str, position: Position) -> None:
    """The geometry of a comparison's models under its scaffolds: the saved run, or how to make one."""
    st.subheader("Do the two models share a geometry?")
    info = related.geometry_of(comparison)
    if info is None:
        related.offer_geometry(comparison)
        return
    try:
        book = loaders.book(info, GeometryBook)
        place = book.at(position)
    except LabError as error:
        st.error(panels.plain(error))
        return
    n = related.wordings(comparison, book)
    st.caption(
        f"Run {panels.plain(panels.run_words(info))}. It reads {n} wording{'s' if n > 1 else ''} of every scaffold, as "
        "many as the one with the fewest has; the landings above are means over all. A click on a scaffold's mark chooses "
        "it for “One scaffold” above."
    )
    related.tell_distance(comparison, book)
    beside(Look(book, place.position, trait, "shared", "trait", "scaffold", "position"))
