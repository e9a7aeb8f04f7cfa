"""Short conversations under scaffolds, for claims about what history does: the model's own replies, turn by turn."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import CompareConfig, Progress, Runner
from lab.pipelines.replies import Job
from lab.records import Message, Question, ScaffoldFile
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

History = tuple[Message, ...]


def talk(
    model: "LoadedModel", scaffolds: Sequence[ScaffoldFile], turns: Sequence[Sequence[Question]], config: ClaimConfig,
    store: Store, progress: Progress,
) -> dict[str, History]:  # fmt: skip
    """What is said in `turns` user turns under the first wording of each scaffold; `turns[k]` one per scaffold.

    Replies are sampled turn by turn, each with what came before it.
    """
    name = model.identity.name
    inner = CompareConfig((name,), (), config.traits, config.dtype, config.seed, config.max_new_tokens)
    runner = Runner(model, inner, store, 0, lambda _: None)
    said: dict[str, History] = {s.name: () for s in scaffolds}
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


def renamed(histories: Mapping[str, History], suffix: str) -> dict[str, History]:
    """The same histories for scaffolds whose names end in `suffix`."""
    return {f"{name}{suffix}": said for name, said in histories.items()}
