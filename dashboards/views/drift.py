"""Drop a conversation or follow a file, see its turns on every trait, and where they depart from what is ordinary."""

from dataclasses import replace
from pathlib import Path

import streamlit as st

from dashboards import background, drift_parts, loaders, panels, start
from lab.pipelines.watch import Watch, WatchConfig
from lab.prompts.personas import parse_conversation
from lab.records import LabError, Message

EXAMPLE = (
    '[{"role": "system", "content": "You are ..."},\n {"role": "user", "content": "..."},\n'
    ' {"role": "assistant", "content": "..."}]'
)
SOURCES = ["A conversation", "A file that grows"]


def put_example() -> None:
    """A conversation that comes with the lab, into the text field."""
    st.session_state["drift_text"] = loaders.example_conversation()


def conversation() -> tuple[Message, ...] | None:
    """What was dropped or pasted; it stays on this machine and is not saved."""
    file = st.file_uploader("A conversation (JSON)", type=["json"], max_upload_size=2)
    st.button(
        "Put in an example", on_click=put_example, help="Warmth falls from the sixth reply on (Hearth)."
    )
    typed = st.text_area("or paste it", height=120, placeholder=EXAMPLE, key="drift_text")
    try:
        if file is not None:
            return parse_conversation(start.decode(file.name, file.getvalue()), Path(file.name))
        return parse_conversation(typed, Path("pasted text")) if typed.strip() else None
    except LabError as error:
        st.error(panels.plain(error))
        return None


def settings() -> WatchConfig | None:
    """Which model reads, on which traits, and how many false alarms may be."""
    left, middle, right = st.columns(3)
    with left:
        model = start.model_choice("Model that reads", "drift_model", 0)
    with middle:
        traits = drift_parts.trait_set_choice("drift_traits")
    promised = right.number_input("False alarms per 100 ordinary turns, at most", 0.1, 20.0, 1.0, 0.1)
    together = right.checkbox(
        "for all traits together", key="drift_together", bind="query-params",
        help="else the promise is for each trait, and so many times more for all",
    )  # fmt: skip
    if not model:
        return None
    return WatchConfig(str(model), (), trait_set=traits, promised=float(promised), together=together)


def given(config: WatchConfig | None) -> None:
    """A conversation that is whole."""
    messages = conversation()
    busy = background.busy()
    asked = st.button("Follow it", type="primary", disabled=busy or not config or not messages)
    if asked and config and messages:
        background.in_background("lab.pipelines.watch:watch", replace(config, conversation=messages))
        st.rerun()
    start.progress(lambda done: drift_parts.show(done) if isinstance(done, Watch) else None)


def growing(config: WatchConfig | None) -> None:
    """A file on the machine that the dashboard runs on, looked at again and again."""
    path = st.text_input(
        "Path on this machine", key="drift_path", placeholder="talk.json or talk.jsonl",
        help="A conversation as JSON, or one message per line; it may grow while it is read.",
    )  # fmt: skip
    followed: drift_parts.Followed | None = st.session_state.get("drift_followed")
    left, right = st.columns(2)
    asked = left.button("Follow this file", type="primary", disabled=not config or not path.strip())
    if asked and config:
        followed = drift_parts.Followed(Path(path.strip()).expanduser(), config)
        st.session_state["drift_followed"], st.session_state["drift_stay"] = followed, False
    if followed and right.button("Stop"):
        followed = st.session_state["drift_followed"] = None
    if followed:
        drift_parts.following(followed)


st.title("Drift")
st.caption("Every assistant turn of a conversation on each trait, with a band of what is ordinary.")
panels.settle(SOURCES, "drift_source", SOURCES[0])
source = st.segmented_control("Read", SOURCES, key="drift_source", required=True, bind="query-params")
chosen = settings()
(given if source == SOURCES[0] else growing)(chosen)
