"""A transfer between two models made of planted numbers: both ways, one trait of the second way not told apart."""

from dataclasses import replace

from lab.records import ModelIdentity
from lab.records.geometry import Transfer, TransferBook

NAN = float("nan")
LABELS = ("a", "b <i>")
TRAITS = ("warmth", "candour <b>")
SHUFFLED = 8


def effect(source, trait):
    """Native effect of the target: planted, different everywhere."""
    return 2.0 + LABELS.index(source) + 0.5 * TRAITS.index(trait)


def _transfer(source, target, trait):
    native, random = effect(source, trait), 0.1
    carried = random + 0.75 * (native - random)
    return Transfer(
        trait, source, target, 2, 1, -0.25, 0.375, native, native - 0.5, native + 0.5, carried, carried - 0.7,
        carried + 0.7, random, 0.3, 0.9, -0.2, 0.75, 0.5, 1.0, 1 / (1 + SHUFFLED), 0.9, SHUFFLED, 12, 24, "exact <u>",
        "prior <s>sd",
    )  # fmt: skip


def fake_transfer(run="transfer-fake"):
    models = tuple(ModelIdentity(m, f"/m/{m}", "f" * 64, 10, n, 8, 100, "float32", False)
                   for m, n in zip(LABELS, (3, 4), strict=True))  # fmt: skip
    rows = [_transfer(s, t, trait) for s, t in (LABELS, LABELS[::-1]) for trait in TRAITS]
    silent = {"recovery": NAN, "recovery_low": NAN, "recovery_high": NAN}
    rows[3] = replace(rows[3], carried=NAN, carried_low=NAN, carried_high=NAN, wrong=NAN, p=NAN, **silent)
    return TransferBook(run, models, LABELS, tuple(rows), {"controls": 5, "seed": 0})
