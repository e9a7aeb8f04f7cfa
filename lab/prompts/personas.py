"""Roles for the assistant axis, and the lists that other tools keep: questions and conversations.

Read as they are: role files, trait or role lists and `extraction_questions.jsonl` of The Assistant
Axis (arXiv 2601.10387, official code), and conversations as its transcripts hold them or as a bare
list of messages.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lab.prompts.scaffolds import read_text
from lab.prompts.traits import read_json, validated
from lab.records import LabError, Message, Role, RoleSet

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
DEFAULT = "default"
"""The name of the file with the default assistant's prompts."""


class _Prompt(BaseModel):
    model_config = ConfigDict(extra="ignore")
    pos: _Text


class _RoleFile(BaseModel):
    model_config = ConfigDict(extra="ignore")
    instruction: list[_Prompt] = Field(min_length=1)
    questions: list[_Text] = []
    eval_prompt: str = ""


class _QuestionLine(BaseModel):
    model_config = ConfigDict(extra="ignore")
    question: _Text
    id: str | int | None = None


class _Turn(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "user", "assistant"]
    content: str


class _Conversation(BaseModel):
    model_config = ConfigDict(extra="ignore")
    conversation: list[_Turn] = Field(min_length=1)


def read_role(path: Path) -> Role:
    """One role file: `{"instruction": [{"pos"}, ...], "questions": [...], "eval_prompt"}`.

    The file's stem is the role's name; only its prompts are taken. LabError names file, place, fault.
    """
    found = validated(_RoleFile, read_json(path), path)
    prompts = tuple(p.pos for p in found.instruction)
    if len(set(prompts)) < len(prompts):
        raise LabError(f"{path}: instruction: a prompt occurs twice; every prompt may occur once")
    return Role(path.stem, prompts)


def read_role_set(folder: Path) -> RoleSet:
    """The roles of a folder of role files, in order of name, with the default assistant.

    `default.json` stands in the folder or beside it; so may `role_list.json` (name → one line).
    LabError when there is no default, no role, or a list that names a role without file.
    """
    if not folder.is_dir():
        raise LabError(f"{folder}: expected a folder of role files (name.json), found none; check the path")
    beside = {
        name: next((p for p in (folder / name, folder.parent / name) if p.is_file()), None)
        for name in (f"{DEFAULT}.json", "role_list.json")
    }
    default = beside[f"{DEFAULT}.json"]
    if default is None:
        raise LabError(
            f"{folder}: expected {DEFAULT}.json, in it or beside it, with the prompts of the default assistant"
        )
    paths = [p for p in sorted(folder.glob("*.json")) if p.stem not in (DEFAULT, "role_list")]
    if not paths:
        raise LabError(f"{folder}: expected role files (name.json), found none")
    lines = read_list(beside["role_list.json"]) if beside["role_list.json"] else {}
    missing = set(lines) - {p.stem for p in paths} - {DEFAULT}
    if missing:
        raise LabError(
            f"{beside['role_list.json']}: names roles without a file: {', '.join(sorted(missing))}"
        )
    roles = [read_role(p) for p in paths]
    return RoleSet(
        read_role(default).prompts, tuple(Role(r.name, r.prompts, lines.get(r.name, "")) for r in roles)
    )


def read_list(path: Path) -> dict[str, str]:
    """A list of traits or roles: name → one line. LabError for anything else."""
    data = read_json(path)
    wrong = next((name for name, line in data.items() if not isinstance(line, str) or not line.strip()), None)
    if wrong is not None:
        raise LabError(f"{path}: {wrong}: expected one line of text, got {data[wrong]!r}")
    return {name: line.strip() for name, line in data.items()}


def read_questions(path: Path) -> tuple[str, ...]:
    """A question list as JSON lines `{"question", "id"}`. LabError with the line at fault."""
    found: list[str] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        row = _line(line, path, number)
        question = validated(_QuestionLine, row, Path(f"{path}, line {number}")).question
        if question in found:
            raise LabError(f"{path}, line {number}: the question occurs twice: {question!r}")
        found.append(question)
    if not found:
        raise LabError(f'{path}: expected lines such as {{"question": "...", "id": 0}}, found none')
    return tuple(found)


def read_conversation(path: Path) -> tuple[Message, ...]:
    """The conversation in a file; see `parse_conversation`."""
    return parse_conversation(read_text(path), path)


def parse_conversation(text: str, path: Path) -> tuple[Message, ...]:
    """A conversation: `{"conversation": [{"role", "content"}, ...]}` or the bare list of messages.

    `path` is what errors name. LabError with the message at fault: an unknown role, a system message that
    is not the first, no assistant message.
    """
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise LabError(f"{path}: not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    if isinstance(data, list):
        data = {"conversation": data}
    if not isinstance(data, dict):
        raise LabError(
            f"{path}: expected a list of messages or an object with one, got {type(data).__name__}"
        )
    turns = validated(_Conversation, data, path).conversation
    return _checked([Message(t.role, t.content) for t in turns], path)


def _checked(messages: Sequence[Message], path: Path) -> tuple[Message, ...]:
    for i, message in enumerate(messages[1:], 1):
        if message.role == "system":
            raise LabError(f"{path}: conversation[{i}]: a system message may only be the first")
    if not any(m.role == "assistant" for m in messages):
        raise LabError(f"{path}: expected at least one assistant message, found none")
    return tuple(messages)


def _line(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise LabError(f"{path}, line {number}: not JSON: column {error.colno}: {error.msg}") from error
    if not isinstance(row, dict):
        raise LabError(f"{path}, line {number}: expected an object {{...}}, got {type(row).__name__}")
    return row
