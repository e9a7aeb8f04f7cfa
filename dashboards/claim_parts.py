"""What the page Claims is made of: the table, one claim's card, a button that tests it on two models."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from dashboards import loaders, panels
from dashboards.start import progress
from lab.figures import claims as figures
from lab.figures.claims_report import value
from lab.records.claims import Finding

SHOWN = 200
"""Observations that the table shows at most; the download has all."""


def run_words(f: Finding) -> str:
    """How a finding reads in a list."""
    models = ", ".join(dict.fromkeys(m.name for m in f.models))
    return f"{f.verdict} over {f.over or models} ({f.created[:10]}, {f.run})"


def overview(found: Sequence[Finding], listed: Mapping[int, str]) -> None:
    """Every claim with its verdicts; those that were never tested, too."""
    rows = [
        {
            "#": f.claim, "claim": f.title, "verdict": f.verdict, "over": f.over,
            "effect": " · ".join(f"{e.models}: {value(e)}" for e in f.effects if e.decides),
        }
        for f in found
    ]  # fmt: skip
    untested = [n for n in listed if n not in {f.claim for f in found}]
    rows += [
        {"#": n, "claim": listed[n], "verdict": "not tested", "over": "", "effect": ""} for n in untested
    ]
    table = pd.DataFrame(sorted(rows, key=lambda r: int(str(r["#"]))))
    said = table["verdict"].value_counts()
    st.caption(", ".join(f"{n} {verdict}" for verdict, n in said.items()))
    st.dataframe(table, hide_index=True, key="claims_table")


def card(f: Finding) -> None:
    """One finding: verdict, picture, effects, what it was read from, and the rule."""
    st.subheader(f"{f.verdict.capitalize()}: {panels.plain(f.title)}")
    panels.draw(figures.claim_figure(f, panels.shade()), "claim_figure")
    panels.give_claim(f, lambda: figures.claim_figure(f), lambda: figures.effects_table(f))
    for head in ("Question", "Prediction"):
        st.markdown(f"**{head}.** {panels.plain(f.sections[head])}")
    with st.expander("Measure, null, verdict rule, what would change it"):
        for head in ("Measure", "Null", "Verdict rule", "What would change it"):
            st.markdown(f"**{head}.** {panels.plain(f.sections[head])}")
    with st.expander("What was run"):
        st.text(f"run {f.run}, made {f.created}")
        st.dataframe(pd.DataFrame([vars(m) for m in f.models]), hide_index=True, key="claim_models")
        st.json(dict(f.settings), expanded=False)
    observed = figures.observations_table(f)
    series = panels.choose("What was observed", list(dict.fromkeys(observed["series"])), "claim_series")
    mine = observed[observed["series"] == series].dropna(axis=1, how="all")
    st.caption(f"{len(mine)} values; note: what was read there.")
    st.dataframe(mine.head(SHOWN), hide_index=True, key="claim_observed")


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
        busy = (job := loaders.runner().job) is not None and job.running
        if st.button("Run", type="primary", disabled=busy or not (a and b)):
            loaders.test_claim(number, (str(a), str(b)), quick)
            st.rerun()
        st.caption("A shipped name, a folder, or a hub name (then it is downloaded). The same: "
                   f"`lab claims run {number} --models A B`")  # fmt: skip
    progress(_offer)


def _offer(done: object) -> None:
    if isinstance(done, Finding):
        st.success(f"Claim {done.claim}: {done.verdict}.")
        if st.button("Open the result", on_click=_open, args=(done,), type="primary"):
            st.rerun()


def _open(done: Finding) -> None:
    st.session_state["claim"] = str(done.claim)
    st.session_state["claim_run"] = done.run
