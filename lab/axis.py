"""The assistant axis and the persona space: where roles stand between the assistant and everyone else.

The axis is the mean state of the default assistant minus the mean over roles ("The Assistant Axis",
arXiv 2601.10387): positive is more of the assistant. The persona space is spanned by
the principal components of the roles' mean states. Everything here is at one layer, from a balanced
design: the same questions for the default and for every role. An axis made on some questions is
reported on others.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.estimators import unit
from lab.records import LabError
from lab.records.personas import LoadingAgreement
from lab.stats import MIN_CLUSTERS, cluster_weights, correlation, interval, upper_p

Roles = Float[ndarray, "role question d_model"]
Others = Float[ndarray, "who question d_model"]
Default = Float[ndarray, "question d_model"]
Loadings = Float[ndarray, " role"]
Axis = Float[ndarray, " d_model"]


@dataclass(frozen=True)
class RoleStates:
    """Mean states of one model at one layer: the default assistant and every role, by question.

    default [question, d_model]; roles [role, question, d_model], NaN where a reply failed; names [role].
    Raises LabError for fewer than 3 roles or unequal designs.
    """

    names: tuple[str, ...]
    default: Default
    roles: Roles

    def __post_init__(self) -> None:
        if len(self.names) < 3 or self.roles.shape != (len(self.names), *self.default.shape):
            raise LabError(
                f"expected at least 3 roles with the default's {self.default.shape[0]} questions and width "
                f"{self.default.shape[1]}, got {len(self.names)} names and states {self.roles.shape}; ask every "
                "role the same questions as the default"
            )

    def of(self, questions: ndarray) -> "RoleStates":
        """The same roles on some of the questions (indices, repeats allowed)."""
        return RoleStates(self.names, self.default[questions], self.roles[:, questions])


def role_means(states: RoleStates) -> Float[ndarray, "role d_model"]:
    """Mean state of each role, questions centred first so that a failed reply does not move its role."""
    return means_beside(states, states.roles)


def means_beside(states: RoleStates, others: Others) -> Float[ndarray, "who d_model"]:
    """Mean states of others on the same questions, centred by the roles as `role_means` centres these."""
    level = np.nanmean(states.roles, axis=0)
    return np.nanmean(others - level, axis=1) + level.mean(axis=0)


def assistant_axis(states: RoleStates) -> Axis:
    """mean(default) − mean(roles), within questions, not normalised; positive = more of the assistant."""
    return np.nanmean(states.default - np.nanmean(states.roles, axis=0), axis=0)


def loadings(states: RoleStates, axis: Axis) -> Loadings:
    """Where each role stands along `axis`: 0 is the mean over roles, 1 the default assistant.

    Raises LabError when the axis does not part the default from the roles' mean.
    """
    return loadings_beside(states, axis, states.roles)


def loadings_beside(states: RoleStates, axis: Axis, others: Others) -> Float[ndarray, " who"]:
    """Where others stand on the ruler of `loadings`, asked the same questions: no scaffold, say.

    Their states must be of the same model, or of one with the same coordinates (`same_coordinates`). LabError
    as `loadings`.
    """
    level, reach = _ruler(states, axis)
    return (means_beside(states, others) @ unit(axis) - level) / reach


def reply_loadings(states: RoleStates, axis: Axis, others: Others) -> Float[ndarray, "who question"]:
    """Where every single reply stands on the ruler of `loadings`, of whose replies they are the mean.

    What a question does to all roles is taken out. NaN for a reply that failed; LabError as `loadings`.
    """
    level, reach = _ruler(states, axis)
    usual = np.nanmean(states.roles, axis=0)
    return ((others - usual + usual.mean(axis=0)) @ unit(axis) - level) / reach


def _ruler(states: RoleStates, axis: Axis) -> tuple[float, float]:
    """Projection of the mean role, and how far above it the default lies. LabError where it does not."""
    direction = unit(axis)
    at = role_means(states) @ direction
    reach = float(np.nanmean(states.default @ direction) - at.mean())
    if not reach > 0:
        raise LabError(
            f"expected an axis along which the default lies above the mean of the roles, got a distance of "
            f"{reach:.3g}; take the axis of this model and layer"
        )
    return float(at.mean()), reach


def loading_intervals(
    states: RoleStates, axis: Axis, rng: np.random.Generator, draws: int = 1000, others: Others | None = None
) -> tuple[Loadings, Loadings]:
    """95 % intervals (low, high) of `loadings`, resampling questions jointly for default and roles.

    With `others`, of `loadings_beside`: their questions are resampled together with the ruler's.
    """
    direction, n = unit(axis), len(states.default)
    at, home = states.roles @ direction, states.default @ direction
    level = np.nanmean(at, axis=0)
    weights = cluster_weights([np.arange(n)], draws, rng)

    def means(x: Float[ndarray, "who question"]) -> Float[ndarray, "draw who"]:
        known = ~np.isnan(x)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weights @ np.where(known, x - level, 0.0).T) / (weights @ known.T)

    middle = np.nanmean(means(at), axis=1)[:, None]
    asked = at if others is None else others @ direction
    low, high = interval((means(asked) - middle) / (means(home[None]) - middle), n)
    return np.asarray(low), np.asarray(high)


def parts_default(states: RoleStates, axis: Axis, rng: np.random.Generator, draws: int = 1000) -> bool:
    """Whether the default lies above the mean role for more than chance: 95 % interval over questions above 0.

    Without that, places between the two are a division by noise. False with fewer than 5 questions.
    """
    direction, n = unit(axis), len(states.default)
    above = states.default @ direction - np.nanmean(states.roles @ direction, axis=0)
    known = ~np.isnan(above)
    weights = cluster_weights([np.arange(n)], draws, rng)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, _ = interval((weights @ np.where(known, above, 0.0)) / (weights @ known), int(known.sum()))
    return bool(low > 0)


def same_coordinates(one: Default, other: Default) -> float:
    """Whether two models of one width have the same coordinates: how alike they hold the same words, as they are.

    one, other [question, d_model]: states of both at the same layer while they read the same replies to the
    same questions. The mean over dimensions (so that no massive one decides) of the correlation over
    questions, from -1 to 1: high where one model was trained on from the other, near 0 where the two were
    trained apart, be they ever so alike in what they do. Questions with a NaN are left out, and dimensions in
    which a model does not move; NaN with fewer than 5 questions.

    A projection on another model's direction means something only in shared coordinates: those of a base model
    and its finetune, say.
    """
    known = ~np.isnan(one).any(axis=1) & ~np.isnan(other).any(axis=1)
    if known.sum() < MIN_CLUSTERS:
        return float("nan")
    x, y = (v[known] - v[known].mean(axis=0) for v in (one, other))
    size = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return float(np.nanmean((x * y).sum(axis=0) / np.where(size > 0, size, np.nan)))


@dataclass(frozen=True)
class PersonaSpace:
    """Principal components of the roles' mean states.

    components [component, d_model], unit length, each oriented so that the default assistant lies at its
    positive end; share [component] of the variance between roles; cosine [component] with the assistant
    axis; coordinates [role, component]; default [component]: where the assistant lies.
    """

    components: Float[ndarray, "component d_model"]
    share: Float[ndarray, " component"]
    cosine: Float[ndarray, " component"]
    coordinates: Float[ndarray, "role component"]
    default: Float[ndarray, " component"]

    def needed(self, share: float) -> int:
        """How many components reach `share` of the variance between roles."""
        return int(np.searchsorted(np.cumsum(self.share), share - 1e-9) + 1)


def persona_space(states: RoleStates, axis: Axis) -> PersonaSpace:
    """PCA of the roles' mean states, roles centred, the default assistant not among them."""
    means = role_means(states)
    centre = means.mean(axis=0)
    _, spread, right = np.linalg.svd(means - centre, full_matrices=False)
    keep = min(len(means) - 1, len(spread))
    spread, right, axis = spread[:keep], right[:keep], unit(axis)
    right = right * np.where(right @ axis < 0, -1.0, 1.0)[:, None]
    home = np.nanmean(states.default, axis=0)
    return PersonaSpace(
        right,
        spread**2 / (spread**2).sum(),
        right @ axis,
        (means - centre) @ right.T,
        (home - centre) @ right.T,
    )


