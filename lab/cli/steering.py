"""`lab steer`: what pushing a trait does, beside prompting, controls, caps and letting go."""

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    print_json,
    progress,
    table,
)
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.records import Steering


@app.command()
def steer(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder or a hub name.")],
    traits: Traits = "auto",
    doses: Annotated[
        str, typer.Option(help="Sizes of the push in mean residual norms, each tried both ways.")
    ] = "0.125,0.25,0.375,0.5",
    spread: Annotated[int, typer.Option(help="Layers that share the push.")] = 1,
    controls: Annotated[int, typer.Option(help="Directions of each kind of control.")] = 8,
    task: Annotated[Path | None, typer.Option(help="A task file; default: the shipped one.")] = None,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 110,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Push each trait: dose and response, controls of equal norm, prompt baseline, caps, half-life."""
    from lab.pipelines.steer import SteerConfig
    from lab.pipelines.steer import steer as job
    from lab.store import Store

    config = SteerConfig(
        model, traits, _numbers(doses), spread=spread, controls=controls, task=task, dtype=dtype, seed=seed,
        max_new_tokens=max_new_tokens,
    )  # fmt: skip
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json(asdict(found))
        return
    _show(found)
    print(f"run {found.run}; tables in {runs / found.run}   (lab dashboard, page Steer)")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise LabError(f"--doses: expected numbers with commas between them, got {text!r}") from None


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
            if r.steered == s.trait and r.read == s.trait and r.kind in ("none", "native", "prompt")
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
        tried = [
            f"{p.position} {p.effect:+.2f} ({p.down:+g} to {p.up:+g}{'' if p.reached else ', not coherent'})"
            for p in found.poolings
            if p.trait == s.trait
        ]
        print(f"poolings on select: {'; '.join(tried)}")
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
    columns = ["trait", "edit", "touched", "ordinary work", "against", "coherent", "task"]
    table("capping: thresholds from other questions without scaffold", columns, _cap_rows(found))


def _cap_rows(found: "Steering") -> list[list[str]]:
    """One line per edit: what it touches and costs without scaffold, and what it does to the pole."""
    rows = []
    for c, other in zip(found.caps[::2], found.caps[1::2], strict=True):
        rows.append(
            [
                c.trait, f"{c.kind} {c.percentile if c.kind == 'cap' else 100 - c.percentile:g} %",
                f"{c.alarm_tokens:.1%}", f"{c.reading:+.2f} → {c.reading_edited:+.2f}",
                f"{other.reading:+.2f} → {other.reading_edited:+.2f}", f"{c.coherence:.0%} → {c.coherence_edited:.0%}",
                f"{c.task:.0%} → {c.task_edited:.0%}",
            ]
        )  # fmt: skip
    return rows


def _words(kind: str, coefficient: float) -> str:
    return "none" if kind == "none" else f"told {'more' if coefficient > 0 else 'less'}"
