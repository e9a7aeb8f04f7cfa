"""Persona vectors on the Hugging Face hub, only when the user names it, and without what may be intimate."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lab.records import LabError
from lab.vectors.files import SUFFIX, SUFFIXES, _safetensors, load
from lab.vectors.record import PersonaVector

_SHARED_NUMBERS = {
    "draws", "max_new_tokens", "pairs", "questions", "replies", "seed", "temperature", "top_p",
}  # fmt: skip
_SHARED_WORDS = {"estimator", "format", "type", "weighting"}


def shareable(vector: PersonaVector) -> PersonaVector:
    """The vector as `upload` sends it: without what may be intimate.

    Kept: the trait's name, the vectors, layer, position, split, dtype, fingerprint (a hash), the model's
    name if it is a hub name, and of the settings a fixed list: counts, seeds and sampling numbers, and the
    one-word names of estimator, format, type and weighting. Left out: every other setting, whatever
    its key (scaffold texts, prompts, questions, names of personas, paths, dates), the model's name if it
    is a folder's, and the embeddings: a difference of mean embeddings is a weighted list of words, which
    anyone who has the model can read back. The vectors themselves go as they are; those of the
    first layers are not far from the embeddings, so blank these rows for a very private scaffold. Raises
    LabError when the trait's name is not one plain word.
    """
    if not re.fullmatch(r"\w[\w-]{0,47}", vector.trait):
        raise LabError(
            f"expected a trait's name of one word before it is shared, got {vector.trait!r}; give it one with "
            "dataclasses.replace(vector, trait=...)"
        )
    kept = {key: value for key, value in vector.settings.items() if _may_be_shared(key, value)}
    public = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", vector.model)
    return replace(vector, model=vector.model if public else "", embeddings=None, settings=kept)


def _may_be_shared(key: str, value: object) -> bool:
    if key in _SHARED_NUMBERS:
        return isinstance(value, int | float)
    return key in _SHARED_WORDS and isinstance(value, str) and bool(re.fullmatch(r"[a-z0-9_-]{1,32}", value))


def upload(vector: PersonaVector, repo_id: str, filename: str = "", private: bool = True) -> str:
    """Put `shareable(vector)` into a model repository on the Hugging Face hub; returns the commit's address.

    `filename` defaults to `<trait>.safetensors`. The repository is made if it does not exist, then private
    unless said otherwise; one that exists keeps its visibility. The login is the user's own
    (`hf auth login`). Raises LabError as `shareable`, when no repository is named, when HF_HUB_OFFLINE is
    set, and when the hub refuses.
    """
    check_repository(repo_id)
    public = shareable(vector)
    filename = filename or f"{public.trait}.safetensors"
    if not filename.endswith(".safetensors"):
        raise LabError(f"expected a file name that ends in .safetensors, got {filename!r}; rename it")
    import huggingface_hub

    if huggingface_hub.is_offline_mode():
        raise LabError(f"expected a network to upload to {repo_id}, got HF_HUB_OFFLINE=1; unset it first")
    blob = _safetensors(public)
    hub = huggingface_hub.HfApi()
    try:  # the hub's client passes on the errors of whichever HTTP library it uses
        hub.create_repo(repo_id, private=private, exist_ok=True)
        done = hub.upload_file(path_or_fileobj=blob, path_in_repo=filename, repo_id=repo_id)
    except Exception as error:
        raise _hub_error(f"upload {filename} to {repo_id}", error) from error
    return str(done.commit_url)


def download(
    repo_id: str, filename: str, kind: Literal["model", "dataset"] = "model", layers: int | None = None
) -> PersonaVector:
    """One vector file out of a Hugging Face repository, kept in the hub's cache and read as by `load`.

    With HF_HUB_OFFLINE set only the cache is looked at. Raises LabError as `load`, when no repository
    is named, and when the hub does not give the file.
    """
    check_repository(repo_id)
    if Path(filename).suffix not in SUFFIX.values():
        raise LabError(f"expected a vector file ({SUFFIXES}), got {filename!r}; name one")
    import huggingface_hub

    try:
        path = huggingface_hub.hf_hub_download(repo_id, filename, repo_type=kind)
    except Exception as error:
        raise _hub_error(f"get {filename} from {repo_id}", error) from error
    return load(path, layers)


def check_repository(repo_id: str) -> None:
    """LabError unless a repository is named as owner/name."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo_id):
        raise LabError(f"expected a repository named owner/name, got {repo_id!r}; name yours")


def _hub_error(what: str, error: Exception) -> LabError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return LabError(
        f"expected to {what}, got: {first}; check names, login (hf auth login), network and HF_HUB_OFFLINE"
    )