def across_axis(states: RoleStates, axis: Axis) -> tuple[Axis, float]:
    """First principal component of the roles' mean states that is orthogonal to the axis, and its share.

    The component is of unit length; its sign is set so that the role farthest out lies at its positive
    end. The share is of the whole variance between roles.
    """
    means, direction = role_means(states), unit(axis)
    centred = means - means.mean(axis=0)
    rest = centred - np.outer(centred @ direction, direction)
    _, spread, right = np.linalg.svd(rest, full_matrices=False)
    at = rest @ right[0]
    flip = -1.0 if at[np.argmax(np.abs(at))] < 0 else 1.0
    return flip * right[0], float(spread[0] ** 2 / (centred**2).sum())


def reliability(states: RoleStates, axis: Axis, rng: np.random.Generator, splits: int = 100) -> float:
    """How well the roles' loadings repeat on other questions: split-half r, stepped up to all questions.

    Mean over random halves of the Spearman–Brown formula 2r / (1 + r), of
    r no lower than 0. NaN with fewer than 4 questions.
    """
    n = len(states.default)
    if n < 4:
        return float("nan")
    found = []
    for _ in range(splits):
        order = rng.permutation(n)
        one, other = (states.of(half) for half in (order[: n // 2], order[n // 2 : 2 * (n // 2)]))
        r = max(0.0, _r(role_means(one) @ axis, role_means(other) @ axis))
        found.append(2 * r / (1 + r))
    return float(np.mean(found))


def _r(x: Loadings, y: Loadings) -> float:
    return float(np.corrcoef(x, y)[0, 1])


def loading_agreement(
    a: tuple[RoleStates, Axis], b: tuple[RoleStates, Axis], rng: np.random.Generator, draws: int = 2000
) -> LoadingAgreement:
    """Correlation of role loadings across two models (states, axis), with its null and its ceiling.

    Only the order and spacing of roles are compared, so width, depth and tokenizer may differ. Raises
    LabError when the roles are not the same.
    """
    if a[0].names != b[0].names:
        other = sorted(set(a[0].names) ^ set(b[0].names))[:4]
        raise LabError(f"expected the same roles in the same order in both models, got also {other}")
    x, y = (role_means(states) @ unit(axis) for states, axis in (a, b))
    weights = cluster_weights([np.arange(len(x))], draws, rng)
    low, high = interval(correlation(x, y, weights), len(x))
    null = np.array([_r(x, y[rng.permutation(len(y))]) for _ in range(draws)])
    r = _r(x, y)
    return LoadingAgreement(
        r, float(low), float(high), upper_p(r, null),
        float(np.quantile(null, 0.975)), float(np.sqrt(reliability(*a, rng) * reliability(*b, rng))), len(x),
    )  # fmt: skip
