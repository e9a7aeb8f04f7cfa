"""Trait sets: contrastive system prompts and questions in three disjoint splits.

Two formats are read: ours, several traits in one file or listed in one (schema:
data/traits/README.md), and the public one of Persona Vectors (arXiv 2507.21509, official code),
one trait per file.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from lab.prompts.scaffolds import read_text
from lab.records import LabError, Question, Split, Trait, TraitSet

SPLITS: tuple[Split, ...] = get_args(Split)
MIN_TEST = 5
"""Fewest questions of the test split: intervals are bootstrapped over them."""

Schema = TypeVar("Schema", bound=BaseModel)
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Pair(BaseModel):
    model_config = ConfigDict(extra="forbid")
    pos: _Text
    neg: _Text


class _OneTrait(BaseModel):
    model_config = ConfigDict(extra="forbid")
    instruction: list[_Pair] = Field(min_length=2)
    scenarios: list[_Pair] = []
    eval_prompt: str = ""
    description: str = ""


class _Questions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    extract: list[_Text] = Field(min_length=1)
    select: list[_Text] = Field(min_length=1)
    test: list[_Text] = Field(min_length=MIN_TEST)


class _SetFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: _Text
    traits: dict[_Text, _OneTrait] = Field(min_length=1)
    questions: _Questions


class _PublicFile(BaseModel):
    model_config = ConfigDict(extra="ignore")
    instruction: list[_Pair] = Field(min_length=2)
    questions: list[_Text] = Field(min_length=1)
    eval_prompt: str = ""


def read_trait_set(path: Path) -> TraitSet:
    """The trait set in a JSON file: ours, or one trait in the format of Persona Vectors.

    The questions of the public format are split in their order: the first 40 % extract, the next
    20 % select, the rest test. Question ids are the split and the place in it ("test-03").

    Raises LabError, with file, place and fault: not a readable file, not JSON (line and column),
    a missing or empty field, fewer than 2 instruction pairs, fewer than 5 test questions, a
    question that occurs twice (in one split or in two).
    """
    data = read_json(path)
    if "traits" in data:
        whole = validated(_SetFile, _with_files(data, path.parent), path)
        name, traits = whole.name, whole.traits
        splits: dict[Split, list[str]] = {s: getattr(whole.questions, s) for s in SPLITS}
        _check_unique({f"questions.{s}": texts for s, texts in splits.items()}, path)
    elif "instruction" in data:
        one = validated(_PublicFile, data, path)
        name = path.stem
        traits = {name: _OneTrait(instruction=one.instruction, eval_prompt=one.eval_prompt)}
        _check_unique({"questions": one.questions}, path)
        splits = _split(one.questions, path)
    else:
        raise LabError(
            f"{path}: expected 'traits' (a trait set) or 'instruction' (one trait, as Persona Vectors writes "
            f"it) at the top; got {sorted(data) or 'nothing'}"
        )
    return TraitSet(
        name,
        tuple(
            Trait(
                t,
                tuple(p.pos for p in one.instruction),
                tuple(p.neg for p in one.instruction),
                one.eval_prompt,
                tuple((p.pos, p.neg) for p in one.scenarios),
            )
            for t, one in traits.items()
        ),
        tuple(Question(f"{s}-{i:02d}", text, s) for s in SPLITS for i, text in enumerate(splits[s])),
    )


def shipped_trait_sets(root: Path) -> dict[str, Path]:
    """File stem → path of the trait sets under `root`/data/traits, `root` being the repository.

    Raises LabError when that folder is missing.
    """
    folder = root / "data" / "traits"
    if not folder.is_dir():
        raise LabError(
            f"{folder}: expected the folder of shipped trait sets, found none; give the repository root"
        )
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def _with_files(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The set with traits and questions that are given as files, relative to `folder`, put in."""

    def content(entry: object, schema: type[BaseModel]) -> object:
        if not isinstance(entry, str):
            return entry
        found = read_json(folder / entry)
        validated(schema, found, folder / entry)  # so that the message names that file
        return found

    traits = data["traits"]
    if isinstance(traits, dict):
        traits = {name: content(entry, _OneTrait) for name, entry in traits.items()}
    return {**data, "traits": traits, "questions": content(data.get("questions"), _Questions)}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise LabError(f"{path}: not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    if not isinstance(data, dict):
        raise LabError(f"{path}: expected a JSON object {{...}}, got {type(data).__name__}")
    return data


def validated(schema: type[Schema], data: Mapping[str, Any], path: Path) -> Schema:
    """`data` as `schema`; the first fault and the number of the others as a LabError."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        place = ""
        for part in faults[0]["loc"]:
            place += f"[{part}]" if isinstance(part, int) else f".{part}"
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise LabError(f"{path}: {place.lstrip('.')}: {faults[0]['msg']}{more}") from error


def _split(questions: Sequence[str], path: Path) -> dict[Split, list[str]]:
    """40/20/40 % extract/select/test, in order."""
    a, b = round(0.4 * len(questions)), round(0.6 * len(questions))
    splits: dict[Split, list[str]] = {
        "extract": list(questions[:a]), "select": list(questions[a:b]), "test": list(questions[b:]),
    }  # fmt: skip
    if len(splits["test"]) < MIN_TEST:
        raise LabError(
            f"{path}: questions: {len(questions)} leave {len(splits['test'])} for the test split (40 %), at "
            f"least {MIN_TEST} are needed; give 12 or more"
        )
    return splits


def _check_unique(lists: Mapping[str, Sequence[str]], path: Path) -> None:
    """Raise LabError when a question occurs twice in `lists` (place → texts), case and spaces aside."""
    seen: dict[str, tuple[str, int]] = {}
    for place, texts in lists.items():
        for i, text in enumerate(texts):
            key = " ".join(text.casefold().split())
            if key in seen:
                first, j = seen[key]
                fault = "duplicate question" if first == place else f"{first} and {place} overlap"
                raise LabError(
                    f"{path}: {place}[{i}]: {fault}: {text!r} is also {first}[{j}]; every question may "
                    "occur once"
                )
            seen[key] = (place, i)
