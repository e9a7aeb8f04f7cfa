"""The protocol of a judge, and the judge that asks a local model.

A judge gives one `Score` per item, in the order of the items. Where it did not or could not answer the
value is NaN with the reason beside it: never dropped, never zero. `LogprobJudge` asks a local model,
`server.ApiJudge` an OpenAI-compatible server, `likelihood_ratio.ContrastJudge` nobody: it weighs the
reply under contrastive prompts. A computed judge (Hearth's) fits the same protocol, with its own unit.

Positive is more of what the rubric asks for; whatever has unit "0-100" is on the rubric's scale.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.records import LabError, Message

Unit = Literal["0-100", "prior sd", "nats per token"]
Status = Literal["scored", "refused", "malformed", "failed"]
How = Literal["logprobs", "text", "exact", "likelihood", ""]
NextLogprobs = Callable[[Sequence[Sequence[Message]]], Sequence[Mapping[str, float]]]
"""Per chat the log-probs of the token that would come next, by decoded token text (spaces kept; where
several tokens read the same, their probabilities added). At least the TOP_K most likely; natural log."""
Values = Float[ndarray, " item"]

TOP_K = 20
"""How many of the most likely tokens count. Source: official code of arXiv 2507.21509."""
LEAST_MASS = 0.25
"""Below this probability of any number the judge has refused. Source: the same."""


# ------------------------------------------------------------------ the protocol


@dataclass(frozen=True)
class Item:
    """A reply to be judged. In `rubric`, {question} and {answer} are filled in."""

    question: str
    answer: str
    rubric: str


@dataclass(frozen=True)
class Score:
    """One judge's answer on one item; `value` is NaN exactly where `status` is not "scored".

    refused: the judge would not or could not tell; malformed: what it said is no number on the scale;
    failed: it gave no answer. `reason` has the details. `how` the value came about: the expected value
    over log-probs, the number in a text, computed exactly, or from the likelihood of the reply.
    """

    value: float
    status: Status = "scored"
    reason: str = ""
    how: How = ""

    def __post_init__(self) -> None:
        if math.isfinite(self.value) != (self.status == "scored"):
            raise ValueError(f"expected a finite value if and only if scored, got {self}")


def unscored(status: Status, reason: str) -> Score:
    """The score of an item without a value."""
    return Score(float("nan"), status, reason)


@dataclass(frozen=True)
class Scores:
    """What one judge said of a sequence of items, in their order.

    Raises ValueError for a value outside its unit's scale.
    """

    judge: str
    unit: Unit
    rows: tuple[Score, ...]

    def __post_init__(self) -> None:
        if self.unit == "0-100" and any(row.value < 0 or row.value > 100 for row in self.rows):
            raise ValueError(f"{self.judge}: expected values from 0 to 100, got {self.values}")

    @property
    def values(self) -> Values:
        """[item], NaN where there is none."""
        return np.array([row.value for row in self.rows], dtype=np.float64)

    @property
    def counts(self) -> dict[str, int]:
        """How many items were scored, refused, malformed, failed (what did not occur is left out)."""
        return dict(Counter(row.status for row in self.rows))


class Judge(Protocol):
    """Scores items, one each and in order, in its unit. One judge measures one thing.

    A judge that computes several at once (Hearth's: twelve traits and coherence) is one Judge per
    thing; a trait has unit "prior sd", coherence is 100 × the share of sentences that parse, "0-100".
    """

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> Unit: ...

    def score(self, items: Sequence[Item]) -> Scores: ...


def rubric_prompt(item: Item) -> str:
    """The rubric with question and answer filled in, once, so that braces inside them stay as they are.

    Raises LabError when the rubric has no {answer}.
    """
    if "{answer}" not in item.rubric:
        raise LabError(
            f"expected a rubric with {{answer}} (and mostly {{question}}) in it, got {item.rubric[:80]!r}; "
            "give the trait an eval_prompt (data/traits/README.md)"
        )
    texts = {"question": item.question, "answer": item.answer}
    return re.sub(r"\{(question|answer)\}", lambda match: texts[match[1]], item.rubric)


# ------------------------------------------------------------------ reading a number


def expected_score(logprobs: Iterable[tuple[str, float]]) -> Score:
    """Expected value over the tokens that are whole numbers from 0 to 100, among the TOP_K most likely.

    Probabilities are renormalised over these tokens; "7" and " 7" both count as 7, while "07", "+7",
    "7." and "101" are no numbers of the scale. Refused when all numbers together have less than
    LEAST_MASS. Right only where every number of the scale is a single token. Source: arXiv 2507.21509
    (official code). `logprobs` are (decoded token, natural log-prob).
    """
    top = sorted(logprobs, key=lambda pair: -pair[1])[:TOP_K]
    if not top:
        return unscored("failed", "no log-probs came")
    weights = [(token, math.exp(min(logprob, 1.0))) for token, logprob in top]
    everything = sum(weight for _, weight in weights)
    if not everything <= 1.01:
        return unscored("malformed", f"not log-probs: their probabilities sum to {everything:.3g}")
    numbers = [(int(t), p) for t, p in weights if re.fullmatch(r"\s*(0|[1-9][0-9]?|100)\s*", t, re.ASCII)]
    mass = sum(weight for _, weight in numbers)
    if mass < LEAST_MASS:
        return unscored(
            "refused", f"numbers have probability {mass:.2f} in all; likeliest token {top[0][0]!r}"
        )
    value = sum(n * weight for n, weight in numbers) / mass
    return Score(min(value, 100.0), how="logprobs")  # rounding may pass 100


# ------------------------------------------------------------------ a local model


@dataclass(frozen=True)
class LogprobJudge:
    """Asks a model through `next_logprobs`; the score is `expected_score` of its first reply token.

    `is_one_token` says of a number's text, as a reply begins with it, whether it is one token. Raises
    LabError unless that holds for all of 0 to 100: a tokenizer that writes 85 as "8" and "5", or 100 as
    "10" and "0", puts the probability of the longer number on the shorter one, and the expected value
    over first tokens is then no score.
    """

    name: str
    next_logprobs: NextLogprobs
    is_one_token: Callable[[str], bool]
    unit: Unit = field(default="0-100", init=False)

    def __post_init__(self) -> None:
        pieces = [n for n in range(101) if not self.is_one_token(str(n))]
        if pieces:
            raise LabError(
                f"judge {self.name}: expected a tokenizer with one token for each whole number from 0 to 100; "
                f"{len(pieces)} numbers are written in pieces ({pieces[0]} is the first), so that the first "
                "token is not the score; take a model with another tokenizer, or a server (ApiJudge), which "
                "reads such a model's whole number"
            )

    def score(self, items: Sequence[Item]) -> Scores:
        """All items in one call of `next_logprobs`. LabError when it answers another number of chats."""
        answers = self.next_logprobs([[Message("user", rubric_prompt(item))] for item in items])
        if len(answers) != len(items):
            raise LabError(
                f"judge {self.name}: expected log-probs for {len(items)} chats, got {len(answers)}; "
                "next_logprobs has to answer every chat, in order"
            )
        return Scores(self.name, self.unit, tuple(expected_score(a.items()) for a in answers))
