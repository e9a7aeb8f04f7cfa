"""Claims: what people say of weights and scaffolds, and what the models said."""

import streamlit as st

from dashboards import claim_parts as parts
from dashboards import loaders, panels
from lab.records import LabError

st.title("Claims")
st.caption(
    "Each claim has a measure, a null and a verdict rule that were written before the run. Refuted and cannot tell are "
    "results. These are measures of models: no statement about persons, feelings or consciousness."
)
try:
    found = loaders.findings()
    listed = loaders.claims()
    parts.overview(found, listed)
    numbers = [str(n) for n in listed]
    number = panels.choose("Claim", numbers, "claim", words=lambda n: f"{n}. {listed[int(n)]}")
    mine = {f.run: f for f in found if f.claim == int(number)}
    if mine:
        run = panels.choose("Tested on", list(mine), "claim_run", words=lambda r: parts.run_words(mine[r]))
        parts.run_again(int(number))
        parts.card(mine[run])
    else:
        st.info("Not tested here yet.")
        st.code(f"lab claims run {number}", language=None)
        parts.run_again(int(number))
except LabError as error:
    st.error(panels.plain(error))
