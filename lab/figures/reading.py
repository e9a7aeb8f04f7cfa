"""Plain language for numbers: what an L, a D and their tests say, and what they do not."""

from math import isfinite

from lab.figures import lookup
from lab.records import Comparison, Interaction, Landing, Position

ALPHA = 0.05


def signed(value: float) -> str:
    """`+0.40`, `−0.13`, `0.00`."""
    shown = f"{value:+.2f}".replace("-", "−")
    return shown[1:] if shown[1:] == "0.00" else shown


def probability(name: str, value: float) -> str:
    """`p = .03`, `p < .001`, or `p not computed`."""
    if value != value:
        return f"{name} not computed"
    if value < 0.001:
        return f"{name} < .001"
    shown = f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
    return f"{name} = {shown.removeprefix('0')}"


def interval(low: float, high: float) -> str:
    """`[−0.10, 0.30]`."""
    if not (isfinite(low) and isfinite(high)):
        return "[no interval]"
    return f"[{low:.2f}, {high:.2f}]".replace("-", "−")


def side(x: Landing) -> str:
    """Where one landing stands: above, below or not clear of neutral, or inside its null."""
    if not isfinite(x.L):
        return "cannot tell where it is: its poles do not separate"
    if not (isfinite(x.low) and isfinite(x.high)):
        return "has no interval: too few questions"
    if x.low <= 0 <= x.high:
        return "cannot be told from its own neutral at this n"
    word = "is above its own neutral" if x.L > 0 else "is below its own neutral"
    inside = x.null_low <= x.L <= x.null_high
    return f"{word}, but inside the null" if inside else word


def landing_words(comparison: Comparison, scaffold: str, trait: str, position: Position) -> str:
    """Both models' landings in one sentence."""
    found = {m: lookup.landing(comparison, m, scaffold, trait, position)[0] for m in comparison.labels}
    says = {m: "was not measured" if x is None else side(x) for m, x in found.items()}
    if len(set(says.values())) == 1:
        return f"Each model {next(iter(says.values()))}."
    return "; ".join(f"{m} {word}" for m, word in says.items()) + "."


def difference_words(x: Interaction | None, labels: tuple[str, ...], floor: float | None) -> str:
    """D in one sentence: who lands higher and by how much, or that nobody can say."""
    if x is None or not isfinite(x.D):
        return "The difference between the models was not measured."
    if not (isfinite(x.low) and isfinite(x.high)):
        return f"D = {signed(x.D)} without interval or test: too few questions."
    tests = probability("q", x.q)
    if x.low <= 0 <= x.high:
        numbers = f"D = {signed(x.D)} {interval(x.low, x.high)}, {tests}"
        return f"The two models cannot be told apart at this n ({numbers}, n = {x.n})."
    first, second = (labels[0], labels[1]) if x.D > 0 else (labels[1], labels[0])
    low, high = (x.low, x.high) if x.D > 0 else (-x.high, -x.low)
    words = f"{first} lands higher than {second} by {abs(x.D):.2f} {interval(low, high)}, {tests}"
    if x.q != x.q:
        words += ": no test was possible"
    elif x.q >= ALPHA:
        words += ": does not hold up against the number of tests made"
    if floor is not None and abs(x.D) <= floor:
        words += f"; not more than rewording a scaffold does inside one model ({floor:.2f})"
    return words + "."


def reading(comparison: Comparison, scaffold: str, trait: str, position: Position) -> str:
    """What one scaffold does to one trait in both models, in two sentences."""
    d = lookup.interaction(comparison, scaffold, trait, position)
    floor = lookup.floor(comparison, trait, position)
    where = landing_words(comparison, scaffold, trait, position)
    return f"{trait}: {where} {difference_words(d, comparison.labels, floor)}"
