"""Short conversations under scaffolds, for claims about what history does: the model's own replies, turn by turn."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.pipelines.claim_landings import variant
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import CompareConfig, Progress, Runner
from lab.pipelines.replies import Job
from lab.records import Message, Question, ScaffoldFile
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

History = tuple[Message, ...]
SUM_UP = (
    "Please sum up our conversation in a few sentences: who you have been in it, how you spoke, and what should be "
    "remembered."
)


def talk(
    model: "LoadedModel", scaffolds: Sequence[ScaffoldFile], turns: Sequence[Sequence[Question]], config: ClaimConfig,
    store: Store, progress: Progress, before: Mapping[str, History] | None = None,
) -> dict[str, History]:  # fmt: skip
    """What is said in `turns` user turns under the first wording of each scaffold; `turns[k]` one per scaffold.

    Replies are sampled turn by turn, each with what came before it; `before`: what was said already, by scaffold
    name, and stands at the beginning of what comes back.
    """
    name = model.identity.name
    inner = CompareConfig((name,), (), config.traits, config.dtype, config.seed, config.max_new_tokens)
    runner = Runner(model, inner, store, 0, lambda _: None)
    said: dict[str, History] = {s.name: tuple((before or {}).get(s.name, ())) for s in scaffolds}
    for k, questions in enumerate(turns):
        progress(f"conversations of {name}, turn {k + 1}", k / len(turns))
        groups = [
            [Job(s.name, 0, q, s.paraphrases[0].text, history=said[s.name])]
            for s, q in zip(scaffolds, questions, strict=True)
        ]
        for s, q, measured in zip(scaffolds, questions, runner.measure(groups), strict=True):
            reply = measured.replies[0].text
            said[s.name] += (Message("user", q.text), Message("assistant", reply))
    return said


def own_summary(
    model: "LoadedModel", scaffolds: Sequence[ScaffoldFile], said: Mapping[str, History], config: ClaimConfig,
    store: Store, progress: Progress,
) -> dict[str, str]:  # fmt: skip
    """What the model itself writes, without a scaffold, when it is asked to sum up each conversation."""
    bare = [variant(s.paraphrases[0], s.name, ()) for s in scaffolds]
    asked = [[Question("sum-up", SUM_UP, "select")] * len(bare)]
    whole = talk(model, bare, asked, config, store, progress, said)
    return {name: history[-1].content for name, history in whole.items()}


def key_sentences(said: History, most: int = 3) -> str:
    """The assistant's sentences nearest to the middle of all that it said, in the order it said them.

    Centroid summary: each sentence as tf-idf, ranked by its cosine with the mean of all (Radev et al. 2004,
    "Centroid-based summarization of multiple documents", Inf. Process. Manag. 40). "" where nothing was said.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    text = " ".join(m.content for m in said if m.role == "assistant")
    sentences = list(
        dict.fromkeys(s.strip() for s in re.split(r"(?<=[.!?])\s+", text) if re.search(r"\w", s))
    )
    if len(sentences) <= most:
        return " ".join(sentences)
    coded = TfidfVectorizer(token_pattern=r"\w+").fit_transform(sentences).toarray()
    near = coded @ coded.mean(axis=0)
    return " ".join(sentences[k] for k in sorted(np.argsort(-near, kind="stable")[:most]))


def renamed(histories: Mapping[str, History], suffix: str) -> dict[str, History]:
    """The same histories for scaffolds whose names end in `suffix`."""
    return {f"{name}{suffix}": said for name, said in histories.items()}
