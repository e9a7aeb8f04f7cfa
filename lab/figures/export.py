"""A figure as files that stand alone, with its numbers and its origin. Nothing leaves the machine."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import kaleido
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from choreographer.errors import (
    BrowserClosedError,
    BrowserFailedError,
    ChannelClosedError,
    ChromeNotFoundError,
)

from lab.records import LabError

# No script, font or picture may come from elsewhere: what is in the file is all there is.
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:\">"
)
PLOT_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
}
VECTOR_AND_PIXEL = ("pdf", "svg", "png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
NO_BROWSER = (
    "No PDF, SVG or PNG: they need Chrome or Chromium and none was found. Install one "
    "(Debian: apt install chromium) or set BROWSER_PATH to its program; HTML, CSV and JSON are there."
)


@dataclass(frozen=True)
class Exported:
    """What was written, manifest last, and what was not and why (None: nothing is missing)."""

    files: tuple[Path, ...]
    note: str | None


def export(
    figure: go.Figure,
    folder: Path,
    stem: str,
    table: pd.DataFrame,
    manifest: Mapping[str, object],
    width: int = 1000,
) -> Exported:
    """Write `stem`.html, .csv and .json, and .pdf, .svg and .png where a Chrome is found.

    The JSON holds the manifest, the figure and the sha256 of each other file; it comes last, so a
    folder with the JSON is whole. Raises LabError when `stem` is no plain file name.
    """
    if not stem or Path(stem).name != stem:
        raise LabError(f"Expected a plain file name for the export, came {stem!r}: leave out folders.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        work = Path(temporary)
        (work / f"{stem}.html").write_text(page(stem, [plot(figure, first=True)]), encoding="utf-8")
        table.to_csv(work / f"{stem}.csv", index=False)
        missing = _pictures(figure, work, stem, width)
        sums = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(work.iterdir())}
        record = {"manifest": dict(manifest), "files": sums, "figure": json.loads(str(figure.to_json()))}
        (work / f"{stem}.json").write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")
        files = []
        for name in (*sums, f"{stem}.json"):
            os.replace(work / name, folder / name)
            files.append(folder / name)
    return Exported(tuple(files), missing)


def page(title: str, body: Sequence[str], style: str = "") -> str:
    """A self-contained HTML page; `title` and `body` are trusted, so escape user text before."""
    head = f'<meta charset="utf-8">{POLICY}<title>{title}</title><style>{style}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>'


def plot(figure: go.Figure, first: bool) -> str:
    """A figure as an HTML fragment; the first of a page brings plotly.js along."""
    return pio.to_html(
        figure, include_plotlyjs=first, include_mathjax=False, full_html=False, config=PLOT_CONFIG
    )


def find_browser() -> str | None:
    """The Chrome that kaleido would use: BROWSER_PATH, else the first known name on PATH."""
    named = os.environ.get("BROWSER_PATH")
    if named:
        return named if Path(named).is_file() else None
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def drawings(figures: Mapping[str, go.Figure], folder: Path, width: int = 1000) -> str | None:
    """Each figure as NAME.svg in `folder`, in one go; None, or why there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    return _drawn([(figure, folder / f"{name}.svg") for name, figure in figures.items()], width)


def _pictures(figure: go.Figure, folder: Path, stem: str, width: int) -> str | None:
    return _drawn([(figure, folder / f"{stem}.{kind}") for kind in VECTOR_AND_PIXEL], width)


def _drawn(pictures: Sequence[tuple[go.Figure, Path]], width: int) -> str | None:
    browser = find_browser()
    if browser is None:
        return NO_BROWSER
    jobs = [
        {
            "fig": figure,
            "path": str(path),
            "opts": {"format": path.suffix.removeprefix("."), "width": width, "scale": 2},
        }
        for figure, path in pictures
    ]
    # kaleido fetches MathJax from the network unless told not to.
    try:
        failed = kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False, "path": browser})
    except (BrowserFailedError, BrowserClosedError, ChromeNotFoundError, ChannelClosedError) as error:
        failed = (error,)
    if failed:
        return f"No PDF, SVG or PNG: {browser} did not draw them ({failed[0]}); HTML, CSV and JSON are there."
    return None
