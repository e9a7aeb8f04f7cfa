"""Do the lab's directions read and steer what they name? Checked where the truth is known.

Question. On the shipped organisms the exact judge can read every trait from a reply. Do
projections on the extracted directions tell the same, and does pushing along a direction move
what the judge reads?

Prediction. (1) Over the paraphrases of the shipped scaffolds, the mean projection of the replies
explains at least 80 % of the variance of the judge's pooled reading of the same replies, for
assistant, warmth and intimacy. (2) Adding -1, -1/2, 0, +1/2, +1 residual norms along a direction
moves the judge's reading of that trait monotonically.

Verdict rule. (1) supported when r2_scaffold >= .80 for every mission trait in a model, refuted for
a trait otherwise. (2) supported when the five readings are in increasing order, refuted otherwise;
coherence (share of sentences that parse) is reported beside every dose, because a push that breaks
the grammar leaves the judge nothing to read.

Run: python experiments/known_truth.py [model ...]      (about two minutes a model on two cores)
"""

import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd

from lab.pipelines.compare import shipped_scaffolds
from lab.pipelines.truth import known_truth
from lab.store import Store


@dataclass(frozen=True)
class Config:
    """What to run."""

    models: tuple[str, ...] = ("hearth-a", "hearth-b")
    coefficients: tuple[float, ...] = (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)
    runs: Path = Path("runs")


def main(config: Config) -> None:
    """Print both tables and the verdicts."""
    scaffolds = [s for s in shipped_scaffolds() if any(p.segments for p in s.paraphrases)]
    for model in config.models:
        found = known_truth(
            model, scaffolds, Store(config.runs), lambda stage, part: print(f"{part:4.0%} {stage}", end="\r"),
            coefficients=config.coefficients,
        )  # fmt: skip
        readings = pd.DataFrame([asdict(r) for r in found.readings])
        doses = pd.DataFrame([asdict(d) for d in found.doses])
        print(f"\n{model}: projections against the exact judge\n{readings.round(3).to_string(index=False)}")
        table = doses.pivot(index="coefficient", columns="trait", values=["reading", "coherence"])
        print(f"{model}: dose-response without scaffold\n{table.round(2).to_string()}")
        for row in found.readings:
            print(f"(1) {model} {row.trait}: {'supported' if row.r2_scaffold >= 0.8 else 'refuted'}")
        for trait in doses.trait.unique():
            steps = [d for d in found.doses if d.trait == trait and d.coefficient in (-1, -0.5, 0, 0.5, 1)]
            values = [d.reading for d in sorted(steps, key=lambda d: d.coefficient)]
            rises = all(a < b for a, b in pairwise(values))  # NaN (nothing parsed) is not a rise
            print(f"(2) {model} {trait}: {'supported' if rises else 'refuted'}")


if __name__ == "__main__":
    main(Config(models=tuple(sys.argv[1:]) or Config.models))
