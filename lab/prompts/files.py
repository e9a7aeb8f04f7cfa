"""JSON files that people write, checked against a schema; a fault is told with file, line and place."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lab.prompts.scaffolds import read_text
from lab.records import LabError

Schema = TypeVar("Schema", bound=BaseModel)
Place = Sequence[str | int]
"""Keys and 0-based indices that lead from the top of a JSON value to a part of it."""
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class JsonFile:
    """An object as a file holds it: `data`, and the `text` that it was read from.

    before: lines of the file above the text (a line of a JSON-lines file is such a text of its own). inside:
    what leads from `data` to what the text holds, where `data` was wrapped around it.
    """

    path: Path
    text: str
    data: dict[str, Any]
    before: int = 0
    inside: tuple[str, ...] = ()

    def fault(self, place: Place, message: str) -> LabError:
        """The error that says what is wrong where; the line is that of the deepest part of `place` there is."""
        line = self.before + line_of(self.text, tuple(place)[len(self.inside) :])
        named = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        return LabError(f"{self.path}, line {line}: {named + ': ' if named else ''}{message}")


def read_json(path: Path) -> JsonFile:
    """The JSON object in a file. LabError, with the line, for anything else."""
    return parse_json(read_text(path), path)


def parse_json(text: str, path: Path, before: int = 0, wrap: str = "") -> JsonFile:
    """The JSON object in a text, `before` lines below the top of the file `path`.

    With `wrap`, a list is taken for the value of that key. LabError for what is no JSON or no object.
    """
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {before + error.lineno}, column {error.colno}"
        raise LabError(f"{path}, {where}: not JSON: {error.msg}") from error
    if wrap and isinstance(data, list):
        return JsonFile(path, text, {wrap: data}, before, (wrap,))
    if not isinstance(data, dict):
        known = "a list, or an object {...} with one" if wrap else "a JSON object {...}"
        raise LabError(f"{path}, line {before + 1}: expected {known}, got {type(data).__name__}")
    return JsonFile(path, text, data, before)


def validated(schema: type[Schema], file: JsonFile) -> Schema:
    """The file's data as `schema`; the first fault and the number of the others as a LabError."""
    try:
        return schema.model_validate(file.data)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise file.fault(faults[0]["loc"], faults[0]["msg"] + more) from error


def line_of(text: str, place: Place) -> int:
    """The line, from 1, on which the value at `place` begins in a valid JSON text.

    Where the text has no such place (a missing key): of the deepest part of it that there is.
    """
    at = _after_space(text, 0)
    for part in place:
        found = _member(text, at, part)
        if found is None:
            break
        at = found
    return text.count("\n", 0, at) + 1


def _member(text: str, at: int, part: str | int) -> int | None:
    """Where the member `part` of the value at `at` begins; of equal keys the last, which is the one read."""
    named = text[at] == "{"
    if not named and text[at] != "[":
        return None
    found, index = None, 0
    at = _after_space(text, at + 1)
    while text[at] not in "}]":
        key: str | int = index
        if named:
            key, at = _DECODER.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)  # the colon
        if key == part:
            found = at
        _, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)
        index += 1
    return found


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
