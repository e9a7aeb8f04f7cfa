"""`lab …`: the only module that knows the command line.

Heavy libraries are imported inside the commands that need them, so that `lab --help` and
reading saved runs stay fast and load no torch.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from lab.records import LabError

if TYPE_CHECKING:
    from lab.pipelines.watch import Watch
    from lab.records import Comparison, Landing

ROOT = Path(__file__).resolve().parents[1]
app = typer.Typer(
    help="Where the same scaffold lands in two language models' latent geometry, with error bars.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
world = typer.Typer(help="Hearth, the synthetic world with known truth.", no_args_is_help=True)
app.add_typer(world, name="world")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder for results and caches.")]
Traits = Annotated[
    str,
    typer.Option(
        help='Trait set: a file, "hearth", "chat", "persona" or "auto"; "persona:warmth,agency" picks.'
    ),
]
Dtype = Annotated[str, typer.Option(help="float32 or bfloat16.")]
Seed = Annotated[int, typer.Option(help="Seed of replies, bootstrap and permutations.")]
Tokens = Annotated[int, typer.Option(help="Longest reply, in tokens.")]
DEFAULT_RUNS = Path("runs")


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr; `update(stage, fraction)`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("starting", total=1.0)
        try:
            yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)
        except KeyboardInterrupt:
            bar.stop()
            print(
                "lab: interrupted; what is finished is kept, the same command goes on there", file=sys.stderr
            )
            raise typer.Exit(130) from None


def _print_json(document: object) -> None:
    def clean(value: Any) -> Any:
        if isinstance(value, float) and isnan(value):
            return None
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items()}
        return [clean(v) for v in value] if isinstance(value, (list, tuple)) else value

    print(json.dumps(clean(document), ensure_ascii=False, indent=1, allow_nan=False))


def _table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@app.command()
def models(as_json: Json = False) -> None:
    """The model organisms that come with the lab."""
    from lab.pipelines.compare import shipped_models

    found = shipped_models()
    if as_json:
        _print_json(found)
        return
    rows = [[str(m[k]) for k in ("name", "parameters", "layers", "d_model", "vocab", "path")] for m in found]
    _table("shipped models", ["name", "parameters", "layers", "width", "vocabulary", "folder"], rows)
    print("Any other Hugging Face causal LM goes by its folder or hub name.")


@app.command()
def extract(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder or a hub name.")],
    traits: Traits = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Directions of every trait in one model, with how well each layer separates the poles."""
    from lab.pipelines.extract import extract as job
    from lab.store import Store

    with _progress(as_json) as update:
        found = job(model, Store(runs), update, traits, dtype=dtype, seed=seed, max_new_tokens=max_new_tokens)
    if as_json:
        _print_json({"run": found.run, "model": found.model, "depth": [asdict(s) for s in found.depth]})
        return
    rows = [
        [s.trait, s.position, str(s.layer), f"{s.auroc:.3f}", f"{s.d_prime:.2f}", f"{s.null_high:.2f}"]
        for s in found.depth
        if s.chosen
    ]
    columns = ["trait", "position", "layer", "AUROC", "d′", "null 97.5 %"]
    _table(f"{found.model}: chosen layers, scores on the select questions", columns, rows)
    print(f"run {found.run}; vectors in {runs / found.run}   (lab export {found.run} TRAIT FILE)")


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run of `lab extract`.")],
    trait: Annotated[str, typer.Argument(help="Which trait.")],
    file: Annotated[Path, typer.Argument(help="Where to: .gguf, .pt or .safetensors.")],
    position: Annotated[
        str, typer.Option(help="Pooling: reply_mean, spawn, first_tokens or decision.")
    ] = "reply_mean",
    format: Annotated[
        str | None, typer.Option(help="lab, persona_vectors, assistant_axis or gguf; default by suffix.")
    ] = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """A persona vector in the format of another tool: llama.cpp, persona-vectors, assistant-axis."""
    from lab.pipelines.extract import Format
    from lab.pipelines.extract import export as job
    from lab.records import Position
    from lab.store import Store

    where = _one_of("--position", position, get_args(Position))
    kind = None if format is None else _one_of("--format", format, get_args(Format))
    for lost in job(Store(runs), run, trait, file, where, kind):
        print(f"lab: {lost}", file=sys.stderr)
    print(file)


