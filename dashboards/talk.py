"""Talking to one or two models side by side, unpushed beside pushed: traces of every token, drift of every turn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from dashboards import background, loaders, start
from dashboards.drift_parts import SERIES, trait_set_choice
from dashboards.panels import draw, plain, shade
from lab.figures import drift, trace
from lab.pipelines.live import CHAT_TOKENS, Speaker, Spoken
from lab.pipelines.watcher import Seen
from lab.records import LabError, Message

NOBODY = "nobody else"
LINES = {False: "as it is", True: "pushed"}
WIDTHS = """<style>
div:has(> [class*="st-key-model-"]) { flex-basis: 400px !important; }
div:has(> [class*="st-key-said-"]) { flex-basis: 170px !important; }
</style>"""
"""Two models stand side by side where both have 400 pixels, else one above the other; so do two replies at 170."""


@dataclass(frozen=True)
class Turn:
    """What the user said and what was answered; number: counts what the user has said."""

    number: int
    said: str
    spoken: Spoken


@dataclass
class Talk:
    """What one model has been told and has said, unpushed or pushed; kept for the session only."""

    turns: list[Turn] = field(default_factory=list)
    seen: Seen | None = None

    @property
    def messages(self) -> list[Message]:
        """The chat without its scaffold."""
        pairs = [(Message("user", t.said), Message("assistant", t.spoken.text)) for t in self.turns]
        return [m for pair in pairs for m in pair]


Talks = dict[tuple[str, bool], Talk]


def page() -> None:
    """Choose models, make them ready, talk."""
    left, middle, right = st.columns(3)
    with left:
        first = start.model_choice("Model A", "steer_a", 0)
    with middle:
        names = [NOBODY, *loaders.model_names()]
        second = st.selectbox("Model B", names, key="steer_b", bind="query-params", accept_new_options=True)
    with right:
        traits = trait_set_choice("steer_traits")
    models = [m for m in dict.fromkeys((first, second)) if m and m != NOBODY]
    ready = {m: loaders.speaker(m, traits) for m in models}
    waiting = [m for m, speaker in ready.items() if speaker is None]
    if waiting:
        _make_ready(waiting, traits)
        return
    speakers: dict[str, Speaker] = {m: s for m, s in ready.items() if s is not None}
    shared = _shared(speakers)
    if not shared:
        st.error("These models have no trait in common; choose a trait set for both.")
        return
    talks: Talks = st.session_state.setdefault(f"talks on {traits}", {})
    _converse(speakers, shared, _sliders(shared), talks)


def _make_ready(waiting: list[str], traits: str) -> None:
    """Extraction runs once per model, in the background; what is finished is kept."""
    st.write(
        f"{plain(' and '.join(waiting))}: directions are made once, from replies at both poles of each trait."
    )
    busy = background.busy()
    if st.button("Make ready", type="primary", disabled=busy):
        background.prepare(waiting, traits)
        st.rerun()
    start.progress(lambda _: st.rerun() if all(loaders.speaker(m, traits) for m in waiting) else None)


def _shared(speakers: Mapping[str, Speaker]) -> list[str]:
    """Traits that all models have a direction for."""
    first = next(iter(speakers.values())).gauges
    return [t for t in first if all(t in s.gauges for s in speakers.values())]


def _sliders(traits: Sequence[str]) -> dict[str, float]:
    """One slider per trait, in residual norms."""
    pushes = {}
    columns = st.columns(min(4, len(traits)))
    for k, trait in enumerate(traits):
        pushes[trait] = columns[k % len(columns)].slider(
            plain(trait), -0.5, 0.5, 0.0, 0.05, key=f"push {trait}", bind="query-params",
            help="in mean residual norms of the site; the shipped models stay coherent to about a quarter",
        )  # fmt: skip
    return pushes


def _converse(
    speakers: Mapping[str, Speaker], traits: Sequence[str], pushes: Mapping[str, float], talks: Talks
) -> None:
    """One line of talk per model, unpushed and pushed; all hear the same user."""
    with st.expander("Scaffold (system prompt)"):
        system = st.text_area(
            "Scaffold", height=140, key="steer_system", label_visibility="collapsed"
        ).strip()
    left, right = st.columns([3, 1])
    seed = right.number_input("Seed", 0, value=0, step=1, key="steer_seed")
    if left.button("Begin anew", disabled=not talks):
        talks.clear()
        st.rerun()
    busy = background.busy()
    said = st.chat_input("Say something to all of them", disabled=busy)
    if said:
        number = 1 + max((t.number for talk in talks.values() for t in talk.turns), default=0)
        for name, speaker in speakers.items():
            for pushed in LINES:
                talk = talks.setdefault((name, pushed), Talk())
                _answer(talk, speaker, number, said, system, pushes if pushed else {}, int(seed))
    shown = [name for name in speakers if any(talks.get((name, p), Talk()).turns for p in LINES)]
    if not shown:
        return
    st.html(WIDTHS)
    _transcript(shown, talks)
    left, right = st.columns(2)
    hardest = max(traits, key=lambda t: abs(pushes[t]))
    trait = left.selectbox(
        "Trait of the pictures",
        traits,
        index=traits.index(hardest),
        key="steer_trait_shown",
        format_func=plain,
    )
    kind = right.selectbox("Drift by", list(SERIES), key="steer_series", format_func=SERIES.__getitem__)
    _ordinary({name: speakers[name] for name in shown}, system)
    with st.container(horizontal=True):
        for name in shown:
            lines = {words: talks[name, p] for p, words in LINES.items() if (name, p) in talks}
            with st.container(key=f"model-{name}"):
                _course(name, speakers[name], lines, system, trait, kind)
                _trace(name, lines, trait)
    st.caption(trace.L_NOTE)


def _answer(
    talk: Talk, speaker: Speaker, number: int, said: str, system: str, pushes: Mapping[str, float], seed: int
) -> None:
    """One more turn; a chat that is too long says so and stays as it was."""
    messages = [*_scaffold(system), *talk.messages, Message("user", said)]
    heard = len(talk.messages) + 1
    try:
        spoken = speaker.say(messages, pushes, max_new_tokens=CHAT_TOKENS, seed=seed + heard)
    except LabError as error:
        st.error(plain(error))
        return
    talk.turns.append(Turn(number, said, spoken))


def _scaffold(system: str) -> list[Message]:
    return [Message("system", system)] if system else []


# ------------------------------------------------------------------ what was said


def _transcript(shown: Sequence[str], talks: Talks) -> None:
    """Turn by turn what the user said, once, and below it each model's replies, unpushed beside pushed."""
    turns = {
        (turn.number, name, pushed): turn
        for name in shown
        for pushed in LINES
        for turn in talks.get((name, pushed), Talk()).turns
    }
    for number in sorted({number for number, _, _ in turns}):
        here = {(name, pushed): turn for (n, name, pushed), turn in turns.items() if n == number}
        with st.chat_message("user"):
            st.text(next(iter(here.values())).said)
        with st.container(horizontal=True):
            for name in dict.fromkeys(name for name, _ in here):
                with st.container(key=f"model-{name}-{number}", horizontal=True):
                    for pushed, words in LINES.items():
                        if (name, pushed) in here:
                            with st.container(key=f"said-{name}-{number}-{words}", border=True):
                                st.caption(f"{plain(name)}, {words}")
                                st.text(here[name, pushed].spoken.text or "(an empty reply)")


