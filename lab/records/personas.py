"""What one `lab axis` run says: where roles stand, and who stands beside them (default, no scaffold, a base model)."""

from collections.abc import Collection
from dataclasses import dataclass

from lab.records import ModelIdentity, Position, Split

DEFAULT = "default"
NOBODY = "no scaffold"


@dataclass(frozen=True)
class RoleLanding:
    """Where one role stands in one model.

    loading: along the assistant axis, 0 the mean over roles, 1 the default assistant, with a 95 %
    cluster-bootstrap interval over questions; across: on the first component of the roles' mean states
    that is orthogonal to the axis, in sd over roles. "default" and "no scaffold" are among the roles,
    though they are neither in the mean nor in the component.
    """

    model: str
    role: str
    loading: float
    low: float
    high: float
    across: float


@dataclass(frozen=True)
class RoleReply:
    """A test reply of who stands on a persona map: system prompt, what was asked, what was said.

    loading: where this reply's states stand, on the ruler of `RoleLanding.loading`, whose mean over replies that is;
    NaN for a base model's replies, which stand by their words.
    """

    model: str
    role: str
    system: str
    question: str
    text: str
    loading: float


@dataclass(frozen=True)
class AxisSummary:
    """One model's assistant axis on one split.

    reliability of the loadings over questions (split-half, stepped up); share and cosine: of the first
    principal component of the roles, its part of the variance between them and its cosine with the
    axis; needed: components for 70 % of that variance; across: the part of the component orthogonal to
    the axis; n: questions.
    """

    model: str
    layer: int
    position: Position
    split: Split
    reliability: float
    share: float
    cosine: float
    needed: int
    across: float
    n: int


@dataclass(frozen=True)
class LoadingAgreement:
    """Whether two models order the same roles alike along their own assistant axes.

    r: Pearson correlation over roles, with a 95 % bootstrap interval over roles; p: share of permuted
    role labels with an r at least as large (one-sided); null_high: 97.5 % point of these; ceiling: the r
    that two models with the same true loadings would reach, sqrt of the product of both reliabilities;
    n: roles.
    """

    r: float
    low: float
    high: float
    p: float
    null_high: float
    ceiling: float
    n: int


@dataclass(frozen=True)
class PersonaMap:
    """Everything one `lab axis` run says: one or two models, and whether two order roles alike."""

    run: str
    models: tuple[ModelIdentity, ...]
    summaries: tuple[AxisSummary, ...]
    landings: tuple[RoleLanding, ...]
    agreement: LoadingAgreement | None
    replies: tuple[RoleReply, ...] = ()


def said_by(model: str) -> str:
    """The row of a model's replies without scaffold, weighed by the model of the map: by what is said alone."""
    return f"{model}: its replies"


def states_of(base: str) -> str:
    """The row of a base model's own states. There is none where it has coordinates of its own."""
    return f"{base}: its states"


def bases_of(found: PersonaMap) -> tuple[str, ...]:
    """Models that were placed on the axes of others and have none here."""
    return tuple(m.name for m in found.models[len(found.summaries) :])


def said_rows(found: PersonaMap) -> dict[str, str]:
    """Rows that stand by what was said, with the model that said it."""
    bases = bases_of(found)
    return {said_by(m): m for m in (*bases, *(s.model for s in found.summaries))} if bases else {}


def state_rows(found: PersonaMap) -> dict[str, str]:
    """Rows of base models' own states, with the model."""
    return {states_of(base): base for base in bases_of(found)}


def beside_roles(found: PersonaMap) -> tuple[str, ...]:
    """The names of all rows that are no roles."""
    return (DEFAULT, NOBODY, *said_rows(found), *state_rows(found))


def base_words(found: PersonaMap, model: str) -> tuple[str, ...]:
    """Sentences about the base models in one model's map: what their rows say, or why there are none."""
    rows = {r.role for r in found.landings if r.model == model}
    return tuple(text for base in bases_of(found) for text in _words(base, model, rows))


def _words(base: str, model: str, rows: Collection[str]) -> tuple[str, str]:
    if said_by(base) in rows:
        said = (
            f"Replies of {base} and of {model} itself, given without scaffold, stand where {model} would have to "
            "be pushed along its axis to say them (0 what the mean role says, 1 what the default says)."
        )
    else:
        said = (
            f"What {base} says cannot be placed: {model} does not tell the default's words from the mean role's "
            "by more than chance."
        )
    if states_of(base) in rows:
        own = (
            f"Its states are {base}'s own, which compare because both models hold the same words in the same "
            "coordinates."
        )
    else:
        own = f"{base}'s own states are not placed: its coordinates are not {model}'s."
    return said, own
