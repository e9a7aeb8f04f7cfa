"""What is read in the replies of the battery: on Hearth by the world, elsewhere by the model and by a rubric's judge."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from lab.continuity import Seen
from lab.judging.judges import Item, LogprobJudge, Score
from lab.judging.likelihood_ratio import contrast
from lab.judging.server import ApiJudge
from lab.pipelines.compare import resolve_trait_set
from lab.pipelines.readers import PAIRS
from lab.records.continuity import ContinuityItem
from lab.store import Store, content_key

if TYPE_CHECKING:
    from lab.models import LoadedModel

PART = 96
"""Chats generated, or replies judged, between two saves."""
TRAITS = "persona"
"""The trait set whose prompts weigh the tone of replies outside Hearth."""
RubricJudge = LogprobJudge | ApiJudge
SHOWN: dict[str, str] = {"user": "Person", "assistant": "Reply so far"}


def seen_in_hearth(replies: Sequence[str]) -> list[Seen]:
    """Replies with the grammar's derivations and the exact judge's z."""
    from lab.world.continuity import derives, judged

    return [Seen(reply, derives, z) for reply, z in zip(replies, judged(replies), strict=True)]


def seen_by(
    model: "LoadedModel", items: Sequence[ContinuityItem], replies: Sequence[str], named: Sequence[Collection[str]],
    store: Store,
) -> list[Seen]:  # fmt: skip
    """Replies with the model's own likelihood ratios of the traits `named` for each item, nats per token.

    Each is 1 + 2 * PAIRS forward passes for a reply. Traits that the set TRAITS has not stay unread.
    """
    from lab.pipelines.judge_answers import kept_likelihoods

    traits: list[dict[str, float]] = [{} for _ in items]
    for trait in resolve_trait_set(TRAITS, [model]).traits if any(named) else ():
        rows = [i for i, known in enumerate(named) if trait.name in known]
        if rows:
            short = replace(trait, positive=trait.positive[:PAIRS], negative=trait.negative[:PAIRS])
            asked = [Item(items[i].chat[-1].content, replies[i], "") for i in rows]
            values = contrast(kept_likelihoods(model, short, asked, store, lambda _: None))
            for i, value in zip(rows, values.tolist(), strict=True):
                traits[i][trait.name] = value
    return [Seen(reply, None, known) for reply, known in zip(replies, traits, strict=True)]


# ------------------------------------------------------------------ the rubric's judge


def rubric_judge(spec: str, dtype: str, seed: int, key_variable: str, store: Store) -> RubricJudge:
    """A judge that reads rubrics: "model:NAME" or "api:URL@MODEL". LabError for what cannot be loaded or asked."""
    from lab.pipelines.judge_answers import local_judge
    from lab.pipelines.judging import parse_judge

    kind, name, url = parse_judge(spec)
    if kind == "model":
        return local_judge(name, dtype, store)
    return ApiJudge(url, name, np.random.default_rng([seed, 6]), key_variable)


def rubric_item(item: ContinuityItem, reply: str) -> Item:
    """What the judge is shown: all that the item tells, under whatever condition the reply was made."""
    lines = [f"{SHOWN[m.role]}: {m.content}" for m in item.chat]
    rubric = (
        "A language model was set up as a character by the first text below and then had the conversation "
        "below it. Judge its last reply by one criterion only.\n\n{question}\n\nLast reply:\n{answer}\n\n"
        f"Criterion: {item.rubric}\n\nHow far does the last reply meet the criterion? Answer with one whole number "
        "from 0 to 100 and nothing else: 0 means not at all, 100 wholly. If there is no reply to judge, answer "
        "REFUSAL."
    )
    shown = "\n".join([f"Set-up:\n{item.scaffold.text}\n", "Conversation:", *lines])
    return Item(shown, reply, rubric)


def rubric_scores(
    judge: RubricJudge | None, items: Sequence[ContinuityItem], replies: Sequence[str], store: Store
) -> list[Score]:
    """One score per item; what has no rubric, no reply or no judge is unscored with the reason."""
    missing = "no judge was named for its rubric (--judge model:NAME or api:URL@MODEL)"
    found = [
        Score(float("nan"), "refused", missing if item.rubric and judge is None else "") for item in items
    ]
    rows = [i for i, item in enumerate(items) if judge is not None and item.rubric and replies[i].strip()]
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        scored = _kept_scores(judge, [rubric_item(items[i], replies[i]) for i in part], store)
        for i, score in zip(part, scored, strict=True):
            found[i] = score
    return found


def _kept_scores(judge: RubricJudge | None, items: Sequence[Item], store: Store) -> list[Score]:
    assert judge is not None
    key = content_key("continuity-rubric-1", judge.name, [asdict(item) for item in items])
    hit = store.cached(key)
    if hit is not None:
        return [Score(float("nan") if v is None else v, *rest) for v, *rest in hit[1]]
    found = list(judge.score(items).rows)
    if all(s.status != "failed" for s in found):  # what failed is asked again
        rows = [[s.value if s.value == s.value else None, s.status, s.reason, s.how] for s in found]
        store.put(key, {}, rows)
    return found