def _one_of(option: str, value: str, choices: tuple[Any, ...]) -> Any:
    """The value if it is one of the choices."""
    if value not in choices:
        raise LabError(f"{option} must be one of {', '.join(choices)}, got {value!r}")
    return value


@app.command()
def compare(
    models: Annotated[list[str], typer.Option("--models", help="The two models: --models A B or twice.")],
    rest: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    scaffold: Annotated[
        list[Path] | None,
        typer.Option("--scaffold", help="A scaffold file; repeat for more. Default: all shipped."),
    ] = None,
    traits: Traits = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    report: Annotated[bool, typer.Option(help="Write the HTML report and figures.")] = True,
    as_json: Json = False,
) -> None:
    """Where scaffolds put two models on every trait, and where the two part ways."""
    from lab.pipelines.compare import CompareConfig, shipped_scaffolds
    from lab.pipelines.compare import compare as job
    from lab.prompts.scaffolds import read_scaffold
    from lab.store import Store

    names = [*models, *(rest or [])]
    files = [read_scaffold(p) for p in scaffold] if scaffold else shipped_scaffolds()
    config = CompareConfig(
        tuple(names), tuple(files), traits, dtype=dtype, seed=seed, max_new_tokens=max_new_tokens
    )
    store = Store(runs)
    with _progress(as_json) as update:
        found = job(config, store, update)
    where = None
    if report:
        from lab.figures.report import write_report

        where = write_report(found, store.folder(found.run))
    _show_comparison(found, as_json)
    if where and not as_json:
        print(f"report: {where}\nrun:    {found.run}   (lab show {found.run}, lab dashboard)")


@app.command()
def scoreboard(
    models: Annotated[
        list[str] | None, typer.Argument(help="Organisms of Hearth; default: the shipped.")
    ] = None,
    trait: Annotated[list[str] | None, typer.Option(help="Only this trait; repeat for more.")] = None,
    select: Annotated[int, typer.Option(help="Characters that a recipe is chosen on.")] = 48,
    test: Annotated[int, typer.Option(help="Characters that it is reported on.")] = 72,
    seed: Seed = 0,
    max_new_tokens: Tokens = 70,
    runs: Runs = DEFAULT_RUNS,
    every: Annotated[bool, typer.Option("--all", help="Every recipe, not only the one chosen.")] = False,
    as_json: Json = False,
) -> None:
    """How well each recipe for a direction reads the known truth: estimator x pooling x trait."""
    from lab.pipelines.compare import shipped_models
    from lab.pipelines.scoreboard import ScoreConfig
    from lab.pipelines.scoreboard import scoreboard as job
    from lab.store import Store

    names = models or [m["name"] for m in shipped_models()]
    config = ScoreConfig(tuple(names), tuple(trait or ()), select, test, max_new_tokens, seed)
    with _progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        _print_json({"rows": [asdict(row) for row in found.rows]})
        return
    columns = ["trait", "estimator, pooling, layer", "R² with z", "judge's", "share", "leakage", "optimism"]
    for organism in dict.fromkeys(r.organism for r in found.rows):
        rows = [
            [
                r.trait, f"{r.estimator}, {r.pooling}, {r.layer}", f"{r.r2:.2f} [{r.low:.2f}, {r.high:.2f}]",
                f"{r.ceiling:.2f}", f"{r.share_of_ceiling:.2f}", f"{r.leakage:.2f}", f"{r.select_r2 - r.r2:+.2f}",
            ]
            for r in found.rows
            if r.organism == organism and (r.selected or every)
        ]  # fmt: skip
        title = (
            f"{organism}: recipes chosen on {select} characters, R² with their z on {found.rows[0].n} others"
        )
        _table(title, columns, rows)


