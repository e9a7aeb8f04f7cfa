"""`lab words`: the same text in two models with different tokenizers."""

from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.cli.common import DEFAULT_RUNS, Dtype, Json, Runs, Seed, app, print_json, progress, table
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.records.words import WordMeasure, WordsBook


@app.command()
def words(
    a: Annotated[str, typer.Argument(help="A shipped name, a folder or a hub name.")],
    b: Annotated[str, typer.Argument(help="The other model; the same one is allowed.")],
    text: Annotated[
        str | None, typer.Option(help="The text that is shown; default: a shipped scaffold.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file with that text.")] = None,
    control: Annotated[str | None, typer.Option(help="A second seed of the first model.")] = None,
    design: Annotated[
        Path | None,
        typer.Option(
            help="Folder of .txt or .md files that the numbers are taken over; default: the shipped scaffolds."
        ),
    ] = None,
    place: Annotated[
        str, typer.Option(help="Where texts stand in the chat: system, user or reply.")
    ] = "system",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """How two models cut one text, how surprised they are by it, and which of their heads look alike."""
    from lab.pipelines.words import WordsConfig
    from lab.pipelines.words import words as job
    from lab.store import Store

    if text is not None and file is not None:
        raise LabError("expected --text or --file, got both; give one")
    shown = text if file is None else _read(file)
    config = WordsConfig((a, b), control, shown, _folder(design), place, dtype, seed)
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json(words_document(found))
    else:
        _show(found)
        print(f"run {found.run}; tables in {runs / found.run}   (lab dashboard, page Words)")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"--file: expected a UTF-8 text file, got {file} ({error})") from error


def _folder(folder: Path | None) -> tuple[str, ...]:
    if folder is None:
        return ()
    files = [p for p in sorted(folder.glob("*")) if p.suffix in (".txt", ".md")] if folder.is_dir() else []
    if not files:
        raise LabError(f"--design: expected a folder with .txt or .md files, found none in {folder}")
    return tuple(_read(p) for p in files)


def words_document(found: "WordsBook") -> dict[str, Any]:
    """What `lab words --json` prints; the attention itself is left out."""
    return {
        "run": found.run,
        "models": [asdict(m) for m in found.models],
        "labels": list(found.labels),
        "place": found.place,
        "text": found.text,
        "settings": dict(found.settings),
        "measures": [asdict(m) for m in found.measures],
        "matched_heads": [asdict(m) for m in found.matches],
        "words": [asdict(w) for w in found.words],
        "cells": [asdict(c) for c in found.cells],
    }


def _show(found: "WordsBook") -> None:
    for scope, mine in _scopes(found):
        table(
            f"{' and '.join(found.pair)}, {scope}; texts stand as {found.place}",
            ["measure", "model", "value", "null", "p", "note"],
            [[m.what, m.model, *_cells(m), m.note] for m in mine],
        )
    cut = [w for w in found.words if not w.mark and w.pieces_a != w.pieces_b]
    if cut:
        said = ", ".join(f"{w.word} {w.pieces_a}|{w.pieces_b}" for w in cut[:24])
        more = f" and {len(cut) - 24} more" if len(cut) > 24 else ""
        print(f"pieces differ: {said}{more}")
    from_reply = "" if found.place == "reply" else (
        " The shipped models learned to predict replies alone, so their surprisal at a prompt says little "
        "(--place reply)."
    )  # fmt: skip
    print(
        "[95 % interval over texts, or over cut words]; heads: matched on one half of the texts, measured on the other; "
        f"divergence 0 same, 1 disjoint.{from_reply}"
    )


def _scopes(found: "WordsBook") -> list[tuple[str, list["WordMeasure"]]]:
    scopes = dict.fromkeys(m.scope for m in found.measures)
    return [(scope, [m for m in found.measures if m.scope == scope]) for scope in scopes]


def _cells(row: "WordMeasure") -> list[str]:
    value = f"{row.value:.3f}" if isfinite(row.value) else "cannot tell"
    if isfinite(row.low):
        value += f" [{row.low:.3f}, {row.high:.3f}]"
    return [value, f"{row.null:.3f}" if isfinite(row.null) else "", f"{row.p:.4f}" if isfinite(row.p) else ""]
