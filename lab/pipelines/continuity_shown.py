"""What a finished run of the battery asked: it keeps replies and outcomes, so items come from their set again.

asked(found) -> {id: item}                 those of the set that are still as the run says
shown(item, condition, wordings) -> Shown   the chat that the model was given
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lab.pipelines.continuity_items import CONDITIONS, Chat, shipped_items, wearing
from lab.records import Scaffold, ScaffoldFile
from lab.records.continuity import Check, CheckKind, ContinuityItem, ContinuityResult

PLAIN: dict[CheckKind, str] = {
    "says": "it says", "avoids": "it does not say", "derives": "it has a sentence of the kind",
    "underives": "it has no sentence of the kind",
}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A chat as a condition makes it. missing: what of it is not known here, or ""."""

    chat: Chat
    missing: str = ""


def asked(found: ContinuityResult, place: str = "") -> dict[str, ContinuityItem]:
    """The run's items by id, from `place` (a set's name, a file or a folder; "": the set that the run names).

    Items that are no longer as the run says (family, variant, character) are left out. LabError where the set is not
    there.
    """
    seen = {o.item: (o.family, o.variant, o.who) for o in found.outcomes}
    items = shipped_items(place or found.set_name).items
    return {i.id: i for i in items if seen.get(i.id) == (i.family, i.variant, i.who)}


def shown(item: ContinuityItem, condition: str, wordings: Mapping[str, tuple[Scaffold, ...]]) -> Shown:
    """The chat of an item under a condition: one of the battery's own, or a scaffold among `wordings` by its name."""
    known = {c.name: c for c in CONDITIONS}
    if condition in known:
        return Shown(known[condition].chat(item))
    if condition in wordings:
        file = ScaffoldFile(condition, "", wordings[condition])
        return Shown(wearing(file, {}).chat(item))
    return Shown(item.chat, f"the system prompt of the condition {condition}")


def check_words(check: Check) -> str:
    """A check in words."""
    if check.kind == "voice":
        return "its judged traits are nearer to the stated ones than to their opposite"
    if check.kind == "leans":
        return f"its judged traits lean to {', '.join(_lean(w) for w in check.words)}"
    words = " or ".join(f"“{w}”" for w in check.words)
    given = "".join(f", {name} “{value}”" for name, value in check.filling.items())
    return f"{PLAIN[check.kind]} {words}{given}"


def _lean(word: str) -> str:
    trait, sign = word.split()
    return f"{'more' if sign == '+' else 'less'} {trait}"
