"""What moves a landing: the question, the scaffold, the weights, or the two together. And do models agree?

A landing L is in each model's own unit (0 its own neutral, 1 half its pole range), so models can be put in
one table [model 2, scaffold, paraphrase, question]. Its sum of squares around the grand mean falls into orthogonal
parts. The two models and the scaffolds are fixed; questions and paraphrases are samples.

    share(effect) = (SS(effect) − df(effect) · MS(error of the effect)) / SS(total)

This is ε² (Kelley 1935, "An unbiased correlation ratio measure"; least biased of its kind in Okada 2013)
with the error term that has the effect's expectation where the effect is absent (Cornfield & Tukey 1956):

    effect              error
    question            scaffold × question
    scaffold            scaffold × question + paraphrase − paraphrase × question
    weights             weights × question + weights × paraphrase − weights × paraphrase × question
    scaffold × weights  scaffold × weights × question + the same two
    residual            1 − the four: wording, every interaction with the question, noise

With a single paraphrase the paraphrase terms are absent and a wording's effect counts as its scaffold's.
The first two live in the models' sum, the last two in their difference (both over √2, so that squares add up).

Nulls. Question: question labels are shuffled within each scaffold, jointly for paraphrases and models.
Scaffold: the larger p of two shuffles, both of the quasi-F ratio (Satterthwaite 1946; Clark 1973, "The
language-as-fixed-effect fallacy") with the error above: scaffold labels within each question, jointly for
paraphrases and models, which keeps scaffold × question as noise; and whole wordings dealt anew to the scaffolds,
which keeps wording as noise. Scaffold × weights: the same two on the models' difference. Weights: models
swapped question by question, plus the noise of wordings. Error rates of all four, with and without effects
of wording and of questions, are measured in tests/test_shares.py.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from lab.records import LabError
from lab.records.maps import LandingAgreement, Share
from lab.stats import MIN_CLUSTERS, cluster_weights, correlation, interval, upper_p

Landings = Float[ndarray, "model scaffold paraphrase question"]
Table = Float[ndarray, "*draw scaffold paraphrase question"]
Side = Float[ndarray, "scaffold paraphrase question"]
Draw = Float[ndarray, "*draw"] | float

SOURCES = ("question", "scaffold", "weights", "scaffold x weights", "residual")


@dataclass(frozen=True)
class Squares:
    """Sums of squares of one table [scaffold, paraphrase, question] (per draw) and degrees of freedom.

    mean: of the grand mean around 0; paraphrase: within scaffolds; rest: paraphrase × question. A
    mean square is 0 where there is no degree of freedom.
    """

    mean: Draw
    question: Draw
    scaffold: Draw
    paraphrase: Draw
    cross: Draw
    rest: Draw
    shape: tuple[int, int, int]

    @property
    def total(self) -> Draw:
        """Sum of squares around 0."""
        return self.mean + self.question + self.scaffold + self.paraphrase + self.cross + self.rest

    @property
    def wording(self) -> Draw:
        """Mean square of paraphrases beyond reply noise: Q times the variance of a wording's effect."""
        scaffolds, paraphrases, questions = self.shape
        freedom = scaffolds * (paraphrases - 1)
        return self.paraphrase / max(freedom, 1) - self.rest / max(freedom * (questions - 1), 1)

    @property
    def ratio(self) -> Draw:
        """Quasi-F of the scaffold: (scaffold + rest) / (scaffold × question + paraphrase), mean squares."""
        scaffolds, paraphrases, questions = self.shape
        freedom = max(scaffolds * (paraphrases - 1), 1)
        noise = self.crossed + self.paraphrase / freedom
        return (self.scaffold / (scaffolds - 1) + self.rest / (freedom * (questions - 1))) / np.maximum(
            noise, 1e-300
        )

    @property
    def crossed(self) -> Draw:
        """Mean square of scaffold × question."""
        return self.cross / ((self.shape[0] - 1) * (self.shape[2] - 1))

    @property
    def asked(self) -> Draw:
        """Mean square of questions."""
        return self.question / (self.shape[2] - 1)


