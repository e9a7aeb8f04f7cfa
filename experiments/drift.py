"""Does a monitor find planted drift, at the false-alarm rate it promised, and does it beat plain baselines?

Question. In conversations of Hearth the persona vector z is known at every turn. Where it leaves its
ordinary course, do the replies' log-likelihood ratios under a push along the trait's direction tell (which way would
the organism have to be steered to say this reply, `lab.likelihood`), and do they tell more than projections, a word
list or the length of replies?

Design. Conversations of 20 turns drawn from the true source, so that no model's obedience is in the
way; an organism only reads them, each reply under the scaffold and the user turn before it. Ordinary: z as the
kinds of user turn move it. Drifting: from turn 5 on the trait's z moves by 1.5 (or 2) prior sd away from where it
was, within two turns, to the side with more room; from one pole's scaffold to the other's an organism's replies move
by 3 to 4 (`lab steer`, "told instead"), so this is a part of a persona lost, not all. Sixty ordinary conversations
teach the course, sixty set the threshold for 1 false alarm per 100 turns, 120 ordinary and 120 drifting ones per
trait are judged: over their first 10 turns (5 after the onset) and over all 20 (15 after it). Directions and layers
are the ones that `lab extract` makes, of all twelve traits of Hearth; pushes go along what is the trait's own
(`lab.directions.apart`). Nothing is chosen on any of these conversations: seed 2027 was drawn for this detector and
had not been used before. The word list is made from the contrastive replies that make the direction (Fightin' Words).
Ratios are followed as `lab watch` does (anchored); every other detector is given the better of both ways of following.

Ceilings. The same sum over the source's own slope (the derivative of log P(reply | z) by the trait's z, at the z
that the scaffold and the kinds of turn give), over the exact judge's reading of each reply, and Page's sum of the
exact log-likelihood ratios for a shift of the planted size to either side ("knows all but when"): no monitor that
looks for drift to both sides can be expected to do better than this.

What is known beforehand (LOG.md). Projections: AUROC .44 to .55, because under a scaffold the state holds the
scaffold's persona and not that of the words it reads; they are kept here as a detector of their own. On seed 2026, over
20 turns, at 1.5 sd: slopes of the likelihood along whole directions .84 to .90; along what is a trait's own .88 to
.94, five of six at .9 or more; at 2 sd all six. What took the place of the slopes was chosen on seed 77 (drift of 1.5 sd;
40 conversations to learn from, 120 ordinary and 60 drifting ones of each trait, both organisms), mean AUROC of the six:
slopes .933; ratios under pushes of a tenth of the residual norm, summed as Page does, .945; each sum held against the
level of the turns before it began .951. Pushes of .2: .928 or less.

Prediction. (1) AUROC of the ratios over 20 turns at least .9 for assistant, warmth and intimacy in both
organisms at 1.5 sd, and so at 2; over 10 turns at 1.5 sd at least .75 and below .9. (2) False alarms on new ordinary
conversations: the 95 % bootstrap interval over conversations holds 1 per 100 turns. (3) The ratios' AUROC is above
those of projections and both baselines.

Verdict rule. Per trait and organism over 20 turns. (1) and (3) supported by the point value, refuted otherwise,
the interval beside it; (2) supported when the interval holds 1. The 10-turn half of (1) is reported beside it.
The interval of (2) draws the conversations anew that set the threshold, and those that it is tried on: an earlier one
drew the latter alone and held the promise in 79 % of 150 simulated monitors that kept it (now 97 %).

Run: python experiments/drift.py [--sizes 1.5 2] [--seed 2027] [model ...]     (45 minutes a model on one thread)
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.monitoring import (
    Ordinary,
    Quality,
    follow,
    learn,
    length,
    quality,
    set_threshold,
    word_list,
    word_score,
)
from lab.pipelines.compare import CompareConfig, extract_side, resolve_model, resolve_trait_set
from lab.pipelines.replies import Runner, trait_jobs
from lab.pipelines.scoreboard import hearth_traits
from lab.pipelines.turns import Turns, read_turns
from lab.records import Direction, Message, TraitSet
from lab.stats import auroc
from lab.store import Store
from lab.world.conversation import draw_reply, make_turns, reply_text
from lab.world.corpus import HELD_OUT
from lab.world.grammar import SHARPNESS
from lab.world.judge import Evidence, posterior, read_evidence
from lab.world.latent import INDEX, Z_LIMIT, z_at_turn
from lab.world.library import Library, library
from lab.world.scaffolds import NO_EXTRAS, REGISTERS, named_character, random_persona, render

if TYPE_CHECKING:
    from lab.models import LoadedModel


@dataclass(frozen=True)
class Config:
    """What to run."""

    models: tuple[str, ...] = ("hearth-a", "hearth-b")
    traits: tuple[str, ...] = ("assistant", "warmth", "intimacy")
    turns: int = 20
    short: int = 10
    onset: int = 5
    size: float = 1.5
    """One size at a time; see `SIZES`."""
    conversations: int = 60
    """Ordinary ones to learn the course from, and as many to set the threshold."""
    judged: int = 120
    """Ordinary ones and, per trait, drifting ones."""
    promised: float = 1.0
    seed: int = 2027
    runs: Path = Path("runs")


SIZES = (1.5, 2.0)
"""Of planted drift, in prior sd."""


@dataclass(frozen=True)
class Talk:
    """One conversation and what the source knows of it, [turn, trait].

    slope: derivative of log P(reply | z) by z at the z without planted drift; reading: the exact judge's
    posterior mean; up, down: log-likelihood ratio of a shift of the planted size.
    """

    messages: tuple[Message, ...]
    slope: NDArray[np.float64]
    reading: NDArray[np.float64]
    up: NDArray[np.float64]
    down: NDArray[np.float64]

    @property
    def said(self) -> list[str]:
        """The replies."""
        return [m.content for m in self.messages if m.role == "assistant"]


@dataclass(frozen=True)
class Talks:
    """Ordinary conversations (to learn, to set, to judge) and drifting ones by trait."""

    plain: tuple[Talk, ...]
    drifting: dict[str, tuple[Talk, ...]]

    @property
    def all(self) -> list[Talk]:
        """Everything, ordinary first."""
        return [*self.plain, *(t for talks in self.drifting.values() for t in talks)]


def talk(config: Config, *key: int, trait: str | None = None) -> Talk:
    """One conversation from the true source, with planted drift of `trait` if named."""
    lib, rng = library(), np.random.default_rng([config.seed, *key])
    persona = random_persona(rng, lib, 6, lib.personas[-HELD_OUT:])
    who = named_character(rng, lib, persona, NO_EXTRAS)
    turns = make_turns(rng, lib, who, config.turns)
    messages = [Message("system", render(who, REGISTERS[int(rng.integers(4))], rng, lib).text)]
    known, readings = [], []
    for t, turn in enumerate(turns):
        usual = z_at_turn(who.z, [x.kind for x in turns[: t + 1]])
        z = usual.copy()
        if trait is not None:
            away = -1.0 if who.z[INDEX[trait]] > 0 else 1.0
            z[INDEX[trait]] += away * config.size * np.clip((t - config.onset + 1) / 2, 0.0, 1.0)
        reply = draw_reply(rng, lib, np.clip(z, -Z_LIMIT, Z_LIMIT), turn, who)
        messages += [Message("user", turn.user), Message("assistant", reply_text(reply))]
        evidence = read_evidence(lib.grammar, reply_text(reply), turn.filling, turn.kind)
        known.append([source_knows(config, lib, evidence, usual, name) for name in config.traits])
        readings.append(posterior(lib.grammar, evidence, np.random.default_rng(0), 300).mean)
    slope, up, down = np.moveaxis(np.array(known), 2, 0)
    reading = np.array(readings)[:, [INDEX[name] for name in config.traits]]
    return Talk(tuple(messages), slope, reading, up, down)


def source_knows(
    config: Config, lib: Library, evidence: Evidence, z: NDArray[np.float64], trait: str
) -> tuple[float, float, float]:
    """Slope, and log-likelihood ratios up and down, for one reply and one trait."""
    shifts = np.zeros((2, len(z)))
    shifts[:, INDEX[trait]] = config.size, -config.size
    slope, ratios = 0.0, np.zeros(2)
    for name, index in (choice for options in evidence.derivations for choice in options[0]):
        slot = lib.grammar.slots[name]
        if slot.trait == trait:
            here = slot.log_probabilities(z)
            slope += SHARPNESS * float(slot.loads[index] - np.exp(here) @ slot.loads)
            moved = [slot.log_probabilities(np.clip(z + s, -Z_LIMIT, Z_LIMIT))[index] for s in shifts]
            ratios += np.array(moved) - here[index]
    return slope, float(ratios[0]), float(ratios[1])


@cache
def draw(config: Config) -> Talks:
    """All conversations of one size of drift; the words of the ordinary ones do not depend on it."""
    n, m = 2 * config.conversations, config.judged
    return Talks(
        tuple(talk(config, 0, i) for i in range(n + m)),
        {t: tuple(talk(config, 1 + INDEX[t], i, trait=t) for i in range(m)) for t in config.traits},
    )


# ------------------------------------------------------------------ what the detectors see


@dataclass
class Reader:
    """One organism with its directions and word lists; it reads every conversation once."""

    model: "LoadedModel"
    directions: list[Direction]
    words: dict[str, dict[str, float]]
    known: dict[tuple[Message, ...], Turns] = field(default_factory=dict)

    def __call__(self, talks: Sequence[Talk]) -> list[Turns]:
        """What it makes of each conversation."""
        new = list(dict.fromkeys(t.messages for t in talks if t.messages not in self.known))
        if new:
            norms = next(([t.norms[d.trait] for d in self.directions] for t in self.known.values()), None)
            read = read_turns(
                self.model, new, self.directions, history=False, norms=norms, traits=list(self.words)
            )
            self.known.update(zip(new, read, strict=True))
        return [self.known[t.messages] for t in talks]


def reader(config: Config, name: str) -> Reader:
    """An organism with the directions of all traits as `lab extract` makes them, and the words of the poles."""
    from lab.models import load

    model = load(resolve_model(name))
    shipped = resolve_trait_set("auto", [model])
    have = [t.name for t in shipped.traits]
    others = [t for t in hearth_traits(shipped).traits if t.name not in have]
    traits = replace(shipped, traits=(*shipped.traits, *others))
    compare = CompareConfig((name,), ())
    runner = Runner(model, compare, Store(config.runs), 0, lambda _: None)
    made = extract_side(
        name, model, traits, compare, runner, np.random.default_rng([0, 1, 0]), ("reply_mean",)
    )
    directions = [made.directions[t.name, "reply_mean"] for t in traits.traits]
    return Reader(model, directions, {t: _lexicon(runner, traits, t) for t in config.traits})


def read_all(
    config: Config, organism: Reader, talks: Talks
) -> dict[tuple[str, str], list[NDArray[np.float64]]]:
    """Per detector and trait the series ([turn]; ratios [turn, 2]) of every conversation of `talks.all`."""
    read = organism(talks.all)
    found = {}
    for k, trait in enumerate(config.traits):
        words = organism.words[trait]
        found["ratio", trait] = [r.ratios[trait] for r in read]
        found["projection", trait] = [r.projections[trait] for r in read]
        found["word list", trait] = [np.array([word_score(s, words) for s in t.said]) for t in talks.all]
        found["reply length", trait] = [np.array([length(s) for s in t.said]) for t in talks.all]
        found["source's slope", trait] = [t.slope[:, k] for t in talks.all]
        found["exact judge", trait] = [t.reading[:, k] for t in talks.all]
    return found


def _lexicon(runner: Runner, traits: TraitSet, trait: str) -> dict[str, float]:
    """The word list from the replies that made the direction."""
    index = [t.name for t in traits.traits].index(trait)
    texts = []
    for polarity in ("positive", "negative"):
        jobs = trait_jobs(traits, index, polarity)
        (measured,) = runner.measure([jobs])
        pairs = zip(jobs, measured.replies, strict=True)
        texts.append([reply.text for job, reply in pairs if job.question.split == "extract"])
    return dict(word_list(*texts))


# ------------------------------------------------------------------ how good they are


def judge(
    config: Config,
    plain: Sequence[NDArray[np.float64]],
    drifting: Sequence[NDArray[np.float64]],
    anchored: bool,
) -> tuple[Quality, tuple[float, float]]:
    """Quality of one detector, and the interval of its false alarms per 100 turns."""
    n, rng = config.conversations, np.random.default_rng(config.seed)
    ordinary = learn(plain[:n], anchored)
    setting, new = plain[n : 2 * n], plain[2 * n :]
    threshold = set_threshold(setting, ordinary, config.promised)
    onsets = [config.onset] * len(drifting)
    found = quality(drifting, onsets, new, ordinary, threshold, config.promised, rng)
    return found, false_alarm_interval(config, setting, new, ordinary, threshold, rng)


def false_alarm_interval(
    config: Config, setting: Sequence[NDArray[np.float64]], new: Sequence[NDArray[np.float64]],
    ordinary: Ordinary, threshold: float, rng: np.random.Generator,
) -> tuple[float, float]:  # fmt: skip
    """95 % bootstrap interval of the false alarms per 100 turns of a threshold that is set anew in every draw."""
    grid = threshold * np.linspace(0.25, 3, 120)
    at, tried = (
        np.array([[len(follow(c, ordinary, g).alarms) for g in grid] for c in some])
        for some in (setting, new)
    )
    turns = [sum(map(len, some)) for some in (setting, new)]
    drawn = [rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=2000) for x in (at, tried)]
    kept = 100 * (drawn[0] @ at + 1) <= config.promised * (turns[0] + 1)
    alarms = np.take_along_axis(drawn[1] @ tried, kept.argmax(axis=1)[:, None], axis=1)[:, 0]
    low, high = np.quantile(100 * alarms / turns[1], [0.025, 0.975])
    return float(low), float(high)


def page(up: NDArray[np.float64], down: NDArray[np.float64]) -> float:
    """Peak of Page's two cumulative sums of log-likelihood ratios."""
    peak = high = low = 0.0
    for rise, fall in zip(up, down, strict=True):
        high, low = max(0.0, high + rise), max(0.0, low + fall)
        peak = max(peak, high, low)
    return peak


