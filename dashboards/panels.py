"""Pieces that pages put together: choices that live in the URL, replies, downloads."""

import io
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from lab.figures import lookup, tables, theme, tokens
from lab.figures.export import export, page
from lab.figures.report import write_report
from lab.records import Comparison, ReplyRow
from lab.records.atlas import AtlasBook
from lab.records.cards import TraitBook
from lab.records.claims import Finding
from lab.records.continuity import ContinuityResult
from lab.records.decomposition import DecompositionBook, ReadoutBook
from lab.records.feature_cards import FeatureBook
from lab.records.geometry import GeometryBook, TransferBook
from lab.records.personas import PersonaMap
from lab.records.steering import Steering
from lab.records.words import WordsBook
from lab.store import RunInfo

POSITIONS = {"reply_mean": "whole reply", "spawn": "spawn point"}
Option = TypeVar("Option", bound=str)
OneModel = Steering | TraitBook | DecompositionBook
SeveralModels = PersonaMap | GeometryBook | TransferBook | AtlasBook | WordsBook | FeatureBook | ReadoutBook
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!<>|~$:])")


def plain(words: object) -> str:
    """User text for a widget that reads Markdown: shown as it is, no links, no pictures."""
    return MARKDOWN.sub(r"\\\1", str(words))


def choose(
    label: str,
    options: Sequence[Option],
    key: str,
    default: Option | None = None,
    words: Callable | None = None,
) -> Option:
    """A choice that is kept in the URL; the first option may be left out of it.

    `words` says how an option reads. Streamlit's own binding would write those words into the URL,
    where they may change; so then the URL is kept here, by the option itself, from the start.
    """
    settle(options, key, default)
    if words is None:
        return st.selectbox(label, options, key=key, bind="query-params")
    chosen = st.selectbox(label, options, key=key, format_func=words)
    st.query_params[key] = chosen
    return chosen


def run_words(info: RunInfo) -> str:
    """How a saved run reads in a list."""
    return f"{info.title}, {info.created[:16].replace('T', ' ')} UTC ({info.id})"


def settle(options: Sequence[str], key: str, default: str | None = None) -> None:
    """Take the choice of this session, else of the URL, else the default; unknown ones fall away."""
    wanted = st.session_state.get(key, st.query_params.get(key))
    st.session_state[key] = wanted if wanted in options else default or options[0]


def shade() -> theme.Theme:
    """The figure theme that goes with the page's."""
    return theme.DARK if st.context.theme.type == "dark" else theme.LIGHT


def draw(figure: Any, key: str, **more: Any) -> None:
    """A figure at page width in our own theme."""
    st.plotly_chart(figure, key=key, width="stretch", theme=None, config={"displaylogo": False}, **more)


def draw_with_clicks(figure: Any, key: str, into: Mapping[str, int]) -> None:
    """The same, and a click on a mark makes choices: key of the choice to its place in the mark's customdata."""
    draw(figure, key, on_select=partial(take, key, into), selection_mode="points")


def draw_in_column(figure: Any, key: str, into: Mapping[str, int]) -> None:
    """The same in a place narrower than a page: the note stands under the figure, where it wraps."""
    alone, note = theme.apart(figure)
    draw_with_clicks(alone, key, into)
    st.caption(plain(note))


def take(chart: str, into: Mapping[str, int]) -> None:
    """The mark of the chart that was clicked chooses for everything else on the page; none, nothing."""
    points = st.session_state[chart]["selection"]["points"]
    found = points[0].get("customdata") if points else None
    for key, place in into.items():
        if found and place < len(found):
            st.session_state[key] = str(found[place])


def replies(comparison: Comparison, scaffold: str, trait: str) -> None:
    """What both models said under one wording, question by question, and their token strips."""
    mine = [x for x in comparison.replies if x.scaffold == scaffold]
    if not mine:
        st.info("This run stored no replies for this scaffold.")
        return
    left, right = st.columns(2)
    with left:
        question = choose("Question", list(dict.fromkeys(x.question for x in mine)), "question")
    with right:
        wordings = [str(x) for x in sorted({x.paraphrase for x in mine})]
        wording = choose("Wording", wordings, "wording", words=lambda x: f"wording {int(x) + 1}")
    rows = lookup.replies(comparison, scaffold, int(wording), question)
    for column, row in zip(st.columns(max(1, len(rows))), rows, strict=False):
        said(column, row.model, [row.reply.text], theme.MODEL_COLOURS[comparison.labels.index(row.model)])
        with column.expander("What it was given"):
            st.text(row.prompt)
    st.html(tokens.token_strip(comparison, rows, trait, shade()))
    st.download_button(
        "Token strips and their numbers (zip)", lambda: strip_zip(comparison, rows, trait), "tokens.zip",
        "application/zip", on_click="ignore", key="tokens.zip",
    )  # fmt: skip


