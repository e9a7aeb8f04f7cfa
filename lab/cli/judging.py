"""`lab judge`: the replies of an extraction, scored by several judges that are held against each other."""

from dataclasses import asdict
from math import isnan
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
    with_interval,
)

if TYPE_CHECKING:
    from lab.pipelines.judging import Judged, Verdict


@app.command()
def judge(
    model: Annotated[str, typer.Argument(help="Whose replies: a shipped name, a folder or a hub name.")],
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            help="exact (Hearth), contrast (the model itself), model:NAME or api:URL@MODEL; repeat for more, "
            "the first is what the others are held against. Default: contrast.",
        ),
    ] = None,
    trait: Annotated[list[str] | None, typer.Option(help="Only this trait; repeat for more.")] = None,
    traits: Traits = "auto",
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the key of an api judge; none is sent without.")
    ] = "",
    retest: Annotated[bool, typer.Option(help="Ask an api judge everything twice.")] = False,
    coherence: Annotated[bool, typer.Option(help="Judge coherence too.")] = False,
    screen: Annotated[
        bool, typer.Option(help="Filter as the literature does, and say what it removes.")
    ] = False,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Do judges tell the poles of each trait apart in a model's replies, and do they agree?"""
    from lab.pipelines.judging import JudgeConfig, judge_extraction
    from lab.store import Store

    chosen = f"{traits}:{','.join(trait)}" if trait else traits
    config = JudgeConfig(
        model, tuple(by or ["contrast"]), chosen, key_variable, retest, coherence, screen, dtype, seed,
        max_new_tokens,
    )  # fmt: skip
    with progress(as_json) as update:
        found = judge_extraction(config, Store(runs), update)
    if as_json:
        print_json(_document(found))
        return
    for name in dict.fromkeys(v.trait for v in found.verdicts):
        _trait_table(found, name)
    print(
        "AUROC of positive over negative prompts (chance 0.5); ρ: Spearman with the first judge over all "
        "replies, and its mean inside the two poles; 95 % cluster bootstrap over questions of all splits."
    )
    print(f"run {found.run}; every score in {runs / found.run}")


def _document(found: "Judged") -> dict[str, Any]:
    """What `lab judge --json` prints."""
    from lab.pipelines.judging import document

    rows = []
    for v in found.verdicts:
        removed = [asdict(r) for r in v.screened.removed] if v.screened else None
        rows.append({**document(v), "removed": removed})
    return {"run": found.run, "model": found.model.name, "rows": rows}


def _trait_table(found: "Judged", trait: str) -> None:
    rows, notes = [], []
    for v in (v for v in found.verdicts if v.trait == trait):
        s, a, w = v.separation, v.agreement, v.within
        unscored = ", ".join(f"{n} {status}" for status, n in s.counts.items() if status != "scored")
        rows.append(
            [
                s.judge, with_interval(s.auroc, s.low, s.high), f"{s.positive:.2f} / {s.negative:.2f}", s.unit,
                f"{with_interval(a.spearman, a.spearman_low, a.spearman_high)}, n {a.n}" if a else "",
                with_interval(w.spearman, w.low, w.high) if w else "", unscored or "none",
            ]
        )  # fmt: skip
        notes += [f"  {s.judge}: {note}" for note in _notes(v)]
    columns = ["judge", "AUROC", "mean + / −", "unit", "ρ with first", "inside poles", "unscored"]
    questions = max(v.separation.questions for v in found.verdicts if v.trait == trait)
    table(f"{found.model.name}, {trait}: replies to {questions} questions at both poles", columns, rows)
    for note in notes:
        print(note)


def _notes(v: "Verdict") -> list[str]:
    """What else is known of a judge: its second take, its scale, coherence, the filter."""
    notes, c = [], v.calibration
    if v.retest:
        again = with_interval(v.retest.spearman, v.retest.spearman_low, v.retest.spearman_high)
        notes.append(f"asked twice, ρ {again}, n {v.retest.n}")
    if c:
        error = with_interval(c.error, c.low, c.high)
        notes.append(
            f"in {c.unit} of {c.target}: mean error {error} on {c.n_test} held-out replies (their median: "
            f"{c.null_error:.2f})"
        )
    if not isnan(v.coherence):
        notes.append(f"mean coherence {v.coherence:.0f}")
    if v.screened:
        kept = int(v.screened.kept.sum())
        notes.append(
            f"the literature's filter keeps {kept} of {len(v.screened.kept)}; the reasons are in the run"
        )
    return notes
