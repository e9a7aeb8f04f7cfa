"""Vector files to and from the Hugging Face hub, where the user names a repository."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from lab.records import LabError
from lab.vectors.files import load, save
from lab.vectors.hub import check_repository, download, shareable, upload

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Sent:
    """Where a vector went, and what of its card was left out because it may be intimate."""

    address: str
    left_out: tuple[str, ...]


def destination(repo_id: str) -> str:
    """The address that a push sends to. LabError unless the repository is named owner/name."""
    check_repository(repo_id)
    return f"{HUB}/{repo_id}"


def push(
    file: Path,
    repo_id: str,
    name: str = "",
    public: bool = False,
    announce: Callable[[], None] = lambda: None,
) -> Sent:
    """Send one vector file to a model repository; LabError as `lab.vectors.hub.upload`.

    `announce` is called once the file was read and found good, before anything leaves.
    """
    check_repository(repo_id)
    vector = load(file)
    kept = shareable(vector).settings
    left_out = [key for key in vector.settings if key not in kept]
    left_out += ["embeddings"] if vector.embeddings is not None else []
    announce()
    return Sent(upload(vector, repo_id, name, private=not public), tuple(left_out))


def pull(
    repo_id: str, name: str, file: Path | None = None, kind: Literal["model", "dataset"] = "model",
    layers: int | None = None,
) -> Path:  # fmt: skip
    """Get one vector file of a repository and keep it at `file`; default: under its own name, in our form.

    LabError as `lab.vectors.hub.download`, and where a file of the default name is there already.
    """
    target = file or Path(PurePosixPath(name).with_suffix(".safetensors").name)
    if file is None and target.exists():
        raise LabError(f"expected no file {target} here, got one; say where to with lab vectors pull … FILE")
    save(download(repo_id, name, kind, layers), target)
    return target
