"""One text in two models with different tokenizers: how it is cut, how surprising it is, what is attended to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from numpy import ndarray

from lab.records import LabError, ModelIdentity, Split


@dataclass(frozen=True)
class Cut:
    """One text as one tokenizer cuts it.

    Token t holds the characters start[t] to end[t] - 1 of `text`; spans are in reading order. Tokens may
    share a character (bytes of one letter) or hold none (start = end). Raises LabError for spans that run
    backwards or leave the text.
    """

    text: str
    start: Int[ndarray, " token"]
    end: Int[ndarray, " token"]

    def __post_init__(self) -> None:
        start, end = self.start, self.end
        inside = len(start) == len(end) and ((start >= 0) & (start <= end) & (end <= len(self.text))).all()
        if not inside or (start[1:] < start[:-1]).any():
            raise LabError(
                f"expected token spans in reading order inside a text of {len(self.text)} characters, got "
                f"{list(zip(start.tolist(), end.tolist(), strict=False))[:8]} …; the tokenizer's character "
                "offsets are wrong: update the tokenizers library or take a checkpoint with another tokenizer"
            )


@dataclass(frozen=True)
class Word:
    """A word, or one punctuation mark (`mark`): characters start to end - 1 of a text."""

    text: str
    start: int
    end: int
    mark: bool


@dataclass(frozen=True)
class WordPieces:
    """How many tokens of either model touch a word of the shown text."""

    word: str
    start: int
    end: int
    mark: bool
    pieces_a: int
    pieces_b: int


@dataclass(frozen=True)
class TokenCell:
    """Characters start to end - 1 of the shown text that one model reads as `tokens` tokens.

    nats: their surprisal -log p summed, NaN where it is unknown. tokens = 0: no token holds these
    characters (unaligned). A template cell stands outside the text: start = end = -1.
    """

    model: str
    text: str
    start: int
    end: int
    tokens: int
    nats: float
    template: bool


@dataclass(frozen=True)
class WordMeasure:
    """One number about the texts: interval, null and test, with n of `over` (texts, words) and the split.

    NaN in low and high: too little to tell; NaN in null or p: there is none; `note` says why.
    """

    what: str
    model: str
    scope: str
    value: float
    low: float
    high: float
    null: float
    p: float
    n: int
    over: str
    unit: str
    split: str
    note: str


@dataclass(frozen=True)
class HeadMatch:
    """A head of A and the head of B that was matched to it on the extract texts, measured on test texts.

    divergence: squared Hellinger distance of their attention over words, 0 same, 1 disjoint, with its
    interval over texts; other_text: the same while the two read different texts; gain = other_text -
    divergence, positive where what the text says brings them together, with interval and q over pairs.
    """

    model_a: str
    model_b: str
    layer_a: int
    head_a: int
    layer_b: int
    head_b: int
    divergence: float
    low: float
    high: float
    other_text: float
    gain: float
    gain_low: float
    gain_high: float
    q: float
    n: int
    split: Split


@dataclass(frozen=True)
class WordAttention:
    """Attention of one model over the first words of one text.

    attention [layer, head, word, word]: row = the word that looks, column = the word looked at; rows sum to
    1 over the words up to their own, NaN where hardly anything of the text was looked at.
    outside [layer, head]: mean share of attention that went to template, BOS and blanks before that.
    """

    model: str
    words: tuple[str, ...]
    attention: Float[ndarray, "layer head word word"] = field(repr=False)
    outside: Float[ndarray, "layer head"] = field(repr=False)


@dataclass(frozen=True)
class WordsBook:
    """Everything about one text in two models, and about the texts that heads were matched and tested on.

    run: its name in the store. labels: of A and B, and of the control if there is one. place: where the texts
    stood (system, user, reply).
    attention: A's, then B's. grid [head_a, head_b]: divergences of all pairs of heads on the test texts, heads
    counted through the layers.
    """

    run: str
    models: tuple[ModelIdentity, ...]
    labels: tuple[str, ...]
    place: str
    text: str
    words: tuple[WordPieces, ...]
    cells: tuple[TokenCell, ...]
    measures: tuple[WordMeasure, ...]
    matches: tuple[HeadMatch, ...]
    attention: tuple[WordAttention, WordAttention]
    grid: Float[ndarray, "head_a head_b"] = field(repr=False)
    settings: Mapping[str, object]

    @property
    def pair(self) -> tuple[str, str]:
        """Labels of A and B."""
        return self.labels[0], self.labels[1]
