"""One self-contained HTML report of a comparison."""

import os
from collections.abc import Sequence
from html import escape
from math import isfinite
from pathlib import Path

import plotly.graph_objects as go

from lab.figures import lookup
from lab.figures.export import page, plot
from lab.figures.landing import depth_profile, landing_forest, trait_profiles
from lab.figures.reading import difference_words, interval, landing_words, probability, signed
from lab.figures.theme import span
from lab.figures.tokens import token_strip
from lab.records import Comparison, Position, ReplyRow

NAME = "report.html"
SHOWN_SCAFFOLDS = 3
SHOWN_QUESTIONS = 2
STYLE = """
body{font:15px/1.55 Inter,Helvetica,Arial,sans-serif;color:#1f2328;
max-width:1060px;margin:0 auto;padding:24px}
h1{font-size:24px;margin:0}h2{font-size:19px;margin:40px 0 8px}h3{font-size:16px;margin:24px 0 6px}
table{border-collapse:collapse;width:100%;font-size:13px;margin:8px 0}
th,td{text-align:left;padding:5px 8px;border-bottom:1px solid #e6e8eb;vertical-align:top}
td.n{white-space:nowrap;font-variant-numeric:tabular-nums}.scroll{overflow-x:auto}
.js-plotly-plot{min-width:760px}.figure{overflow-x:auto}
.sub,.small{color:#5b636d}.small{font-size:13px}summary{cursor:pointer;margin:8px 0}
pre{white-space:pre-wrap;background:#f6f7f8;padding:10px;font-size:12.5px;border-radius:4px;margin:4px 0}
code{font-size:12.5px;overflow-wrap:anywhere}
"""


def write_report(comparison: Comparison, folder: Path) -> Path:
    """Write `report.html` into `folder`, whole or not at all, and return its path.

    Needs no network to read: plotly.js is in the file, once, and the file forbids itself any
    connection. Every word that a person or a model wrote is escaped.
    """
    figures = _Figures()
    names = " and ".join(comparison.labels)
    title = escape(f"Where scaffolds land: {names}")
    body = [
        f'<h1>{title}</h1><p class="sub">run {escape(comparison.run)}</p>',
        _headline(comparison),
        "<h2>Methods</h2>",
        _methods(comparison),
    ]
    for trait in lookup.traits(comparison):
        body.append(_trait(comparison, trait, figures))
    body.append(_examples(comparison, figures))
    body.append(_appendix(comparison))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / NAME
    temporary = folder / f".{NAME}.tmp"
    temporary.write_text(page(title, body, STYLE), encoding="utf-8")
    os.replace(temporary, target)
    return target


class _Figures:
    """Turns figures into HTML; the first one on the page brings plotly.js."""

    def __init__(self) -> None:
        self.drawn = 0

    def html(self, figure: go.Figure) -> str:
        self.drawn += 1
        return f'<div class="figure">{plot(figure, first=self.drawn == 1)}</div>'


def _headline(comparison: Comparison) -> str:
    """The differences that hold up, or that none does."""
    position = lookup.positions(comparison)[0]
    mine = [x for x in comparison.interactions if x.position == position]
    held = sorted((x for x in mine if x.q < 0.05), key=lambda x: -abs(x.D))
    if not held:
        return f"<p>Of {len(mine)} differences between the two models, none holds up at q &lt; .05.</p>"
    lines = [
        f"<li><b>{escape(x.scaffold)}</b>, {escape(x.trait)}: "
        + escape(difference_words(x, comparison.labels, lookup.floor(comparison, x.trait, position)))
        + "</li>"
        for x in held[:8]
    ]
    more = f" The {len(lines)} largest:" if len(held) > len(lines) else ""
    count = f"{len(held)} of {len(mine)} differences between the two models hold up at q &lt; .05."
    return f"<p>{count}{more}</p><ul>{''.join(lines)}</ul>"


def _methods(comparison: Comparison) -> str:
    s, sizes = comparison.settings, [lookup.split_size(comparison, x) for x in ("extract", "select", "test")]
    wordings = [len(x.paraphrases) for x in comparison.scaffolds]
    shown = span(x.n for x in comparison.landings if x.paraphrase == -1)
    traits = ", ".join(lookup.traits(comparison))
    said = [
        f"Two models answered under {len(comparison.scaffolds)} scaffolds, {span(wordings)} wordings each, "
        "and under contrastive trait prompts "
        f"(trait set {comparison.trait_set}: {traits}).",
        "The questions are in three disjoint sets: directions were made on "
        f"{sizes[0]} extract questions (difference of means), layers chosen on {sizes[1]} select questions, "
        f"and everything below is reported on {sizes[2]} test questions ({shown} replies per landing, "
        f"at most {s.get('max_new_tokens', 'an unrecorded number of')} new tokens each).",
        "L is the projection of the residual stream on the trait's direction, less the same model's own "
        "neutral, in units of half its own pole-to-pole range: 0 is its neutral, 1 half its range. It is "
        "read as the mean over the reply's tokens and, apart, at the last prompt token (spawn point).",
        "Intervals: 95 %, cluster bootstrap over questions "
        f"({s.get('bootstrap_draws', 'unrecorded')} draws). "
        "Null: directions of equal norm with the poles swapped in half of the extract questions "
        f"({s.get('null_permutations', 'unrecorded')}). "
        "D is what a scaffold does in the first model beyond the second; p by sign-flip over questions, q by "
        "Benjamini–Hochberg over all scaffolds and traits of a position. The noise floor is what rewording a "
        "scaffold does inside one model.",
        f"Seed {s.get('seed', 'not recorded')}.",
    ]
    return f"<p>{escape(' '.join(said))}</p>{_models(comparison)}{_layers(comparison)}"


