"""How often does `lab watch` raise a false alarm on ordinary conversations that it was not set up with?

Question. By default `lab watch` lets a model have 40 conversations of 6 turns with itself under the system
prompt at hand, learns from 20 what is ordinary, and sets each trait's threshold on the other 20 (120 turns) so
that at most 1 of 100 ordinary turns raises an alarm. What is the rate on new ordinary conversations? experiments/
drift.py does not say: there 60 conversations of 20 turns set the threshold.

Design. Own: hearth-a without a scaffold and under two shipped ones; per scaffold one calibration just as `lab
watch` makes it, and 30 new conversations of 12 turns on test questions (calibration asks select questions).
Source's: 20 conversations of 20 turns that the true source holds in character, as the default assistant without
a scaffold and as a character that training never showed, again held against `lab watch`'s own calibration. Ratios,
whose alarms count, for assistant, warmth, intimacy. Three rules for the threshold. *Counted*: k alarms in n turns
of calibration with k / n at most the promise, as `lab watch` had it at first. *One more*: (k + 1) / (n + 1) at most the
promise, as it had it then. *Least*: the same and never below `lab.monitoring.least_threshold`, what sums of log-likelihood
ratios need however long a conversation is, as it has it now. Besides, one threshold for all traits together
(`--together`), by the third rule.
Intervals: exact binomial over turns (alarms restart the sums, so turns of one conversation hang together but
little); the share of conversations with an alarm, exact binomial over conversations, stands beside it.

Prediction. For own conversations: (1) Counted: over all traits and scaffolds above 1 per 100 turns of a trait,
about 2 / 121 = 1.7: the threshold is the second largest peak of 120 turns. (2) One more: at most 1 in each of the
three traits by the point value. (3) Turns 7 to 12 raise more alarms than turns 1 to 6 under either rule, since
sums start at 0 and the calibration ends at turn 6. (4) Together: turns with any alarm at most 1 per 100 in turns 1
to 6. Made after those were run, before the source's were: (5) One more, the source's conversations: above own
turns 1 to 6 and at most 2 per 100 turns of a trait, over all traits. Made when ratios took the place of slopes and after
thresholds of 4.0 to 5.7 had been seen to be what 20-turn conversations of seed 77 need (least: 5.3; LOG.md): (6) least,
the source's conversations over all 20 turns: at most 1 per 100 turns of each trait; (7) the same for turns with an alarm
of any trait, together.

Verdict rule. (1) supported when the interval over all lies above 1, refuted when it lies below, else undecided.
(2) and (4): refuted when an interval lies above 1, supported when every point value is at most 1, else undecided.
(3) supported when the rate of turns 7 to 12 is the higher one under every rule, over all traits. (5) by the point
values. (6) and (7) as (2) and (4).

What came out (LOG.md). From the seventh turn on hearth-a's own talk falls apart (training had four turns at most):
there a third of all turns raise alarms, rightly. So turns 7 to 12 are not ordinary, and (1) to (3) over 12 turns say
more about the organism than about the promise; the rates of turns 1 to 6 stand beside them. In the source's
conversations alarms are as many as promised under neither of the first two rules. By the third they are over 20
turns, but not in every character's turns 11 to 20: together 4.0 [1.7, 7.7] in one of the two. The floor is proved for
words of the model's own and a known level only.

Run: python experiments/watch_alarms.py [model]      (about 7 minutes of one core a model)
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from lab.models import LoadedModel
from lab.monitoring import Ordinary, follow, joint_threshold, learn, least_threshold
from lab.pipelines.compare import (
    CompareConfig,
    extract_side,
    resolve_model,
    resolve_trait_set,
    shipped_scaffolds,
)
from lab.pipelines.ordinary import ordinary_turns
from lab.pipelines.replies import Runner
from lab.pipelines.turns import Turns
from lab.pipelines.watch import WatchConfig
from lab.records import Direction, Message, Split, TraitSet
from lab.store import Store
from lab.world.conversation import draw_reply, make_turns, reply_text
from lab.world.corpus import HELD_OUT
from lab.world.latent import z_at_turn
from lab.world.library import Library, library
from lab.world.scaffolds import NO_EXTRAS, REGISTERS, Character, default_character, named_character, render

Series = Sequence[NDArray[np.float64]]
TRAITS = ("assistant", "warmth", "intimacy")


@dataclass(frozen=True)
class Config:
    """What to run."""

    model: str = "hearth-a"
    scaffolds: tuple[str, ...] = ("", "Companion card", "Blunt mechanic")
    new: int = 30
    turns: int = 12
    long: int = 20
    long_turns: int = 20
    promised: float = 1.0
    runs: Path = Path("runs")


def counted(held: Sequence[Series], ordinary: Sequence[Ordinary], promised: float) -> float:
    """The threshold with k / n at most the promise."""
    turns = sum(len(c) for c in held[0])
    k = int(promised * turns / 100)
    return joint_threshold(held, ordinary, 100 * (k + 1) / (turns + 1))


def one_more(held: Sequence[Series], ordinary: Sequence[Ordinary], promised: float) -> float:
    """The threshold with (k + 1) / (n + 1) at most the promise."""
    return joint_threshold(held, ordinary, promised)


def least(held: Sequence[Series], ordinary: Sequence[Ordinary], promised: float) -> float:
    """The same, and never below what any length of conversation needs."""
    return max(one_more(held, ordinary, promised), least_threshold(promised, len(held)))


RULES: dict[str, Callable[[Sequence[Series], Sequence[Ordinary], float], float]] = {
    "counted": counted, "one more": one_more, "least": least,
}  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A model with its directions, and how its conversations are read; everything is kept in the store."""

    model: LoadedModel
    directions: list[Direction]
    traits: TraitSet
    store: Store

    def turns(
        self, system: str, split: Split, how: WatchConfig, given: Sequence[tuple[Message, ...]] = ()
    ) -> list[Turns]:
        """The given conversations, or own ones on the questions of a split."""
        return ordinary_turns(
            self.model, self.directions, [Message("system", system)] if system else [],
            [q.text for q in self.traits.of(split)], given, how, self.store,
            lambda stage, part: print(f"{system[:30]!r}: {stage} {part:.0%}", flush=True),
        )  # fmt: skip


