"""`lab watch`: a conversation, turn by turn."""

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
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.pipelines.watch import Watch


@app.command()
def watch(
    file: Annotated[
        Path, typer.Argument(help='A conversation: {"conversation": [{"role", "content"}, ...]}.')
    ],
    model: Annotated[str, typer.Option(help="A shipped name, a folder or a hub name.")] = "hearth-a",
    ordinary: Annotated[
        Path | None, typer.Option(help="Folder of ordinary conversations; default: the model's own.")
    ] = None,
    promised: Annotated[float, typer.Option(help="False alarms per 100 ordinary turns.")] = 1.0,
    traits: Traits = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Every assistant turn of a conversation on each trait, and where it drifts."""
    from lab.pipelines.watch import WatchConfig
    from lab.pipelines.watch import watch as job
    from lab.prompts.personas import read_conversation
    from lab.store import Store

    if ordinary is not None and not ordinary.is_dir():
        raise LabError(f"--ordinary: expected a folder of conversation files, found none at {ordinary}")
    known = tuple(read_conversation(p) for p in sorted(ordinary.glob("*.json"))) if ordinary else ()
    config = WatchConfig(
        model, read_conversation(file), known, traits, promised=promised, dtype=dtype, seed=seed,
        max_new_tokens=max_new_tokens,
    )  # fmt: skip
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json(_watch_document(found))
        return
    names = [w.trait for w in found.traits]
    rows = []
    for t, reply in enumerate(found.replies):
        cells = [
            f"{w.course.deviation[t]:+.1f}" + (" ALARM" if t in w.course.alarms else "") for w in found.traits
        ]
        rows.append([str(t + 1), *cells, reply.text if len(reply.text) < 60 else reply.text[:57] + "…"])
    title = f"{found.model}: pull of each turn along the trait (slope of its likelihood), departure in ordinary sd"
    table(title, ["turn", *names, "reply"], rows)
    print(
        f"ordinary: {found.ordinary_conversations} conversations; 95 % of turns within "
        + ", ".join(f"±{w.ordinary.reach:.1f} ({w.trait})" for w in found.traits)
        + f"; alarms promised at most {found.promised:g} per 100 ordinary turns"
    )


def _watch_document(found: "Watch") -> dict[str, Any]:
    """What `lab watch --json` prints."""
    return {
        "model": found.model,
        "ordinary_conversations": found.ordinary_conversations,
        "promised_false_alarms_per_100_turns": found.promised,
        "traits": [
            {
                "trait": w.trait, "layer": w.layer, "value": w.value.tolist(), "expected": w.expected.tolist(),
                "reach": w.reach.tolist(), "deviation": w.course.deviation.tolist(), "up": w.course.up.tolist(),
                "down": w.course.down.tolist(), "threshold": w.threshold, "alarms": list(w.course.alarms),
            }
            for w in found.traits
        ],
        "replies": [r.text for r in found.replies],
    }  # fmt: skip
