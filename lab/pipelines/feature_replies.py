"""What jobs with a dictionary share: dictionary and model opened together, replies in its features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lab.models import files_digest
from lab.pipelines.compare import resolve_model
from lab.pipelines.replies import Job
from lab.pipelines.sae import folder_of, roots
from lab.records import LabError, Reply
from lab.store import Store

if TYPE_CHECKING:
    from lab.features.contrast import Coded
    from lab.features.load import Sae
    from lab.models import LoadedModel


@dataclass(frozen=True)
class Opened:
    """A dictionary with the model that it fits. digest: of its files, or its name where it has none here."""

    sae: "Sae"
    model: "LoadedModel"
    digest: str


def open_sae(name: str, model: str, store: Store, dtype: str = "float32", force: bool = False) -> Opened:
    """A dictionary by name, folder or release, and its model ("": the one that its files name).

    LabError as `lab.features.load.load_sae`, and where nothing names a model.
    """
    from lab.features.load import load_sae
    from lab.features.shelf import origin_of
    from lab.models import load

    folder = folder_of(name, store)
    source = model or (origin_of(folder).path if folder else "")
    if not source:
        raise LabError(f"{name} does not say of which model it was made; give --model")
    loaded = load(resolve_model(source), dtype)
    sae = load_sae(name, loaded, roots(store), force)
    return Opened(sae, loaded, files_digest(Path(sae.folder)) if sae.folder else sae.name)


def coded_jobs(opened: Opened, jobs: Sequence[Job], replies: Sequence[Reply]) -> "Coded":
    """Replies to jobs in the dictionary's features."""
    from lab.features.contrast import coded, reply_tokens

    rows = reply_tokens(
        opened.model, [j.system for j in jobs], [j.question.text for j in jobs], [r.text for r in replies]
    )
    return coded(opened.sae, opened.model, rows)


def questions_of(jobs: Sequence[Job]) -> np.ndarray:
    """Question ids, row by row."""
    return np.array([j.question.id for j in jobs])
