"""The same text in two models: how each cuts it, how surprising it is, which heads look alike."""

import streamlit as st

from dashboards import background, loaders, panels, start, words_parts
from lab.pipelines.words import WordsConfig
from lab.records import LabError
from lab.records.words import WordsBook

NOBODY = "none"
PLACES = {"system": "as the system prompt", "user": "as the user's message", "reply": "as a reply"}
VIEWS = ["Saved run", "New text"]


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
    busy = background.busy()
    if st.button("Read it", type="primary", disabled=busy or not (a and b and text.strip())):
        second = None if control in (None, NOBODY) else control
        background.in_background(
            "lab.pipelines.words:words", WordsConfig((str(a), str(b)), second, text, place=place)
        )
        st.rerun()
    start.progress(lambda done: words_parts.show(done) if isinstance(done, WordsBook) else None)


def saved() -> None:
    """Choose a finished run and show it."""
    runs = {x.id: x for x in loaders.saved_runs("words")}
    if not runs:
        st.info("No text is saved here yet: read one under “New text”.")
        return
    run = panels.choose("Run", list(runs), "words_run", words=lambda x: words_parts.run_words(runs[x]))
    try:
        words_parts.show(loaders.book(runs[run], WordsBook))
    except LabError as error:
        st.error(panels.plain(error))


st.title("Words")
st.caption(
    "One text, two models with tokenizers of their own: everything is put on its characters and words."
)
something_saved = "words_run" in st.query_params or bool(loaders.saved_runs("words"))
panels.settle(VIEWS, "words_view", VIEWS[not something_saved])
view = st.segmented_control("View", VIEWS, key="words_view", required=True, bind="query-params")
if view == "New text":
    form()
else:
    saved()
