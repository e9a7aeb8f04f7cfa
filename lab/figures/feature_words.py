"""Look-ups in a run of `lab sae features`, and what it says of one feature in words."""

from collections import Counter
from math import isnan

from lab.figures import lookup
from lab.figures.reading import interval, probability
from lab.records import LabError
from lab.records.feature_cards import (
    SAME,
    FeatureBook,
    FeatureCard,
    FeatureChoice,
    FeatureLabel,
    FeatureTwin,
    peak_word,
)
from lab.records.features import SaeCard

CLEAR = 0.05
"""q from which on something is not taken for chance."""
TELLS = 0.9
"""AUROC from which on a feature is said to tell a choice."""


def card_of(book: FeatureBook, sae: str, feature: int) -> FeatureCard:
    """LabError for another dictionary or feature."""
    lookup.require(sae, book.saes, "dictionary")
    for card in book.cards:
        if (card.sae, card.feature) == (sae, feature):
            return card
    raise LabError(f"{sae} has no feature {feature} in run {book.run}")


def names(book: FeatureBook, sae: str) -> dict[int, str]:
    """Number and the word in which a feature's strongest examples have their peak most often."""
    words: dict[int, Counter[str]] = {}
    for example in book.examples:
        if example.sae == sae and example.quantile == "top":
            words.setdefault(example.feature, Counter())[peak_word(example)] += 1
    found = {c.feature: str(c.feature) for c in book.cards if c.sae == sae}
    for feature, seen in words.items():
        word = seen.most_common(1)[0][0]
        found[feature] = f"{feature} “{word}”" if word else str(feature)
    return found


def twin_of(book: FeatureBook, sae: str, feature: int, relation: str, other: str = "") -> FeatureTwin | None:
    """The nearest feature of another seed ("seed") or model ("model"); None where none was looked for."""
    for t in book.twins:
        if (t.sae, t.feature, t.relation) == (sae, feature, relation) and other in ("", t.other):
            return t
    return None


def labels_of(book: FeatureBook, sae: str, feature: int) -> list[FeatureLabel]:
    """Traits and personas that were kept for a feature, the strongest first."""
    mine = [r for r in book.labels if (r.sae, r.feature) == (sae, feature)]
    return sorted(mine, key=lambda r: -abs(r.r))


def features_of(book: FeatureBook, sae: str, kind: str, label: str) -> list[FeatureLabel]:
    """Features that were kept for a trait or a persona: those with q < .05 first, in them the strongest."""
    mine = [r for r in book.labels if (r.sae, r.kind, r.label) == (sae, kind, label)]
    return sorted(mine, key=lambda r: (not r.q < CLEAR, -abs(r.r)))


def choice_of(book: FeatureBook, sae: str, feature: int) -> FeatureChoice | None:
    """The choice of the grammar that a feature tells best; None where that is not known."""
    return next((c for c in book.choices if (c.sae, c.feature) == (sae, feature)), None)


# ------------------------------------------------------------------ in words


def _share(value: float) -> str:
    """Two digits, without the sign of what rounds to 0."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def made_of(card: SaeCard) -> str:
    """Of what a dictionary was made."""
    o = card.origin
    return (
        f"{card.name}: {o.architecture}, {o.d_sae} features of {o.d_in} dimensions at {o.hook} of {o.model}, trained on "
        f"{o.tokens:,} tokens of {o.corpus or 'unknown texts'}"
    )


def stability(book: FeatureBook, sae: str, feature: int) -> tuple[str, str]:
    """Whether a feature comes back in another seed of its dictionary: a word for a badge, and the numbers."""
    twin = twin_of(book, sae, feature, "seed")
    if twin is None:
        return (
            "not known",
            "no second seed of this dictionary was read, so whether the feature recurs is not known",
        )
    if isnan(twin.r):
        return (
            "cannot tell",
            f"fires in too few texts to look for it in {twin.other} (5 are needed in either half)",
        )
    word = "recurs" if twin.r >= SAME else "does not recur"
    where = f"{twin.other}: feature {twin.twin}, r = {twin.r:.2f} {interval(twin.low, twin.high)}"
    chance = f"{_share(twin.null)} by chance (tokens shuffled), {probability('q', twin.q)}, n = {twin.units} tokens"
    rows = f"best decoder row {twin.near}, cosine {twin.cosine:.2f} ({probability('p', twin.cosine_p)})"
    return word, f"{where}; {chance}; found on one half of the texts, told on the other; {rows}"


def counterpart(twin: FeatureTwin | None) -> str:
    """The nearest feature of the other model, in words."""
    if twin is None:
        return "No other model was read beside it: lab sae features NAME --other NAME2."
    if twin.twin < 0 or isnan(twin.r):
        return f"{twin.other}: cannot tell, it fires in too few texts (5 are needed in either half)."
    what = "nearest" if twin.q < CLEAR else "nearest, but no nearer than chance finds one"
    return (
        f"{twin.other}, {what}: feature {twin.twin}, r = {twin.r:.2f} {interval(twin.low, twin.high)} at the words that "
        f"both read; {_share(twin.null)} by chance (words of other texts), {probability('q', twin.q)}, n = {twin.units} "
        "words; found on one half of the texts, told on the other."
    )


def choice_words(choice: FeatureChoice | None) -> str:
    """The choice of the grammar, in words; "" where there is none."""
    if choice is None:
        return ""
    said = f"“{choice.words}” (slot {choice.slot}; {choice.load:+g} {choice.trait})"
    chance = f"{_share(choice.null)} by chance (choices shuffled)"
    told = f"AUROC {choice.auroc:.2f} {interval(choice.low, choice.high)}, {chance}"
    how = "Tells best" if choice.auroc >= TELLS else "Tells no choice well; best"
    return (
        f"{how}: {said}, {told}, {probability('p', choice.p)}, n = {choice.n} places; {choice.mass:.0%} of its "
        "activation at choices is there; found on one half of the conversations, told on the other."
    )


def fires_words(card: FeatureCard) -> str:
    """How often it fires."""
    if not card.texts:
        return "Never on in these texts."
    how = f"{card.fires:.2%} [{card.fires_low:.2%}, {card.fires_high:.2%}]"
    return f"On at {how} of the tokens, in {card.texts} texts; mean {card.mean:.2f} where on, at most {card.highest:.2f}."
