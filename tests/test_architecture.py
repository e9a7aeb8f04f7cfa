"""Imports flow one way, heavy libraries have one importer each, and the UI stays out of the library."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / "lab"
BASE = {"errors", "records", "shapes"}
ALLOWED: dict[str, set[str]] = {
    "shapes": set(),
    "errors": set(),
    "records": {"errors", "shapes"},
    "store": BASE,
    "models": BASE | {"prompts"},
    "prompts": BASE | {"prompts"},
    "estimators": BASE,
    "directions": BASE | {"stats", "estimators"},
    "recipes": BASE | {"stats", "estimators", "directions"},
    "cards": BASE | {"stats", "estimators", "directions", "recipes"},
    "dosage": BASE | {"stats"},
    "landing": BASE | {"stats"},
    "axis": BASE | {"stats", "estimators"},
    "geometry": BASE | {"stats", "geometry"},
    "claims": BASE | {"stats"},
    "monitoring": BASE | {"stats"},
    "continuity": BASE | {"stats"},
    "judging": BASE | {"stats"},
    "vectors": BASE | {"vectors"},
    "stats": BASE,
    "weights": BASE,
    "figures": BASE | {"figures"},
    "activations": BASE | {"models", "prompts", "steering"},
    "reading": BASE | {"activations", "models", "steering"},
    "steering": BASE | {"models"},
    "likelihood": BASE | {"activations", "models", "steering"},
    "world": BASE | {"prompts", "world", "judging"},
    "features": BASE | {"features", "models", "prompts", "stats", "world"},
    "pipelines": {
        *BASE, "store", "models", "prompts", "directions", "estimators", "recipes", "landing", "stats", "figures",
        "activations", "reading", "steering", "likelihood", "world", "judging", "vectors", "axis", "monitoring",
        "cards", "dosage", "geometry", "features", "continuity", "weights", "claims", "pipelines",
    },
    "cli": BASE | {"pipelines", "store", "figures", "prompts"},
}  # fmt: skip
ONE_IMPORTER = {"transformer_lens": "models", "sae_lens": "features", "plotly": "figures", "typer": "cli"}
NOWHERE_IN_LAB = {"streamlit", "experiments", "dashboards"}


def _modules() -> list[Path]:
    return sorted(p for p in LAB.rglob("*.py") if p.name != "__init__.py" or p.stat().st_size)


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


def _stage(path: Path) -> str:
    return path.relative_to(LAB).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_flow_one_way(path):
    stage = _stage(path)
    if stage == "__init__":
        assert not {n for n in _imports(path) if n.startswith("lab")}
        return
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "lab" and len(parts) > 1:
            assert parts[1] in ALLOWED[stage] | {stage}, f"{path}: lab.{stage} may not import {name}"
        assert parts[0] not in NOWHERE_IN_LAB, f"{path} imports {name}"
        owner = ONE_IMPORTER.get(parts[0])
        assert owner is None or stage == owner, f"{path}: only lab.{owner} imports {parts[0]}"


def test_only_loaders_cache():
    for path in (ROOT / "dashboards").rglob("*.py"):
        if path.name != "loaders.py":
            assert "st.cache_" not in path.read_text(encoding="utf-8"), path


def test_no_pickle_and_no_unsafe_html():
    for path in [*LAB.rglob("*.py"), *(ROOT / "dashboards").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert "import pickle" not in text, path
        assert "weights_only=False" not in text, path
        assert "unsafe_allow_html" not in text, path
