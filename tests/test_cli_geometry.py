"""`lab geometry`, `lab transfer`, `lab atlas` at the command line; what the jobs find is planted, and tested elsewhere."""

import json
import sys
from dataclasses import asdict, replace
from math import isnan

import pytest
from fake_atlas import fake_atlas
from fake_geometry import fake_geometry
from fake_transfer import fake_transfer

from lab.cli import main
from lab.pipelines import atlas as atlas_job
from lab.pipelines import geometry as geometry_job
from lab.pipelines import transfer as transfer_job
from lab.store import Store

BOOKS = {"geometry": fake_geometry(), "transfer": fake_transfer(), "atlas": fake_atlas()}
JOBS = {"geometry": geometry_job, "transfer": transfer_job, "atlas": atlas_job}
SCAFFOLD = "# Ada\nYou are Ada.\n"


@pytest.fixture
def asked(monkeypatch):
    """Stands in for the three jobs; keeps the settings that each was given."""
    found = {}

    def stand_in(name):
        def job(config, store, progress):
            progress("loading models", 0.1)
            found[name] = (config, store)
            return BOOKS[name]

        return job

    for name, module in JOBS.items():
        monkeypatch.setattr(module, name, stand_in(name))
    return found


def lab(monkeypatch, capsys, *words):
    """Exit status, stdout, stderr of a command."""
    monkeypatch.setattr(sys, "argv", ["lab", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr()
    return end.value.code or 0, shown.out, shown.err


def plain(value):
    """What JSON makes of a record: NaN is null, a tuple a list."""
    if isinstance(value, float) and isnan(value):
        return None
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("name", JOBS)
def test_json_is_the_whole_book_and_nothing_else(name, asked, monkeypatch, capsys, tmp_path):
    status, out, err = lab(monkeypatch, capsys, name, "a", "b", "--json", "--runs", tmp_path)
    assert status == 0 and err == ""
    assert json.loads(out) == plain(asdict(BOOKS[name]))
    assert asked[name][1].root == Store(tmp_path).root


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("geometry", ["found again (chance)", "untrained twins", "cannot tell: 4 scaffolds", "landings' variance"]),
        ("transfer", ["shuffled map", "recovery", "test questions"]),
        ("atlas", ["held-out R²", "within category", "best concepts", "worst concepts"]),
    ],
)  # fmt: skip
def test_tables_name_measure_null_and_run(name, words, asked, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = lab(monkeypatch, capsys, name, "a", "b", "--runs", tmp_path)
    assert status == 0
    for word in [*words, f"run {BOOKS[name].run}"]:
        assert word in out, word
    assert " nan" not in out.replace("\n", " "), "what is unknown is not printed as a number"


def test_options_reach_the_geometry(asked, monkeypatch, capsys, tmp_path):
    card = tmp_path / "ada.md"
    card.write_text(SCAFFOLD, encoding="utf-8")
    words = ["--scaffold", card, "--scaffold", card, "--traits", "persona", "--permutations", "7", "--pairings", "8",
             "--untrained", "0", "--seed", "3", "--max-new-tokens", "9", "--dtype", "bfloat16"]  # fmt: skip
    assert lab(monkeypatch, capsys, "geometry", "a", "b", *words, "--json", "--runs", tmp_path)[0] == 0
    config = asked["geometry"][0]
    assert [s.name for s in config.scaffolds] == ["Ada", "Ada"] and config.models == ("a", "b")
    given = (config.permutations, config.pairings, config.untrained, config.seed, config.max_new_tokens)
    assert given == (7, 8, 0, 3, 9) and (config.trait_set, config.dtype) == ("persona", "bfloat16")


def test_without_scaffolds_all_that_come_with_the_lab_are_read(asked, monkeypatch, capsys, tmp_path):
    from lab.pipelines.compare import shipped_scaffolds

    for name in ("geometry", "transfer"):
        assert lab(monkeypatch, capsys, name, "a", "b", "--json", "--runs", tmp_path)[0] == 0
        config = asked[name][0]
        config = config if name == "geometry" else config.geometry
        assert config.scaffolds == tuple(shipped_scaffolds())


def test_options_reach_transfer_and_atlas(asked, monkeypatch, capsys, tmp_path):
    more = ["--json", "--runs", tmp_path]
    assert lab(monkeypatch, capsys, "transfer", "a", "b", "--controls", "3", "--shuffled", "5", *more)[0] == 0
    config = asked["transfer"][0]
    assert (config.controls, config.shuffled) == (3, 5) and config.geometry.models == ("a", "b")
    words = [
        "--concepts",
        "words",
        "--neighbours",
        "4",
        "--permutations",
        "6",
        "--pairings",
        "2",
        "--seed",
        "1",
    ]
    assert lab(monkeypatch, capsys, "atlas", "a", "b", *words, *more)[0] == 0
    config = asked["atlas"][0]
    assert (config.concepts, config.neighbours, config.permutations, config.pairings) == ("words", 4, 6, 2)
    assert (config.models, config.seed) == (("a", "b"), 1)


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "Missing argument 'b'"),
        (["a", "b", "--seed", "x"], "a valid integer"),
        (["a", "b", "--wings", "2"], "No such option"),
    ],
)
def test_a_command_that_is_not_one_is_refused(name, words, said, asked, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    status, out, err = lab(monkeypatch, capsys, name, *words, "--runs", tmp_path)
    assert status == 2 and said in err and out == "" and not asked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["geometry", "no/such", "hearth-b"], "no/such"),
        (["geometry", "hearth-a", "hearth-b", "--scaffold", "/no/such.md"], "/no/such.md"),
        (["transfer", "hearth-a", "hearth-b", "--scaffold", "/no/such.md"], "/no/such.md"),
        (["atlas", "no/such", "hearth-b"], "no/such"),
        (["atlas", "hearth-a", "hearth-b", "--concepts", "/no/such.json"], "/no/such.json"),
        (["atlas", "hearth-a", "hearth-b", "--neighbours", "0"], "expected between 1 and"),
    ],
)
def test_mistakes_end_with_a_message_before_anything_is_run(
    words, said, monkeypatch, capsys, tmp_path, hub_offline
):
    status, out, err = lab(monkeypatch, capsys, *words, "--runs", tmp_path)
    assert status == 2 and said in err and "Traceback" not in err and out == ""
    assert not Store(tmp_path).runs()


def test_what_abstains_is_told(asked, monkeypatch, capsys, tmp_path):
    """A second place whose measures are all NaN, with the reason once."""
    book = BOOKS["geometry"]
    silent = replace(book, places=(book.places[1],))
    monkeypatch.setattr(JOBS["geometry"], "geometry", lambda *_: silent)
    status, out, _ = lab(monkeypatch, capsys, "geometry", "a", "b", "--runs", tmp_path)
    assert status == 0 and out.count("cannot tell: 4 scaffolds") == 1