def _models(comparison: Comparison) -> str:
    rows = [
        [label, m.name, f"{m.parameters:,}", f"{m.layers} × {m.d_model}", m.dtype,
         "processed" if m.processed_weights else "as published", m.fingerprint, m.path]
        for label, m in zip(comparison.labels, comparison.models, strict=True)
    ]  # fmt: skip
    heads = ["label", "model", "parameters", "layers × width", "dtype", "weights", "fingerprint", "path"]
    return _table(heads, rows)


def _layers(comparison: Comparison) -> str:
    rows = [
        [
            x.model,
            x.trait,
            x.position,
            str(x.layer),
            f"{x.auroc:.2f}",
            f"{x.d_prime:.2f}",
            f"{x.null_high:.2f}",
        ]
        for x in comparison.depth
        if x.chosen
    ]
    heads = ["model", "trait", "position", "layer", "AUROC", "d′", "null of d′ (97.5 %)"]
    return f"<details><summary>Chosen layers (select questions)</summary>{_table(heads, rows)}</details>"


def _trait(comparison: Comparison, trait: str, figures: _Figures) -> str:
    first, *rest = lookup.positions(comparison)
    parts = [f"<h2>{escape(trait)}</h2>", figures.html(landing_forest(comparison, trait, first))]
    parts.append(_landing_table(comparison, trait, first))
    for position in rest:
        table = _landing_table(comparison, trait, position)
        parts.append(f"<details><summary>The same at {escape(position)}</summary>{table}</details>")
    parts.append(figures.html(depth_profile(comparison, trait, first)))
    return "".join(parts)


def _landing_table(comparison: Comparison, trait: str, position: Position) -> str:
    rows = []
    for scaffold in lookup.scaffolds(comparison):
        found = [lookup.landing(comparison, m, scaffold, trait, position)[0] for m in comparison.labels]
        cells = [
            f"{signed(x.L)} {interval(x.low, x.high)}" if x is not None and isfinite(x.L) else "cannot tell"
            for x in found
        ]
        d = lookup.interaction(comparison, scaffold, trait, position)
        known = d is not None and isfinite(d.D)
        cells.append(f"{signed(d.D)} {interval(d.low, d.high)}" if d is not None and known else "cannot tell")
        cells.append(f"{probability('p', d.p)}, {probability('q', d.q)}" if d is not None and known else "")
        where = landing_words(comparison, scaffold, trait, position)
        floor = lookup.floor(comparison, trait, position)
        rows.append([scaffold, *cells, f"{where} {difference_words(d, comparison.labels, floor)}"])
    heads = ["scaffold", *(f"L in {m}" for m in comparison.labels), "D", "test", "in words"]
    return _table(heads, rows, numbers=range(1, len(comparison.labels) + 3))


def _examples(comparison: Comparison, figures: _Figures) -> str:
    """Profiles and replies of the scaffolds on which the models differ most."""
    position = lookup.positions(comparison)[0]
    worst = sorted(
        (x for x in comparison.interactions if x.position == position and isfinite(x.D)),
        key=lambda x: -abs(x.D),
    )
    chosen = {x.scaffold: x.trait for x in reversed(worst)}
    order = list(dict.fromkeys(x.scaffold for x in worst))[:SHOWN_SCAFFOLDS]
    parts = ["<h2>Replies side by side</h2>"]
    parts.append('<p class="small">The scaffolds on which the two models differ most, by D on any trait.</p>')
    for scaffold in order:
        parts.append(f"<h3>{escape(scaffold)}</h3>")
        parts.append(figures.html(trait_profiles(comparison, scaffold, position)))
        for question in _questions(comparison, scaffold):
            rows = lookup.replies(comparison, scaffold, 0, question)
            parts.append(_pair(comparison, rows, chosen[scaffold]))
    return "".join(parts)


def _questions(comparison: Comparison, scaffold: str) -> list[str]:
    asked = dict.fromkeys(x.question for x in comparison.replies if x.scaffold == scaffold)
    return list(asked)[:SHOWN_QUESTIONS]


def _pair(comparison: Comparison, rows: Sequence[ReplyRow], trait: str) -> str:
    if not rows:
        return ""
    prompts = "".join(f"<pre>{escape(x.prompt)}</pre>" for x in rows)
    strip = token_strip(comparison, rows, trait)
    given = f"<details><summary>What each model was given</summary>{prompts}</details>"
    return f"{strip}{given}"


def _appendix(comparison: Comparison) -> str:
    texts = []
    for scaffold in comparison.scaffolds:
        wordings = "".join(f"<pre>{escape(x.text) or '(no scaffold)'}</pre>" for x in scaffold.paraphrases)
        summary = f"<summary>{escape(scaffold.name)}: {escape(scaffold.description)}</summary>"
        texts.append(f"<details>{summary}{wordings}</details>")
    floor = [
        [x.model, x.trait, x.position, f"{x.paraphrase_sd:.2f}", f"{x.difference_95:.2f}", str(x.n)]
        for x in comparison.noise_floor
    ]
    heads = ["model", "trait", "position", "sd of L over wordings", "95 % of |difference|", "wordings"]
    settings = [[str(k), str(v)] for k, v in comparison.settings.items()]
    return (
        f"<h2>Noise floor</h2>{_table(heads, floor)}<h2>Scaffolds</h2>{''.join(texts)}"
        f"<h2>Settings</h2>{_table(['setting', 'value'], settings)}"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    top = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if i in numbers else ''}>{escape(c)}</td>" for i, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
