"""What the page Claims is made of: the table, one claim's card, a button that tests it on two models."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from dashboards import background, loaders, panels
from dashboards.start import progress
from lab.figures import claims as figures
from lab.figures.claims_report import value
from lab.records.claims import Finding, Observation

EVERY = "all"

SHOWN = 200
"""Observations that the table shows at most; the download has all."""
SHORT = 70
"""Characters of what was read, in a list."""


def run_words(f: Finding) -> str:
    """How a finding reads in a list."""
    models = ", ".join(dict.fromkeys(m.name for m in f.models))
    return f"{f.said} over {f.over or models} ({f.created[:10]}, {f.run})"


def overview(found: Sequence[Finding], listed: Mapping[int, str]) -> None:
    """Every claim with its verdicts; those that were never tested, too. A click on a row opens it."""
    rows = [
        {
            "#": f.claim, "verdict": f.said, "claim": f.title, "over": f.over,
            "effect": " · ".join(f"{e.models}: {value(e)}" for e in f.effects if e.decides), "run": f.run,
        }
        for f in found
    ]  # fmt: skip
    untested = [n for n in listed if n not in {f.claim for f in found}]
    rows += [
        {"#": n, "verdict": "not tested", "claim": listed[n], "over": "", "effect": "", "run": ""}
        for n in untested
    ]
    rows.sort(key=lambda r: int(str(r["#"])))
    st.caption(counted(found, untested))
    key = "claims_table"
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, key=key, selection_mode="single-row",
        on_select=partial(panels.take_row, key, [_there(r) for r in rows]),
        column_config={"#": st.column_config.NumberColumn(width=40), "verdict": st.column_config.TextColumn(width=90)},
    )  # fmt: skip
    st.caption("Click a row to open it below.")


def counted(found: Sequence[Finding], untested: Sequence[int]) -> str:
    """How the claims stand: each counts once, under both verdicts where its tests disagree; quick looks count alone."""
    whole = {f.claim for f in found if not f.quick}
    verdicts: dict[int, list[str]] = {}
    for f in found:
        if not f.quick or f.claim not in whole:
            verdicts.setdefault(f.claim, []).append(f.said)
    said = Counter(" or ".join(dict.fromkeys(v)) for v in verdicts.values())
    said.update(["not tested"] * len(untested))
    words = ", ".join(f"{n} {verdict}" for verdict, n in said.most_common())
    return f"{sum(said.values())} claims, {len(found)} tests: {words}."


def _there(row: Mapping[str, object]) -> dict[str, str]:
    run = {"claim_run": str(row["run"])} if row["run"] else {}
    return {"claim": str(row["#"]), **run}


def card(f: Finding) -> None:
    """One finding: verdict, picture, effects, what it was read from, and the rule."""
    st.subheader(f"{f.said.capitalize()}: {panels.plain(f.title)}")
    for head in ("Question", "Prediction"):
        st.markdown(f"**{head}.** {panels.plain(f.sections[head])}")
    figure = figures.claim_figure(f, panels.shade())
    panels.draw_in_column(figure, "claim_figure", {"claim_models": 0, "claim_series": 1})
    panels.give_claim(f, f.run, lambda: figures.claim_figure(f), lambda: figures.effects_table(f))
    with st.expander("Measure, null, verdict rule, what would change it"):
        for head in ("Measure", "Null", "Verdict rule", "What would change it"):
            st.markdown(f"**{head}.** {panels.plain(f.sections[head])}")
    with st.expander("What was run"):
        st.text(f"run {f.run}, made {f.created}")
        st.dataframe(pd.DataFrame([vars(m) for m in f.models]), hide_index=True, key="claim_tested")
        st.json(dict(f.settings), expanded=False)
    observations(f)


def observations(f: Finding) -> None:
    """What the verdict was made of: a series, its values, and what was read for the one that is chosen."""
    st.subheader("What was observed")
    left, right = st.columns(2)
    with left:
        known = list(dict.fromkeys(o.series for o in f.observations))
        telling = next((o.series for o in f.observations if o.note), None)
        series = panels.choose("Series", known, "claim_series", telling)
    rows = figures.series_of(f, series)
    known = [EVERY, *dict.fromkeys(o.models for o in rows)]
    with right:
        models = panels.choose("Of", known, "claim_models")
    mine = {str(k): o for k, o in enumerate(rows) if models in (EVERY, o.models)}
    make = partial(figures.observed, f, series)
    panels.draw_in_column(make(theme=panels.shade()), "claim_observed", {"claim_read": 0})
    panels.give_claim(f, "observed", make, lambda: figures.observations_table(f), series=series)
    columns = ["series", *(c for c in ("n", "note") if not any(getattr(o, c) for o in mine.values()))]
    table = pd.DataFrame([vars(o) for o in mine.values()]).drop(columns=columns).dropna(axis=1, how="all")
    key = "claim_values"
    st.dataframe(
        table.head(SHOWN), hide_index=True, key=key, selection_mode="single-row",
        on_select=partial(panels.take_row, key, [{"claim_read": k} for k in mine]),
    )  # fmt: skip
    st.caption(
        f"{len(mine)} values, {min(len(mine), SHOWN)} of them here. Click a mark or a row to read what was read."
    )
    reading(mine)


def reading(mine: Mapping[str, Observation]) -> None:
    """One observation in full."""
    words = {k: f"{o.models}, {o.cluster}: {o.value:.3g}{_beginning(o.note)}" for k, o in mine.items()}
    chosen = mine[panels.choose("Read", list(words), "claim_read", words=words.get)]
    if not chosen.note:
        st.caption(
            "Nothing was kept for this value but the number; the claim's measure says what it is made of."
        )
    else:
        panels.said(st, f"{chosen.models}, {chosen.cluster}", chosen.note.split(" | "), panels.shade().faint)


def _beginning(note: str) -> str:
    short = note if len(note) <= SHORT else note[: SHORT - 1] + "…"
    return f", “{short}”" if note else ""


def run_again(number: int) -> None:
    """A form that tests the claim on two models in the background."""
    with st.expander("Test it on two models"):
        known = loaders.model_names()
        left, right, third = st.columns([2, 2, 1])
        a = left.selectbox("First model", known, index=0, accept_new_options=True, key="claim_a")
        b = right.selectbox(
            "Second model", known, index=min(1, len(known) - 1), accept_new_options=True, key="claim_b"
        )
        quick = third.checkbox("Quick look", value=True, help="Fewer scaffolds and questions.")
        busy = background.busy()
        if st.button("Run", type="primary", disabled=busy or not (a and b)):
            background.test_claim(number, (str(a), str(b)), quick)
            st.rerun()
        st.caption("A shipped name, a folder, or a hub name (then it is downloaded). The same:")
        words = [
            "lab",
            "claims",
            "run",
            str(number),
            "--models",
            str(a),
            str(b),
            *(["--quick"] if quick else []),
        ]
        st.code(shlex.join(words), language=None, wrap_lines=True)
    job = loaders.runner().job
    if job is not None and (job.running or job.about.startswith("claim ")):
        progress(_offer)


def _offer(done: object) -> None:
    if isinstance(done, Finding):
        st.success(f"Claim {done.claim}: {done.said}.")
        if st.button("Open the result", on_click=_open, args=(done,), type="primary"):
            st.rerun()


def _open(done: Finding) -> None:
    st.session_state["claim"] = str(done.claim)
    st.session_state["claim_run"] = done.run
