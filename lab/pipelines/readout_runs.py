"""Readouts on disk; reading them loads no torch."""

from dataclasses import asdict
from typing import Any

from lab.records import ModelIdentity, ScaffoldFile
from lab.records.decomposition import ReadoutBook, SegmentEffect, SwitchedFeature
from lab.store import Store, content_key, readable

VERSION = 1
TABLES: dict[str, type] = {"features": SwitchedFeature, "segments": SegmentEffect}
"""Names of a book's tables and what their rows are."""


def wordings_key(scaffold: ScaffoldFile) -> str:
    """The same for scaffolds of equal wordings, whatever they are called."""
    return content_key([wording.text for wording in scaffold.paraphrases])


def save_readout(store: Store, found: ReadoutBook) -> None:
    """A run of tables, one per kind of record."""
    rows = {name: [asdict(r) for r in getattr(found, name)] for name in TABLES}
    more = {
        "labels": found.labels, "saes": found.saes, "read_scaffolds": found.scaffolds, "why": found.why,
        "settings": dict(found.settings), "version": VERSION,
    }  # fmt: skip
    store.save_records(found.run, "readout", found.models, rows, more)


def load_readout(store: Store, run: str) -> ReadoutBook:
    """The readout of a finished run. LabError when it is missing, damaged or of another kind."""
    data, rows = store.load_rows(run, "readout", tuple(TABLES))
    with readable(run):
        tables: dict[str, Any] = {n: tuple(kind(**r) for r in rows[n]) for n, kind in TABLES.items()}
        return ReadoutBook(
            run, tuple(ModelIdentity(**m) for m in data["models"]), tuple(data["labels"]), tuple(data["saes"]),
            tuple(data["read_scaffolds"]), **tables, settings=data["settings"], why=data["why"],
        )  # fmt: skip
