"""`lab steer`: what pushing a trait does, beside prompting, controls, caps and letting go."""

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

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
    bracket,
    one_of,
    print_json,
    progress,
    table,
)
from lab.cli.sharing import Force, Layer, Vectors
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.records.steering import Steering


@app.command()
def steer(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder or a hub name.")],
    traits: Traits = "auto",
    doses: Annotated[
        str, typer.Option(help="Sizes of the push in mean residual norms, each tried both ways.")
    ] = "0.125,0.25,0.375,0.5",
    positions: Annotated[
        str, typer.Option(help="Poolings to choose from on select; with --vector the file's own counts.")
    ] = "reply_mean,spawn,decision,first_tokens",
    vector: Vectors = None,
    layer: Layer = None,
    force: Force = False,
    spread: Annotated[int, typer.Option(help="Layers that share the push.")] = 1,
    controls: Annotated[int, typer.Option(help="Directions of each kind of control.")] = 8,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Take the direction out, too, at the layers of the push.")
    ] = False,
    percentiles: Annotated[
        str, typer.Option(help="Of ordinary projections, where caps are tried; floors at 100 minus these.")
    ] = "90,99",
    cap_layers: Annotated[int, typer.Option(help="Layers that are capped, around the chosen one.")] = 1,
    task: Annotated[Path | None, typer.Option(help="A task file; default: the shipped one.")] = None,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 110,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Push each trait: dose and response, controls of equal norm, prompt baseline, caps, half-life."""
    from lab.pipelines.given import parse_vectors
    from lab.pipelines.steer import SteerConfig
    from lab.pipelines.steer import steer as job
    from lab.records import Position
    from lab.store import Store

    poolings = tuple(one_of("--positions", p.strip(), get_args(Position)) for p in positions.split(","))
    config = SteerConfig(
        model, traits, _numbers("--doses", doses), poolings, parse_vectors(vector or (), layer, force),
        spread=spread, controls=controls, ablate=ablate, percentiles=_numbers("--percentiles", percentiles),
        cap_layers=cap_layers, task=task, dtype=dtype, seed=seed, max_new_tokens=max_new_tokens,
    )  # fmt: skip
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json(asdict(found))
        return
    _show(found)
    print(f"run {found.run}; tables in {runs / found.run}   (lab dashboard, page Steer)")


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise LabError(f"{option}: expected numbers with commas between them, got {text!r}") from None


def _show(found: "Steering") -> None:
    name, unit = found.model.name, found.unit
    for s in found.summaries:
        rows = [
            [
                f"{r.coefficient:+.3f}" if r.kind == "native" else _words(r.kind, r.coefficient), f"{r.reading:+.2f}",
                "" if r.kind == "none" else f"{r.change:+.2f}{bracket(r.low, r.high)}",
                "" if isnan(r.wrong_way) else f"{r.wrong_way:.0%}", f"{r.coherence:.0%}", f"{r.task:.0%}",
            ]
            for r in found.doses
            if r.steered == s.trait and r.read == s.trait and r.kind in ("none", "native", "ablate", "prompt")
        ]  # fmt: skip
        columns = ["push (norms)", f"reading ({unit})", "change", "wrong way", "coherent", "task right"]
        layers = ", ".join(map(str, s.layers))
        table(f"{name}, {s.trait}: pooled at {s.position}, layer {layers}", columns, rows)
        print(
            f"from {s.down:+g} to {s.up:+g} norms: {s.effect:+.2f}{bracket(s.low, s.high)} {unit}; the same of "
            f"{s.controls} controls of equal norm: 97.5 % within ±{s.null_high:.2f}, p {s.p:.3f}; told instead of "
            f"pushed: {s.prompt:+.2f}; chosen on select, where it was {s.select_effect:+.2f}"
            + ("" if s.reached else "; NO dose was coherent enough")
        )
        for split, what in (("select", "chosen there"), ("test", "each at its own doses")):
            tried = [
                f"{p.position} {p.effect:+.2f}{bracket(p.low, p.high)} ({p.down:+g} to {p.up:+g}"
                f"{'' if p.reached else ', not coherent'})"
                for p in found.poolings
                if (p.trait, p.split) == (s.trait, split)
            ]
            print(f"poolings on {split}, {what}: {'; '.join(tried)}")
        for h in found.half_lives:
            if h.trait == s.trait:
                print(
                    f"let go after {h.coefficient:+g}: {h.carried:.2f}{bracket(h.low, h.high)} of it is "
                    f"carried into the next token; "
                    + (
                        f"no half-life within {h.window} tokens"
                        if isnan(h.tokens)
                        else f"half of it is left after {h.tokens:.1f} tokens"
                    )
                )
    _entangled(found)
    columns = ["trait", "edit at layers", "tokens touched", "replies touched", "against its pole"]
    columns += [f"ordinary work: reading ({unit})", "coherent", "task right"]
    table("capping: thresholds from other questions without scaffold", columns, _cap_rows(found))


def _entangled(found: "Steering") -> None:
    """What every push from its lower to its upper chosen dose does to every trait that is read."""
    from lab.figures.steering import moved

    read = list(dict.fromkeys(r.read for r in found.doses))
    print(
        f"push one, read all ({found.unit}, lower to upper chosen dose, test; columns: "
        + ", ".join(f"{k} {name}" for k, name in enumerate(read, 1))
        + ")"
    )
    width = max(len(s.trait) for s in found.summaries)
    print(" " * width + "".join(f"{k:7}" for k in range(1, len(read) + 1)))
    for s in found.summaries:
        values = (moved(found, s.trait, r) for r in read)
        print(f"{s.trait:<{width}}{''.join('      ?' if isnan(v) else f'{v:+7.2f}' for v in values)}")


def _cap_rows(found: "Steering") -> list[list[str]]:
    """One line per edit: what it touches and costs without scaffold, and what it does to the pole."""
    rows = []
    for c, other in zip(found.caps[::2], found.caps[1::2], strict=True):
        interval = "" if isnan(c.alarm_low) else f" [{c.alarm_low:.0%}, {c.alarm_high:.0%}]"
        rows.append(
            [
                c.trait,
                f"{c.kind} {c.percentile if c.kind == 'cap' else 100 - c.percentile:g} % at "
                f"{', '.join(map(str, c.layers))}",
                f"{c.alarm_tokens:.1%}, promised {100 - c.percentile:g} %{' a layer' if len(c.layers) > 1 else ''}",
                f"{c.alarm_replies:.0%}{interval}",
                f"{other.reading:+.2f} → {other.reading_edited:+.2f}",
                f"{c.reading:+.2f}, change {c.reading_edited - c.reading:+.2f}{bracket(c.low, c.high)}",
                f"{c.coherence:.0%} → {c.coherence_edited:.0%}", f"{c.task:.0%} → {c.task_edited:.0%}",
            ]
        )  # fmt: skip
    return rows


def _words(kind: str, coefficient: float) -> str:
    if kind == "prompt":
        return f"told {'more' if coefficient > 0 else 'less'}"
    return {"none": "none", "ablate": "taken out"}[kind]
