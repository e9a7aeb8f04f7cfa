"""`lab continuity`: does a scaffold's memory, will and voice hold? Ten families of items with checkable outcomes."""

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
    app,
    bracket,
    number,
    print_json,
    progress,
    table,
    with_interval,
)
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.pipelines.continuity_items import Condition
    from lab.records.continuity import ContinuityResult, FamilyChange, FamilyScore


@app.command()
def continuity(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder or a hub name.")],
    scaffold: Annotated[
        list[str] | None,
        typer.Option(
            help="full (each item's own), none, tone-only, or a scaffold file that takes the place of the items' "
            "identities; repeat for more, changes are of the first. Default: full, none, tone-only."
        ),
    ] = None,
    items: Annotated[
        str,
        typer.Option(help="hearth, chat, an item file or a folder of them; default: what the model speaks."),
    ] = "",
    judge: Annotated[
        str,
        typer.Option(
            help="auto, exact (Hearth), literal (checks alone; what has a rubric stays unscored), model:NAME or "
            "api:URL@MODEL."
        ),
    ] = "auto",
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the key of an api judge; none is sent without.")
    ] = "",
    tone: Annotated[bool, typer.Option(help="Weigh the tone of replies outside Hearth.")] = True,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 120,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Boundaries, consent, memory, pressure, agency: what of a scaffold holds, and does tone tell?"""
    from lab.pipelines.continuity import ContinuityConfig
    from lab.pipelines.continuity import continuity as job
    from lab.pipelines.continuity_items import shipped_items
    from lab.store import Store

    conditions = tuple(_condition(s) for s in scaffold or ("full", "none", "tone-only"))
    known = shipped_items(items) if items else None
    config = ContinuityConfig(
        model, conditions, known, judge, key_variable, tone, dtype, seed, max_new_tokens
    )
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json(asdict(found))
        return
    _tables(found)
    print(f"run {found.run}; every reply in {runs / found.run}")


def _condition(text: str) -> "Condition":
    from lab.pipelines.continuity_items import CONDITIONS, wearing
    from lab.prompts.scaffolds import read_scaffold, stated_levels

    named = {c.name: c for c in CONDITIONS}
    if text in named:
        return named[text]
    path = Path(text)
    if not path.is_file():
        raise LabError(
            f"--scaffold: expected {', '.join(named)} or a scaffold file, got {text!r}; check the path"
        )
    return wearing(read_scaffold(path), stated_levels(path))


def _tables(found: "ContinuityResult") -> None:
    for condition in dict.fromkeys(s.condition for s in found.scores):
        rows = [_row(s) for s in found.scores if s.condition == condition]
        columns = ["family", "passed", "chance / ceiling", "n", "tone match"]
        table(
            f"{found.model.name}, {condition}: items of {found.set_name}, judge {found.judge}", columns, rows
        )
    for against in dict.fromkeys(c.against for c in found.changes):
        part = [c for c in found.changes if c.against == against]
        rows = [_change(c) for c in part]
        columns = ["family", "passed", "p", "q", "n", "tone"]
        table(f"change from {against} to {part[0].condition}", columns, rows)
    for t in found.tells:
        told = with_interval(t.auroc, t.low, t.high)
        print(f"{t.condition}: a passed reply has the better tone with probability {told} ({t.pairs} pairs)")
    print(
        "95 % cluster bootstrap over characters; chance / ceiling: the world's own source without and with the "
        f"scaffold; tone: {found.tone_unit}."
    )


def _row(s: "FamilyScore") -> list[str]:
    tone = number(s.tone) + bracket(s.tone_low, s.tone_high)
    control = "" if isnan(s.chance) else f"{number(s.chance)} / {number(s.ceiling)}"
    n = f"{s.n}, {s.unscored} unscored" if s.unscored else str(s.n)
    return [_words(s.family), with_interval(s.passed, s.low, s.high), control, n, tone]


def _change(c: "FamilyChange") -> list[str]:
    passed = number(c.change) + bracket(c.low, c.high)
    tone = number(c.tone_change) + bracket(c.tone_low, c.tone_high)
    return [_words(c.family), passed, number(c.p, 4), "" if isnan(c.q) else number(c.q, 4), str(c.n), tone]


def _words(family: str) -> str:
    return family.replace("_", " ")