def reader(config: Config) -> Reader:
    """The model as `lab watch` has it."""
    from lab.models import load

    model, store = load(resolve_model(config.model)), Store(config.runs)
    traits = resolve_trait_set("auto", [model])
    compare = CompareConfig((config.model,), ())
    made = extract_side(
        model.identity.name, model, traits, compare, Runner(model, compare, store, 0, lambda _: None),
        np.random.default_rng([0, 1, 0]), ("reply_mean",),
    )  # fmt: skip
    return Reader(model, [made.directions[t, "reply_mean"] for t in TRAITS], traits, store)


def own(config: Config, read: Reader) -> dict[str, tuple[list[Turns], list[Turns]]]:
    """Per scaffold the turns that `lab watch` calibrates on, and new ones."""
    shipped, found = {s.name: s for s in shipped_scaffolds()}, {}
    new = WatchConfig(config.model, (), own=config.new, turns=config.turns, seed=1)
    for name in config.scaffolds:
        system = shipped[name].paraphrases[0].text if name else ""
        usual = read.turns(system, "select", WatchConfig(config.model, ()))
        found[name or "no scaffold"] = usual, read.turns(system, "test", new)
    return found


def source(config: Config, read: Reader) -> dict[str, tuple[list[Turns], list[Turns]]]:
    """The same with the source's conversations as the new ones, in two characters."""
    lib, rng = library(), np.random.default_rng(2026)
    someone = named_character(rng, lib, lib.personas[-HELD_OUT], NO_EXTRAS)
    people = {"": default_character(rng, lib), render(someone, REGISTERS[0], rng, lib).text: someone}
    found = {}
    for system, who in people.items():
        talks = [
            _talk(config, lib, who, system, np.random.default_rng([2026, k])) for k in range(config.long)
        ]
        usual = read.turns(system, "select", WatchConfig(config.model, ()))
        found[who.name] = usual, read.turns(system, "test", WatchConfig(config.model, ()), talks)
    return found


def _talk(
    config: Config, lib: Library, who: Character, system: str, rng: np.random.Generator
) -> tuple[Message, ...]:
    messages = [Message("system", system)] if system else []
    turns = make_turns(rng, lib, who, config.long_turns)
    for t, turn in enumerate(turns):
        z = z_at_turn(who.z, [x.kind for x in turns[: t + 1]])
        reply = draw_reply(rng, lib, z, turn, who)
        messages += [Message("user", turn.user), Message("assistant", reply_text(reply))]
    return tuple(messages)


