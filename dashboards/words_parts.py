"""What the page Words shows of one text in two models."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import loaders, panels
from lab.figures import heads, words
from lab.figures.export import page
from lab.records.words import WordsBook
from lab.store import RunInfo

LONG = 48
"""Characters of a text in a list of runs."""


def run_words(info: RunInfo) -> str:
    """How a saved text reads in a list: its beginning and its place first."""
    data = loaders.manifest(info)
    text = " ".join(str(data.get("text", "")).split())
    said = text if len(text) <= LONG else text[: LONG - 1] + "…"
    return f"“{said}” as {data.get('place', 'unknown')}: {panels.run_words(info)}"


def show(book: WordsBook) -> None:
    """Strips, heads, the attention of one pair, what was given, and every number."""
    theme = panels.shade()
    st.subheader("Where words are cut")
    st.html(words.fragmentation_map(book, theme))
    st.subheader("How surprising each stretch is")
    st.html(words.aligned_strip(book, theme))
    if book.place != "reply":
        st.caption(
            "The shipped models learned to predict replies alone: their surprisal at a prompt says little."
        )
    strips = page("words", [words.fragmentation_map(book), words.aligned_strip(book)])
    st.download_button(
        "Both strips (HTML)", strips, "words.html", "text/html", on_click="ignore", key="words.html"
    )
    given(book)
    alike(book)
    st.subheader("Numbers")
    st.dataframe(words.measures(book), hide_index=True, key="words_measures")
    st.caption(words.CANNOT)


def given(book: WordsBook) -> None:
    """The text as each model was given it, template and all."""
    with st.expander("What each model was given"):
        for column, label in zip(st.columns(2), book.pair, strict=True):
            column.caption(panels.plain(label))
            column.text(words.given(book, label))


def alike(book: WordsBook) -> None:
    """Which heads look alike; a click on a pair, matched or not, shows where both look in the text."""
    st.subheader("Where heads look")
    for stem, make in (("head_grid", heads.head_grid), ("matched_heads", heads.matched_heads)):
        picture(book, stem, partial(make, book), partial(words.matches, book), {"words_pair": 0})
    pairs = [heads.pair_name(m) for m in book.matches]
    clicked = str(st.session_state.get("words_pair", st.query_params.get("words_pair")))
    if clicked not in pairs and heads.heads_of(book, clicked):
        pairs.append(clicked)
    if not pairs:
        st.info("No heads were matched; click a cell of the grid to see where two heads look.")
        return
    chosen = panels.choose("Pair of heads, layer.head (or click one above)", pairs, "words_pair")
    make = partial(heads.pair_attention, book, chosen)
    picture(book, "pair_attention", make, partial(heads.attended, book, chosen), {}, pair=chosen)


def picture(
    book: WordsBook, stem: str, make: Callable[..., Any], table: Callable[[], pd.DataFrame],
    into: dict[str, int], **about: str,
) -> None:  # fmt: skip
    """A figure in the page's theme, and its files."""
    panels.draw_with_clicks(make(theme=panels.shade()), stem, into)
    panels.give(book, stem, make, table, place=book.place, text=book.text, **about)
