"""A comparison of two models' geometry made of planted numbers: one place with everything, one that abstains."""

from dataclasses import replace
from itertools import combinations

from lab.records import ModelIdentity
from lab.records.geometry import GeometryBook, Place, PlacedLanding
from lab.records.maps import LandingAgreement, MapScore, Share, SharedMap, SharedPoint
from lab.records.similarity import NO_LAYER, Dissimilarity, GridCell, Similarity, UntrainedControl

NAN = float("nan")
LABELS = ("a", "b <i>")
SCAFFOLDS = (
    "old friend",
    "clerk",
    "poet",
    "<b>mean</b> critic",
    "host",
    "a name that is far too long to be written out",
)
TRAITS = ("warmth", "candour <b>")
MEASURES = ("CKA", "RSA")
LAYERS = (3, 4)
CHOSEN = (1, 2)
SOURCES = ("question", "scaffold", "weights", "scaffold x weights", "residual")
WHY = "4 scaffolds <b>and</b> 5 are needed"
MAX_HIGH = 0.4


def cell(i, j):
    """Highest at the chosen pair; the first layer of a does not vary."""
    return NAN if i == 0 else 0.9 - 0.3 * abs(i - CHOSEN[0]) - 0.25 * abs(j - CHOSEN[1])


def distance(model, s, t):
    """Planted: scaffolds on a line at 0, 1, 2, ... in a; the last two change places in b."""
    at = list(range(len(SCAFFOLDS)))
    if model == LABELS[1]:
        at[-2], at[-1] = at[-1], at[-2]
    return 0.1 * (at[s] - at[t]) ** 2 - 0.15


def L(model, trait, k):
    """Alike on the first trait; on the second the poet is unknown in b."""
    if (model, trait, k) == (LABELS[1], TRAITS[1], 2):
        return NAN
    return 0.2 * k - 0.5 + 0.05 * LABELS.index(model) * (-1) ** k


def _similarity(measure, why=""):
    numbers = (0.9, 0.8, 0.95, 0.002, 0.3, 0.9, 0.004, MAX_HIGH, 0.97, 0.95, 0.96)
    found, at = ((NAN,) * 11, (NO_LAYER, NO_LAYER)) if why else (numbers, CHOSEN)
    return Similarity(
        measure, *LABELS, *at, *found, len(SCAFFOLDS), 12, 1, 999, "test", "select", "as is", why
    )


def _dissimilarities():
    rows = []
    for model, layer in zip(LABELS, CHOSEN, strict=True):
        pairs = list(combinations(range(len(SCAFFOLDS)), 2))
        order = sorted(pairs, key=lambda p, m=model: distance(m, *p))
        for s, t in pairs:
            rank = order.index((s, t)) / (len(pairs) - 1)
            rows.append(Dissimilarity(model, layer, SCAFFOLDS[s], SCAFFOLDS[t], distance(model, s, t), rank))
    return tuple(rows)


def _maps():
    known = {
        "r2": 0.5, "low": 0.3, "high": 0.7, "null_high": -0.2, "p": 0.01, "retrieval": 0.8, "retrieval_p": 0.02,
        "null_retrieval": 0.1, "chance": 1 / 6, "ceiling": 0.9, "setting": 0.01,
    }  # fmt: skip
    rows = []
    for k, (source, target) in enumerate((LABELS, LABELS[::-1])):
        at = CHOSEN if k == 0 else CHOSEN[::-1]
        for method in ("ridge", "relative"):
            fixed = (method, source, target, *at, "reply_mean", "test", 6, 12, 20, 1)
            told = {**known, "r2": 0.5 - 0.3 * k, "ceiling": NAN if method == "relative" else 0.9}
            rows.append(MapScore(*fixed, "nothing <b>varies", chance=1 / 6) if k and method == "relative"
                        else MapScore(*fixed, **told))  # fmt: skip
    return tuple(rows)


def _shared():
    points = []
    for k, model in enumerate(LABELS[::-1]):
        for i, s in enumerate(SCAFFOLDS):
            radii = (NAN, NAN) if i == 5 else (2.0, 1.0)
            points.append(SharedPoint(model, s, 3.0 * i + k, (-1.0) ** i * i, *radii, 90.0))
    drawn = SharedMap(*LABELS, "ridge", SCAFFOLDS[0], "", tuple(points), 0.5, 0.2)
    return drawn, SharedMap(*LABELS[::-1], "ridge", SCAFFOLDS[0], "held-out R² is <b>low")


def _shares():
    rows = [
        Share(TRAITS[0], s, 6, 12, 1, "", x, x - 0.05, x + 0.05, NAN if s == "residual" else 0.02,
              NAN if s == "residual" else 0.001 if x > 0.05 else 0.5)
        for s, x in zip(SOURCES, (0.02, 0.6, 0.1, -0.03, 0.31), strict=True)
    ]  # fmt: skip
    return (*rows, *(Share(TRAITS[1], s, 6, 4, 9, "4 <b>questions") for s in SOURCES))


def _untrained():
    told = {"value": 0.9, "words": 0.4, "words_high": 0.6, "p": 0.04}
    rows = [UntrainedControl(m, "", "", 4, 6, 12, "test", **told) for m in MEASURES]
    return (
        *rows,
        UntrainedControl("ridge", *LABELS, 4, 6, 12, "test", value=0.5, words=-0.1, words_high=0.1, p=0.04),
    )


def _places():
    agreements = (
        LandingAgreement(TRAITS[0], 6, 12, 1, "", 0.9, 0.5, 0.99, 0.003, 0.6, 0.8, 0.01, 0.98),
        LandingAgreement(TRAITS[1], 6, 1, 12, "1 question <b>without a failed reply"),
    )
    cells = tuple(
        GridCell(m, i, j, cell(i, j), NAN if i == 0 else 0.25)
        for m in MEASURES for i in range(LAYERS[0]) for j in range(LAYERS[1])
    )  # fmt: skip
    whole = Place(
        "reply_mean", tuple(map(_similarity, MEASURES)), cells, _dissimilarities(), _maps(), _shared(), _shares(),
        agreements, tuple(replace(_similarity(m), prepared="in noise units", value=0.7) for m in MEASURES), _untrained(),
    )  # fmt: skip
    nothing = tuple(Share(t, s, 4, 12, 0, WHY) for t in TRAITS for s in SOURCES)
    silent = tuple(LandingAgreement(t, 4, 12, 0, WHY) for t in TRAITS)
    unknown = (UntrainedControl("", "", "", 4, 4, 12, "test", WHY),)
    return whole, Place(
        "spawn", tuple(_similarity(m, WHY) for m in MEASURES), (), (), (), (), nothing, silent, (), unknown
    )


def fake_geometry(run="geometry-fake"):
    models = tuple(ModelIdentity(m, f"/m/{m}", "f" * 64, 10, n, 8, 100, "float32", False)
                   for m, n in zip(LABELS, LAYERS, strict=True))  # fmt: skip
    landings = tuple(
        PlacedLanding(m, p, t, s, NAN if p == "spawn" else L(m, t, k))
        for m in LABELS for p in ("reply_mean", "spawn") for t in TRAITS for k, s in enumerate(SCAFFOLDS)
    )  # fmt: skip
    return GeometryBook(run, models, LABELS, _places(), landings, {"seed": 0})
