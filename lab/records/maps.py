"""What maps between two models' states, and the variance of landings, have to say. One table each."""

from dataclasses import dataclass

from lab.records import Position, Split

NAN = float("nan")


@dataclass(frozen=True)
class MapScore:
    """How well one model's states predict the other's for a scaffold and questions that no fit has seen.

    r2: 1 − residual / total sum of squares of the target's states (for `relative`: of its anchor
    coordinates) around the mean of the other scaffolds on the same question; 0 is no better than that mean,
    below 0 is worse. low, high: 95 %, resampling scaffolds with every fit kept. null_high: 95 % point of r2
    over scaffold pairings drawn at random and refitted; p: share of pairings with an r2 at least as large.
    retrieval: share of scaffolds whose mapped landing has its own landing as the nearest (cosine) of all;
    retrieval_p likewise; chance is 1 / scaffolds, null_retrieval the mean over the random pairings (lower
    than chance, since a map leans towards the scaffolds it was fitted on). ceiling: the r2 of one who knows
    everything about the target that repeats (`lab.geometry.fits`, `relative`). setting: the penalty (in largest
    eigenvalues) or number of components that the fits chose, their median; NaN for `relative`. questions
    of `split` and train_questions were used; dropped is how many of both had a failed reply. All NaN where
    `why` says why.
    """

    method: str
    source: str
    target: str
    layer_source: int
    layer_target: int
    position: Position
    split: Split
    scaffolds: int
    questions: int
    train_questions: int
    dropped: int
    why: str = ""
    r2: float = NAN
    low: float = NAN
    high: float = NAN
    null_high: float = NAN
    p: float = NAN
    retrieval: float = NAN
    retrieval_p: float = NAN
    null_retrieval: float = NAN
    chance: float = NAN
    ceiling: float = NAN
    setting: float = NAN


@dataclass(frozen=True)
class SharedPoint:
    """One landing in the plane of the target's own landings, in activation units.

    model: whose landing it is (the source's are carried over). x, y: its place, origin at the mean of the
    target's landings. radius_a >= radius_b: half axes of the 95 % ellipse over questions; angle: of the
    first, in degrees from the x axis, counter-clockwise, above −90 up to 90. Radii are NaN below 5 questions.
    """

    model: str
    scaffold: str
    x: float
    y: float
    radius_a: float = NAN
    radius_b: float = NAN
    angle: float = NAN


@dataclass(frozen=True)
class SharedMap:
    """Landings of two models in one plane, or the reason why there is none.

    points: empty where `why` says why. share_x, share_y: of the variance between the target's landings on
    the training questions. toward: the scaffold that lies at the positive end of both axes.
    """

    source: str
    target: str
    method: str
    toward: str
    why: str = ""
    points: tuple[SharedPoint, ...] = ()
    share_x: float = NAN
    share_y: float = NAN


@dataclass(frozen=True)
class Share:
    """How much of the variance of landings on one trait one source explains.

    source: question, scaffold, weights, scaffold x weights, residual. share: noise subtracted, so 0 on
    average where there is nothing and now and then below 0; the five sum to 1. low, high: 95 %,
    resampling questions. null_high: 95 % point of the share where labels are shuffled, p: share of shuffles
    with as large an effect; NaN for residual. n: questions; dropped: questions with a failed
    reply. NaN where `why` says why.
    """

    trait: str
    source: str
    scaffolds: int
    n: int
    dropped: int
    why: str = ""
    share: float = NAN
    low: float = NAN
    high: float = NAN
    null_high: float = NAN
    p: float = NAN


@dataclass(frozen=True)
class LandingAgreement:
    """Whether two models are moved alike by the same scaffolds, on one trait.

    r, rho: Pearson and Spearman correlation of the landings over scaffolds; low, high: 95 % of r,
    resampling scaffolds. p, rho_p: share of scaffold pairings drawn at random with a correlation at least as
    large; null_high: 95 % point of r among them. ceiling: the r of two models whose true landings are
    alike. n: scaffolds. NaN where `why` says why.
    """

    trait: str
    n: int
    questions: int
    dropped: int
    why: str = ""
    r: float = NAN
    low: float = NAN
    high: float = NAN
    p: float = NAN
    null_high: float = NAN
    rho: float = NAN
    rho_p: float = NAN
    ceiling: float = NAN
