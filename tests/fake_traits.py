"""An extraction made of planted numbers, for figures and pages."""

from lab.records import LayerScore, ModelIdentity
from lab.records.cards import (
    ElicitationTransfer,
    PoleReply,
    RecipeAgreement,
    RemovedReply,
    TraitBook,
    TraitCard,
)

TRAITS = ("warmth", "candour <b>")
RECIPES = (("mean_difference", "reply_mean"), ("paired_pca", "spawn"), ("logistic_probe", "decision"))


def fake_traits(run="extract-fake", fingerprint="f" * 64):
    depth, cards, agreements, replies, moved, removed = [], [], [], [], [], []
    for t in TRAITS:
        for position in ("reply_mean", "spawn", "decision"):
            depth += [
                LayerScore("a", t, position, k, "select", 0.6 + 0.1 * k, 1.0 + k, 0.8, k == 2)
                for k in range(4)
            ]
        for i, (estimator, position) in enumerate(RECIPES):
            scores = (0.9 - 0.1 * i, 0.8 - 0.1 * i, 0.95, 3.0 - i, 3.5 - i, 0.002)
            cards.append(TraitCard("a", t, estimator, position, 2, *scores, i == 0, 24, 12))
        cards.append(
            TraitCard("a", t, *RECIPES[0], 2, 0.8, 0.7, 0.9, 2.0, 2.5, 0.01, True, 26, 13, "scenario")
        )
        moved.append(
            ElicitationTransfer("a", t, "instruction", "scenario", 2, 0.75, 0.6, 0.9, 1.5, 0.02, 0.6, 26, 13)
        )
        removed.append(RemovedReply(t, "instruction", "positive", "extract", "q", "x <b>", "coherence 12.0"))
        names = [" ".join(r) for r in RECIPES]
        agreements += [
            RecipeAgreement("a", t, a, b, 0.5, 24) for i, a in enumerate(names) for b in names[i + 1 :]
        ]
        for k in range(12):
            pole, place = ("positive", 1 + k / 10) if k % 2 else ("negative", -1 + k / 10)
            replies.append(PoleReply("a", t, pole, f"q{k}", f"prompt {k}", f"said <i>{k}</i>", place))
    model = ModelIdentity("a", "/m/a", fingerprint, 10, 4, 8, 100, "float32", False)
    return TraitBook(
        run,
        model,
        tuple(depth),
        tuple(cards),
        tuple(agreements),
        tuple(replies),
        tuple(moved),
        tuple(removed),
    )
