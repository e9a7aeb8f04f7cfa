"""Do two models' scaffolds lie alike, and does one's geometry map onto the other's?"""

from functools import partial

import streamlit as st

from dashboards import loaders, panels
from dashboards.geometry_parts import SCAFFOLD, moved, other_recipes, picture
from lab.figures import controls, dissimilarities, geometry, scores, shared
from lab.figures import geometry_tables as tables
from lab.records import LabError, Position
from lab.records.geometry import GeometryBook


def alike(book: GeometryBook, position: Position) -> None:
    """The layer grid of one measure, the matrices at its layers, and what every value is held against."""
    st.subheader("Do the scaffolds lie alike?")
    measure = panels.choose("Measure", geometry.measures(book, position), "geometry_measure")
    grid = partial(geometry.layer_grid, book, position, measure)
    table = partial(tables.grid, book, position, measure)
    picture(book, "grid", grid, table, position=position, measure=measure)
    picture(book, "controls", partial(controls.controls_strip, book), partial(tables.similarities, book))
    apart = partial(dissimilarities.dissimilarities, book, position, measure)
    table = partial(tables.dissimilarities, book, position, measure)
    picture(book, "dissimilarities", apart, table, position=position, measure=measure)


def mapped(book: GeometryBook, position: Position) -> None:
    """How well maps predict, and one model's landings in the other's frame."""
    st.subheader("Does one map onto the other?")
    table = partial(tables.maps, book, position)
    picture(book, "maps", partial(scores.map_scores, book, position), table, position=position)
    source = panels.choose("Carry the landings of", shared.sources(book), "geometry_source")
    plane = partial(shared.shared_map, book, position, source)
    table = partial(tables.shared, book, position, source)
    picture(book, "shared_map", plane, table, clicks=True, position=position, source=source)


def show(book: GeometryBook) -> None:
    """One run at one place, then one scaffold."""
    known = geometry.positions(book)
    position = panels.choose("Read at", known, "geometry_position", words=panels.POSITIONS.__getitem__)
    alike(book, position)
    mapped(book, position)
    moved(book, position)
    other_recipes(book)
    st.subheader("One scaffold")
    name = panels.choose("Scaffold (or click a mark above)", geometry.scaffolds(book), SCAFFOLD)
    st.dataframe(tables.scaffold(book, position, name), hide_index=True, key="geometry_landings")
    st.caption(
        "L on every trait, mean over wordings and test questions. The replies are on the page Compare."
    )


st.title("Geometry")
st.caption("Two models under the same scaffolds: whether their geometry is one, with nulls and ceilings.")
runs = {x.id: x for x in loaders.saved_runs("geometry")}
if not runs:
    st.info("No comparison of geometry is saved here yet. Make one:")
    st.code("lab geometry hearth-a hearth-b", language=None)
else:
    run = panels.choose("Run", list(runs), "geometry_run", words=lambda x: panels.run_words(runs[x]))
    try:
        show(loaders.geometry(runs[run]))
    except LabError as error:
        st.error(panels.plain(error))
