"""Records of a claim that was put to the test: what was observed, which effects follow, and the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["supported", "refuted", "cannot tell"]
Side = Literal["above", "below"]
"""On which side of the bar an effect must lie for the claim to hold."""
SECTIONS = ("Question", "Prediction", "Measure", "Null", "Verdict rule", "What would change it")
"""What the docstring of every experiment says, each a paragraph that begins with these words and a full stop."""
BESIDE: dict[Verdict, str] = {
    "supported": "beyond the bar", "refuted": "short of the bar", "cannot tell": "cannot tell",
}  # fmt: skip
NAN = float("nan")


@dataclass(frozen=True)
class Observation:
    """One measured value that a verdict rests on.

    models: a label, or two as "a | b"; series: the condition; cluster: what is resampled (a question, an item, a
    scaffold); x: where along a course it lies (NaN: no course). Where the measure brings its own uncertainty, low
    and high are its 95 % interval, null the 95 % point of its null, p its test and n how many it rests on; else
    they are NaN and 0, and uncertainty comes from the clusters. note: what was read, e.g. a reply.
    """

    models: str
    series: str
    cluster: str
    value: float
    x: float = NAN
    low: float = NAN
    high: float = NAN
    null: float = NAN
    p: float = NAN
    n: int = 0
    note: str = ""


@dataclass(frozen=True)
class Effect:
    """One number held against a bar that was set before the run.

    bar: the effect that would matter, in `unit`; side: where the claim wants the effect. null: in words, with its
    value where there is one; p: NaN where the null stands in the bar. n counts `cluster`s of `split`. decides: the
    claim's verdict rests on it; else it only stands beside. why: the reason of an abstention, or "".
    """

    models: str
    what: str
    effect: float
    low: float
    high: float
    unit: str
    side: Side
    bar: float
    null: str
    p: float
    n: int
    cluster: str
    split: str
    decides: bool
    verdict: Verdict
    why: str = ""

    @property
    def said(self) -> str:
        """The verdict; of an effect that only stands beside, on which side of its bar it lies."""
        return self.verdict if self.decides else BESIDE[self.verdict]


@dataclass(frozen=True)
class TestedModel:
    """A model that a claim was tested on; digest: of its files, or its hub name."""

    name: str
    path: str
    digest: str


@dataclass(frozen=True)
class Finding:
    """One claim, tested: everything that its card shows and its figure is drawn from."""

    run: str
    claim: int
    title: str
    sections: Mapping[str, str]
    models: tuple[TestedModel, ...]
    verdict: Verdict
    over: str
    settings: Mapping[str, object]
    effects: tuple[Effect, ...]
    observations: tuple[Observation, ...]
    created: str = ""

    @property
    def quick(self) -> bool:
        """Whether it came from a smaller run, a first look."""
        return bool(self.settings.get("quick"))

    @property
    def said(self) -> str:
        """The verdict, with a word where the run was a first look."""
        return f"{self.verdict} (quick look)" if self.quick else self.verdict
