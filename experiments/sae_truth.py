"""Do sparse features stand for the choices of Hearth's grammar?

Question. A reply of Hearth is a chain of choices; some have odds that depend on the persona vector z. Is there, for
such a choice, one feature that tells it, on replies that had no part in finding it?

What a choice is. The grammar's own: an alternative of a trait slot. It is told "in slot", from the other alternatives
of its slot where that slot comes up, which is the choice as the source makes it. Beside it: "anywhere", from all other
trait-bearing choices, which is easier since the slot's surroundings help; and "pole", whether the slot spoke for more
or less of its trait, which asks for one feature over half the alternatives of a slot.

How. The value of a feature is its highest activation on the tokens that the alternative wrote. Per choice the feature
with the best AUROC on one half of new conversations, its AUROC on the other half; below 5 conversations with or without
the choice in either half there is no score. Beside it the same search under shuffled choices, and over as many tokens
elsewhere in the same reply: what that tells comes from persona, length or text, not from the choice.

Prediction. In slot, at least 60 % of the scored choices have a feature of AUROC .95 or more, while under shuffled choices
less than 1 % have one. Poles are told much less often: features of this size are made of words.

Verdict rule. Supported where the lower end of the interval (over slots) of the share in slot is at .60 or more and the
share under shuffled choices below .01, refuted where the upper end is below .60, undecided between. A choice that
could not be scored counts neither way; how many there are is shown.

Run: python experiments/sae_truth.py NAME [NAME …] [--texts 4000] [--runs runs] [--table FILE.csv]
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from lab.pipelines.feature_truth import GOOD, Truth, TruthConfig, feature_truth
from lab.records.feature_cards import LEVELS, FeatureSummary
from lab.store import Store

BAR = 0.6
CHANCE = 0.01


@dataclass(frozen=True)
class Config:
    """Which dictionaries, on how many conversations."""

    saes: tuple[str, ...]
    texts: int = 4000
    runs: Path = Path("runs")
    table: Path | None = None


def verdict(share: FeatureSummary) -> str:
    """The verdict rule on the share in slot."""
    if share.high < BAR or share.null >= CHANCE:
        return "refuted"
    return "supported" if share.low >= BAR else "undecided"


def by_trait(found: Truth) -> pd.DataFrame:
    """Per trait and level: scored choices, median AUROC, share of at least GOOD, and the same search shuffled."""
    rows = pd.DataFrame([asdict(s) for s in found.scores])
    rows = rows[rows.feature >= 0].assign(good=lambda r: r.auroc >= GOOD)
    table = rows.groupby(["level", "trait"]).agg(
        choices=("auroc", "size"),
        median=("auroc", "median"),
        good=("good", "mean"),
        shuffled=("shuffled", "mean"),
        elsewhere=("elsewhere", "mean"),
    )
    return table.loc[[level for level in LEVELS if level in table.index.get_level_values(0)]]


def main(config: Config) -> pd.DataFrame:
    """One row per choice, level and dictionary; prints the tables per trait and the verdicts."""
    tables = []
    for name in config.saes:
        found = feature_truth(
            TruthConfig(name, texts=config.texts), Store(config.runs),
            lambda stage, part, name=name: print(f"\r{name}: {part:4.0%} {stage:40}", end="", flush=True),
        )  # fmt: skip
        tables.append(pd.DataFrame([asdict(s) for s in found.scores]))
        print(f"\n{name}: {found.places} choices in {found.parsed} of {found.sentences} sentences")
        print(by_trait(found).round(3).to_string())
        for share in found.summaries:
            print(
                f"{share.what}: {share.value:.3f} [{share.low:.3f}, {share.high:.3f}], shuffled {share.null:.4f}, of "
                f"{share.n}; {share.note}"
            )
        in_slot = next(s for s in found.summaries if s.what.endswith("in slot"))
        print(f"{name}: {verdict(in_slot)}")
    table = pd.concat(tables, ignore_index=True)
    if config.table is not None:
        table.to_csv(config.table, index=False)
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("saes", nargs="+")
    parser.add_argument("--texts", type=int, default=Config.texts)
    parser.add_argument("--runs", type=Path, default=Config.runs)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    main(Config(tuple(asked.saes), asked.texts, asked.runs, asked.table))
