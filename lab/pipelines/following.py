"""A conversation file that grows while it is read: each new turn once it is whole."""

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab.pipelines.watcher import Seen, Watch, Watcher
from lab.prompts.personas import parse_conversation
from lab.records import LabError, Message

LAST = '{"role": "assistant", "content": ""}'
"""A turn that may be yet to come: what is there is checked as if it had."""


def so_far(raw: bytes, path: Path) -> tuple[Message, ...] | None:
    """The conversation in a file that someone may be writing just now; None while there is nothing to read.

    A document as `parse_conversation` reads it, or JSON lines with one message each, of which a last one that
    breaks off is left for later. None for a document that breaks off, and before the assistant's first turn.
    `path` is what errors name. LabError, with the line, for what no more writing can mend: an unknown role, a
    line in the middle that is no message, bytes that are not UTF-8.
    """
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(raw)  # a character cut in two is left out
    except UnicodeDecodeError as error:
        raise LabError(f"{path}: expected UTF-8 text, got other bytes at {error.start}") from error
    lines = text.split("\n")
    first = next((line for line in lines if line.strip()), "")
    found = _lines(lines, path) if "role" in (_object(first) or {}) else _document(text, path)
    return found if any(m.role == "assistant" for m in found) else None


def _lines(lines: list[str], path: Path) -> tuple[Message, ...]:
    """One message per line; the last line, which nothing ends, counts once it is whole."""
    if lines[-1].strip() and _object(lines[-1]) is None:
        lines = lines[:-1]
    text = "\n".join(f"{line}," if line.strip() else "" for line in lines)  # the same lines, for errors
    return parse_conversation(f"[{text}{LAST}]", path)[:-1]


def _document(text: str, path: Path) -> tuple[Message, ...]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        return ()
    messages = data.get("conversation") if isinstance(data, dict) else data
    if isinstance(messages, list) and not any('"assistant"' in json.dumps(m) for m in messages):
        return parse_conversation(json.dumps([*messages, json.loads(LAST)]), path)[:-1]
    return parse_conversation(text, path)


def _object(line: str) -> dict[str, Any] | None:
    """The JSON object on a line; None for anything else."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def changes(path: Path, wait: Callable[[], object]) -> Iterator[tuple[Message, ...]]:
    """The conversation in a file, now and each time there is more or something else in it.

    Does not end; `wait()` is called between two looks. The file is read when its time or size has changed;
    while it is gone (being replaced) or breaks off, it is waited for. LabError as for `so_far`.
    """
    stamp: tuple[int, int] | None = None
    last: tuple[Message, ...] | None = None
    while True:
        now = stamp_of(path)
        if now is not None and now != stamp:
            stamp, found = now, look(path)
            if found is not None and found != last:
                last = found
                yield found
        wait()


def look(path: Path) -> tuple[Message, ...] | None:
    """The conversation in a file as it stands, as `so_far`; None too for a file that is gone."""
    try:
        return so_far(path.read_bytes(), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LabError(f"{path}: cannot be read: {error.strerror or error}") from error


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Time and size of a file; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def follow(
    path: Path, learn: Callable[[tuple[Message, ...]], Watcher], wait: Callable[[], object]
) -> Iterator[tuple[Watch, int]]:
    """What is found in a file's conversation each time the assistant has spoken, and the first turn that is new.

    Only new turns are read, and those that are no longer what they were. `learn` is called with the conversation
    for its first turns, and again when its system prompt is another. Does not end; see `changes`.
    """
    watcher, seen, system = None, Seen(), None
    for talk in changes(path, wait):
        told = [m for m in talk if m.role == "system"]
        if watcher is None or told != system:
            watcher, seen, system = learn(talk), Seen(), told
        before, known = len(seen.turns.replies) if seen.turns else 0, seen.known(talk)
        seen = watcher.read(talk, seen)
        found = watcher.report(seen)
        if known < len(found.replies) or len(found.replies) < before:
            yield found, known
