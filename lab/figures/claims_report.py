"""All tested claims on one page, and as a Markdown table; made from records, without any model."""

import os
from collections.abc import Sequence
from html import escape
from math import isfinite
from pathlib import Path

from lab.figures.claims import claim_figure, effects_table
from lab.figures.export import drawings, page, plot
from lab.figures.report import STYLE
from lab.records.claims import Effect, Finding

STANCE = (
    "Every row is a measure of models: of their states, replies and scores on the lab's own tasks. Nothing here is a "
    "statement about persons, feelings or consciousness."
)


def write_report(found: Sequence[Finding], folder: Path) -> Path:
    """`report.html`, `report.md`, and per run `figures/RUN.csv` and (with a Chrome) `RUN.svg`; returns the page.

    Without a Chrome the page holds the figures as plotly draws them.
    """
    figures = {f.run: claim_figure(f) for f in found}
    places = folder / "figures"
    without = drawings(figures, places)
    for f in found:
        effects_table(f).to_csv(places / f"{f.run}.csv", index=False)
    body = [
        f"<h1>Claims, put to the test</h1><p class='sub'>{escape(STANCE)}</p>", _table(found),
        *(
            _card(f, plot(figures[f.run], first=k == 0) if without else _inline(places / f"{f.run}.svg"))
            for k, f in enumerate(found)
        ),
    ]  # fmt: skip
    _write(
        folder / "report.html",
        page("Claims, put to the test", body, STYLE + "svg{max-width:100%;height:auto}"),
    )
    _write(folder / "report.md", markdown(found))
    return folder / "report.html"


def _inline(path: Path) -> str:
    """A drawing as part of a page."""
    picture = path.read_text(encoding="utf-8")
    return picture[picture.index("<svg") :]


def markdown(found: Sequence[Finding]) -> str:
    """The table: claim, verdict, effect with interval, n, models, what would change the verdict."""
    heads = ["#", "claim", "verdict", "effect", "n", "models", "run", "what would change it"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for f in found:
        deciding = [e for e in f.effects if e.decides] or list(f.effects)
        cells = [
            str(f.claim), f.title, f"**{f.said}**", "<br>".join(f"{e.models}: {e.what}: {value(e)}" for e in deciding),
            "<br>".join(f"{e.n} {e.cluster}" for e in deciding), f.over, f"`{f.run}`", f.sections["What would change it"],
        ]  # fmt: skip
        lines.append(f"| {' | '.join(c.replace('|', '∣') for c in cells)} |")
    return f"{STANCE}\n\n" + "\n".join(lines) + "\n"


def value(e: Effect) -> str:
    """`2.41 [2.1, 2.8] noise floors (bar: above 3)`, or why there is none."""
    if not isfinite(e.effect):
        return f"cannot tell: {e.why}"
    bounds = f" [{e.low:.3g}, {e.high:.3g}]" if isfinite(e.low) else ""
    p = f", p {e.p:.3f}" if isfinite(e.p) else ""
    return f"{e.effect:.3g}{bounds} {e.unit} (bar: {e.side} {e.bar:g}; null: {e.null}{p})"


def _table(found: Sequence[Finding]) -> str:
    rows = [
        f"<tr><td class='n'><a href='#{escape(f.run)}'>{f.claim}</a></td><td>{escape(f.title)}</td>"
        f"<td class='n'><b>{f.said}</b></td><td>{escape(f.over)}</td></tr>"
        for f in found
    ]
    heads = "".join(f"<th>{h}</th>" for h in ("#", "claim", "verdict", "over"))
    return f"<table><tr>{heads}</tr>{''.join(rows)}</table>"


def _card(f: Finding, picture: str) -> str:
    models = ", ".join(dict.fromkeys(m.name for m in f.models))
    rows = "".join(
        f"<tr><td>{escape(e.models)}</td><td>{escape(e.what)}</td><td>{escape(value(e))}</td>"
        f"<td class='n'>{e.n} {escape(e.cluster)}, {escape(e.split)}</td><td>{_said(e)}</td></tr>"
        for e in f.effects
    )
    told = "".join(f"<p><b>{escape(k)}.</b> {escape(v)}</p>" for k, v in f.sections.items())
    heads = "".join(f"<th>{h}</th>" for h in ("models", "effect", "value", "n, split", "verdict"))
    return (
        f"<h2 id='{escape(f.run)}'>{f.claim}. {escape(f.title)}</h2><p><b>{f.said}</b> over {escape(f.over)}</p>"
        f"<div class='figure'>{picture}</div><table><tr>{heads}</tr>{rows}</table>"
        f"<details><summary>Question, measure, null, rule</summary>{told}"
        f"<p class='small'>run {escape(f.run)}, made {escape(f.created)}; models read: {escape(models)}; seed "
        f"{f.settings.get('seed')}</p></details>"
    )


def _said(e: Effect) -> str:
    return e.said if e.decides else f"{e.said} (beside)"


def _write(path: Path, words: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(words, encoding="utf-8")
    os.replace(temporary, path)
