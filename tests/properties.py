"""What every measure of agreement between two models must do, ours or borrowed: one suite for all of them.

A measure is a function (cells_a, cells_b, rng) -> value of cells [scaffold, question, d_model], both models under
one design. A property is a function (subject, rng) that raises AssertionError, its own name first, where the
measure does not have it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from sklearn.linear_model import Ridge

from lab.geometry.calibration import a_model
from lab.geometry.cka import CKA
from lab.geometry.fits import Cells, others, procrustes, ridge
from lab.geometry.grids import agreement, gram
from lab.geometry.neighbours import neighbours
from lab.geometry.relative import relative
from lab.geometry.rsa import RSA
from lab.geometry.trials import as_rows, biased_cka, least_squares, r2

Value = Callable[[np.ndarray, np.ndarray, np.random.Generator], float]


@dataclass(frozen=True)
class Subject:
    """A measure and what it claims.

    chance: its mean over unrelated models, or what that mean does not exceed where the measure may be worse than
    chance (an R² on what no fit has seen is below 0 for a map that is worse than the mean). itself: the
    least that it says of a model without noise beside itself: 1, or how well an unseen scaffold can be predicted.
    """

    name: str
    value: Value
    chance: float = 0.0
    may_be_worse: bool = False
    itself: float = 1.0


# ------------------------------------------------------------------ worlds

WIDTHS = (896, 2048)
KINDS = {
    "noise only": {"spread": 0.0, "noise": 1.0, "topic": 3.0},
    "scaffolds, little noise": {"spread": 1.0, "noise": 0.3, "topic": 3.0},
    "scaffolds and noise": {"spread": 1.0, "noise": 2.0, "topic": 3.0},
    "strong questions": {"spread": 1.0, "noise": 1.0, "topic": 30.0},
}


def unrelated(rng, spread=1.0, noise=1.0, topic=3.0, widths=WIDTHS):
    """64 rows of 8 unrelated scaffolds in each model, under questions that both share."""
    topics = topic * rng.normal(size=(8, 5))
    a, b = (a_model(rng, spread * rng.normal(size=(8, 8)), 8, d, topics, noise, 0.1) for d in widths)
    return a, b


def related(rng, noise=0.3, widths=(40, 56), scaffolds=10):
    """Both models have the scaffolds in the same places."""
    topics, places = 3 * rng.normal(size=(8, 5)), rng.normal(size=(scaffolds, 4))
    a, b = (a_model(rng, places, 8, d, topics, noise, 0.1) for d in widths)
    return a, b


def massive(rng, x):
    """One dimension with a large offset and a hundred times the others' spread, the same for no two models."""
    x = x.copy()
    x[:, :, 5] = 1000 + 100 * (rng.normal(size=(len(x), 1)) + 0.3 * rng.normal(size=x.shape[:2]))
    return x


# ------------------------------------------------------------------ properties


def _at_chance(name, subject, values):
    """The mean lies within 3.3 standard errors of chance (one false alarm in a thousand), and can tell."""
    off, error = np.mean(values) - subject.chance, np.std(values) / np.sqrt(len(values))
    said = f"{name}: {subject.name} says {np.mean(values):.2f} ± {error:.2f} and chance is {subject.chance}"
    if subject.may_be_worse and off < 0:
        return
    assert error < 0.1, f"{said}: too noisy to tell"
    assert abs(off) <= 3.3 * error, said


def independence(subject, rng):
    """Unrelated models of real width are at chance, however strong the questions that they share."""
    for kind, size in KINDS.items():
        values = [subject.value(*unrelated(rng, **size), rng) for _ in range(12)]
        _at_chance(f"independence ({kind})", subject, values)


def identity(subject, rng):
    """A model agrees with itself."""
    x, _ = related(rng, noise=0.05)
    found = subject.value(x, x, rng)
    assert subject.itself - 1e-6 <= found <= 1 + 1e-6, (
        f"identity: {subject.name} says {found:.3f} of a model and itself, not {subject.itself}"
    )


def rotation(subject, rng):
    """Rotating and scaling either model changes nothing."""
    a, b = related(rng, noise=1.5)
    turn = [np.linalg.qr(rng.normal(size=(x.shape[2],) * 2))[0] for x in (a, b)]
    before = subject.value(a, b, np.random.default_rng(0))
    after = subject.value(7.0 * a @ turn[0], 0.1 * b @ turn[1], np.random.default_rng(0))
    assert abs(after - before) < 1e-6, f"rotation: {subject.name} goes from {before:.6f} to {after:.6f}"


