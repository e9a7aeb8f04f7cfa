"""Quality of directions: separation by layer, recipes side by side, and whether they agree."""

import plotly.graph_objects as go

from lab.figures import lookup
from lab.figures.cells import add_cells
from lab.figures.steering import PLACES
from lab.figures.theme import LIGHT, MODEL_COLOURS, Theme, axis, blank, finish, reach, span, text
from lab.records import Position
from lab.records.cards import TraitBook, TraitCard

ESTIMATOR_WORDS = {
    "mean_difference": "mean difference", "paired_pca": "paired PCA", "whitened_lda": "whitened LDA",
    "logistic_probe": "logistic probe",
}  # fmt: skip


def traits(book: TraitBook) -> list[str]:
    """Traits of the run."""
    return list(dict.fromkeys(c.trait for c in book.cards))


def positions(book: TraitBook) -> list[Position]:
    """Poolings of the run."""
    return list(dict.fromkeys(s.position for s in book.depth))


def cards_of(book: TraitBook, trait: str) -> list[TraitCard]:
    """All recipes of a trait, the selected first, then by d′ on *select*. LabError for another trait."""
    lookup.require(trait, traits(book), "trait")
    mine = [c for c in book.cards if c.trait == trait and c.elicitation == "instruction"]
    return sorted(mine, key=lambda c: (not c.selected, -c.select_d_prime))


def recipe_words(estimator: str, position: str) -> str:
    """How a recipe reads."""
    return f"{ESTIMATOR_WORDS.get(estimator, estimator)}, {PLACES.get(position, position)}"


def depth(book: TraitBook, trait: str, position: Position, theme: Theme = LIGHT) -> go.Figure:
    """d′ of the poles at every layer on *select*, with the band of pole-swapped directions."""
    lookup.require(trait, traits(book), "trait")
    rows = sorted(
        (s for s in book.depth if (s.trait, s.position) == (trait, position)), key=lambda s: s.layer
    )
    figure = go.Figure(layout=blank(theme, f"<b>{text(trait)}</b> by layer: {PLACES[position]}", 260))
    x, high = [s.layer for s in rows], [s.null_high for s in rows]
    figure.add_trace(
        go.Scatter(
            x=[*x, *x[::-1]], y=[*high, *(-h for h in high[::-1])], fill="toself", fillcolor=theme.null,
            mode="lines", line={"width": 0}, hoverinfo="skip", name="poles swapped, 95 %", meta={"role": "null"},
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=x, y=[s.d_prime for s in rows], mode="lines+markers", name="d′", meta={"role": "d_prime"},
            line={"color": MODEL_COLOURS[0], "width": 2},
            marker={"size": [13 if s.chosen else 7 for s in rows],
                    "symbol": ["star" if s.chosen else "circle" for s in rows]},
            customdata=[[s.auroc] for s in rows],
            hovertemplate="layer %{x}: d′ %{y:.2f}, AUROC %{customdata[0]:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(axis(theme, "layer", dtick=1 if len(rows) < 16 else None))
    figure.update_yaxes(
        axis(theme, "d′", range=reach([v for s in rows for v in (s.d_prime, s.null_high, -s.null_high)]))
    )
    note = "Split: select, where the layer is chosen (star); what is reported is on test, below."
    finish(figure, [note], theme, 52)
    return figure


def recipes(book: TraitBook, trait: str, theme: Theme = LIGHT) -> go.Figure:
    """Every recipe's d′ on *test*, with what *select* had promised."""
    cards = cards_of(book, trait)[::-1]
    names = [recipe_words(c.estimator, c.position) for c in cards]
    height = 60 + 24 * len(cards)
    figure = go.Figure(layout=blank(theme, f"<b>{text(trait)}</b>: recipes side by side", height))
    figure.add_trace(
        go.Scatter(
            x=[c.select_d_prime for c in cards], y=names, mode="markers", name="promised on select",
            marker={"symbol": "line-ns", "size": 11, "line": {"width": 2, "color": theme.faint}},
            customdata=[[c.layer, c.auroc, c.low, c.high, c.p, c.position] for c in cards],
            meta={"role": "select"}, hovertemplate="%{y}<br>promised %{x:.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[c.d_prime for c in cards], y=names, mode="markers", name="kept on test", meta={"role": "test"},
            marker={"size": [13 if c.selected else 8 for c in cards], "color": MODEL_COLOURS[0],
                    "symbol": ["star" if c.selected else "circle" for c in cards]},
            customdata=[[c.layer, c.auroc, c.low, c.high, c.p, c.position] for c in cards],
            hovertemplate="%{y}<br>layer %{customdata[0]}, d′ %{x:.2f}, AUROC %{customdata[1]:.3f} "
            "[%{customdata[2]:.3f}, %{customdata[3]:.3f}], p %{customdata[4]:.4f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(
        axis(theme, "d′ of the poles", range=reach([v for c in cards for v in (c.d_prime, c.select_d_prime)]))
    )
    figure.update_yaxes(axis(theme))
    n, questions = span([c.n for c in cards]), span([c.questions for c in cards])
    note = (
        f"Unit: within-pole sd. Split: test; n = {n} replies to {questions} questions. Star: the recipe that "
        " select speaks for: the plain one, unless another is clearly better. Null: p by sign flips over "
        "test questions, on hover and in the table."
    )
    finish(figure, [note], theme, 52)
    return figure


def recipe_agreement(book: TraitBook, trait: str, theme: Theme = LIGHT) -> go.Figure:
    """Correlation of what any two recipes read, inside the poles."""
    cards = cards_of(book, trait)
    keys = [f"{c.estimator} {c.position}" for c in cards]
    names = [recipe_words(c.estimator, c.position) for c in cards]
    known = {(a.first, a.second): a.r for a in book.agreements if a.trait == trait}
    known |= {(b, a): r for (a, b), r in known.items()}
    values = [[1.0 if a == b else known[a, b] for b in keys] for a in keys]
    figure = go.Figure(
        layout=blank(theme, f"<b>{text(trait)}</b>: do the recipes read alike?", 60 + 22 * len(keys))
    )
    heat = go.Heatmap(
        z=values, x=names, y=names, zmin=-1, zmax=1, zmid=0, xgap=1, ygap=1, meta={"role": "agreement"},
        colorscale=[[0, theme.low], [0.5, theme.paper], [1, theme.high]],
        colorbar={"title": {"text": "r", "side": "right"}, "thickness": 12},
        customdata=[[[a.estimator, a.position] for _ in cards] for a in cards],
        hovertemplate="%{y}<br>%{x}<br>r %{z:.2f}<extra></extra>",
    )  # fmt: skip
    add_cells(figure, heat)
    ends = [-0.5, len(names) - 0.5]
    figure.update_yaxes(axis(theme, range=ends[::-1], showgrid=False))
    same = "the same recipes in the same order"
    figure.update_xaxes(axis(theme, same, range=ends, showgrid=False, showticklabels=False))
    n = span([a.n for a in book.agreements if a.trait == trait])
    note = f"Correlation of projections of the test replies, each pole centred on itself (n = {n} replies); chance is 0."
    finish(figure, [note], theme, 40)
    return figure
