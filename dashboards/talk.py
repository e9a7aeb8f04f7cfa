"""Talking to one or two models, unpushed beside pushed, with the trace of every token."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import streamlit as st
import streamlit.components.v1 as components

from dashboards import loaders, start
from dashboards.panels import draw, plain, shade
from lab.figures import trace
from lab.pipelines.live import Speaker, Spoken
from lab.records import LabError, Message

NOBODY = "nobody else"


@dataclass
class Talk:
    """What one model has been told and has said, unpushed or pushed; kept for the session only."""

    messages: list[Message] = field(default_factory=list)
    last: Spoken | None = None


def page() -> None:
    """Choose models, make them ready, talk."""
    left, right = st.columns(2)
    with left:
        first = start.model_choice("Model A", "steer_a", 0)
    with right:
        names = [NOBODY, *loaders.model_names()]
        second = st.selectbox("Model B", names, key="steer_b", bind="query-params", accept_new_options=True)
    models = [m for m in dict.fromkeys((first, second)) if m and m != NOBODY]
    ready = {m: loaders.speaker(m) for m in models}
    waiting = [m for m, speaker in ready.items() if speaker is None]
    if waiting:
        _make_ready(waiting)
        return
    speakers: dict[str, Speaker] = {m: s for m, s in ready.items() if s is not None}
    pushes = _sliders(speakers)
    _converse(speakers, pushes)


def _make_ready(waiting: list[str]) -> None:
    """Extraction runs once per model, in the background; what is finished is kept."""
    st.write(
        f"{plain(' and '.join(waiting))}: directions are made once, from replies at both poles of each trait."
    )
    busy = (job := loaders.runner().job) is not None and job.running
    if st.button("Make ready", type="primary", disabled=busy):
        loaders.prepare(waiting)
        st.rerun()
    start.progress(lambda _: st.rerun() if all(loaders.speaker(m) for m in waiting) else None)


def _sliders(speakers: Mapping[str, Speaker]) -> dict[str, float]:
    """One slider per trait that all models have a direction for; in residual norms."""
    shared = [
        t for t in next(iter(speakers.values())).gauges if all(t in s.gauges for s in speakers.values())
    ]
    pushes = {}
    columns = st.columns(min(4, len(shared)))
    for k, trait in enumerate(shared):
        pushes[trait] = columns[k % len(columns)].slider(
            plain(trait), -0.5, 0.5, 0.0, 0.05, key=f"push {trait}", bind="query-params",
            help="in mean residual norms of the site; the shipped models stay coherent to about a quarter",
        )  # fmt: skip
    return pushes


def _converse(speakers: Mapping[str, Speaker], pushes: Mapping[str, float]) -> None:
    """One line of talk per model, unpushed and pushed; both hear the same user."""
    talks: dict[tuple[str, bool], Talk] = st.session_state.setdefault("talks", {})
    with st.expander("Scaffold (system prompt)"):
        system = st.text_area("Scaffold", height=140, key="steer_system", label_visibility="collapsed")
    left, right = st.columns([3, 1])
    seed = right.number_input("Seed", 0, value=0, step=1, key="steer_seed")
    if left.button("Begin anew", disabled=not talks):
        talks.clear()
        st.rerun()
    said = st.chat_input("Say something to all of them")
    if said:
        for name, speaker in speakers.items():
            for pushed in (False, True):
                talk = talks.setdefault((name, pushed), Talk())
                _answer(talk, speaker, said, system, pushes if pushed else {}, int(seed))
    for name, speaker in speakers.items():
        _show(name, speaker, talks)


def _answer(
    talk: Talk, speaker: Speaker, said: str, system: str, pushes: Mapping[str, float], seed: int
) -> None:
    """One more turn; a chat that is too long says so and stays as it was."""
    before = [Message("system", system.strip())] if system.strip() else []
    messages = [*talk.messages, Message("user", said)]
    try:
        talk.last = speaker.say([*before, *messages], pushes, max_new_tokens=110, seed=seed + len(messages))
    except LabError as error:
        st.error(plain(error))
        return
    talk.messages = [*messages, Message("assistant", talk.last.text)]


def _show(name: str, speaker: Speaker, talks: Mapping[tuple[str, bool], Talk]) -> None:
    """Both lines of one model, then the traces of their last replies."""
    lines = {w: talks[name, p] for w, p in (("as it is", False), ("pushed", True)) if (name, p) in talks}
    if not lines:
        return
    st.subheader(plain(name))
    for column, (words, talk) in zip(st.columns(2), lines.items(), strict=False):
        column.caption(words)
        for message in talk.messages:
            with column.chat_message(message.role):
                st.text(message.content or "(an empty reply)")
    trait = st.selectbox("Trace of", list(speaker.gauges), key=f"trace {name}")
    replies = {w: talk.last for w, talk in lines.items() if talk.last is not None}
    key = f"points {name}"
    draw(trace.token_trace(name, replies, trait, shade()), key, on_select="rerun", selection_mode="points")
    points = st.session_state.get(key, {}).get("selection", {}).get("points", [])
    chosen = tuple(points[0]["customdata"][:2]) if points and points[0].get("customdata") else None
    components.html(trace.scrolling(replies, trait, chosen, shade()), height=190, scrolling=True)
