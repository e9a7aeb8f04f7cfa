"""A conversation on its traits: courses, the chosen turn with its tokens, and a file that is followed."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import streamlit as st

from dashboards import background, loaders, panels
from dashboards.jobs import Job
from lab.figures import drift, trace
from lab.figures.tokens import IN_SD
from lab.pipelines.following import look, stamp_of
from lab.pipelines.watch import Seen, Watch, WatchConfig
from lab.records import LabError, Message

EVERY = 2.0
"""Seconds between two looks at a file that is followed."""
BUSY = "another job of this server runs first"
TURN = "drift_turn"
SERIES = {
    "ratio": "likelihood ratio: what raises the alarms",
    "projection": "projection: where the states are",
}


def trait_set_choice(key: str) -> str:
    """A shipped trait set, one that fits the model, or a file; kept in the URL."""
    names = ["auto", *loaders.trait_sets()]
    # A link may name a file. Later the options stay as they are: others would make another widget of it.
    linked = st.session_state.setdefault(f"{key} in the link", st.query_params.get(key))
    options = names if not linked or linked in names else [*names, linked]
    chosen = st.selectbox(
        "Trait set", options, key=key, bind="query-params", accept_new_options=True,
        help="auto takes what fits the model; or a file; persona:warmth,attachment takes two of its traits",
    )  # fmt: skip
    return chosen or "auto"


def show(found: Watch, last: bool = False) -> None:
    """Courses, the turn that was chosen or (if `last`) the newest one, and every number."""
    st.markdown(alarms(found))
    names = [w.trait for w in found.traits]
    left, right = st.columns(2)
    with left:
        trait = panels.choose("Trait", names, "drift_trait")
    with right:
        kind = panels.choose("Series", list(SERIES), "drift_series", words=SERIES.__getitem__)
    watched = (found.traits if kind == "ratio" else found.projections)[names.index(trait)]
    note = (
        f"{found.model}; ordinary: {found.ordinary_conversations} conversations of at most {found.longest} turns, half of "
        f"them for the band, half for the threshold; false alarms promised: {found.promise}. Likelihood ratios, each along "
        "what its trait shares with no other watched one, raise the alarms that count: on planted drift projections told "
        "nothing (experiments/LOG.md). Small shifts that last add up: an alarm is where a sum passes the threshold "
        "(dashed), and sums start anew behind it. Click a turn to read it."
    )  # fmt: skip
    figure = drift.turn_course(watched, kind, [r.text for r in found.replies], note, panels.shade())
    panels.draw(figure, "course", on_select=take_turn, selection_mode="points")
    turn(found, trait, _chosen(len(found.replies), last))
    st.subheader("Numbers")
    st.dataframe(numbers(found), hide_index=True, key="turns")


def alarms(found: Watch) -> str:
    """Which traits raised alarms and in which turns, whatever trait is on show."""
    parts = [
        f"**{w.trait}** in turn {', '.join(str(t + 1) for t in w.course.alarms)}"
        for w in found.traits
        if w.course.alarms
    ]
    quiet = [w.trait for w in found.traits if not w.course.alarms]
    if quiet:
        parts.append(f"none on {', '.join(quiet)}")
    return f"Alarms: {'; '.join(parts)}."


def take_turn() -> None:
    """The turn of the mark that was clicked."""
    points = st.session_state["course"]["selection"]["points"]
    if points and points[0].get("customdata"):
        st.session_state[TURN] = int(points[0]["customdata"][0]) + 1
        st.session_state["drift_stay"] = True


def _chosen(turns: int, last: bool) -> int:
    """The number of the turn to show, from 0; what was chosen is kept while there are so many."""
    if last and not st.session_state.get("drift_stay"):
        st.session_state[TURN] = turns
    st.session_state[TURN] = min(max(1, int(st.session_state.get(TURN, 1))), turns)
    return int(st.number_input("Turn", 1, turns, key=TURN, on_change=_stay)) - 1


def _stay() -> None:
    st.session_state["drift_stay"] = True


@dataclass(frozen=True)
class Strip:
    """Tokens of one turn in sd of ordinary tokens, per trait."""

    tokens: tuple[str, ...]
    traces: dict[str, tuple[float, ...]]


def turn(found: Watch, trait: str, at: int) -> None:
    """What was said in a turn, and where its tokens are beside those of ordinary turns."""
    reply = found.replies[at]
    with st.chat_message("assistant"):
        st.text(reply.text or "(an empty reply)")
    traces = found.tokens_in_sd(at)
    if trait not in traces:
        return
    strips = {f"turn {at + 1}": Strip(reply.tokens, traces)}
    figure = trace.token_trace(
        found.model, strips, trait, panels.shade(), scale=IN_SD, note=trace.SD_NOTE, band=found.band_in_sd(trait),
    )  # fmt: skip
    tokens(strips, figure, trait, "drift_tokens")


def tokens(strips, figure, trait: str, key: str) -> None:
    """A trace and its text below, which scrolls to the token whose mark is clicked."""
    panels.draw(figure, key, on_select="rerun", selection_mode="points")
    points = st.session_state.get(key, {}).get("selection", {}).get("points", [])
    chosen = tuple(points[0]["customdata"][:2]) if points and points[0].get("customdata") else None
    strip = trace.scrolling(strips, trait, chosen, panels.shade(), IN_SD)
    st.iframe(strip, height=150, alt="the turn, token by token")


def numbers(found: Watch) -> pd.DataFrame:
    """One row per trait and turn."""
    rows = [
        {
            "turn": t + 1, "trait": w.trait, "ratio (nats)": w.value[t], "deviation": w.course.deviation[t],
            "alarm": t in w.course.alarms,
            "projection": p.value[t], "projection's deviation": p.course.deviation[t],
        }
        for w, p in zip(found.traits, found.projections, strict=True)
        for t in range(len(found.replies))
    ]  # fmt: skip
    return pd.DataFrame(rows)


# ------------------------------------------------------------------ a file that is followed


@dataclass
class Followed:
    """A file that is looked at again and again, as far as it was read; kept for the session only.

    job: what learns what is ordinary; waiting: for it, or for another job that this server runs before it.
    """

    path: Path
    config: WatchConfig
    stamp: tuple[int, int] | None = None
    talk: tuple[Message, ...] | None = None
    seen: Seen | None = None
    job: Job | None = None
    waiting: bool = False


def following(file: Followed) -> None:
    """The file's turns so far; the page is drawn anew when there are more."""
    try:
        _look(file)
        if file.talk is None:
            st.info(f"Waiting for the assistant's first turn in {panels.plain(file.path)}.")
        else:
            _tell(file, replace(file.config, conversation=file.talk))
    except LabError as error:
        st.error(panels.plain(error))
    _poll(file)


