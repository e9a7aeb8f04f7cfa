"""The verdicts of experiments/terrains.py, each way."""

import pandas as pd

from experiments.terrains import verdicts


def pair(name, cka, rsa=0.95, scaffold=0.9, weights=0.02):
    return {
        "with": name, "cka": cka, "cka_low": cka - 0.005, "cka_high": cka + 0.005, "rsa": rsa, "rsa_low": rsa - 0.01,
        "scaffold warmth": scaffold, "weights warmth": weights, "scaffold x weights warmth": 0.03,
    }  # fmt: skip


def told(*rows):
    return {line[:3]: line.endswith("supported") for line in verdicts(pd.DataFrame(rows))}


def test_every_verdict_can_go_either_way():
    seed, twin = pair("hearth-a2", 0.95), pair("hearth-a-next", 0.98)
    good = told(pair("hearth-b", 0.96), seed, twin, pair("hearth-a-moe", 0.965))
    assert good == {"(1)": True, "(2)": True, "(3)": True, "(4)": True}
    bad = told(
        pair("hearth-b", 0.90), seed, pair("hearth-a-next", 0.957), pair("hearth-a-moe", 0.94, scaffold=0.04)
    )
    assert bad == {"(1)": False, "(2)": False, "(3)": False, "(4)": False}
    assert not told(pair("hearth-b", 0.96, rsa=0.8), seed)["(1)"]


def test_pairs_that_were_not_run_are_not_judged():
    assert set(told(pair("hearth-b", 0.96))) == {"(4)"}
