"""Files of the continuity battery, read into `ContinuitySet` (schema: data/continuity/README.md)."""

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lab.prompts.files import JsonFile, read_json, validated
from lab.prompts.scaffolds import LEVELS, PROVENANCES
from lab.records import SEGMENT_HEADINGS, LabError, Message, Scaffold, Segment
from lab.records.continuity import HEARTH, POSITIVE, Check, CheckKind, ContinuityItem, ContinuitySet, Family

WORLDS = ("", HEARTH)
KINDS = ("identity", *SEGMENT_HEADINGS)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class _Segment(_Strict):
    kind: str
    text: str = Field(min_length=1)
    provenance: str = "human"


class _Character(_Strict):
    name: str = Field(min_length=1)
    levels: dict[str, str] = {}
    scaffold: list[_Segment] = Field(min_length=1)


class _Turn(_Strict):
    role: Literal["user", "assistant"]
    content: str = Field(min_length=1)


class _Check(_Strict):
    kind: CheckKind
    words: list[str] = []
    filling: dict[str, str] = {}


class _Item(_Strict):
    id: str = Field(min_length=1)
    family: Family
    who: str
    more: list[_Segment] = []
    chat: list[_Turn] = Field(min_length=1)
    checks: list[_Check] = []
    rubric: str = ""
    variant: str = ""
    chance: float | None = Field(default=None, ge=0, le=1)
    ceiling: float | None = Field(default=None, ge=0, le=1)


class _File(_Strict):
    name: str = Field(min_length=1)
    world: str = ""
    characters: dict[str, _Character] = Field(min_length=1)
    items: list[_Item] = Field(min_length=1)


def read_items(path: Path) -> ContinuitySet:
    """The items of one file, or of every .json file of a folder, which must be of one world with ids of their own.

    Raises LabError with file, line and field for the first fault.
    """
    if not path.is_dir():
        return _read(path)
    files = sorted(path.glob("*.json"))
    if not files:
        raise LabError(f"{path}: expected a folder with item files (*.json), found none; see data/continuity")
    found = [_read(file) for file in files]
    if len({s.world for s in found}) > 1:
        worlds = ", ".join(f"{f.name} ({s.world or 'any model'})" for f, s in zip(files, found, strict=True))
        raise LabError(f"{path}: expected item files of one world, got {worlds}; name one of the files")
    items = tuple(item for s in found for item in s.items)
    twice = [name for name, n in Counter(i.id for i in items).items() if n > 1]
    if twice:
        raise LabError(f"{path}: id {twice[0]!r} stands in two of its files; rename one of the items")
    return ContinuitySet(" + ".join(s.name for s in found), found[0].world, items)


def _read(path: Path) -> ContinuitySet:
    file = read_json(path)
    data = validated(_File, file)
    if data.world not in WORLDS:
        raise file.fault(["world"], f'expected "hearth" or "" (any model), got {data.world!r}')
    for key, who in data.characters.items():
        for i, segment in enumerate(who.scaffold):
            _check_segment(file, ["characters", key, "scaffold", i], segment)
        for trait, level in who.levels.items():
            if level not in LEVELS:
                place = ["characters", key, "levels", trait]
                raise file.fault(place, f"expected one of {' '.join(LEVELS)}, got {level!r}")
    seen: set[str] = set()
    for i, item in enumerate(data.items):
        if item.id in seen:
            raise file.fault(["items", i, "id"], f"{item.id!r} stands twice; every item has an id of its own")
        seen.add(item.id)
        _check_item(file, i, item, data)
    return ContinuitySet(data.name, data.world, tuple(_item(i, data.characters[i.who]) for i in data.items))


def _check_segment(file: JsonFile, place: list[Any], segment: _Segment) -> None:
    if segment.kind not in KINDS:
        raise file.fault([*place, "kind"], f"expected one of {', '.join(KINDS)}, got {segment.kind!r}")
    if segment.provenance not in PROVENANCES:
        known = ", ".join(PROVENANCES)
        raise file.fault([*place, "provenance"], f"expected one of {known}, got {segment.provenance!r}")


