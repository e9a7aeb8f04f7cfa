"""The path of a reply, token by token, in the shared frame of two models. One table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PathPoint:
    """One token of one reply in the plane of the target's landings (`lab.records.maps.SharedMap`).

    target: whose plane it is; model: whose reply it is (the other model's tokens are carried over by the map
    that was fitted without the scaffold); the reply is that to the first wording of the scaffold. token:
    0-based; text: the characters that it holds in the reply (texts join to the reply). x, y: place of the
    token's state, relative to the question means that landings are relative to, in activation units of the
    target; mean_x, mean_y: mean of the places up to and with this token, so the last one is the reply's
    landing. All NaN where the reply, read again, falls into other tokens than those it was generated in.
    """

    target: str
    model: str
    scaffold: str
    question: str
    token: int
    text: str
    x: float
    y: float
    mean_x: float
    mean_y: float