def massive_dimension(subject, rng):
    """A massive dimension in each model makes unrelated models no more alike."""
    values = []
    for _ in range(40):
        a, b = (massive(rng, x) for x in unrelated(rng, widths=(40, 56)))
        values.append(subject.value(a, b, rng))
    _at_chance("massive_dimension", subject, values)


def permuted_pairing(subject, rng):
    """Related models are found, and with the scaffolds of one dealt anew they are at chance."""
    found, values = [], []
    for _ in range(24):
        a, b = related(rng)
        found.append(subject.value(a, b, rng))
        values.append(subject.value(a, b[rng.permutation(len(b))], rng))
    _at_chance("permuted_pairing", subject, values)
    assert np.mean(found) > subject.chance + 0.5, (
        f"permuted_pairing: {subject.name} does not find related models"
    )


PROPERTIES = (independence, identity, rotation, massive_dimension, permuted_pairing)


# ------------------------------------------------------------------ measures


def _similarity(measure) -> Value:
    return lambda a, b, rng: agreement(measure.relate(gram(a)), measure.relate(gram(b)))


def _held_out(method) -> Value:
    """R² on unseen scaffolds and on the last three questions."""

    def value(a, b, rng):
        data = Cells(a[:, None, :-3], b[:, None, :-3], a[:, None, -3:], b[:, None, -3:], 0)
        return float(method.held_out(data, np.arange(len(a))[None]).r2[0])

    return value


def _scikit_ridge(a, b, rng):
    """Ridge with a fixed penalty by scikit-learn, each scaffold left out."""
    residual = total = 0.0
    a, b = map(_in_its_own_span, (a, b))
    for s in range(len(a)):
        x, y = (side - others(side, s) for side in (a, b))
        rest, last = np.arange(len(a)) != s, slice(-3, None)
        rows = as_rows(x[rest, :-3])
        model = Ridge(alpha=0.01 * np.linalg.norm(rows, 2) ** 2, fit_intercept=False)
        predicted = model.fit(rows, as_rows(y[rest, :-3])).predict(x[s, last])
        residual, total = residual + ((y[s, last] - predicted) ** 2).sum(), total + (y[s, last] ** 2).sum()
    return float(1 - residual / total)


def _in_its_own_span(x):
    """The same inner products in as many dimensions as rows."""
    return np.linalg.qr(as_rows(x).T)[1].T.reshape(*x.shape[:2], -1)


def _rsatoolbox(a, b, rng):
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, compare

    found = []
    for x in (a, b):
        scaffold, question = np.indices(x.shape[:2])
        labels = {"scaffold": scaffold.ravel(), "question": question.ravel()}
        data = Dataset(as_rows(_in_its_own_span(x)), obs_descriptors=labels)
        found.append(calc_rdm(data, method="crossnobis", descriptor="scaffold", cv_descriptor="question"))
    return float(compare(*found, method="spearman")[0, 0])


OURS = (
    Subject("debiased CKA", _similarity(CKA)),
    Subject("RSA", _similarity(RSA)),
    Subject("neighbours, k = 3", _similarity(neighbours(3))),
    Subject("ridge", _held_out(ridge), may_be_worse=True, itself=0.9),
    Subject("procrustes", _held_out(procrustes), may_be_worse=True, itself=0.9),
    Subject("relative", _held_out(relative), may_be_worse=True),
)
BORROWED = (
    Subject("ridge of scikit-learn", _scikit_ridge, may_be_worse=True, itself=0.9),
    *([Subject("crossnobis RSA of rsatoolbox", _rsatoolbox)] if find_spec("rsatoolbox") else []),
)
WRONG = (
    (
        Subject("biased CKA", lambda a, b, rng: biased_cka(as_rows(a), as_rows(b))),
        {"independence", "massive_dimension", "permuted_pairing"},
    ),
    (
        Subject(
            "training R²",
            lambda a, b, rng: r2(least_squares(*map(as_rows, _centred(a, b))), as_rows(_centred(a, b)[1])),
        ),
        {"independence", "massive_dimension", "permuted_pairing"},
    ),
)
"""Measures that are wrong on purpose, and the properties that they lack."""


def _centred(*sides):
    return [x - x.mean(axis=0) for x in sides]
