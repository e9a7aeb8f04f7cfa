"""Trait sets: contrastive system prompts and questions in three disjoint splits.

Two formats are read: ours, several traits in one file or listed in one (schema:
data/traits/README.md), and the public one of Persona Vectors (arXiv 2507.21509, official code), one
trait per file, alone or as a folder of such files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lab.prompts.files import JsonFile, read_json, validated
from lab.prompts.questions import (
    FEWEST,
    MIN_TEST,
    SPLITS,
    QuestionFile,
    Splits,
    Text,
    as_questions,
    check_unique,
    in_order,
    same,
)
from lab.records import LabError, Split, Trait, TraitSet

LIST = "trait_list"
"""The stem of a file beside public trait files that names them; it is no trait."""


class _Pair(BaseModel):
    model_config = ConfigDict(extra="forbid")
    pos: Text
    neg: Text


class _OneTrait(BaseModel):
    model_config = ConfigDict(extra="forbid")
    instruction: list[_Pair] = Field(min_length=2)
    scenarios: list[_Pair] = []
    eval_prompt: str = ""
    description: str = ""


class _SetFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Text
    traits: dict[Text, _OneTrait] = Field(min_length=1)
    questions: QuestionFile


class _PublicFile(BaseModel):
    model_config = ConfigDict(extra="ignore")
    instruction: list[_Pair] = Field(min_length=2)
    questions: list[Text] = Field(min_length=1)
    eval_prompt: str = ""


def read_trait_set(path: Path, only: Sequence[str] = ()) -> TraitSet:
    """The trait set in a JSON file, ours or one trait as Persona Vectors writes it, or in a folder of the latter.

    The questions of a public file are split in their order: the first 40 % extract, the next 20 % select,
    the rest test. In a folder every file is split by itself, and every trait is asked the questions of all
    files (a question that several files have, in the split of the first): questions times traits is what
    that costs, so `only` names the files to be read. Question ids are the split and the place in it
    ("test-03").

    Raises LabError, with file, line, place and fault: not a readable file, not JSON, a missing or empty
    field, fewer than 2 instruction pairs, fewer than 5 test questions, a question that occurs twice in one
    file, a folder without trait files or without one of `only`.
    """
    if path.is_dir():
        return _read_folder(path, only)
    file = read_json(path)
    if "traits" in file.data:
        return _read_set(file)
    if "instruction" not in file.data:
        raise file.fault(
            (),
            "expected 'traits' (a trait set) or 'instruction' (one trait, as Persona Vectors writes it) at the "
            f"top; got {sorted(file.data) or 'nothing'}",
        )
    trait, splits = _public(file)
    if len(splits["test"]) < MIN_TEST:
        asked = sum(map(len, splits.values()))
        raise file.fault(
            ("questions",),
            f"{asked} leave {len(splits['test'])} for the test split (40 %), at least {MIN_TEST} are needed; "
            f"give {FEWEST} or more",
        )
    return TraitSet(trait.name, (trait,), as_questions(splits))


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


# ------------------------------------------------------------------ our form


def _read_set(file: JsonFile) -> TraitSet:
    whole, asked = _with_files(file)
    found = validated(_SetFile, whole)
    place = () if asked else ("questions",)
    splits = found.questions.splits
    check_unique({(*place, s): texts for s, texts in splits.items()}, asked or file)
    traits = tuple(_trait(name, one) for name, one in found.traits.items())
    return TraitSet(found.name, traits, as_questions(splits))


def _with_files(file: JsonFile) -> tuple[JsonFile, JsonFile | None]:
    """The set with the traits and questions put in that are given as files, relative to it; the questions' file."""

    def content(entry: object, schema: type[BaseModel]) -> tuple[object, JsonFile | None]:
        if not isinstance(entry, str):
            return entry, None
        found = read_json(file.path.parent / entry)
        validated(schema, found)  # so that the message names that file
        return found.data, found

    traits = file.data["traits"]
    if isinstance(traits, dict):
        traits = {name: content(entry, _OneTrait)[0] for name, entry in traits.items()}
    questions, asked = content(file.data.get("questions"), QuestionFile)
    data: dict[str, Any] = {**file.data, "traits": traits}
    if "questions" in data:
        data["questions"] = questions
    return replace(file, data=data), asked


def _trait(name: str, one: _OneTrait) -> Trait:
    return Trait(
        name,
        tuple(p.pos for p in one.instruction),
        tuple(p.neg for p in one.instruction),
        one.eval_prompt,
        tuple((p.pos, p.neg) for p in one.scenarios),
    )


# ------------------------------------------------------------------ the public form


def _public(file: JsonFile) -> tuple[Trait, dict[Split, list[str]]]:
    """The trait of one file, by the file's stem, and its own questions."""
    found = validated(_PublicFile, file)
    check_unique({("questions",): found.questions}, file)
    one = _OneTrait(instruction=found.instruction, eval_prompt=found.eval_prompt)
    return _trait(file.path.stem, one), in_order(found.questions)


def _read_folder(folder: Path, only: Sequence[str]) -> TraitSet:
    paths = {p.stem: p for p in sorted(folder.glob("*.json")) if p.stem != LIST}
    if not paths:
        raise LabError(f"{folder}: expected trait files (name.json), found none; check the path")
    unknown = [name for name in only if name not in paths]
    if unknown:
        known = ", ".join(list(paths)[:8]) + (", ..." if len(paths) > 8 else "")
        raise LabError(f"{folder}: expected {', '.join(unknown)}.json in it, found none; it has {known}")
    found = [_public(read_json(path)) for name, path in paths.items() if not only or name in only]
    splits = _together([splits for _, splits in found])
    for split in SPLITS:
        fewest = MIN_TEST if split == "test" else 1
        if len(splits[split]) < fewest:
            raise LabError(
                f"{folder}: its questions leave {len(splits[split])} for {split}, expected at least {fewest} (of "
                "each file 40 / 20 / 40 % are taken to extract, select and test); give more questions"
            )
    return TraitSet(folder.resolve().name, tuple(trait for trait, _ in found), as_questions(splits))


def _together(lists: Sequence[Splits]) -> Mapping[Split, list[str]]:
    """Every question once, in the split that it has in the first list that holds it."""
    seen: set[str] = set()
    found: dict[Split, list[str]] = {s: [] for s in SPLITS}
    for splits in lists:
        for split in SPLITS:
            fresh = [text for text in splits[split] if same(text) not in seen]
            found[split] += fresh
            seen |= {same(text) for text in fresh}
    return found
