"""The concept atlas: who stands next to whom in two models, and which concepts line up."""

import streamlit as st

from dashboards import loaders, panels
from dashboards.atlas_parts import concept
from lab.figures import atlas, atlas_tables
from lab.records import LabError
from lab.records.atlas import AtlasBook, Scope, Stage

SCOPES: dict[str, str] = {"within category": "inside a category", "all": "all pairs"}


def show(book: AtlasBook) -> None:
    """One run of `lab atlas`: one concept, then all of them."""
    theme = panels.shade()
    stages: list[Stage] = list(book.stages)[::-1]
    stage: Stage = panels.choose("Where", stages, "atlas_stage")
    concept(book, stage)
    st.subheader("All concepts")
    panels.draw_with_clicks(atlas.shared_bars(book, stage, theme), "shared_bars", {"concept": 0})
    panels.give(
        book, "shared_bars", lambda: atlas.shared_bars(book, stage), lambda: atlas_tables.shared(book, stage),
        stage=stage,
    )  # fmt: skip
    left, right = st.columns(2)
    with left:
        scope: Scope = panels.choose("Compared", list(SCOPES), "atlas_scope", words=SCOPES.get)  # type: ignore[assignment]
    with right:
        source = panels.choose("Map from", list(book.labels[:2]), "atlas_source")
    if scope == "all" and not book.concept_set.shared_frames:
        st.caption(
            "Categories have sentences of their own here, so agreement over all pairs holds these too; believe the one "
            "inside categories."
        )
    strip = atlas.concept_strip(book, stage, scope, source, theme)
    panels.draw_with_clicks(strip, "concept_strip", {"concept": 0})
    panels.give(
        book, "concept_strip", lambda: atlas.concept_strip(book, stage, scope, source),
        lambda: atlas_tables.scores(book, stage, scope), stage=stage, scope=scope, source=source,
    )  # fmt: skip
    lost = book.astray(stage, scope)
    st.caption(
        f"{len(book.concepts) - len(lost)} of {len(book.concepts)} line up both ways (test frames; shares with intervals "
        "and nulls stand under the picture, one way at a time). Not, the farthest first: "
        f"{panels.plain(', '.join(lost) or 'none')}."
    )
    measure = panels.choose("Measure", atlas.measures(book), "atlas_measure")
    panels.draw_with_clicks(atlas.by_depth(book, scope, measure, theme), "by_depth", {"atlas_stage": 3})
    panels.give(
        book, "by_depth", lambda: atlas.by_depth(book, scope, measure),
        lambda: atlas_tables.depth(book, scope, measure), scope=scope, measure=measure,
    )  # fmt: skip
    st.subheader("Numbers")
    st.dataframe(atlas_tables.similarities(book), hide_index=True, key="atlas_similarities")
    st.dataframe(atlas_tables.maps(book), hide_index=True, key="atlas_maps")


st.title("Atlas")
st.caption(
    "The same words in the same sentences in two models: ranked neighbours, held-out maps, each with null and ceiling."
)
runs = {x.id: x for x in loaders.saved_runs("atlas")}
if not runs:
    st.info("No atlas is saved here yet. Make one:")
    st.code("lab atlas hearth-a hearth-b", language=None)
else:
    run = panels.choose("Run", list(runs), "atlas_run", words=lambda x: panels.run_words(runs[x]))
    try:
        show(loaders.book(runs[run], AtlasBook))
    except LabError as error:
        st.error(panels.plain(error))
