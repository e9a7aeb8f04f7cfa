"""Lists of questions: what a line of a list becomes, and how a list is parted into three splits.

A list is JSON lines `{"question", "id"}`, as The Assistant Axis keeps it (arXiv 2601.10387, official code),
or an object with the three splits (schema: data/questions/README.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lab.prompts.files import JsonFile, parse_json, read_json, validated
from lab.prompts.scaffolds import read_text
from lab.records import LabError, Question, Split, TraitSet

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
SPLITS: tuple[Split, ...] = get_args(Split)
MIN_TEST = 5
"""Fewest questions of the test split: intervals are bootstrapped over them."""
FEWEST = 12
"""Fewest questions of a list that leave `MIN_TEST` to test on."""
EXTRACT, SELECT = 0.4, 0.2
"""Shares of a list that directions are made and recipes chosen on; the rest is reported on."""
Splits = Mapping[Split, Sequence[str]]


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore")
    question: Text
    id: str | int | None = None


class QuestionFile(BaseModel):
    """Questions by split, as our files hold them."""

    model_config = ConfigDict(extra="forbid")
    extract: list[Text] = Field(min_length=1)
    select: list[Text] = Field(min_length=1)
    test: list[Text] = Field(min_length=MIN_TEST)

    @property
    def splits(self) -> dict[Split, list[str]]:
        """The questions of every split."""
        return {"extract": self.extract, "select": self.select, "test": self.test}


@dataclass(frozen=True)
class QuestionList:
    """Questions in three splits, and a sentence for every line that was left out."""

    questions: tuple[Question, ...]
    notes: tuple[str, ...] = ()


def read_questions(path: Path) -> QuestionList:
    """The questions of a file: JSON lines in any file but a `.json` one, which holds the three splits.

    A list is parted in its order: the first 40 % extract, the next 20 % select, the rest test. A question
    that stands in it again (case and spacing aside) is left out, with a note: the public list repeats one,
    and the same question in two splits would be known before it is tested. LabError with line and fault;
    for fewer than 12 different questions; for a question that our form of a file repeats.
    """
    if path.suffix == ".json":
        file = read_json(path)
        splits = validated(QuestionFile, file).splits
        check_unique({(s,): splits[s] for s in SPLITS}, file)
        return QuestionList(as_questions(splits))
    first: dict[str, tuple[int, str]] = {}
    notes: list[str] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            text = validated(_Line, parse_json(line, path, number - 1)).question
            if same(text) in first:
                notes.append(
                    f"{path}, line {number}: left out, as line {first[same(text)][0]} asks it: {text!r}"
                )
            first.setdefault(same(text), (number, text))
    if not first:
        raise LabError(f'{path}: expected lines such as {{"question": "...", "id": 0}}, found none')
    if len(first) < FEWEST:
        raise LabError(
            f"{path}: expected at least {FEWEST} different questions, so that {MIN_TEST} are left to test on, "
            f"got {len(first)}"
        )
    return QuestionList(as_questions(in_order([text for _, text in first.values()])), tuple(notes))


def in_order(texts: Sequence[str]) -> dict[Split, list[str]]:
    """40/20/40 % extract/select/test of a list, in its order."""
    a, b = round(EXTRACT * len(texts)), round((EXTRACT + SELECT) * len(texts))
    return {"extract": list(texts[:a]), "select": list(texts[a:b]), "test": list(texts[b:])}


def as_questions(splits: Splits) -> tuple[Question, ...]:
    """Questions with ids that are the split and the place in it ("test-03")."""
    return tuple(Question(f"{s}-{i:02d}", text, s) for s in SPLITS for i, text in enumerate(splits[s]))


def asked_by(traits: TraitSet, questions: tuple[Question, ...]) -> TraitSet:
    """The same traits with these questions in place of their own, if there are any."""
    return replace(traits, questions=questions) if questions else traits


def same(text: str) -> str:
    """What two questions have in common that are the same, case and spacing aside."""
    return " ".join(text.casefold().split())


def check_unique(lists: Mapping[tuple[str, ...], Sequence[str]], file: JsonFile) -> None:
    """Raise LabError when a question occurs twice in `lists` (place in the file → texts)."""
    seen: dict[str, tuple[tuple[str, ...], int]] = {}
    for place, texts in lists.items():
        for i, text in enumerate(texts):
            key = same(text)
            if key in seen:
                first, j = seen[key]
                there, here = ".".join(first), ".".join(place)
                fault = "duplicate question" if first == place else f"{there} and {here} overlap"
                raise file.fault(
                    (*place, i),
                    f"{fault}: {text!r} is also {there}[{j}]; every question may occur once",
                )
            seen[key] = (place, i)
