"""What the page Continuity is made of: scores, changes, tells, and a form that starts a run."""

import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from math import isnan
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import background, loaders, panels, start
from dashboards.continuity_items import items
from lab.continuity import BY_TONE
from lab.figures import continuity as figures
from lab.records import LabError
from lab.records.continuity import EVERY, ContinuityResult
from lab.store import RunInfo

CONDITIONS = ("full", "none", "tone-only")
ITEMS = {"": "what the model speaks", "hearth": "hearth", "chat": "chat"}
NUMBER = st.column_config.NumberColumn(format="%.2f")
FINE = st.column_config.NumberColumn(format="%.4f")


def alike(one: RunInfo, other: RunInfo) -> bool:
    """Whether two runs asked the same items of the same judge, so that one axis holds both."""
    kinds = [{k: loaders.manifest(x).get(k) for k in ("set", "judge", "unit")} for x in (one, other)]
    return kinds[0] == kinds[1]


def partner(runs: Mapping[str, RunInfo], run: str, others: Sequence[str]) -> str | None:
    """The newest of other runs that is of another model, to begin with; None: none."""
    return next((x for x in others if runs[x].title != runs[run].title), None)


def show(infos: Sequence[RunInfo]) -> None:
    """One or two runs: the picture, changes, tells, and item by item."""
    infos = sorted(infos, key=lambda x: x.title)  # a model keeps its colour, whichever was chosen first
    found = [loaders.book(info, ContinuityResult) for info in infos]
    make = partial(figures.battery, found)
    into = {"battery_family": 0, "battery_condition": 1}
    panels.draw_in_column(make(theme=panels.shade()), "battery", into)
    panels.give_runs(found, "continuity", make, partial(figures.scores_table, found))
    st.caption("Click a mark to read its replies below.")
    with st.expander("Every number"):
        st.dataframe(figures.scores_table(found), hide_index=True, key="battery_scores")
    changes(found)
    tells(found)
    items(found, infos[0])


# ------------------------------------------------------------------ conditions


def changes(found: Sequence[ContinuityResult]) -> None:
    """What the first condition changes against another, family by family."""
    st.subheader("What the scaffold changes")
    table = figures.changes_table(found)
    if table.empty:
        st.info("Only one condition was asked: there is nothing to hold it against.")
        return
    pairs = list(dict.fromkeys(zip(table["condition"], table["against"], strict=True)))
    words = {f"{c} {a}": f"{c} against {a}" for c, a in pairs}
    chosen = panels.choose("Change", list(words), "battery_change", words=words.get)
    condition, against = pairs[list(words).index(chosen)]
    mine: Any = table[(table["condition"] == condition) & (table["against"] == against)]
    columns = ["family", "model", "change", "low", "high", "p", "q", "n", "clusters", "tone_change", "tone_low",
               "tone_high"]  # fmt: skip
    order = {f: k for k, f in enumerate([EVERY, *figures.families_of(found)])} | {EVERY: -1}
    mine = mine.sort_values("family", key=lambda f: f.map(order), kind="stable")[columns]
    mine["family"] = mine["family"].map(figures.family_words)
    names = {"change": "change of share passed", "clusters": "characters", "tone_change": "change of tone"}
    plain = [names.get(c, c) for c in ("change", "low", "high", "tone_change", "tone_low", "tone_high")]
    st.dataframe(
        mine.rename(columns=names), hide_index=True, key="battery_changes",
        column_config={**dict.fromkeys(plain, NUMBER), "p": FINE, "q": FINE},
    )  # fmt: skip
    st.caption(
        "The same items under both conditions. Bars: 95 %, cluster bootstrap over characters. p: signs of the characters' "
        "changes flipped, two-sided; q: Benjamini-Hochberg over the families of this pair. A change of 1: every item that "
        "failed passes."
    )


def tells(found: Sequence[ContinuityResult]) -> None:
    """Whether the tone of a reply tells that it is right."""
    st.subheader("Does a reply's tone tell that it holds?")
    rows = [
        {
            "model": label, "condition": t.condition, "probability": t.auroc, "low": t.low, "high": t.high,
            "pairs": t.pairs, "n": t.n, "reads": _told(t.auroc, t.low, t.high),
        }
        for r, label in zip(found, figures.labels(found), strict=True)
        for t in r.tells
    ]  # fmt: skip
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, key="battery_tells",
        column_config=dict.fromkeys(("probability", "low", "high"), NUMBER),
    )  # fmt: skip
    left_out = " and ".join(map(figures.family_words, BY_TONE))
    st.caption(
        "Probability that of a passed and a failed reply of one family the passed one has the better tone; .5 is chance. "
        f"95 %, cluster bootstrap over characters. Left out: {left_out}, where passing is itself read from tone."
    )


def _told(auroc: float, low: float, high: float) -> str:
    if isnan(auroc):
        return "no family has both a passed and a failed reply"
    if isnan(low):
        return "too few characters for an interval"
    return "tells" if low > 0.5 else "tells the wrong way" if high < 0.5 else "cannot tell"


# ------------------------------------------------------------------ a new run


def form() -> None:
    """Choose a model and conditions, then ask; the result is shown by a click."""
    left, right = st.columns(2)
    with left:
        model = start.model_choice("Model", "battery_model", 0)
    with right:
        conditions = st.multiselect(
            "Conditions, changes are of the first against the others",
            [*CONDITIONS, *loaders.scaffold_texts()], default=CONDITIONS, key="battery_conditions",
            help="full: each item's own scaffold; none: no scaffold; tone-only: who speaks and how, without memory, "
            "boundaries and lessons; a scaffold of the lab takes the place of the items' identities.",
        )  # fmt: skip
    with st.expander("Settings"):
        one, two = st.columns(2)
        with one:
            which = panels.choose("Items", list(ITEMS), "battery_set", words=ITEMS.get)
        judge = two.text_input(
            "Judge", "auto", key="battery_judge",
            help="auto: exact on Hearth, else the checks alone, so that what has a rubric stays unscored; or model:NAME "
            "or api:URL@MODEL",
        )  # fmt: skip
    ready = bool(model) and bool(conditions)
    if st.button("Ask it", type="primary", disabled=background.busy() or not ready):
        try:
            background.ask_battery(str(model), conditions, which, judge.strip())
            st.rerun()
        except LabError as error:
            st.error(panels.plain(error))
    st.caption("Every item in every condition: a minute for the shipped models. The same:")
    st.code(command(str(model or "MODEL"), conditions, which, judge.strip()), language=None, wrap_lines=True)
    start.progress(_offer)


def command(model: str, conditions: Sequence[str], items: str, judge: str) -> str:
    """The command that does what the form does."""
    paths, words = loaders.scaffold_paths(), ["lab", "continuity", model]
    if list(conditions) != list(CONDITIONS):
        words += [w for name in conditions for w in ("--scaffold", paths.get(name, name))]
    words += ["--items", items] if items else []
    return shlex.join([*words, *(["--judge", judge] if judge not in ("", "auto") else [])])


def _offer(done: object) -> None:
    if isinstance(done, ContinuityResult):
        st.success(f"{panels.plain(done.model.name)} was asked.")
        if st.button("Open the result", on_click=_open, args=(done.run,), type="primary"):
            st.rerun()


def _open(run: str) -> None:
    st.session_state["battery_view"] = "Saved run"
    st.session_state["battery_run"] = run
