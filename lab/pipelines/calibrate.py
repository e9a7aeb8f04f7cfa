"""The false-alarm rates of all measures of agreement between two models, on simulated unrelated models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.geometry.calibration import Trial, judged, simulate
from lab.geometry.trials import mistakes, trials
from lab.records import LabError
from lab.records.calibration import Rate

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class CalibrateConfig:
    """How many worlds, and which measures."""

    runs: int = 500
    seed: int = 0
    measures: tuple[str, ...] = ()
    """Parts of names, upper or lower case; all that have one of them are run, () for all. See `names_of`."""
    wrong: bool = False
    """Whether deliberately wrong measures are run too."""

    def check(self) -> None:
        """LabError for what cannot be run."""
        if self.runs < 1 or self.seed < 0:
            raise LabError(
                f"expected at least 1 run and a seed from 0 up, got {self.runs} and {self.seed}; 500 runs tell 5 % "
                "from 8 %"
            )


def calibrate(config: CalibrateConfig, progress: Progress) -> tuple[Rate, ...]:
    """A rate for every measure asked for, judged together, and then for the wrong ones.

    LabError for a measure that there is none of.
    """
    config.check()
    known = trials()
    wanted = names_of(known, config.measures)
    chosen = [trial for trial in known if any(row.measure in wanted for row in trial.rows)]
    rates = simulate(
        [*chosen, *(mistakes() if config.wrong else ())], config.runs, config.seed,
        lambda share: progress(f"{config.runs} null worlds", share),
    )  # fmt: skip
    ours = [found for found in rates if not found.wrong and found.measure in wanted]
    return *judged(ours), *judged([found for found in rates if found.wrong])


def names_of(known: Sequence[Trial], words: Sequence[str]) -> set[str]:
    """Names of all measures that hold one of the words; commas part words where no name has them.

    LabError for a word that none holds.
    """
    names = [row.measure for trial in known for row in trial.rows]

    def holding(word: str) -> set[str]:
        return {name for name in names if word.strip() and word.strip().lower() in name.lower()}

    found = {name for name in names if not words}
    for word in (part for given in words for part in ([given] if holding(given) else given.split(","))):
        if not holding(word):
            raise LabError(
                f"expected part of the name of a measure, got {word!r}; there are: {'; '.join(names)}"
            )
        found |= holding(word)
    return found