@app.command()
def axis(
    models: Annotated[list[str], typer.Argument(help="One or two models.")],
    roles: Annotated[
        Path | None,
        typer.Option(help="Folder of role files, default.json in it or beside it; default: the shipped."),
    ] = None,
    questions: Annotated[int, typer.Option(help="Questions of each split.")] = 8,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """The assistant axis: where no scaffold and every role stand, and whether two models agree."""
    from lab.pipelines.axis import AxisConfig, find_axis
    from lab.store import Store

    config = AxisConfig(tuple(models), roles, questions, "reply_mean", dtype, seed, max_new_tokens)
    with _progress(as_json) as update:
        found = find_axis(config, Store(runs), update)
    if as_json:
        document = {k: v for k, v in asdict(found).items() if k != "models"}
        _print_json({**document, "models": [m.name for m in found.models]})
        return
    for side in found.summaries:
        rows = sorted((r for r in found.landings if r.model == side.model), key=lambda r: -r.loading)
        shown = [*rows[:10], *rows[10:][-8:]]
        cells = [[r.role, f"{r.loading:+.2f}{_bracket(r.low, r.high)}"] for r in shown]
        title = (
            f"{side.model}, layer {side.layer}: most and least like the assistant (0 mean role, 1 default)"
        )
        _table(title, ["role", "loading"], cells)
        print(
            f"first component: {side.share:.0%} of the variance between roles, cosine with the axis "
            f"{side.cosine:.2f}; {side.needed} components for 70 %; reliability of the loadings "
            f"{side.reliability:.2f} ({side.n} {side.split} questions)"
        )
    if found.agreement is not None:
        a = found.agreement
        print(
            f"both models: r {a.r:.2f}{_bracket(a.low, a.high)} over {a.n} roles, p {a.p:.4f}, null 97.5 % "
            f"{a.null_high:.2f}, ceiling {a.ceiling:.2f}"
        )
    print(f"run {found.run}; tables and vectors in {runs / found.run}")


def _bracket(low: float, high: float) -> str:
    """The interval in brackets; nothing where there is none."""
    return "" if isnan(low) else f" [{low:+.2f}, {high:+.2f}]"


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
    with _progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        _print_json(_watch_document(found))
        return
    names = [w.trait for w in found.traits]
    rows = []
    for t, reply in enumerate(found.replies):
        cells = [
            f"{w.course.deviation[t]:+.1f}" + (" ALARM" if t in w.course.alarms else "") for w in found.traits
        ]
        rows.append([str(t + 1), *cells, reply.text if len(reply.text) < 60 else reply.text[:57] + "…"])
    title = f"{found.model}: departure of each turn from the turns before it, in ordinary sd"
    _table(title, ["turn", *names, "reply"], rows)
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


@app.command("runs")
def list_runs(runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """Saved runs, newest first."""
    from lab.store import Store

    found = Store(runs).runs()
    if as_json:
        _print_json([asdict(r) for r in found])
        return
    rows = [[r.id, r.created, r.kind, r.title, str(len(r.scaffolds))] for r in found]
    _table(f"runs in {runs}", ["run", "created", "kind", "title", "scaffolds"], rows)


@app.command()
def show(run: str, runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """A saved comparison as a table."""
    from lab.store import Store

    _show_comparison(Store(runs).load_comparison(run), as_json)


@app.command()
def dashboard(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8501, runs: Runs = DEFAULT_RUNS
) -> None:
    """Open the dashboard on this machine (loopback only, no telemetry)."""
    page = ROOT / "dashboards" / "app.py"
    if not page.is_file():
        raise LabError(f"the dashboard is not in {page.parent}; run from a clone of the repository")
    command = [sys.executable, "-m", "streamlit", "run", str(page), f"--server.port={port}"]
    command += [
        "--server.address=127.0.0.1",
        "--browser.gatherUsageStats=false",
        "--server.fileWatcherType=none",
    ]
    raise typer.Exit(subprocess.call([*command, "--", "--runs", str(runs.resolve())], cwd=ROOT))


@world.command("train")
def world_train(
    name: Annotated[str, typer.Argument(help="hearth-a, hearth-a2 (its second seed) or hearth-b.")],
    out: Annotated[
        Path | None, typer.Option(help="Where the organism goes; default data/organisms/NAME.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder for shards and checkpoints.")] = Path("runs/world"),
    workers: Annotated[int, typer.Option(help="Processes that write the corpus.")] = 1,
    start: Annotated[
        Path | None, typer.Option(help="Train on from this organism instead of from scratch.")
    ] = None,
) -> None:
    """Train a model organism; resumes where it was stopped."""
    from lab.pipelines.organism import train_organism

    train_organism(name, out or ROOT / "data" / "organisms" / name, work / name, workers, print, start)


@world.command("measure")
def world_measure(name: Annotated[str, typer.Argument(help="A shipped organism.")]) -> None:
    """Measure an organism against the source and write its model card again."""
    from lab.pipelines.organism import measure_organism

    measure_organism(ROOT / "data" / "organisms" / name, print)


def comparison_document(found: "Comparison") -> dict[str, Any]:
    """What `lab compare --json` prints."""

    def rows(position: str, whole: bool) -> list[dict[str, Any]]:
        return [asdict(r) for r in found.landings if r.position == position and (r.paraphrase == -1) == whole]

    def crossed(position: str) -> list[dict[str, Any]]:
        return [asdict(r) for r in found.interactions if r.position == position]

    return {
        "run": found.run,
        "landing": rows("reply_mean", True),
        "interaction": crossed("reply_mean"),
        "noise_floor": [asdict(r) for r in found.noise_floor],
        "spawn_point": {"landing": rows("spawn", True), "interaction": crossed("spawn")},
        "paraphrases": rows("reply_mean", False),
        "anchors": [asdict(r) for r in found.anchors],
        "models": [asdict(m) for m in found.models],
        "trait_set": found.trait_set,
        "settings": dict(found.settings),
    }


def _show_comparison(found: "Comparison", as_json: bool) -> None:
    if as_json:
        _print_json(comparison_document(found))
        return
    for trait in dict.fromkeys(r.trait for r in found.landings):
        _trait_table(found, trait)
    questions = found.settings["questions"]
    print(
        "L: 0 = the model's own neutral, 1 = half its own pole-to-pole range; [95 % interval over "
        f"{questions['test']} test questions]; D = L of the first model - L of the second; "  # type: ignore[index]
        "q: Benjamini-Hochberg over all cells; * q < .05."
    )


def _cell(row: "Landing | None") -> str:
    if row is None or isnan(row.L):
        return "cannot tell"
    return f"{row.L:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"


def _trait_table(found: "Comparison", trait: str) -> None:
    landed = {
        (r.model, r.scaffold): r
        for r in found.landings
        if r.trait == trait and r.position == "reply_mean" and r.paraphrase == -1
    }
    crossed = {r.scaffold: r for r in found.interactions if r.trait == trait and r.position == "reply_mean"}
    rows = []
    for name in dict.fromkeys(s for _, s in landed):
        d = crossed.get(name)
        text = "cannot tell" if d is None or isnan(d.D) else f"{d.D:+.2f} [{d.low:+.2f}, {d.high:+.2f}]"
        q = "" if d is None or isnan(d.q) else f"{d.q:.3f}{' *' if d.q < 0.05 else ''}"
        rows.append([name, *(_cell(landed.get((m, name))) for m in found.labels), text, q])
    floor = {
        f.model: f.difference_95 for f in found.noise_floor if f.trait == trait and f.position == "reply_mean"
    }
    notes = ", ".join(f"{m} {v:.2f}" for m, v in floor.items())
    _table(
        f"{trait}: landing L   (noise floor, two paraphrases differ by less in 95 %: {notes})",
        ["scaffold", *(f"L in {m}" for m in found.labels), "D", "q"],
        rows,
    )


def main() -> None:
    """Entry point: a user's mistake is a message and exit status 2, never a traceback."""
    try:
        app()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(2)