def alarms(config: Config, scaffold: str, usual: list[Turns], new: list[Turns]) -> list[dict[str, object]]:
    """One row per rule, trait (or all together), new conversation and turn."""
    order = np.random.default_rng([0, 6]).permutation(len(usual))
    first, second = np.array_split(order, 2)
    series = {t: [x.ratios[t] for x in (*usual, *new)] for t in TRAITS}
    ordinary = {t: learn([s[i] for i in first], anchored=True) for t, s in series.items()}
    held = {t: [s[i] for i in second] for t, s in series.items()}
    fresh = {t: s[len(usual) :] for t, s in series.items()}
    groups = {rule: [(t,) for t in TRAITS] for rule in RULES} | {"together": [TRAITS]}
    rows = []
    for rule, parts in groups.items():
        for group in parts:
            make = RULES.get(rule, least)
            h = make([held[t] for t in group], [ordinary[t] for t in group], config.promised)
            for k in range(len(new)):
                raised = {a for t in group for a in follow(fresh[t][k], ordinary[t], h).alarms}
                rows += [
                    {"rule": rule, "trait": " or ".join(group), "scaffold": scaffold, "talk": k, "turn": i + 1,
                     "alarm": i in raised, "threshold": h}
                    for i in range(len(new[k].replies))
                ]  # fmt: skip
    return rows


def rates(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Alarms per 100 turns with their interval, and conversations with an alarm."""
    rows = []
    for key, part in frame.groupby(by, sort=False):
        about = dict(zip(by, key, strict=True))  # type: ignore[call-overload]
        k, n = int(part.alarm.sum()), len(part)
        turn = binomtest(k, n).proportion_ci(method="exact")
        talks = part.groupby(["trait", "scaffold", "talk"]).alarm.any()
        share = binomtest(int(talks.sum()), len(talks)).proportion_ci(method="exact")
        rows.append(
            {**about, "alarms": k, "turns": n, "per_100": 100 * k / n,
             "low": 100 * turn.low, "high": 100 * turn.high, "talks_with": 100 * talks.mean(),
             "talks_low": 100 * share.low, "talks_high": 100 * share.high}
        )  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(config: Config, frame: pd.DataFrame) -> list[str]:
    """The verdict rule, in words."""
    promised, lines = config.promised, []
    whole = rates(frame, ["rule"]).set_index("rule")
    at = whole.loc["counted"]
    first = "supported" if at.low > promised else "refuted" if at.high < promised else "undecided"
    lines.append(f"(1) counted {at.per_100:.2f} [{at.low:.2f}, {at.high:.2f}]: {first}")
    traits = rates(frame.query("rule == 'one more'"), ["rule", "trait"])
    lines.append(f"(2) one more: {kept(traits, promised)}")
    half = frame.assign(late=frame.turn > config.turns // 2)
    split = rates(half.query("rule != 'together'"), ["rule", "late"]).set_index(["rule", "late"]).per_100
    later = all(split[r, True] > split[r, False] for r in RULES)
    lines.append(f"(3) {'supported' if later else 'refuted'}: {split.round(2).to_dict()}")
    early = rates(half.query("rule == 'together' and not late"), ["rule"])
    lines.append(f"(4) together: {kept(early, promised)}")
    return lines


def kept(table: pd.DataFrame, promised: float) -> str:
    """Whether a promise is kept in every row."""
    if (table.low > promised).any():
        return "refuted"
    return "supported" if (table.per_100 <= promised).all() else "undecided"


def main(config: Config) -> None:
    """Print the rates and the verdicts."""
    read = reader(config)
    rows = [r for name, talks in own(config, read).items() for r in alarms(config, name, *talks)]
    frame, lines = pd.DataFrame(rows), ["", *verdicts(config, pd.DataFrame(rows))]
    tell(frame.assign(part=np.where(frame.turn <= config.turns // 2, "own, 1 to 6", "own, 7 to 12")))
    rows = [r for name, talks in source(config, read).items() for r in alarms(config, name, *talks)]
    long = pd.DataFrame(rows)
    tell(
        long.assign(part=np.where(long.turn <= config.long_turns // 2, "source, 1 to 10", "source, 11 to 20"))
    )
    new, short = (
        float(rates(some.query("rule == 'one more'"), ["rule"]).per_100.iloc[0])
        for some in (long, frame.query(f"turn <= {config.turns // 2}"))
    )
    held = "supported" if short < new <= 2 else "refuted"
    lines.append(f"(5) one more: the source's {new:.2f}, own {short:.2f}: {held}")
    for number, rule in ((6, "least"), (7, "together")):
        mine = rates(long.query("rule == @rule"), ["rule", "trait"])
        lines.append(f"({number}) {rule}: {kept(mine, config.promised)}")
    print("\n".join(lines))


def tell(frame: pd.DataFrame) -> None:
    """Tables of the rates by part, scaffold and trait."""
    for by in (["rule", "part"], ["rule", "part", "scaffold"], ["rule", "part", "trait"]):
        print(f"\n{rates(frame, by).round(2).to_string(index=False)}")


if __name__ == "__main__":
    main(Config(model=sys.argv[1] if len(sys.argv) > 1 else Config.model))
