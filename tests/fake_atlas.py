"""An atlas of two models made of planted numbers, for figures and pages."""

import numpy as np

from lab.records import ModelIdentity
from lab.records.atlas import (
    AtlasBook,
    AtlasMap,
    AtlasSimilarity,
    Category,
    Concept,
    ConceptScore,
    ConceptSet,
    DepthRow,
    Neighbour,
    SharedNeighbours,
)
from lab.records.similarity import Similarity

NAN = float("nan")
LABELS = ("a <i>", "b")
STAGES = ("embedding", "first layer", "chosen layers")
LAYERS = {"embedding": (-1, -1), "first layer": (0, 0), "chosen layers": (2, 3)}
WORDS = ("joy", "love <b>", "grief", "fear", "nurse", "pirate", "queen", "judge")
CATEGORIES = {w: "emotion" if k < 4 else "role" for k, w in enumerate(WORDS)}
MEASURE = "debiased CKA"
K = 3


def _near(stage, k, word):
    """A's neighbours are the next words in the list, B's the next but one: two in common."""
    at = WORDS.index(word) + 1 + k
    return [WORDS[(at + r) % len(WORDS)] for r in range(K)]


def _neighbours(stage):
    for word in WORDS:
        lists = [_near(stage, k, word) for k in range(2)]
        for k, names in enumerate(lists):
            for r, name in enumerate(names):
                yield Neighbour(stage, LABELS[k], word, r + 1, name, 0.1 * (r + 1), name in lists[1 - k])


def _shared(stage):
    for word, category in [("", ""), ("", "emotion"), ("", "role"), *CATEGORIES.items()]:
        n = 1 if word else 8 if not category else 4
        yield SharedNeighbours(
            stage, word, category, K, n, 2 / 3, NAN if word else 0.5, NAN if word else 0.8, K / 7, 0.45, 0.55, 0.01,
            0.6, 0.5, 3 / 7,
        )  # fmt: skip


def _scores(stage, scope, source):
    target = LABELS[1 - LABELS.index(source)]
    for k, word in enumerate(WORDS):
        rank = 7.0 if word == "grief" else float(1 + k % 2)
        yield ConceptScore(
            stage, scope, source, target, word, CATEGORIES[word], 0.8 - 0.2 * k, 0.1, 0.01, 0.02, 0.9 - 0.1 * k, rank,
            8 if scope == "all" else 4, 1.0,
        )  # fmt: skip


def fake_atlas(run="atlas-0"):
    models = tuple(ModelIdentity(m, f"/m/{m}", "f" * 64, 10, 4, 8, 100, "float32", False) for m in LABELS)
    frames = tuple(f"Number {k} says {{word}}, as ever." for k in range(8))
    sets = [
        Category(name, tuple(w for w in WORDS if CATEGORIES[w] == name), frames)
        for name in ("emotion", "role")
    ]
    scopes = ("all", "within category")
    similarity = [
        AtlasSimilarity(
            stage, scope,
            Similarity(
                MEASURE, *LABELS, *LAYERS[stage], 0.6, 0.5, 0.7, 0.01, 0.1, 0.7, 0.01, 0.2, 0.9, 0.9, 0.9, 8, 4, 0, 99,
                "test", "select", "as is", "",
            ),
        )
        for stage in STAGES for scope in scopes
    ]  # fmt: skip
    maps = [
        AtlasMap(
            stage, scope, source, LABELS[1 - k], *LAYERS[stage][:: 1 - 2 * k], "ridge", 0.4, 0.3, 0.5, 0.1, 0.01, 0.8, 0.5,
            0.4, 0.6, 0.1, 0.01, 0.9, 0.8, 0.7, 0.9, 0.3, 0.01, 1.0, 8, 5, 0 if stage == "embedding" else 4, 99,
        )
        for stage in STAGES for scope in scopes for k, source in enumerate(LABELS)
    ]  # fmt: skip
    depth = [
        DepthRow(scope, MEASURE, d, layer, layer, v, 0.1)
        for scope in scopes
        for d, layer, v in ((0.0, 0, 0.5), (1.0, 3, 0.7), (0.5, 1, 0.6), (NAN, -1, 0.3))
    ]
    return AtlasBook(
        run, models, LABELS, ConceptSet("fake", tuple(sets)),
        tuple(Concept(w, c, 1.0, float(np.ceil(len(w) / 4))) for w, c in CATEGORIES.items()),
        tuple(similarity), tuple(depth), tuple(maps),
        tuple(s for stage in STAGES for scope in scopes for source in LABELS for s in _scores(stage, scope, source)),
        tuple(n for stage in STAGES for n in _neighbours(stage)), tuple(s for stage in STAGES for s in _shared(stage)),
        {"permutations": 99},
    )  # fmt: skip
