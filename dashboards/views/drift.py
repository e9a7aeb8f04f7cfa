"""Drop a conversation, see its turns on every trait, and where they depart from what is ordinary."""

from pathlib import Path

import pandas as pd
import streamlit as st

from dashboards import loaders, panels, start
from lab.figures import drift
from lab.pipelines.watch import Watch, WatchConfig
from lab.prompts.personas import parse_conversation
from lab.records import LabError, Message

EXAMPLE = (
    '[{"role": "system", "content": "You are ..."},\n {"role": "user", "content": "..."},\n'
    ' {"role": "assistant", "content": "..."}]'
)


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


def form() -> None:
    """Choose a model and a conversation, then follow it."""
    left, right = st.columns(2)
    with left:
        model = start.model_choice("Model that reads", "drift_model", 0)
    promised = right.number_input("Alarms per 100 ordinary turns, at most", 0.1, 20.0, 1.0, 0.1)
    messages = conversation()
    busy = (job := loaders.runner().job) is not None and job.running
    if st.button("Follow it", type="primary", disabled=busy or not model or not messages):
        loaders.follow(WatchConfig(str(model), messages or (), promised=float(promised)))
        st.session_state["drift_messages"] = messages
        st.rerun()
    start.progress(lambda done: show(done) if isinstance(done, Watch) else None)


def show(found: Watch) -> None:
    """Courses, and the turn that was clicked."""
    names = [w.trait for w in found.traits]
    left, right = st.columns(2)
    with left:
        trait = panels.choose("Trait", names, "drift_trait")
    with right:
        kind = panels.choose("Series", ["slope", "projection"], "drift_series")
    watched = (found.traits if kind == "slope" else found.projections)[names.index(trait)]
    note = (
        f"{found.model}; ordinary: {found.ordinary_conversations} conversations, half of them for the band, half for "
        f"the threshold; alarms promised at most {found.promised:g} per 100 ordinary turns. Slopes raise the alarms that "
        "count: on planted drift projections told nothing (experiments/LOG.md). Click a turn to read it."
    )  # fmt: skip
    replies = [r.text for r in found.replies]
    figure = drift.turn_course(watched, kind, replies, note, panels.shade())
    panels.draw(figure, "course", on_select="rerun", selection_mode="points")
    points = st.session_state.get("course", {}).get("selection", {}).get("points", [])
    chosen = int(points[0]["customdata"][0]) if points and points[0].get("customdata") else 0
    st.caption(f"Turn {chosen + 1}")
    with st.chat_message("assistant"):
        st.text(replies[chosen] or "(an empty reply)")
    rows = [
        {
            "turn": t + 1, "trait": w.trait, "slope": w.value[t], "deviation": w.course.deviation[t],
            "alarm": t in w.course.alarms,
        }
        for w in found.traits
        for t in range(len(replies))
    ]  # fmt: skip
    st.dataframe(pd.DataFrame(rows), hide_index=True, key="turns")


st.title("Drift")
st.caption("Every assistant turn of a conversation on each trait, with a band of what is ordinary.")
form()
