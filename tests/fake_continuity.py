"""A run of the battery made of planted replies: what passes, fails and stays unscored is set item by item."""

import numpy as np

from lab.continuity import changes, family_scores, tone_tells
from lab.pipelines.continuity_items import shipped_items
from lab.records import ModelIdentity
from lab.records.continuity import FAMILIES, ContinuityResult, Outcome

CONDITIONS = ("full", "none", "Caring nurse")
EACH = 6
"""Items of each family."""
NAN = float("nan")


def passes(condition, k):
    """With the scaffold all but the last of a family, without it none, under another the first half."""
    return float({"full": k < EACH - 1, "none": False, "Caring nurse": k < EACH // 2}[condition])


def tone(condition, k):
    """As stated under every scaffold, none without."""
    return (0.0 if condition == "none" else 0.6) + 0.01 * k


def asked(items="hearth"):
    """The first items of each family."""
    known = shipped_items(items).items
    return [i for f in FAMILIES for i in [x for x in known if x.family == f][:EACH]]


def fake_continuity(run="continuity-fake", model="hearth-a", items="hearth", judge="exact", lost=(), rng=0):
    """`lost`: families that nobody could score."""
    some = asked(items)
    outcomes = []
    for condition in CONDITIONS:
        for n, item in enumerate(some):
            unknown = item.family in lost
            value = NAN if unknown else passes(condition, n % EACH)
            why = "its rubric needs a judge" if unknown else "" if value else "does not say <b>tea</b>"
            outcomes.append(
                Outcome(model, condition, item.id, item.family, item.variant, item.who, value, why, NAN,
                        tone(condition, n % EACH), f"{model} under {condition}: {item.id} <i>", item.chance, item.ceiling)
            )  # fmt: skip
    draw = np.random.default_rng(rng)
    pairs = [(CONDITIONS[0], other) for other in CONDITIONS[1:]]
    identity = ModelIdentity(model, f"/m/{model}", "f" * 64, 10, 3, 8, 100, "float32", False)
    return ContinuityResult(
        run, identity, items, judge, "share of the stated z", tuple(outcomes), family_scores(outcomes, draw, 200),
        changes(outcomes, pairs, draw, 200), tone_tells(outcomes, draw, 200),
        {"conditions": list(CONDITIONS), "items": len(some), "seed": 0},
    )  # fmt: skip
