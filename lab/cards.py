"""Quality cards of directions: every recipe's separation on *test*, chosen on *select*."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray

from lab.directions import Contrast, choose_layer
from lab.estimators import ESTIMATORS, usable
from lab.recipes import Maker, make_directions
from lab.records import Elicitation, LayerScore, Position, Split
from lab.records.cards import ElicitationTransfer, RecipeAgreement, TraitCard
from lab.shapes import LayerModel, Model
from lab.stats import auroc, average, cluster_weights, correlation, d_prime, interval, sign_flip

DEFAULT: Maker = ("mean_difference", "reply_mean")
DRAWS = 500
Contrasts = Mapping[Position, Mapping[Split, Contrast]]
"""Both poles per pooling and split."""


def trait_cards(
    contrasts: Contrasts, rng: np.random.Generator, *, model: str, trait: str,
    estimators: Sequence[str] = tuple(ESTIMATORS), elicitation: Elicitation = "instruction",
) -> tuple[list[TraitCard], list[RecipeAgreement]]:  # fmt: skip
    """A card per estimator and pooling, and how alike any two of them read the test replies.

    The selected recipe is the plain one (mean difference of reply means), unless another's d′ on
    *select* is above it by more than chance explains (1.645 standard errors): where many recipes tie, the
    best is an accident. Raises LabError for wrong splits or poles without replies.
    """
    chosen = {name: ESTIMATORS[name] for name in estimators}
    made = make_directions({p: c["extract"] for p, c in contrasts.items()}, chosen)
    cards, readings = [], {}
    for maker, direction in made.items():
        here = contrasts[maker[1]]
        card, readings[maker] = _card(maker, direction, here["select"], here["test"], rng, model, trait)
        cards.append(card)
    best = _selected(cards, [contrasts[c.position]["select"] for c in cards])
    cards = [replace(c, selected=(c.estimator, c.position) == best, elicitation=elicitation) for c in cards]
    return cards, _agreements(readings, contrasts, model, trait)


def transfers(
    contrasts: Mapping[Elicitation, Contrasts], cards: Sequence[TraitCard], rng: np.random.Generator
) -> list[ElicitationTransfer]:
    """Every elicitation's selected direction on the test replies of every other; `cards` of one trait."""
    found = []
    for card in [c for c in cards if c.selected]:
        for other in contrasts:
            if other == card.elicitation:
                continue
            mine = _direction(contrasts[card.elicitation], card)
            theirs = _direction(contrasts[other], card)
            test = contrasts[other][card.position]["test"]
            rows = usable(test.acts, test.positive, test.questions)
            value = test.acts[rows, card.layer].astype(np.float64) @ mine
            up, where = test.positive[rows], test.questions[rows]
            low, high = auroc_interval(value, up, where, rng)
            found.append(
                ElicitationTransfer(
                    card.model, card.trait, card.elicitation, other, card.layer, auroc(value[up], value[~up]),
                    low, high, float(d_prime(value[up], value[~up])), question_p(value, up, where, rng),
                    float(mine @ theirs), len(value), len(np.unique(where)),
                )
            )  # fmt: skip
    return found


def _direction(contrasts: Contrasts, card: TraitCard) -> Model:
    """The unit direction that a card's recipe makes of one elicitation's replies, at the card's layer."""
    extract = contrasts[card.position]["extract"]
    made = make_directions({card.position: extract}, {card.estimator: ESTIMATORS[card.estimator]})
    return made[card.estimator, card.position][card.layer]