def take_row(table: str, rows: Sequence[Mapping[str, str]]) -> None:
    """The row of a table that was clicked makes choices: `rows` has them, by key, for each row."""
    chosen = st.session_state[table]["selection"]["rows"]
    if chosen and chosen[0] < len(rows):
        st.session_state.update(rows[chosen[0]])


def said(column: Any, head: str, texts: Sequence[str], colour: str) -> None:
    """Replies under a head in the colour of what they belong to; all of it is shown as it is."""
    column.html(f'<b style="border-left:4px solid {colour};padding-left:8px">{escape(head)}</b>')
    for text in texts:
        column.text(text or "(an empty reply)")


def take_away(
    comparison: Comparison, stem: str, make: Callable[[], Any], table: Callable[[], pd.DataFrame],
    **about: str,
) -> None:  # fmt: skip
    """A button that gives a figure with its numbers and its origin, made when it is pressed."""
    _offer(stem, make, table, manifest(comparison, stem, **about))


def give(
    found: OneModel | SeveralModels, stem: str,
    make: Callable[[], Any], table: Callable[[], pd.DataFrame], **about: str,
) -> None:  # fmt: skip
    """The same for a figure of another kind of run."""
    models = (found.model,) if isinstance(found, OneModel) else found.models
    origin = {"run": found.run, "figure": stem, **about, "models": [asdict(m) for m in models]}
    _offer(stem, make, table, origin)


def give_claim(
    found: Finding, stem: str, make: Callable[[], Any], table: Callable[[], pd.DataFrame], **about: str
) -> None:
    """The same for a tested claim."""
    origin = {"run": found.run, "figure": stem, **about, "claim": found.claim,
              "models": [asdict(m) for m in found.models], "settings": dict(found.settings)}  # fmt: skip
    _offer(stem, make, table, origin)


def give_runs(
    found: Sequence[ContinuityResult], stem: str, make: Callable[[], Any], table: Callable[[], pd.DataFrame]
) -> None:
    """The same for a figure of several runs, each of one model."""
    runs = [{"run": r.run, "model": asdict(r.model), "settings": dict(r.settings)} for r in found]
    _offer(stem, make, table, {"figure": stem, "runs": runs})


def _offer(
    stem: str, make: Callable[[], Any], table: Callable[[], pd.DataFrame], origin: Mapping[str, object]
) -> None:
    st.download_button(
        "Figure, table and manifest (zip)", lambda: figure_zip(stem, make(), table(), origin),
        f"{stem}.zip", "application/zip", on_click="ignore", key=f"{stem}.zip",
    )  # fmt: skip


def figure_zip(stem: str, figure: Any, table: pd.DataFrame, origin: Mapping[str, object]) -> bytes:
    """A figure as HTML, CSV, JSON and, where a Chrome is found, PDF, SVG and PNG."""
    with tempfile.TemporaryDirectory() as folder:
        done = export(figure, Path(folder), stem, table, origin)
        return _zip(done.files, done.note)


def strip_zip(comparison: Comparison, rows: Sequence[ReplyRow], trait: str) -> bytes:
    """The token strip as an HTML page, its projections as CSV, and the manifest."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"tokens.{kind}" for kind in ("html", "csv", "json")]
        files[0].write_text(page("tokens", [tokens.token_strip(comparison, rows, trait)]), encoding="utf-8")
        tables.tokens(rows, trait).to_csv(files[1], index=False)
        origin = manifest(comparison, "tokens", trait=trait)
        files[2].write_text(json.dumps({"manifest": origin}, indent=1, default=str), encoding="utf-8")
        return _zip(files, None)


def manifest(comparison: Comparison, figure: str, **about: str) -> dict[str, object]:
    """Where a figure comes from."""
    return {
        "run": comparison.run, "figure": figure, **about, "trait_set": comparison.trait_set,
        "models": [asdict(m) for m in comparison.models], "settings": dict(comparison.settings),
    }  # fmt: skip


def _zip(files: Sequence[Path], note: str | None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
        if note:
            archive.writestr("NOTE.txt", note)
    return buffer.getvalue()


def report(comparison: Comparison) -> None:
    """A button that gives the whole report."""
    st.download_button(
        "Report (one HTML file)", lambda: report_bytes(comparison), "report.html", "text/html",
        on_click="ignore", key="report",
    )  # fmt: skip


def report_bytes(comparison: Comparison) -> bytes:
    """The self-contained HTML report."""
    with tempfile.TemporaryDirectory() as folder:
        return write_report(comparison, Path(folder)).read_bytes()