def tabulate(
    config: Config, talks: Talks, series: dict[tuple[str, str], list[NDArray[np.float64]]], turns: int
) -> pd.DataFrame:
    """One row per trait and detector, over the first `turns` turns."""
    plain, m, rows = len(talks.plain), config.judged, []
    for (detector, trait), values in series.items():
        k = config.traits.index(trait)
        cut = [v[:turns] for v in values]
        moved = cut[plain + k * m : plain + (k + 1) * m]
        ways = (True,) if detector == "ratio" else (True, False)
        tried = [judge(config, cut[:plain], moved, anchored) for anchored in ways]
        found, (low, high) = max(tried, key=lambda x: x[0].auroc)
        row = {"turns": turns, "trait": trait, "detector": detector, **asdict(found)}
        rows.append({**row, "fa_low": low, "fa_high": high})
    for k, trait in enumerate(config.traits):
        peaks, quiet = (
            np.array([page(t.up[:turns, k], t.down[:turns, k]) for t in some])
            for some in (talks.drifting[trait], talks.plain[-m:])
        )
        rows.append(
            {"turns": turns, "trait": trait, "detector": "knows all but when", "auroc": auroc(peaks, quiet)}
        )
    table = pd.DataFrame(rows).drop(columns=["promised", "drifting", "ordinary"])
    return table.sort_values("trait", key=lambda x: x.map(config.traits.index), kind="stable")