@st.fragment(run_every=EVERY)
def _poll(file: Followed) -> None:
    """Looks whether there is something new; as long as there is not, nothing on the page moves."""
    job = loaders.runner().job
    if file.waiting and job is not None and job.running:
        mine = job is file.job
        st.progress(job.fraction if mine else 0.0, text=panels.plain(job.stage if mine else BUSY))
    elif file.waiting or stamp_of(file.path) != file.stamp:
        file.waiting = False
        st.rerun()


def _look(file: Followed) -> None:
    """What the file holds now, if it has changed; while it breaks off, what it held before."""
    stamp = stamp_of(file.path)
    changed, file.stamp = stamp != file.stamp, stamp
    if stamp is None:
        raise LabError(f"{file.path}: expected a conversation file, found none; check the path")
    talk = look(file.path) if changed else None
    if talk is not None:
        if file.talk is not None and _told(talk) != _told(file.talk):
            file.seen = None  # was read in the norms of another system prompt
        file.talk = talk


def _told(talk: tuple[Message, ...]) -> list[Message]:
    return [m for m in talk if m.role == "system"]


def _tell(file: Followed, config: WatchConfig) -> None:
    """The conversation held against what is ordinary, or the job that learns it."""
    watcher = loaders.watcher(config)
    if watcher is None:
        _learn(file, config)
        return
    if file.seen is None or file.seen.messages != config.conversation:
        file.seen = watcher.read(config.conversation, file.seen)
    show(watcher.report(file.seen), last=True)


def _learn(file: Followed, config: WatchConfig) -> None:
    """Start the job when no other runs. LabError: what it ran into; it is not tried again then."""
    now = loaders.runner().job
    if now is not None and now.running:
        file.waiting = True
        return
    if file.job is not None and (error := file.job.outcome.exception()) is not None:
        raise error
    file.job, file.waiting = background.learn(config), True
