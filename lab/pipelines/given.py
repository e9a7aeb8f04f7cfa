"""Vectors that come in from files, for steering and watching: whose they are, and where they point."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab.records import Direction, LabError, ModelIdentity, Position, Split
from lab.store import content_key
from lab.vectors.files import load
from lab.vectors.record import PersonaVector, check_fits, listed, to_direction

POSITION: Position = "reply_mean"
SPLIT: Split = "extract"


@dataclass(frozen=True)
class VectorFile:
    """A file as the user names it; trait, layer: in place of what the file says.

    force: take it though its fingerprint is another model's or not known.
    """

    path: Path
    trait: str = ""
    layer: int | None = None
    force: bool = False


def parse_vectors(texts: Sequence[str], layer: int | None, force: bool) -> tuple[VectorFile, ...]:
    """`FILE` or `TRAIT=FILE` each. LabError where a layer or force is given and no file."""
    if not texts and (layer is not None or force):
        raise LabError("expected a file that --layer and --force are about, got none; give --vector FILE")
    found = []
    for text in texts:
        trait, named, path = text.partition("=")
        plain = not named or Path(text).is_file()
        found.append(VectorFile(Path(text if plain else path), "" if plain else trait, layer, force))
    return tuple(found)


def take_vectors(files: Sequence[VectorFile], identity: ModelIdentity) -> dict[str, PersonaVector]:
    """The files' vectors by trait, each with a layer, a pooling and a split.

    A file that does not say where it was pooled is taken for a mean over replies, as persona-vectors and
    assistant-axis make them. Raises LabError as `load` and `check_fits`, for a file without a layer where none is
    given, and for two vectors of one trait.
    """
    found: dict[str, PersonaVector] = {}
    for file in files:
        vector = _take(file, identity)
        if vector.trait in found:
            raise LabError(
                f"expected one vector per trait, got a second one of {vector.trait} in {file.path}; name it "
                "anew with --vector TRAIT=FILE"
            )
        found[vector.trait] = vector
    return found


def _take(file: VectorFile, identity: ModelIdentity) -> PersonaVector:
    vector = load(file.path, identity.layers)
    try:
        check_fits(vector, identity, file.force)
        layer = vector.layer if file.layer is None else file.layer
        if layer is None:
            raise LabError(
                f"expected a layer, which this format does not say; give --layer N, one of {listed(vector.known)} "
                f"(0 is after the first block, the middle is {identity.layers // 2})"
            )
        position, split = vector.position or POSITION, vector.split or SPLIT
        vector = replace(
            vector, trait=file.trait or vector.trait, layer=layer, position=position, split=split
        )
        to_direction(vector, identity, force=file.force)  # a role's mean is no direction
    except LabError as error:
        raise LabError(f"{file.path}: {error}") from error
    return vector


def directions_of(vectors: Iterable[PersonaVector], identity: ModelIdentity) -> list[Direction]:
    """Their directions at their layers; whether they fit was asked when they were taken."""
    return [to_direction(v, identity, force=True) for v in vectors]


def described(vector: PersonaVector, identity: ModelIdentity) -> dict[str, object]:
    """What a run keeps of a vector: whose it is, and a hash of its numbers."""
    return {
        "trait": vector.trait, "layer": vector.layer, "position": vector.position, "split": vector.split,
        "model": vector.model, "fingerprint": vector.fingerprint,
        "forced": vector.fingerprint != identity.fingerprint, "content": content_key(vector.vectors),
    }  # fmt: skip