def squares(table: Table) -> Squares:
    """Orthogonal sums of squares of a balanced table without NaN; paraphrases are nested in scaffolds."""
    scaffolds, paraphrases, questions = table.shape[-3:]
    wording, cell = table.mean(axis=-1), table.mean(axis=-2)
    scaffold, question = wording.mean(axis=-1), cell.mean(axis=-2)
    mean = scaffold.mean(axis=-1)
    cross = cell - scaffold[..., None] - question[..., None, :] + mean[..., None, None]
    rest = table - cell[..., None, :] - wording[..., None] + scaffold[..., None, None]
    return Squares(
        scaffolds * paraphrases * questions * mean**2,
        scaffolds * paraphrases * ((question - mean[..., None]) ** 2).sum(-1),
        paraphrases * questions * ((scaffold - mean[..., None]) ** 2).sum(-1),
        questions * ((wording - scaffold[..., None]) ** 2).sum((-2, -1)),
        paraphrases * (cross**2).sum((-2, -1)),
        (rest**2).sum((-3, -2, -1)),
        (scaffolds, paraphrases, questions),
    )


@dataclass(frozen=True)
class _Effects:
    """The four effects of a table (or of draws of it): raw squares, the noise in them, and the total."""

    raw: Float[ndarray, "effect *draw"]
    noise: Float[ndarray, "effect *draw"]
    total: Draw

    @property
    def shares(self) -> Float[ndarray, "source *draw"]:
        """In the order of SOURCES; they sum to 1."""
        found = (self.raw - self.noise) / self.total
        return np.concatenate([found, 1 - found.sum(axis=0, keepdims=True)])


def _halves(
    landings: Float[ndarray, "model=2 *rest"],
) -> tuple[Float[ndarray, "*rest"], Float[ndarray, "*rest"]]:
    """Sum and difference of the models, over √2."""
    return (landings[0] + landings[1]) / np.sqrt(2), (landings[0] - landings[1]) / np.sqrt(2)


def _effects(landings: Float[ndarray, "model=2 *draw scaffold paraphrase question"]) -> _Effects:
    together, apart = (squares(half) for half in _halves(landings))
    scaffolds, _, questions = together.shape
    return _Effects(
        np.stack([together.question, together.scaffold, apart.mean, apart.scaffold]),
        np.stack(
            [
                (questions - 1) * together.crossed,
                (scaffolds - 1) * (together.crossed + together.wording),
                apart.asked + apart.wording,
                (scaffolds - 1) * (apart.crossed + apart.wording),
            ]
        ),
        together.total - together.mean + apart.total,
    )


def variance_shares(landings: Landings) -> Float[ndarray, " source"]:
    """The five shares in the order of SOURCES, of a table without NaN. They sum to 1."""
    return _effects(landings).shares


# ------------------------------------------------------------------ nulls