def _trace(name: str, lines: Mapping[str, Talk], trait: str) -> None:
    """The last replies token by token, and their text, which scrolls to the token whose mark is clicked."""
    last = {w: talk.turns[-1].spoken for w, talk in lines.items() if talk.turns}
    key = f"points {name}"
    figure = trace.token_trace(name, last, trait, shade(), note="")
    draw(figure, key, on_select="rerun", selection_mode="points")
    points = st.session_state.get(key, {}).get("selection", {}).get("points", [])
    chosen = tuple(points[0]["customdata"][:2]) if points and points[0].get("customdata") else None
    strip = trace.scrolling(last, trait, chosen, shade())
    st.iframe(strip, height=190, alt="the replies, token by token")


# ------------------------------------------------------------------ drift


def _ordinary(speakers: Mapping[str, Speaker], system: str) -> None:
    """What the courses are held against; learned when asked for, in the background."""
    unknown = [s for s in speakers.values() if system not in s.watchers]
    job = loaders.runner().job
    if unknown:
        left, right = st.columns([3, 1])
        left.caption(
            "Turn by turn without a band so far: for one, each model has 40 conversations with itself under this "
            "scaffold (a minute for the shipped ones). Until then the course is the mean of a reply's tokens, "
            "push included."
        )
        if right.button("Learn the band", disabled=job is not None and job.running):
            st.session_state["steer_job"] = background.learn_ordinary(unknown, system)
            st.rerun()
    else:
        st.caption(
            "Drift: every reply read anew by the model unpushed, with the band of ordinary turns; crosses are alarms, "
            "at most 1 per 100 ordinary turns for each trait and line."
        )
    if job is not None and job is st.session_state.get("steer_job"):
        start.progress(lambda _: None)


@dataclass(frozen=True)
class Quiet:
    """No alarms."""

    alarms: tuple[int, ...] = ()


@dataclass(frozen=True)
class Levels:
    """A course without a band: the mean L of each reply's tokens."""

    trait: str
    value: NDArray[np.float64]
    course: Quiet = Quiet()

    @property
    def expected(self) -> NDArray[np.float64]:
        """Unknown."""
        return np.full(len(self.value), np.nan)

    reach = expected


def _course(
    name: str, speaker: Speaker, lines: Mapping[str, Talk], system: str, trait: str, kind: str
) -> None:
    """Both lines turn by turn, with their bands where what is ordinary was learned."""
    watcher, found = speaker.watchers.get(system), {}
    for words, talk in lines.items():
        if not talk.turns:
            continue
        replies = [t.spoken.text for t in talk.turns]
        if watcher is None:
            found[words] = (
                Levels(trait, np.array([_mean(t.spoken.traces[trait]) for t in talk.turns])),
                replies,
            )
            continue
        chat = (*_scaffold(system), *talk.messages)
        if talk.seen is None or talk.seen.messages != chat:
            talk.seen = watcher.read(chat, talk.seen)
        watch = watcher.report(talk.seen)
        series = watch.traits if kind == "ratio" else watch.projections
        found[words] = next(w for w in series if w.trait == trait), replies
    title = f"{name}: {trait}, turn by turn"
    figure = drift.turn_courses(title, found, "level" if watcher is None else kind, shade())
    draw(figure, f"course {name}")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