def _check_item(file: JsonFile, i: int, item: _Item, data: _File) -> None:
    """LabError for what the schema alone does not see."""
    at: list[Any] = ["items", i]
    if item.who not in data.characters:
        known = ", ".join(list(data.characters)[:8])
        raise file.fault([*at, "who"], f"no character {item.who!r}; the file has {known}")
    for k, segment in enumerate(item.more):
        _check_segment(file, [*at, "more", k], segment)
    if item.chat[-1].role != "user":
        raise file.fault(
            [*at, "chat", len(item.chat) - 1], "expected the chat to end with a turn of the user"
        )
    turns = [t.role for t in item.chat]
    if any(a == b for a, b in pairwise(turns)) or turns[0] != "user":
        raise file.fault([*at, "chat"], "expected turns of user and assistant in turn, the user's first")
    for k, check in enumerate(item.checks):
        _check_check(file, [*at, "checks", k], check, data.world)
    if not item.rubric and not any(c.kind in POSITIVE for c in item.checks):
        raise file.fault(
            [*at, "checks"],
            f"expected a rubric, or a check that noise can not pass ({', '.join(POSITIVE)}); got neither",
        )


def _check_check(file: JsonFile, at: list[Any], check: _Check, world: str) -> None:
    if check.kind != "voice" and not (check.words and all(w.strip() for w in check.words)):
        raise file.fault([*at, "words"], f"expected at least one word or phrase for {check.kind!r}, got none")
    if check.kind in ("derives", "underives") and world != HEARTH:
        raise file.fault(
            [*at, "kind"], f'{check.kind!r} reads the grammar of Hearth: the file needs "world": "hearth"'
        )
    if check.kind == "leans" and not all(w.split()[1:] in (["+"], ["-"]) for w in check.words):
        raise file.fault([*at, "words"], f"expected 'trait +' or 'trait -', got {', '.join(check.words)}")


def _item(item: _Item, who: _Character) -> ContinuityItem:
    scaffold = Scaffold(who.name, tuple(_segment(s) for s in [*who.scaffold, *item.more]))
    checks = tuple(Check(c.kind, tuple(c.words), c.filling) for c in item.checks)
    known = [float("nan") if x is None else x for x in (item.chance, item.ceiling)]
    chat = tuple(Message(t.role, t.content) for t in item.chat)
    return ContinuityItem(
        item.id,
        item.family,
        item.who,
        scaffold,
        who.levels,
        chat,
        checks,
        item.rubric,
        item.variant,
        *known,
    )


def _segment(segment: _Segment) -> Segment:
    return Segment(segment.kind, segment.text, segment.provenance)


# ------------------------------------------------------------------ writing


def document(found: ContinuitySet) -> Mapping[str, object]:
    """A set as the JSON object that `read_items` reads: every character once, with what all its items share."""
    characters: dict[str, dict[str, object]] = {}
    shared: dict[str, tuple[Segment, ...]] = {}
    for item in found.items:
        own = item.scaffold.segments
        known = shared.get(item.who, own)
        n = next(
            (k for k, (a, b) in enumerate(zip(known, own, strict=False)) if a != b), min(len(known), len(own))
        )
        shared[item.who] = own[:n]
        characters[item.who] = {"name": item.scaffold.name, "levels": dict(item.levels)}
    for who, segments in shared.items():
        characters[who]["scaffold"] = [_plain(s) for s in segments]
    items = [_row(i, len(shared[i.who])) for i in found.items]
    return {"name": found.name, "world": found.world, "characters": characters, "items": items}


def _row(item: ContinuityItem, shared: int) -> dict[str, object]:
    row: dict[str, object] = {"id": item.id, "family": item.family, "who": item.who}
    if more := [_plain(s) for s in item.scaffold.segments[shared:]]:
        row["more"] = more
    row["chat"] = [{"role": m.role, "content": m.content} for m in item.chat]
    row["checks"] = [
        {k: v for k, v in (("kind", c.kind), ("words", list(c.words)), ("filling", dict(c.filling))) if v}
        for c in item.checks
    ]
    row |= {k: v for k, v in (("rubric", item.rubric), ("variant", item.variant)) if v}
    row |= {k: v for k, v in (("chance", item.chance), ("ceiling", item.ceiling)) if v == v}
    return row


def _plain(segment: Segment) -> dict[str, str]:
    plain = {"kind": segment.kind, "text": segment.text}
    return plain if segment.provenance == "human" else {**plain, "provenance": segment.provenance}
