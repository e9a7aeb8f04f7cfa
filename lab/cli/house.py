"""`lab models`, `lab runs`, `lab dashboard`: what there is."""

import subprocess
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from lab.cli.common import DEFAULT_RUNS, ROOT, Json, Runs, app, print_json, table
from lab.errors import LabError


@app.command()
def models(as_json: Json = False) -> None:
    """The model organisms that come with the lab."""
    from lab.pipelines.compare import shipped_models

    found = shipped_models()
    if as_json:
        print_json(found)
        return
    rows = [[str(m[k]) for k in ("name", "parameters", "layers", "d_model", "vocab", "path")] for m in found]
    table("shipped models", ["name", "parameters", "layers", "width", "vocabulary", "folder"], rows)
    print("Any other Hugging Face causal LM goes by its folder or hub name.")


@app.command("runs")
def list_runs(runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """Saved runs, newest first."""
    from lab.store import Store

    found = Store(runs).runs()
    if as_json:
        print_json([asdict(r) for r in found])
        return
    rows = [[r.id, r.created, r.kind, r.title, str(len(r.scaffolds))] for r in found]
    table(f"runs in {runs}", ["run", "created", "kind", "title", "scaffolds"], rows)


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
