"""Start with `lab dashboard`, or `streamlit run dashboards/app.py -- --runs runs`."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

st.set_page_config(page_title="Persona lab", layout="wide")
st.navigation(
    [
        st.Page("views/compare.py", title="Compare", default=True),
        st.Page("views/geometry.py", title="Geometry"),
        st.Page("views/transfer.py", title="Transfer"),
        st.Page("views/traits.py", title="Traits"),
        st.Page("views/features.py", title="Features"),
        st.Page("views/personas.py", title="Persona map"),
        st.Page("views/steer.py", title="Steer"),
        st.Page("views/drift.py", title="Drift"),
        st.Page("views/words.py", title="Words"),
        st.Page("views/atlas.py", title="Atlas"),
        st.Page("views/claims.py", title="Claims"),
        st.Page("views/continuity.py", title="Continuity"),
    ]
).run()
