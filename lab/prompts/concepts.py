"""Concept sets: words by category and the sentences in which a model meets them (schema: data/concepts/README.md)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lab.prompts.files import read_json, validated
from lab.records import LabError
from lab.records.atlas import SLOT, Category, ConceptSet, Place

MIN_WORDS = 12
"""Fewest words of a category: ten neighbours and a choice among more than them."""
MIN_FRAMES = 8
"""Fewest frames: layers are chosen on half of them, results reported on the other."""

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _OneCategory(BaseModel):
    model_config = ConfigDict(extra="forbid")
    words: list[_Text] = Field(min_length=MIN_WORDS)
    frames: list[_Text] | None = None
    place: Place = "user"
    phrase: _Text = SLOT


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: _Text
    frames: list[_Text] | None = None
    categories: dict[_Text, _OneCategory] = Field(min_length=1)


def read_concepts(path: Path) -> ConceptSet:
    """The concept set in a JSON file.

    Raises LabError, with file, place and fault: not a readable file, not JSON, a missing or empty field, fewer
    than MIN_WORDS words in a category or MIN_FRAMES frames, a frame or phrase without exactly one SLOT, frames
    of one category that begin alike up to the word (a causal model reads nothing else), categories with
    different numbers of frames, a word that occurs twice.
    """
    found = validated(_File, read_json(path))
    categories = []
    for name, one in found.categories.items():
        place = f"categories.{name}"
        frames = one.frames if one.frames is not None else found.frames
        if frames is None:
            raise LabError(
                f"{path}: {place}: no frames, neither of its own nor at the top; give a list of sentences"
            )
        _check_frames(frames, path, f"{place}.frames" if one.frames is not None else "frames")
        _check_slot(one.phrase, path, f"{place}.phrase")
        categories.append(Category(name, tuple(one.words), tuple(frames), one.place, one.phrase))
    counts = {c.name: len(c.frames) for c in categories}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{n} in {name}" for name, n in counts.items())
        raise LabError(f"{path}: expected equally many frames in all categories, got {told}")
    _check_unique({c.name: c.words for c in categories}, path)
    return ConceptSet(found.name, tuple(categories))


def shipped_concepts(root: Path) -> dict[str, Path]:
    """File stem to path of the concept sets under `root`/data/concepts. LabError when that folder is missing."""
    folder = root / "data" / "concepts"
    if not folder.is_dir():
        raise LabError(
            f"{folder}: expected the folder of shipped concept sets, found none; give the repository root"
        )
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def _check_slot(text: str, path: Path, place: str) -> None:
    if text.count(SLOT) != 1:
        raise LabError(f"{path}: {place}: expected {SLOT} exactly once, got {text!r}")


def _check_frames(frames: list[str], path: Path, place: str) -> None:
    if len(frames) < MIN_FRAMES:
        raise LabError(
            f"{path}: {place}: expected at least {MIN_FRAMES} frames, got {len(frames)}; add sentences"
        )
    seen: dict[str, int] = {}
    for k, frame in enumerate(frames):
        _check_slot(frame, path, f"{place}[{k}]")
        lead = " ".join(frame.split(SLOT)[0].casefold().split())
        if lead in seen:
            raise LabError(
                f"{path}: {place}[{k}]: begins like {place}[{seen[lead]}] up to the word, and a model that reads from "
                "left to right sees no more; write another beginning"
            )
        seen[lead] = k


def _check_unique(words: Mapping[str, tuple[str, ...]], path: Path) -> None:
    seen: dict[str, str] = {}
    for category, mine in words.items():
        for k, word in enumerate(mine):
            place, key = f"categories.{category}.words[{k}]", word.casefold()
            if key in seen:
                raise LabError(f"{path}: {place}: {word!r} is also {seen[key]}; a word may occur once")
            seen[key] = place
