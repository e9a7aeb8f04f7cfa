"""Paths that end where they are planted to end, for the frame of b in the fake geometry run."""

from fake_geometry import LABELS, SCAFFOLDS

from lab.records.trajectories import PathPoint

QUESTIONS = ("test-00", "test-01")
WORDS = ("Well", " <b>now", ",\n", " go")
NAN = float("nan")
UNREAD = (LABELS[0], SCAFFOLDS[1], QUESTIONS[0])
"""A reply that falls into other tokens when it is read again."""


def place(model, scaffold, question, token):
    """Tokens walk along x, the scaffold sets the height, the models run apart on the second question."""
    side = LABELS.index(model) * QUESTIONS.index(question)
    return 2.0 * token + side, float(SCAFFOLDS.index(scaffold)) - side


def fake_paths():
    rows = []
    for s in SCAFFOLDS:
        for q in QUESTIONS:
            for m in LABELS:
                at = [place(m, s, q, k) for k in range(len(WORDS) - LABELS.index(m))]
                for k, (word, (x, y)) in enumerate(zip(WORDS, at, strict=False)):
                    mean = [sum(v[i] for v in at[: k + 1]) / (k + 1) for i in range(2)]
                    numbers = (NAN,) * 4 if (m, s, q) == UNREAD else (x, y, *mean)
                    rows.append(PathPoint(LABELS[1], m, s, q, k, word, *numbers))
    return tuple(rows)
