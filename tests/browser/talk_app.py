"""The pages Steer and Drift with a parrot in place of every model; run by streamlit."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "tests"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from fake_talk import Listener, Parrot  # noqa: E402

from dashboards import loaders  # noqa: E402
from lab.pipelines import watch as job  # noqa: E402

TIMES = 60
"""Sentences of a reply: more than the strip of its tokens can show at once."""


def watch(config, store, progress):
    """What `lab watch` would say."""
    listener = Listener()
    return listener.report(listener.read(config.conversation))


loaders.speakers().setdefault((str(loaders.runs_folder()), "hearth-a", "auto"), Parrot("hearth-a", TIMES))
job.watch = watch
job.make_watcher = lambda config, store, progress: Listener()
st.set_page_config(page_title="Persona lab", layout="wide")
st.navigation([st.Page(ROOT / "dashboards" / "views" / f"{name}.py") for name in ("steer", "drift")]).run()
