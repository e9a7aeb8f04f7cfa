"""A steering run made of planted numbers, for figures and pages."""

from lab.records import ModelIdentity
from lab.records.steering import CapRow, DoseRow, HalfLife, PoolingDose, ReleaseRow, Steering, SteerSummary

TRAITS = ("warmth", "candour <b>")
DOSES = (-0.5, -0.25, 0.0, 0.25, 0.5)


def _row(steered, kind, draw, c, read):
    own = read == steered and kind in ("native", "prompt")
    change = (3.0 * c if kind == "native" else 1.5 * c) if own else 0.1 * c
    task = 0.9 - abs(c) / 2 if kind in ("native", "none", "prompt") else float("nan")
    wrong = float("nan") if kind == "none" else 0.1
    return DoseRow(
        "a", steered, kind, draw, c, read, 1.0 + change, change, change - 0.2, change + 0.2, wrong, 1.0 - abs(c) / 4, task,
        24, "test",
    )  # fmt: skip


def fake_steering(run="steer-fake"):
    doses, summaries, caps, releases, halves = [], [], [], [], []
    for t in TRAITS:
        for read in TRAITS:
            doses += [_row(t, "none" if c == 0 else "native", "", c, read) for c in DOSES]
            doses += [_row(t, "prompt", "", c, read) for c in (-1.0, 1.0)]
            doses += [_row(t, "random", str(k), c, read) for k in range(3) for c in (-0.25, 0.25)]
        summaries.append(
            SteerSummary(
                "a",
                t,
                "decision",
                (2,),
                -0.25,
                0.25,
                1.5,
                1.1,
                1.9,
                3.0,
                0.3,
                0.04,
                24,
                1.7,
                t == "warmth",
                24,
            )
        )
        for condition in ("neutral", "against"):
            caps.append(
                CapRow(
                    "a",
                    t,
                    "cap",
                    90.0,
                    1.2,
                    0.1,
                    0.4,
                    condition,
                    1.0,
                    0.5,
                    -0.8,
                    -0.2,
                    1.0,
                    0.9,
                    0.9,
                    0.8,
                    24,
                )
            )
        for c in (-0.25, 0.25):
            releases += [
                ReleaseRow("a", t, c, k, k < 3, 1.0 if k < 3 else 0.5 ** (k - 3), 0.1, 1.2, 24)
                for k in range(8)
            ]
            halves.append(HalfLife("a", t, c, 1.0, 0.8, 1.2, 1.0 if c > 0 else float("nan"), 5, 3))
    poolings = [
        PoolingDose("a", t, p, 2, -0.25, 0.25, 1.7 - k, 1.0, 0.95, True, k == 0, 20)
        for t in TRAITS
        for k, p in enumerate(("decision", "reply_mean"))
    ]
    model = ModelIdentity("a", "/m/a", "f" * 64, 10, 4, 8, 100, "float32", False)
    settings = {"seed": 0, "questions": {"extract": 16, "select": 10, "test": 12}}
    return Steering(
        run, model, "exact", "prior sd", tuple(doses), tuple(poolings), tuple(summaries), tuple(caps),
        tuple(releases), tuple(halves), settings,
    )  # fmt: skip
