"""What the battery asks, and under which conditions: shipped sets, the set of Hearth made anew, chats of an item.

Condition("summary", lambda item: told(my_summary(item), item.chat))
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lab.continuity import Seen, outcome
from lab.pipelines.compare import DATA
from lab.prompts.continuity import read_items
from lab.records import LabError, Message, ScaffoldFile
from lab.records.continuity import HEARTH, ContinuityItem, ContinuitySet

LEVELS = {"++": 1.0, "+": 0.5, "-": -0.5, "--": -1.0}
"""What a level counts in a tone match outside Hearth, where the unit is nats per token."""
Chat = tuple[Message, ...]


@dataclass(frozen=True)
class Condition:
    """What a model is shown of an item: `chat` makes it, system message included; a name of its own tells it apart.

    levels: the traits that are stated under this condition, where they are others than the item's; tone and voice
    are held against them.
    """

    name: str
    chat: Callable[[ContinuityItem], Chat]
    levels: Mapping[str, str] | None = None


def told(system: str, chat: Sequence[Message]) -> Chat:
    """A chat with a system prompt; without one where it is empty."""
    return (*([Message("system", system)] if system else []), *chat)


def _only(kinds: Sequence[str] | None, item: ContinuityItem) -> Chat:
    kept = tuple(s for s in item.scaffold.segments if kinds is None or s.kind in kinds)
    return told(replace(item.scaffold, segments=kept).text, item.chat)


FULL = Condition("full", partial(_only, None))
NONE = Condition("none", partial(_only, ()))
TONE_ONLY = Condition("tone-only", partial(_only, ("identity", "ritual")))
"""Who speaks and how, without memory, boundaries and lessons."""
CONDITIONS = (FULL, NONE, TONE_ONLY)


def wearing(file: ScaffoldFile, levels: Mapping[str, str]) -> Condition:
    """Somebody's own scaffold in place of the item's identity; what the item asks about is added to it.

    levels: what the file states, by trait; empty: nothing that tone could be held against.
    """
    own = file.paraphrases[0]

    def chat(item: ContinuityItem) -> Chat:
        kept = tuple(s for s in item.scaffold.segments if s.kind != "identity")
        return told(replace(own, segments=(*own.segments, *kept)).text, item.chat)

    return Condition(file.name, chat, dict(levels))


# ------------------------------------------------------------------ items


def shipped_items(name: str) -> ContinuitySet:
    """A set of data/continuity by its name, a file, or a folder of files. LabError for what is none of these."""
    shipped = DATA / "continuity" / f"{name}.json"
    path = shipped if shipped.is_file() else Path(name)
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in shipped.parent.glob("*.json")))
        raise LabError(f"items {name!r}: expected a file, a folder of item files, or one of {known}")
    return read_items(path)


def hearth_set(per_family: int = 24, draws: int = 32) -> ContinuitySet:
    """The items of Hearth, made by the world: what data/continuity/hearth.json holds, or the first of each family.

    draws: replies of the source that chance and ceiling rest on. Minutes for the whole set.
    """
    from lab.world.continuity import derives, hearth_items, judged

    def passes(item: ContinuityItem, reply: str) -> float:
        voiced = any(check.kind in ("voice", "leans") for check in item.checks)
        seen = Seen(reply, derives, judged([reply])[0] if voiced else {})
        return outcome(item, seen, stated(item.levels, HEARTH)).passed

    return hearth_items(passes, per_family=per_family, draws=draws)


def stated(levels: Mapping[str, str], world: str) -> dict[str, float]:
    """What a scaffold states by trait: z on Hearth (prior sd), elsewhere -1 to 1."""
    if world != HEARTH:
        return {trait: LEVELS[level] for trait, level in levels.items()}
    from lab.world.latent import LEVEL_VALUE

    return {trait: LEVEL_VALUE[level] for trait, level in levels.items()}
