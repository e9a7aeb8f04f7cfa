"""What the README shows works: its commands, its Python, its pictures and its tree."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def _commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in _blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with the repository's data in it and runs of its own."""
    path = tmp_path_factory.mktemp("readme")
    (path / "data").symlink_to(ROOT / "data")
    return path


@pytest.mark.parametrize("command", [c for c in _commands() if c.startswith("lab ")])
def test_lab_commands(command, folder):
    words = shlex.split(command)[1:]
    code = "from lab.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {c.split()[1] for c in _commands() if c.startswith("make ")} | set(
        re.findall(r"`make ([a-z-]+)`", README)
    )
    assert {"demo", "dashboard", "test", "test-all"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_python_example(folder):
    (example,) = _blocks("python")
    assert len(example.strip().splitlines()) <= 12
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"warmth: D = [+-]\d\.\d\d \[", done.stdout)


def test_pictures_and_files_exist():
    for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / target).is_file(), target
    tree = max(_blocks(""), key=len)
    for name in re.findall(r"^  ([a-z_]+(?:\.py|/))", tree, flags=re.M):
        assert (ROOT / "lab" / name).exists(), name
