"""`lab watch`: a conversation, turn by turn."""

import json
import sys
import time
from dataclasses import asdict, replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.cli.common import (
    DEFAULT_RUNS,
    Dtype,
    Json,
    Runs,
    Seed,
    Tokens,
    Traits,
    app,
    print_json,
    progress,
    table,
)
from lab.cli.sharing import Force, Layer, Vectors
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.pipelines.watch import Watch, WatchConfig, Watched, Watcher
    from lab.records import Message, Reply
    from lab.store import Store

POLL = 0.5
"""Seconds between two looks at a file that is followed."""


@app.command()
def watch(
    file: Annotated[
        Path, typer.Argument(help='A conversation: {"conversation": [{"role", "content"}, ...]}.')
    ],
    model: Annotated[str, typer.Option(help="A shipped name, a folder or a hub name.")] = "hearth-a",
    ordinary: Annotated[
        Path | None, typer.Option(help="Folder of ordinary conversations; default: the model's own.")
    ] = None,
    promised: Annotated[
        float, typer.Option(help="False alarms per 100 ordinary turns, for each trait.")
    ] = 1.0,
    together: Annotated[
        bool, typer.Option("--together", help="Promise it for all traits together, by one threshold.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Read on as the file grows, until Ctrl-C; JSON comes in lines.")
    ] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="With --json: projections too, of turns and of every token.")
    ] = False,
    traits: Traits = "auto",
    vector: Vectors = None,
    layer: Layer = None,
    force: Force = False,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Every assistant turn of a conversation on each trait, and where it drifts.

    With --follow the file may grow while it is read: a document that is written anew, or one message per line.
    """
    from lab.pipelines.given import parse_vectors
    from lab.pipelines.watch import WatchConfig
    from lab.pipelines.watch import watch as job
    from lab.prompts.personas import read_conversation
    from lab.store import Store

    if ordinary is not None and not ordinary.is_dir():
        raise LabError(f"--ordinary: expected a folder of conversation files, found none at {ordinary}")
    known = tuple(read_conversation(p) for p in sorted(ordinary.glob("*.json"))) if ordinary else ()
    if not file.is_file():
        raise LabError(f"{file}: expected a conversation file, found none; check the path")
    config = WatchConfig(
        model, () if follow else _conversation(file), known, traits, promised=promised, dtype=dtype, seed=seed,
        max_new_tokens=max_new_tokens, vectors=parse_vectors(vector or (), layer, force),
        together=together,
    )  # fmt: skip
    if follow:
        _follow(file, config, Store(runs), as_json, tokens)
        return
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json(_watch_document(found, tokens))
        return
    _print_table(found)


def _conversation(file: Path) -> "tuple[Message, ...]":
    """A whole conversation: a document, or (`.jsonl`) one message per line."""
    from lab.pipelines.following import look
    from lab.prompts.personas import read_conversation

    if file.suffix != ".jsonl":
        return read_conversation(file)
    found = look(file)
    if found is None:
        raise LabError(f"{file}: expected a message per line and at least one of the assistant's, found none")
    return found


def _print_table(found: "Watch") -> None:
    """A row per turn, and what is ordinary."""
    rows = [
        [str(t + 1), *_cells(found, t), reply.text if len(reply.text) < 60 else reply.text[:57] + "…"]
        for t, reply in enumerate(found.replies)
    ]
    table(_title(found), ["turn", *(w.trait for w in found.traits), "reply"], rows)
    print(_ordinary(found))


def _title(found: "Watch") -> str:
    return (
        f"{found.model}: pull of each turn along the trait (likelihood ratio of opposite pushes), departure in "
        "ordinary sd"
    )


def _cells(found: "Watch", turn: int) -> list[str]:
    """The turn's departure on each trait."""
    return [
        f"{w.course.deviation[turn]:+.1f}" + (" ALARM" if turn in w.course.alarms else "")
        for w in found.traits
    ]


def _ordinary(found: "Watch") -> str:
    """What is ordinary, and what is promised."""
    reach = ", ".join(f"±{w.ordinary.reach:.1f} ({w.trait})" for w in found.traits)
    return (
        f"ordinary: {found.ordinary_conversations} conversations of at most {found.longest} turns; 95 % of turns within "
        f"{reach}; false alarms promised: {found.promise}"
    )


# ------------------------------------------------------------------ a file that grows