def _card(
    maker: Maker, direction: LayerModel, select: Contrast, test: Contrast, rng: np.random.Generator, model: str,
    trait: str,
) -> tuple[TraitCard, Float[ndarray, " chat"]]:  # fmt: skip
    """The recipe's card, not yet selected, and the projections of all test replies at its layer."""
    rows = usable(select.acts, select.positive, select.questions)
    along = np.einsum("cld,ld->lc", select.acts[rows].astype(np.float64), direction)
    up = select.positive[rows]
    promised = np.asarray(d_prime(along[:, up], along[:, ~up]))
    nan = float("nan")
    scores = [
        LayerScore(model, trait, maker[1], k, "select", nan, float(d), nan, False)
        for k, d in enumerate(promised)
    ]
    layer = choose_layer(scores, int(up.sum()), int((~up).sum()))
    x = test.acts[:, layer].astype(np.float64) @ direction[layer]
    rows = usable(test.acts, test.positive, test.questions)
    value, up, where = x[rows], test.positive[rows], test.questions[rows]
    low, high = auroc_interval(value, up, where, rng)
    card = TraitCard(
        model, trait, maker[0], maker[1], layer, auroc(value[up], value[~up]), low, high,
        float(d_prime(value[up], value[~up])), float(promised[layer]), question_p(value, up, where, rng), False,
        len(value), len(np.unique(where)),
    )  # fmt: skip
    return card, x


def question_p(
    value: Float[ndarray, " chat"], positive: Bool[ndarray, " chat"], questions: Shaped[ndarray, " chat"],
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """Two-sided sign-flip p over questions of the mean (positive − negative) projection."""
    differences = [
        average(value[positive & (questions == q)], 0) - average(value[~positive & (questions == q)], 0)
        for q in np.unique(questions)
    ]
    return sign_flip(np.array(differences), rng)


def auroc_interval(
    value: Float[ndarray, " chat"], positive: Bool[ndarray, " chat"], questions: Shaped[ndarray, " chat"],
    rng: np.random.Generator,
) -> tuple[float, float]:  # fmt: skip
    """95 % cluster-bootstrap interval of the AUROC over questions.

    A weighted AUROC is a double sum over positive and negative replies, so all draws are one product.
    """
    weights = cluster_weights([questions], DRAWS, rng)
    up, down = value[positive], value[~positive]
    above = (up[:, None] > down) + 0.5 * (up[:, None] == down)
    w_up, w_down = weights[:, positive], weights[:, ~positive]
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.einsum("dp,pn,dn->d", w_up, above, w_down) / (w_up.sum(axis=1) * w_down.sum(axis=1))
    low, high = interval(drawn, len(np.unique(questions)))
    return max(0.0, float(low)) if low == low else float(low), min(
        1.0, float(high)
    ) if high == high else float(high)


def _selected(cards: Sequence[TraitCard], selects: Sequence[Contrast]) -> Maker:
    """The plain recipe, or the best where it is clearly better."""
    k = int(np.nanargmax([c.select_d_prime for c in cards]))
    best = cards[k]
    plain = next((c for c in cards if (c.estimator, c.position) == DEFAULT), best)
    up = int(selects[k].positive.sum())
    down = len(selects[k].positive) - up
    error = np.sqrt(1 / up + 1 / down + best.select_d_prime**2 / (2 * (up + down)))
    clear = not plain.select_d_prime >= best.select_d_prime - 1.645 * error
    taken = best if clear else plain
    return taken.estimator, taken.position


def _agreements(
    readings: Mapping[Maker, Float[ndarray, " chat"]], contrasts: Contrasts, model: str, trait: str
) -> list[RecipeAgreement]:
    """Correlation of projections inside the poles, every pair of recipes once.

    Projections, not directions: recipes read at different layers. The poles are taken out: recipes
    agree about them as soon as both find the trait at all.
    """
    names = list(readings)
    found = []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            x, y = readings[a].copy(), readings[b].copy()
            whole = ~(np.isnan(x) | np.isnan(y))
            for pole in (True, False):
                rows = whole & (contrasts[a[1]]["test"].positive == pole)
                x[rows] -= x[rows].mean()
                y[rows] -= y[rows].mean()
            r = float(correlation(x[whole], y[whole], np.ones(int(whole.sum()))))
            found.append(RecipeAgreement(model, trait, " ".join(a), " ".join(b), r, int(whole.sum())))
    return found
