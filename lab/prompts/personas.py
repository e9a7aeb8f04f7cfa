"""Roles for the assistant axis, role and trait lists, and conversations, as other tools keep them.

Read as they are: role files and trait or role lists of The Assistant Axis (arXiv 2601.10387, official
code), and conversations as its transcripts hold them or as a bare list of messages. Its list of questions
is read by `lab.prompts.questions`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lab.prompts.files import JsonFile, parse_json, read_json, validated
from lab.prompts.questions import Text
from lab.prompts.scaffolds import read_text
from lab.records import LabError, Message, Role, RoleSet

DEFAULT = "default"
"""The name of the file with the default assistant's prompts."""
MODEL_NAME = "{model_name}"
"""Stands in a prompt for the name of the model that is told it."""


class _Prompt(BaseModel):
    model_config = ConfigDict(extra="ignore")
    pos: Text


class _Told(BaseModel):
    model_config = ConfigDict(extra="ignore")
    pos: Annotated[str, StringConstraints(strip_whitespace=True)]


class _RoleFile(BaseModel):
    model_config = ConfigDict(extra="ignore")
    instruction: list[_Prompt] = Field(min_length=1)
    questions: list[Text] = []
    eval_prompt: str = ""


class _DefaultFile(BaseModel):
    model_config = ConfigDict(extra="ignore")
    instruction: list[_Told] = Field(min_length=1)


class _Turn(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "user", "assistant"]
    content: str


class _Conversation(BaseModel):
    model_config = ConfigDict(extra="ignore")
    conversation: list[_Turn] = Field(min_length=1)


def read_role(path: Path) -> Role:
    """One role file: `{"instruction": [{"pos"}, ...], "questions": [...], "eval_prompt"}`.

    The file's stem is the role's name. Its own questions and its eval_prompt are checked and not kept: on
    one axis all roles answer the same questions (`read_questions` reads a list of them), and no judge rates
    how well a role is played. LabError names file, line, place and fault.
    """
    file = read_json(path)
    return Role(path.stem, _prompts(validated(_RoleFile, file).instruction, file))


def read_default(path: Path) -> tuple[str, ...]:
    """The prompts of the default assistant, from a file of the same form.

    An empty prompt stands for none: the model is told nothing. LabError as `read_role`.
    """
    file = read_json(path)
    return _prompts(validated(_DefaultFile, file).instruction, file)


def _prompts(told: Sequence[_Prompt | _Told], file: JsonFile) -> tuple[str, ...]:
    prompts = [p.pos for p in told]
    again = next((i for i, text in enumerate(prompts) if text in prompts[:i]), None)
    if again is not None:
        raise file.fault(
            ("instruction", again, "pos"), "the prompt occurs twice; every prompt may occur once"
        )
    return tuple(prompts)


def addressed(roles: RoleSet, model: str) -> RoleSet:
    """The same roles with every `{model_name}` replaced by what a model of this name is called."""

    def said(prompts: Sequence[str]) -> tuple[str, ...]:
        return tuple(p.replace(MODEL_NAME, display_name(model)) for p in prompts)

    return RoleSet(said(roles.default), tuple(replace(r, prompts=said(r.prompts)) for r in roles.roles))


def display_name(model: str) -> str:
    """What a model calls itself, as far as its folder or hub name tells: "Qwen/Qwen2.5-0.5B-Instruct" is Qwen.

    The last part of the name up to where versions and sizes begin, with a capital; the whole where
    nothing is left.
    """
    name = model.rstrip("/").rpartition("/")[2]
    head = re.split(r"[-_ ](?=[A-Za-z]?\d)|(?<=[A-Za-z])[-_.]?(?=\d)", name, maxsplit=1)[0]
    head = head if re.match(r"[^\W\d_]", head) else name
    return head[:1].upper() + head[1:]


def read_role_set(folder: Path) -> RoleSet:
    """The roles of a folder of role files, in order of name, with the default assistant.

    `default.json` stands in the folder or beside it; so may `role_list.json` (name → one line).
    LabError when there is no default, no role, a list that names a role without file, or a role without words.
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
    told = tuple(replace(r, description=lines.get(r.name, "")) for r in roles)
    return RoleSet(read_default(default), told)


def read_list(path: Path) -> dict[str, str]:
    """A list of traits or roles: name → one line. LabError, with the line, for anything else."""
    file = read_json(path)
    for name, line in file.data.items():
        if not isinstance(line, str) or not line.strip():
            raise file.fault((name,), f"expected one line of text, got {line!r}")
    return {name: line.strip() for name, line in file.data.items()}


def read_conversation(path: Path) -> tuple[Message, ...]:
    """The conversation in a file; see `parse_conversation`."""
    return parse_conversation(read_text(path), path)


def parse_conversation(text: str, path: Path) -> tuple[Message, ...]:
    """A conversation: `{"conversation": [{"role", "content"}, ...]}` or the bare list of messages.

    `path` is what errors name. LabError with the line and the message at fault: an unknown role, a system
    message that is not the first, no assistant message.
    """
    file = parse_json(text, path, wrap="conversation")
    messages = [Message(t.role, t.content) for t in validated(_Conversation, file).conversation]
    for i, message in enumerate(messages[1:], 1):
        if message.role == "system":
            raise file.fault(("conversation", i), "a system message may only be the first")
    if not any(m.role == "assistant" for m in messages):
        raise LabError(f"{path}: expected at least one assistant message, found none")
    return tuple(messages)