def _follow(file: Path, config: "WatchConfig", store: "Store", as_json: bool, tokens: bool) -> None:
    """Tell every turn once it is in the file, until Ctrl-C."""
    from lab.pipelines.following import follow, look
    from lab.pipelines.watch import make_watcher

    def learn(talk: "tuple[Message, ...]") -> "Watcher":
        with progress(as_json) as update:
            return make_watcher(replace(config, conversation=talk), store, update)

    tell = _json_turns if as_json else _print_turns
    try:
        if look(file) is None:
            print(f"lab: waiting for the assistant's first turn in {file}", file=sys.stderr, flush=True)
        told = False
        for found, first in follow(file, learn, lambda: time.sleep(POLL)):
            tell(found, first, not told, tokens)
            told = True
    except KeyboardInterrupt:
        print(file=sys.stderr)


def _print_turns(found: "Watch", first: int, head: bool, tokens: bool) -> None:
    """The turns from `first` on, a line each; `head`: what the numbers are, before them."""
    if head:
        print(f"{_title(found)}\n{_ordinary(found)}")
    for t, reply in enumerate(found.replies[first:], first):
        cells = zip(found.traits, _cells(found, t), strict=True)
        print(
            f"turn {t + 1}: " + ", ".join(f"{w.trait} {cell}" for w, cell in cells) + f" | {reply.text}",
            flush=True,
        )


def _json_turns(found: "Watch", first: int, head: bool, tokens: bool) -> None:
    """The same as lines of JSON."""
    if head:
        print_line({**_about(found), "thresholds": {w.trait: w.threshold for w in found.traits}})
    for t, reply in enumerate(found.replies[first:], first):
        row = {"turn": t + 1, "reply": reply.text, "traits": [_at(w, t) for w in found.traits]}
        if tokens:
            row |= {"projections": [_at(w, t) for w in found.projections], **_tokens(reply)}
        print_line(row)


# ------------------------------------------------------------------ JSON


def _watch_document(found: "Watch", tokens: bool) -> dict[str, Any]:
    """What `lab watch --json` prints; with `tokens` projections too, of turns and of every token."""
    document = {
        **_about(found),
        "traits": [_series(w) for w in found.traits],
        "replies": [r.text for r in found.replies],
    }
    if tokens:
        bands = zip(found.projections, found.bands, strict=True)
        document |= {
            "projections": [_series(w) | {"ordinary_tokens": asdict(band)} for w, band in bands],
            "tokens": [_tokens(r) for r in found.replies],
        }
    return document


def _about(found: "Watch") -> dict[str, Any]:
    return {
        "model": found.model, "ordinary_conversations": found.ordinary_conversations,
        "promised_false_alarms_per_100_turns": found.promised,
        "promised_for": "all traits together" if found.together else "each trait",
        "longest_ordinary_conversation": found.longest,
    }  # fmt: skip


def _series(w: "Watched") -> dict[str, Any]:
    return {
        "trait": w.trait, "layer": w.layer, "value": w.value.tolist(), "expected": w.expected.tolist(),
        "reach": w.reach.tolist(), "deviation": w.course.deviation.tolist(), "up": w.course.up.tolist(),
        "down": w.course.down.tolist(), "threshold": w.threshold, "alarms": list(w.course.alarms),
    }  # fmt: skip


def _at(w: "Watched", turn: int) -> dict[str, Any]:
    """One turn of one trait."""
    parts = {"value": w.value, "expected": w.expected, "reach": w.reach, "deviation": w.course.deviation,
             "up": w.course.up, "down": w.course.down}  # fmt: skip
    numbers = {name: float(values[turn]) for name, values in parts.items()}
    return {"trait": w.trait, **numbers, "alarm": turn in w.course.alarms}


def _tokens(reply: "Reply") -> dict[str, Any]:
    return {
        "tokens": list(reply.tokens),
        "token_projections": {t: list(v) for t, v in reply.projections.items()},
    }


def print_line(document: dict[str, Any]) -> None:
    """One line of JSON, at once; what is not known is null."""
    print(json.dumps(_known(document), ensure_ascii=False, allow_nan=False), flush=True)


def _known(value: Any) -> Any:
    if isinstance(value, float) and isnan(value):
        return None
    if isinstance(value, dict):
        return {k: _known(v) for k, v in value.items()}
    return [_known(v) for v in value] if isinstance(value, list) else value