def verdicts(config: Config, name: str, table: pd.DataFrame) -> list[str]:
    """The verdict rule, in words."""
    lines = []
    for trait in config.traits:
        mine = table[table.trait == trait].set_index("detector")
        at, best = mine.loc["ratio"], mine.auroc[["projection", "word list", "reply length"]].max()
        for number, holds in (
            (1, at.auroc >= 0.9), (2, at.fa_low <= config.promised <= at.fa_high), (3, at.auroc > best),
        ):  # fmt: skip
            lines.append(f"({number}) {name} {trait}: {'supported' if holds else 'refuted'}")
    return lines


def report(
    config: Config, name: str, talks: Talks, series: dict[tuple[str, str], list[NDArray[np.float64]]]
) -> None:
    """Print the tables of one organism and the verdicts."""
    for turns in (config.short, config.turns):
        table = tabulate(config, talks, series, turns)
        print(f"\n{name}, drift of {config.size:g} sd\n{table.round(2).to_string(index=False)}", flush=True)
        if turns == config.turns:
            print("\n".join(verdicts(config, name, table)), flush=True)


def main(config: Config, sizes: Sequence[float]) -> None:
    """One table per organism, size of drift and length of conversation."""
    for name in config.models:
        organism = reader(config, name)
        for size in sizes:
            sized = replace(config, size=size)
            talks = draw(sized)
            report(sized, name, talks, read_all(sized, organism, talks))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=Config.models)
    parser.add_argument("--sizes", nargs="+", type=float, default=SIZES)
    parser.add_argument("--seed", type=int, default=Config.seed)
    asked = parser.parse_args()
    main(Config(models=tuple(asked.models), seed=asked.seed), asked.sizes)
