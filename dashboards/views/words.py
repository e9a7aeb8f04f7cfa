"""The same text in two models: how each cuts it, how surprising it is, which heads look alike."""

import streamlit as st

from dashboards import loaders, panels, start
from lab.figures import words
from lab.figures.export import page
from lab.pipelines.words import WordsConfig
from lab.records.words import WordsBook

NOBODY = "none"
PLACES = {"system": "as the system prompt", "user": "as the user's message", "reply": "as a reply"}


def form() -> None:
    """Choose models, a text and its place, then read it."""
    left, middle, right = st.columns(3)
    with left:
        a = start.model_choice("Model A", "words_a", 0)
    with middle:
        b = start.model_choice("Model B", "words_b", 1)
    names = [NOBODY, *loaders.model_names()]
    control = right.selectbox(
        "A second seed of model A", names, key="words_control", bind="query-params", accept_new_options=True,
        help="how far apart two trainings of one recipe are: the control beside every divergence",
    )  # fmt: skip
    text = st.text_area("Text", loaders.words_text(), height=140, key="words_text")
    place = panels.choose("Where it stands", list(PLACES), "words_place", words=PLACES.get)
    busy = (job := loaders.runner().job) is not None and job.running
    if st.button("Read it", type="primary", disabled=busy or not (a and b and text.strip())):
        second = None if control in (None, NOBODY) else control
        loaders.read_words(WordsConfig((str(a), str(b)), second, text, place=place))
        st.rerun()
    start.progress(lambda done: show(done) if isinstance(done, WordsBook) else None)


def show(book: WordsBook) -> None:
    """Strips, heads, the attention of one pair, and every number."""
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
    st.subheader("Where heads look")
    panels.draw(words.head_grid(book, theme), "head_grid")
    give(book, "head_grid", lambda: words.head_grid(book))
    panels.draw(words.matched_heads(book, theme), "matched_heads")
    give(book, "matched_heads", lambda: words.matched_heads(book))
    pairs = {words.pair_name(m): k for k, m in enumerate(book.matches)}
    chosen = panels.choose("Pair of heads (layer.head)", list(pairs), "words_pair")
    panels.draw(words.pair_attention(book, pairs[chosen], theme), "pair_attention")
    st.subheader("Numbers")
    st.dataframe(words.measures(book), hide_index=True, key="words_measures")
    st.caption(words.CANNOT)


def give(book: WordsBook, stem: str, make) -> None:
    """A button for a figure with its numbers and its origin."""
    origin = {"figure": stem, "models": [m.name for m in book.models], "place": book.place, "text": book.text}
    st.download_button(
        "Figure, table and manifest (zip)", lambda: panels.figure_zip(stem, make(), words.matches(book), origin),
        f"{stem}.zip", "application/zip", on_click="ignore", key=f"{stem}.zip",
    )  # fmt: skip


st.title("Words")
st.caption(
    "One text, two models with tokenizers of their own: everything is put on its characters and words."
)
form()
