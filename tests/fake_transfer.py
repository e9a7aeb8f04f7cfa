"""A transfer between two models made of planted numbers: both ways, one trait of the second way not told apart."""

from dataclasses import replace

from lab.records import ModelIdentity
from lab.records.geometry import Transfer, TransferBook, TransferDose, TransferReply

NAN = float("nan")
LABELS = ("a", "b <i>")
TRAITS = ("warmth", "candour <b>")
SHUFFLED = 8
UP, DOWN = 0.375, -0.25
ASKED = {"q1": "Who <b>are</b> you?", "q2": "And now?"}
DRAWN = {
    "native": "",
    "carried": "",
    "random": "1 of 5",
    "permuted": f"1 of {SHUFFLED}",
    "wrong": "another <i>trait",
}


def effect(source, trait):
    """Native effect of the target: planted, different everywhere."""
    return 2.0 + LABELS.index(source) + 0.5 * TRAITS.index(trait)


def _transfer(source, target, trait):
    native, random = effect(source, trait), 0.1
    carried = random + 0.75 * (native - random)
    return Transfer(
        trait, source, target, 2, 1, DOWN, UP, native, native - 0.5, native + 0.5, carried, carried - 0.7,
        carried + 0.7, random, 0.3, 0.9, -0.2, 0.75, 0.5, 1.0, 1 / (1 + SHUFFLED), 0.9, SHUFFLED, 12, 24, "exact <u>",
        "prior <s>sd",
    )  # fmt: skip


def change(source, trait, kind, dose):
    """Planted: half of the effect at either dose, less of it for what was carried, little for controls."""
    size = {"native": 1.0, "carried": 0.75, "random": 0.05, "permuted": 0.15, "wrong": -0.1, "none": 0.0}[
        kind
    ]
    return size * effect(source, trait) / 2 * (1 if dose > 0 else -1)


def _doses(source, target, trait):
    def row(kind, dose, spread, draws, coherence):
        value = change(source, trait, kind, dose)
        return TransferDose(
            trait, source, target, kind, dose, value, value - spread, value + spread, coherence, draws, 24
        )

    found = [row("none", 0.0, 0.0, 0, 1.0)]
    for dose in (UP, DOWN):
        found += [row("native", dose, 0.3, 1, 0.95), row("carried", dose, 0.4, 1, 0.9)]
        found += [row("random", dose, 0.1, 5, 0.98), row("permuted", dose, 0.2, SHUFFLED, 0.97)]
        found.append(row("wrong", dose, NAN, 2, 0.96))
    return found


def _replies(source, target, trait):
    doses = {"": (0.0,)}.get(trait, (UP, DOWN))
    kinds = {"none": ""} if not trait else DRAWN
    return [
        TransferReply(
            trait, source, target, kind, draw, dose, q, asked, sample,
            f"{target} {trait} {kind} {dose:+g} {q} {sample} <u>",
        )
        for kind, draw in kinds.items() for dose in doses for q, asked in ASKED.items() for sample in (0, 1)
    ]  # fmt: skip


def fake_transfer(run="transfer-fake"):
    models = tuple(ModelIdentity(m, f"/m/{m}", "f" * 64, 10, n, 8, 100, "float32", False)
                   for m, n in zip(LABELS, (3, 4), strict=True))  # fmt: skip
    rows = [_transfer(s, t, trait) for s, t in (LABELS, LABELS[::-1]) for trait in TRAITS]
    silent = {"recovery": NAN, "recovery_low": NAN, "recovery_high": NAN}
    rows[3] = replace(rows[3], carried=NAN, carried_low=NAN, carried_high=NAN, wrong=NAN, p=NAN, **silent)
    ways = [(s, t) for s, t in (LABELS, LABELS[::-1])]
    doses = tuple(d for way in ways for trait in TRAITS for d in _doses(*way, trait))
    replies = tuple(r for way in ways for trait in ("", *TRAITS) for r in _replies(*way, trait))
    return TransferBook(run, models, LABELS, tuple(rows), {"controls": 5, "seed": 0}, doses, replies)
