"""Names beside the marks of a scatter, placed so that they do not cover each other."""

from collections.abc import Sequence

from lab.figures.landing import shorten

PLACES = (
    "top center", "bottom center", "middle right", "middle left", "top right", "top left", "bottom right", "bottom left",
)  # fmt: skip
LETTER, LINE, MARK = 6.2, 12.0, 6.0
"""Pixels of a letter, of a line and of half a mark, at a font of 11 pixels."""
INFINITE = float("inf")
Box = tuple[float, float, float, float]


def place_names(
    at: Sequence[tuple[float, float]],
    names: Sequence[str],
    taken: Sequence[tuple[float, float]],
    pixels: float,
    ends: Sequence[float] = (-INFINITE, INFINITE),
) -> list[tuple[str, str]]:
    """(name or "", text position) of each mark: where the least of other marks and names is covered.

    at: marks to be named; taken: further marks that no name should cover; both in the axes' unit, of which one is
    `pixels` wide and high; ends: of the x axis, beyond which no name should go. A name that has no free place is
    left out, for the hover text to tell. The marks with the most room choose last.
    """
    spots = [(x * pixels, y * pixels) for x, y in at]
    marks: list[Box] = [_around(x * pixels, y * pixels, MARK, MARK) for x, y in (*at, *taken)]
    order = sorted(range(len(spots)), key=lambda k: _room(spots, k))
    found = [("", PLACES[0])] * len(spots)
    names_at: list[Box] = []
    for k in order:
        name = shorten(names[k], 24)
        own = _around(*spots[k], MARK, MARK)
        boxes = {place: _box(spots[k], name, place) for place in PLACES}
        cost = {
            place: sum(_overlap(box, other) for other in (*marks, *names_at) if other != own)
            + LINE * max(0.0, ends[0] * pixels - box[0], box[1] - ends[1] * pixels)
            for place, box in boxes.items()
        }
        best = min(PLACES, key=lambda place: cost[place])
        if cost[best] <= 0.12 * LETTER * len(name) * LINE:
            found[k] = (name, best)
            names_at.append(boxes[best])
    return found


def _room(spots: Sequence[tuple[float, float]], k: int) -> float:
    x, y = spots[k]
    return min([(x - u) ** 2 + (y - v) ** 2 for i, (u, v) in enumerate(spots) if i != k], default=0.0)


def _around(x: float, y: float, width: float, height: float) -> Box:
    return x - width, x + width, y - height, y + height


def _box(spot: tuple[float, float], name: str, place: str) -> Box:
    """Left, right, bottom, top in pixels, as plotly puts a text of 11 pixels."""
    vertical, horizontal = place.split()
    wide = LETTER * len(name)
    x = spot[0] + {"left": -wide / 2 - MARK, "right": wide / 2 + MARK, "center": 0.0}[horizontal]
    y = spot[1] + {"bottom": -1.0, "top": 1.0, "middle": 0.0}[vertical] * (MARK + LINE / 2)
    return _around(x, y, wide / 2, LINE / 2)


def _overlap(a: Box, b: Box) -> float:
    """Area that two boxes share."""
    wide, high = min(a[1], b[1]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[2], b[2])
    return wide * high if wide > 0 and high > 0 else 0.0
