"""Claim 21: handing over a log.

Question. A model talked under a scaffold. The scaffold is taken away and something of the talk is handed over
instead: the whole transcript, a summary of it, its last exchange, the scaffold's facts, nothing. How much of the
landing comes along, and how small is what is handed over?

Prediction. The transcript brings back less than 80 % of the way from nothing to the scaffold's own landing; the
last exchange less than the transcript; the facts next to nothing.

Measure. Over the reply, all traits: 1 - distance(handed over, scaffold) / distance(nothing, scaffold), per
scaffold; only scaffolds that land at least three noise floors from no scaffold count. Interval by resampling
scaffolds. Transcript: as chat history, without a system prompt. Two summaries, each as system prompt: the three
sentences nearest to the middle of all that the model said, and the model's own answer when it is asked, without the
scaffold, to sum up (the shipped organisms were never taught to). Size: tokens handed over as a share of the
transcript's. Beside: the items of the continuity battery that rest on memory and boundaries, lost with each of
these in place of the scaffold. Battery, summaries and sizes were added after the other landings had been seen.

Null. Nothing handed over: 0. The scaffold itself: 1.

Verdict rule. "Not the experience": supported if the transcript's share lies below .8, refuted if above. The other
conditions stand beside.

What would change it. Longer conversations (here four turns), models that read their own voice out of a log better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lab.claims import Frame, all_of, difference, mean_over, names, of
from lab.pipelines.claim_landings import land, load_model, scaffolds_of, traits_of, variant
from lab.pipelines.claim_talk import History, key_sentences, own_summary, renamed, talk
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.pipelines.continuity import ContinuityConfig, continuity
from lab.pipelines.continuity_items import FULL, NONE, Condition, shipped_items, told
from lab.records import Question, Scaffold, ScaffoldFile, Segment
from lab.records.claims import Effect, Observation
from lab.records.continuity import ContinuityItem
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

TITLE = "Handing over a log is not handing over the experience"
COMBINE = all_of
CONDITIONS = ("transcript", "key sentences", "own summary", "last exchange", "facts")
PLURAL = ("key sentences", "facts")
FAMILIES = ("boundary_kept", "true_memory_used", "false_memory_refused", "pressure_resisted")
"""Families of the battery that need the scaffold's memory or boundaries."""


@dataclass(frozen=True)
class Config(ClaimConfig):
    """How long the conversation is, and from how far off (in noise floors) there is something to hand over."""

    turns: int = 4
    far: float = 3.0
    summary_tokens: int = 80
    every: int = 2
    """Which share of the battery's items on memory and boundaries: every second, every tenth."""


