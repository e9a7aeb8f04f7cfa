"""The dashboard without a browser: one of its pages, what charts on it hold, and that reading needs no torch."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "transformer_lens", "sae_lens")


def page(name="compare", **query):
    """A page of the whole app, opened by a link with this query."""
    at = AppTest.from_file(str(ROOT / "dashboards" / "app.py"), default_timeout=60)
    at.switch_page(f"views/{name}.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def query(at):
    """What stands in the URL."""
    return {k: v[0] if isinstance(v, list) else v for k, v in at.query_params.items()}


def charts(at):
    """Plotly specs from the top of the page to its end."""
    return [json.loads(x.proto.spec) for x in at.get("plotly_chart")]


def chart(at, key):
    """The spec of the chart with this key."""
    (found,) = [x for x in at.get("plotly_chart") if x.proto.id.endswith(f"-{key}")]
    return json.loads(found.proto.spec)


def role(chart, name):
    """Traces of one role."""
    return [t for t in chart["data"] if t["meta"]["role"] == name]


def roles(chart):
    """What kinds of marks there are."""
    return {t["meta"]["role"] for t in chart["data"]}


def values(x):
    """Plotly writes numbers as lists or as base64."""
    return list(np.frombuffer(base64.b64decode(x["bdata"]), x["dtype"])) if isinstance(x, dict) else list(x)


def click(monkeypatch, mark, into):
    """What a click on a mark with this customdata puts into the session, for a chart that makes these choices."""
    from dashboards import panels

    state = {"clicked": {"selection": {"points": [{"customdata": mark}] if mark else []}}}
    with monkeypatch.context() as patched:
        patched.setattr(panels.st, "session_state", state)
        panels.take("clicked", into)
    return {key: state[key] for key in into if key in state}


def given_away(monkeypatch, *args, **about):
    """What the button under a figure makes: name, figure, table, origin; nothing is drawn or zipped."""
    from dashboards import panels

    made = []
    with monkeypatch.context() as patched:
        patched.setattr(panels.st, "download_button", lambda label, data, name, *a, **k: made.append(data))
        patched.setattr(
            panels, "figure_zip", lambda stem, figure, table, origin: (stem, figure, table, origin)
        )
        panels.give(*args, **about)
        return made[0]()


def assert_no_torch(name, number, **query):
    """Opening a page with so many charts, in a process of its own, loads none of the heavy libraries."""
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT / 'tests')!r}, {str(ROOT)!r}]; from pages import page; "
        f"at = page({name!r}, **{query!r}); found = len(at.get('plotly_chart')); "
        f"assert found == {number}, found; heavy = set({HEAVY!r}) & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