def _scaffold_null(half: Side, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """(p, 95 % point of raw squares minus noise) of the scaffold effect: the larger of two nulls.

    Labels are shuffled within each question; with paraphrases also whole wordings are dealt to scaffolds anew.
    """
    scaffolds, paraphrases, questions = half.shape
    order = rng.permuted(np.tile(np.arange(scaffolds), (draws, questions, 1)), axis=2)
    shuffled = half[order[:, :, :, None], np.arange(paraphrases), np.arange(questions)[:, None, None]]
    nulls = [squares(np.moveaxis(shuffled, 1, 3))]
    if paraphrases > 1:
        order = rng.permuted(np.tile(np.arange(scaffolds * paraphrases), (draws, 1)), axis=1)
        nulls.append(squares(half.reshape(-1, questions)[order].reshape(draws, *half.shape)))
    true = squares(half).ratio
    top = max(float(np.quantile(n.scaffold - (scaffolds - 1) * (n.crossed + n.wording), 0.95)) for n in nulls)
    return max(upper_p(float(true), np.asarray(null.ratio)) for null in nulls), top


def _question_null(half: Side, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """(p, 95 % point of raw squares minus noise) of questions, labels shuffled within each scaffold."""
    scaffolds, _, questions = half.shape
    order = rng.permuted(np.tile(np.arange(questions), (draws, scaffolds, 1)), axis=2)
    shuffled = np.take_along_axis(half[None], order[:, :, None, :], axis=3)
    null = squares(shuffled)
    return upper_p(float(squares(half).question), np.asarray(null.question)), float(
        np.quantile(null.question - (questions - 1) * null.crossed, 0.95)
    )


def _weights_null(half: Side, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """(p, 95 % point of raw squares minus noise) of the mean difference, models swapped question by question.

    Added to it: each wording's deviation from its scaffold with a random sign, at the size that it has
    beyond reply noise, since swapping questions can not move what paraphrases share over questions.
    """
    scaffolds, paraphrases, _ = half.shape
    found = squares(half)
    mean = rng.choice([-1.0, 1.0], size=(draws, half.shape[2])) @ half.mean(axis=(0, 1)) / half.shape[2]
    if paraphrases > 1 and found.wording > 0:
        off = half.mean(axis=2) - half.mean(axis=(1, 2))[:, None]
        size = float(found.wording / (found.paraphrase / (scaffolds * (paraphrases - 1))))
        off = off.ravel() * np.sqrt(size * paraphrases / (paraphrases - 1))
        mean = mean + rng.choice([-1.0, 1.0], size=(draws, len(off))) @ off / len(off)
    null = half.size * mean**2
    return upper_p(float(found.mean), null), float(np.quantile(null, 0.95) - found.asked - found.wording)


# ------------------------------------------------------------------ records


def shares(landings: Landings, trait: str, rng: np.random.Generator, draws: int = 1000) -> tuple[Share, ...]:
    """Variance shares of the landings of two models on one trait, one record per source.

    A question with a NaN is dropped for both models. low, high: 95 %, questions resampled, these wordings
    kept; a resample repeats questions and so counts their noise twice, hence draws are moved to have the
    estimate as their mean. Measured with 8 to 12 questions and noise of every kind but wording, they hold the
    truth in 92 to 99 % of tables, for the question's own share in 81 to 89 %; where wordings move
    landings half as much as scaffolds do, the scaffold's in 66 %. p: (1 + count) / (1 + draws).
    Abstains below 5 scaffolds or questions, and where nothing varies. Raises LabError for another shape.
    """
    if landings.ndim != 4 or len(landings) != 2:
        raise LabError(
            f"expected landings [2 models, scaffold, paraphrase, question], got the shape {landings.shape}; "
            "stack the two models' landings on one design"
        )
    known = np.asarray(~np.isnan(landings).any(axis=(0, 1, 2)))
    table = landings[..., known].astype(np.float64)
    n = int(known.sum())
    counts = (landings.shape[1], n, len(known) - n)
    why = _why_not(landings.shape[1], n)
    if not why and np.ptp(table) <= 1e-12 * np.abs(table).max():
        why = "all landings are the same: there is no variance to share out"
    if why:
        return tuple(Share(trait, source, *counts, why) for source in SOURCES)
    found, (together, apart) = _effects(table), _halves(table)
    nulls = [
        _question_null(together, draws, rng),
        _scaffold_null(together, draws, rng),
        _weights_null(apart, draws, rng),
        _scaffold_null(apart, draws, rng),
    ]
    drawn = np.moveaxis(table[..., rng.integers(n, size=(draws, n))], 3, 1)
    spread = _effects(drawn).shares
    low, high = interval((spread - spread.mean(axis=1, keepdims=True)).T, n)
    ends = np.stack([found.shares, found.shares + low, found.shares + high], axis=1)
    tests = [(top / float(found.total), p) for p, top in nulls] + [(np.nan, np.nan)]
    return tuple(
        Share(trait, source, *counts, "", *map(float, end), *map(float, test))
        for source, end, test in zip(SOURCES, ends, tests, strict=True)
    )


def _why_not(scaffolds: int, questions: int) -> str:
    if scaffolds < MIN_CLUSTERS:
        return f"{scaffolds} scaffolds, and a test needs {MIN_CLUSTERS} (8 or more is the aim): add scaffolds"
    if questions < MIN_CLUSTERS:
        return f"{questions} questions without a failed reply, and a test needs {MIN_CLUSTERS}: add questions"
    return ""


# ------------------------------------------------------------------ agreement


def reliability(side: Side) -> float:
    """How well the landings of scaffolds repeat on as many other questions: 1 − MS(error) / MS(scaffold).

    Hoyt (1941), which is Cronbach's alpha and so the mean over all split halves of the questions,
    stepped up to the full number; 0 where halves do not agree at all, never below. NaN below 2 questions.
    """
    if side.shape[2] < 2:
        return float("nan")
    found = squares(side)
    mean_square = float(found.scaffold) / (side.shape[0] - 1)
    return max(0.0, 1 - float(found.crossed) / mean_square) if mean_square > 0 else 0.0


def agreement(
    a: Side, b: Float[ndarray, "_ _ _"], trait: str, rng: np.random.Generator, draws: int = 2000
) -> LandingAgreement:
    """Correlation over scaffolds between two models' landings [scaffold, paraphrase, question].

    A scaffold's landing is its mean over paraphrases and questions; a question with a NaN in either model is
    dropped for both. p is one-sided (agreement), over random pairings of scaffolds. ceiling:
    sqrt of the product of both reliabilities. Abstains below 5 scaffolds or 2 questions, and where one model
    does not tell scaffolds apart. Raises LabError for unequal shapes.
    """
    if a.shape != b.shape or a.ndim != 3:
        raise LabError(
            f"expected two tables [scaffold, paraphrase, question] of one design, got {a.shape} and {b.shape}"
        )
    known = np.asarray(~(np.isnan(a) | np.isnan(b)).any(axis=(0, 1)))
    a, b = a[..., known].astype(np.float64), b[..., known].astype(np.float64)
    size, questions = len(a), int(known.sum())
    counts = (size, questions, len(known) - questions)
    why = ""
    if size < MIN_CLUSTERS:
        why = _why_not(size, MIN_CLUSTERS)
    elif questions < 2:
        why = f"{questions} questions without a failed reply, and a reliability needs 2: add questions"
    elif min(np.ptp(side.mean(axis=(1, 2))) for side in (a, b)) <= 0:
        why = "one model lands in one place under all scaffolds: nothing to correlate"
    if why:
        return LandingAgreement(trait, *counts, why)
    x, y = a.mean(axis=(1, 2)), b.mean(axis=(1, 2))
    orders = rng.permuted(np.tile(np.arange(size), (draws, 1)), axis=1)
    ranks = stats.rankdata(x), stats.rankdata(y)
    # The true pairing is the first row of the random ones.
    orders = np.concatenate([np.arange(size)[None], orders])
    once = np.ones(orders.shape)
    r, rho = (correlation(np.broadcast_to(u, once.shape), v[orders], once) for u, v in ((x, y), ranks))
    weights = cluster_weights([np.arange(size)], draws, rng)
    x, y = (np.broadcast_to(v, weights.shape) for v in (x, y))
    low, high = interval(correlation(x, y, weights), size)
    ceiling = float(np.sqrt(reliability(a) * reliability(b)))
    return LandingAgreement(
        trait, *counts, "", float(r[0]), float(low), float(high), upper_p(r[0], r[1:]), float(np.quantile(r[1:], 0.95)),
        float(rho[0]), upper_p(rho[0], rho[1:]), ceiling,
    )  # fmt: skip
