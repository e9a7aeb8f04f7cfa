"""What the page Atlas shows of one concept."""

import streamlit as st

from dashboards import panels
from lab.figures import atlas, atlas_tables
from lab.records.atlas import AtlasBook, Stage


def concept(book: AtlasBook, stage: Stage) -> None:
    """A concept's neighbours in both models, its scores and its sentences; the list can be searched."""
    category = {c.concept: c for c in book.concepts}
    word = panels.choose(
        "Concept (type to search, or click a mark)", atlas.concepts(book), "concept",
        words=lambda w: f"{w} ({category[w].category})",
    )  # fmt: skip
    near = atlas.neighbourhoods(book, word, stage, panels.shade())
    panels.draw_with_clicks(near, "neighbourhoods", {"concept": 0})
    panels.give(
        book, "neighbourhoods", lambda: atlas.neighbourhoods(book, word, stage),
        lambda: atlas_tables.neighbours(book, word, stage), concept=word, stage=stage,
    )  # fmt: skip
    found = category[word]
    a, b = (panels.plain(label) for label in book.labels[:2])
    st.caption(
        f"Tokens of the word, mean over its sentences: {found.pieces_a:g} in {a}, {found.pieces_b:g} in {b}."
    )
    scores = atlas_tables.scores(book, stage, "within category")
    columns = [
        "source",
        "target",
        "r2",
        "null_high",
        "p",
        "q",
        "cosine",
        "rank",
        "candidates",
        "ceiling_rank",
    ]
    st.dataframe(scores[scores["concept"] == word][columns], hide_index=True, key="concept_scores")
    with st.expander(
        "Its sentences: both models read each up to the word; there are no replies", expanded=True
    ):
        st.dataframe(atlas_tables.contexts(book, word), hide_index=True, key="concept_contexts")
