"""Tasks: questions with right answers, asked beside every push (schema: data/tasks/README.md)."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from lab.prompts.files import read_json, validated
from lab.records import Question


class _Item(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    question: str = Field(min_length=1)
    answers: list[str] = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1)
    items: list[_Item] = Field(min_length=1)


@dataclass(frozen=True)
class Task:
    """Questions and, per question, the answers that count as right."""

    name: str
    questions: tuple[Question, ...]
    answers: tuple[tuple[str, ...], ...]


def read_task(path: Path) -> Task:
    """A task file. Raises LabError, with file, place and fault."""
    found = validated(_File, read_json(path))
    questions = tuple(Question(f"task-{k:02d}", i.question, "test") for k, i in enumerate(found.items))
    return Task(found.name, questions, tuple(tuple(i.answers) for i in found.items))


def is_right(reply: str, answers: tuple[str, ...]) -> bool:
    """Whether one of the answers is in the reply, as whole words, without regard to case."""
    return any(re.search(rf"(?<!\w){re.escape(a)}(?!\w)", reply, re.IGNORECASE) for a in answers)