CONFIG = Config(scaffolds=0)
QUICK = Config(scaffolds=6, questions=6, turns=2, max_new_tokens=8, every=20)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per model, scaffold and condition: the share of the way that comes along."""
    files, found = scaffolds_of(config), []
    for k, name in enumerate(config.models):
        part = lambda stage, share, k=k: progress(stage, (k + share) / len(config.models))  # noqa: E731
        model = load_model(name, config)
        asked = traits_of(model, config).of("select")
        turns = [[asked[(t + j) % len(asked)] for j in range(len(files))] for t in range(config.turns)]
        said = talk(model, files, turns, config, store, lambda s, f, part=part: part(s, f / 3))
        bare = [
            variant(f.paraphrases[0], f"{f.name}, {c}", ())
            for f in files
            for c in ("transcript", "last exchange")
        ]
        written = _written(model, files, said, config, store, part)
        prompts = [
            variant(f.paraphrases[0], f"{f.name}, {c}", segments)
            for f in files
            for c, segments in (
                ("facts", [s for s in f.paraphrases[0].segments if s.kind == "memory"]),
                *((c, [Segment("memory", texts[f.name], "model")]) for c, texts in written.items()),
            )
        ]
        nothing = variant(files[0].paraphrases[0], "nothing", ())
        last = {n: h[-2:] for n, h in said.items()}
        histories = renamed(said, ", transcript") | renamed(last, ", last exchange")
        after = lambda s, f, part=part: part(s, 0.33 + 0.47 * f)  # noqa: E731
        landed = land(model, [*files, *bare, *prompts, nothing], config, store, after, histories=histories)
        found += battery(
            model, landed.label, name, asked, config, store, lambda s, f, part=part: part(s, 0.8 + 0.2 * f)
        )
        for f in files:
            whole = landed.distance("nothing", f.name)
            words = " / ".join(m.content for m in said[f.name])
            found.append(Observation(landed.label, "from nothing", f.name, whole, note=words))
            if not whole >= config.far:
                continue
            tokens = sum(len(model.tokenizer(m.content)["input_ids"]) for m in said[f.name])
            for c in CONDITIONS:
                if c == "facts" and not any(s.kind == "memory" for s in f.paraphrases[0].segments):
                    continue
                share = 1 - landed.distance(f"{f.name}, {c}", f.name) / whole
                found.append(Observation(landed.label, c, f.name, share))
                if c != "transcript":
                    given = said[f.name][-2:] if c == "last exchange" else ()
                    texts = [m.content for m in given] or [_text(prompts, f, c)]
                    size = sum(len(model.tokenizer(text)["input_ids"]) for text in texts) / tokens
                    found.append(
                        Observation(landed.label, f"size, {c}", f.name, size, note=" / ".join(texts))
                    )
    return found


def _written(
    model: "LoadedModel", files: Sequence[ScaffoldFile], said: Mapping[str, History], config: Config, store: Store,
    progress: Progress,
) -> dict[str, dict[str, str]]:  # fmt: skip
    """Both summaries of every conversation, by condition and name."""
    longer = replace(config, max_new_tokens=max(config.max_new_tokens, config.summary_tokens))
    own = own_summary(model, files, said, longer, store, progress)
    return {"key sentences": {name: key_sentences(h) for name, h in said.items()}, "own summary": own}


def _text(prompts: Sequence[ScaffoldFile], f: ScaffoldFile, condition: str) -> str:
    """What is handed over under one condition as a system prompt."""
    return next(p.paraphrases[0].text for p in prompts if p.name == f"{f.name}, {condition}")


def battery(
    model: "LoadedModel", label: str, name: str, asked: Sequence[Question], config: Config, store: Store,
    progress: Progress,
) -> list[Observation]:  # fmt: skip
    """Items of the continuity battery that rest on memory and boundaries, passed with what was handed over."""
    whole = shipped_items("hearth" if traits_of(model, config).name == "hearth" else "chat")
    items = [i for i in whole.items if i.family in FAMILIES][:: config.every]
    files = [variant(i.scaffold, i.id, i.scaffold.segments) for i in items]
    turns = [[asked[(t + j) % len(asked)] for j in range(len(files))] for t in range(config.turns)]
    said = talk(model, files, turns, config, store, lambda s, f: progress(s, f / 2))
    written = _written(model, files, said, config, store, lambda s, f: progress(s, 0.5))
    conditions = (
        FULL, NONE, Condition("facts", lambda i: told(_facts(i).text, i.chat)),
        *(Condition(c, lambda i, texts=texts: told(texts[i.id], i.chat)) for c, texts in written.items()),
        Condition("last exchange", lambda i: (*said[i.id][-2:], *i.chat)),
        Condition("transcript", lambda i: (*said[i.id], *i.chat)),
    )  # fmt: skip
    wanted = ContinuityConfig(
        name, conditions, replace(whole, items=tuple(items)), dtype=config.dtype, seed=config.seed, tone=False
    )
    result = continuity(wanted, store, lambda s, f: progress(s, 0.5 + f / 2))
    return [
        Observation(label, f"battery, {o.condition}", o.item, o.passed, note=o.reply) for o in result.outcomes
    ]


def _facts(item: ContinuityItem) -> Scaffold:
    return replace(item.scaffold, segments=tuple(s for s in item.scaffold.segments if s.kind == "memory"))


def judge(observed: Sequence[Observation], rng: np.random.Generator) -> list[Effect]:
    """The verdict rule."""
    found = []
    for model in names(observed, "models"):
        mine = of(observed, models=model)
        frame = Frame(
            model, "what a transcript brings along", "share of the way to the scaffold", "below", 0.8,
            "nothing handed over: 0", "scaffolds",
        )  # fmt: skip
        for c in CONDITIONS:
            here = replace(
                frame,
                what=f"what the {c} bring{'' if c in PLURAL else 's'} along",
                decides=c == "transcript",
            )
            found.append(mean_over(of(mine, series=c), rng, here))
            if c != "transcript":
                size = Frame(
                    model, f"size of the {c}", "share of the transcript's tokens", "below", 1.0, "the transcript: 1",
                    "scaffolds", decides=False,
                )  # fmt: skip
                found.append(mean_over(of(mine, series=f"size, {c}"), rng, size))
        for c in (*CONDITIONS, NONE.name):
            lost = Frame(
                model, f"battery lost with {'nothing' if c == NONE.name else f'the {c}'} in place of the scaffold",
                "share of items", "above", 0.2, "no difference: 0", "items", decides=False,
            )  # fmt: skip
            found.append(
                difference(
                    of(mine, series=f"battery, {FULL.name}"), of(mine, series=f"battery, {c}"), rng, lost
                )
            )
    return found
