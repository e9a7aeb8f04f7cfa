"""The continuity battery: items with checkable outcomes, what became of each, and scores per family."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from lab.records import Message, ModelIdentity, Scaffold

Family = Literal[
    "boundary_kept", "consent_withdrawn", "archive_not_identity", "true_memory_used", "false_memory_refused",
    "untrusted_import", "pressure_resisted", "agency_left", "roleplay_declined", "not_imitated",
]  # fmt: skip
FAMILIES: tuple[Family, ...] = get_args(Family)
EVERY = "all"
"""What stands in the place of a family in a score over all items."""
CheckKind = Literal["says", "avoids", "derives", "underives", "voice", "leans"]
CHECKS: tuple[CheckKind, ...] = get_args(CheckKind)
POSITIVE: tuple[CheckKind, ...] = ("says", "derives", "voice", "leans")
"""Checks that neither silence nor noise can pass."""
HEARTH = "hearth"


# ------------------------------------------------------------------ what is asked


@dataclass(frozen=True)
class Check:
    """One thing that a reply must or must not be; every check of an item must hold.

    says: one of `words` is in the reply, as whole words, without regard to case; avoids: none is. derives: one of
    its sentences comes from one of the grammar's slots named in `words`, with the variables of `filling`;
    underives: none does (Hearth only). voice: the judged traits are nearer to what the scaffold states than to
    its opposite. leans: so for each of `words`, "trait +" or "trait -", by itself.
    """

    kind: CheckKind
    words: tuple[str, ...] = ()
    filling: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ContinuityItem:
    """One question of the battery: who the model is told to be, what was said, what counts.

    who: the character, by which items are clustered. levels: the traits that its scaffold states (++, +, -, --).
    chat: the conversation, which ends with the person's turn. rubric: what a judge is asked to find in the reply;
    "" where the checks alone decide. variant: which kind of item of its family, if there are several. chance,
    ceiling: the share of replies that pass when the world's own source answers without the scaffold and with it;
    NaN where the world does not say (and outside Hearth).
    """

    id: str
    family: Family
    who: str
    scaffold: Scaffold
    levels: Mapping[str, str]
    chat: tuple[Message, ...]
    checks: tuple[Check, ...]
    rubric: str = ""
    variant: str = ""
    chance: float = float("nan")
    ceiling: float = float("nan")


@dataclass(frozen=True)
class ContinuitySet:
    """Items that are asked together. world: "hearth" where its grammar and exact judge read the replies, else ""."""

    name: str
    world: str
    items: tuple[ContinuityItem, ...]


# ------------------------------------------------------------------ what came of it


@dataclass(frozen=True)
class Outcome:
    """One model's reply to one item under one condition.

    passed: 1, 0, or NaN where it could not be told, and then `reason` says why; for a 0 it says what failed.
    score: the rubric judge's, 0 to 100, NaN where none was asked. tone: how near the judged traits are to the
    stated ones (`lab.continuity.tone_match`), in the run's unit; NaN where nothing is stated or could be read.
    """

    model: str
    condition: str
    item: str
    family: str
    variant: str
    who: str
    passed: float
    reason: str
    score: float
    tone: float
    reply: str
    chance: float
    ceiling: float


@dataclass(frozen=True)
class FamilyScore:
    """Share of a family's items that passed, and their tone, under one condition; family "all": over all items.

    low, high: 95 % cluster bootstrap over characters (over items where each has its own). n: items with an
    outcome; unscored: items without one. chance, ceiling: means over the items for which they are known.
    """

    model: str
    condition: str
    family: str
    passed: float
    low: float
    high: float
    n: int
    unscored: int
    chance: float
    ceiling: float
    tone: float
    tone_low: float
    tone_high: float
    tone_n: int


@dataclass(frozen=True)
class FamilyChange:
    """What one condition changes against another on the same items: share passed, and tone.

    p: two-sided, signs of the characters' mean changes flipped; q: Benjamini-Hochberg over the ten families of
    this pair of conditions (NaN for family "all"). n: items with both outcomes; clusters: characters.
    """

    model: str
    condition: str
    against: str
    family: str
    change: float
    low: float
    high: float
    p: float
    q: float
    n: int
    clusters: int
    tone_change: float
    tone_low: float
    tone_high: float
    tone_n: int


@dataclass(frozen=True)
class ToneTells:
    """Whether tone tells the replies that passed from those that did not, of the same family and condition.

    auroc: probability that a passed reply has the warmer match, .5 by chance; low, high: 95 % cluster bootstrap.
    pairs: of a passed and a failed reply of one family. Families whose pass is itself read from tone are left out.
    """

    model: str
    condition: str
    auroc: float
    low: float
    high: float
    pairs: int
    n: int


@dataclass(frozen=True)
class ContinuityResult:
    """Everything one `lab continuity` run says."""

    run: str
    model: ModelIdentity
    set_name: str
    judge: str
    tone_unit: str
    outcomes: tuple[Outcome, ...]
    scores: tuple[FamilyScore, ...]
    changes: tuple[FamilyChange, ...]
    tells: tuple[ToneTells, ...]
    settings: Mapping[str, object]
