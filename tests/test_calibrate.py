"""`lab calibrate`: rates of every measure of agreement, mistakes that show, and worlds that are what they say."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from lab.geometry import calibration, trials
from lab.geometry.calibration import (
    Outcome,
    Result,
    Row,
    Trial,
    judged,
    landing_world,
    map_world,
    null_world,
    rate,
    searched_world,
    simulate,
    tie_broken,
)
from lab.pipelines.calibrate import CalibrateConfig, calibrate
from lab.records import LabError

WIDE = {**os.environ, "COLUMNS": "200"}
LAB = [sys.executable, "-c", "from lab.cli import main; main()"]
NAMES = [row.measure for trial in trials.trials() for row in trial.rows]


def lab(*arguments):
    return subprocess.run(
        [*LAB, "calibrate", *arguments], capture_output=True, text=True, check=False, env=WIDE
    )


def quiet(stage, share):
    pass


# ------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def document():
    done = lab("--runs", "4", "--wrong", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_json_has_a_row_for_every_measure(document):
    assert (document["runs"], document["seed"]) == (4, 0)
    ours = [row for row in document["rows"] if not row["wrong"]]
    assert [row["measure"] for row in ours] == NAMES
    for word in ("debiased CKA", "RSA", "k = 3", "k = 5", "searched", "largest", "ridge", "procrustes", "relative",
                 "question", "scaffold", "weights", "scaffold x weights", "landing agreement"):  # fmt: skip
        assert any(word in name for name in NAMES), word
    for row in document["rows"]:
        assert {"measure", "rate", "low", "high", "runs", "mean", "chance", "draws", "why", "verdict"} <= set(
            row
        )
        assert 0 <= row["low"] <= row["rate"] <= row["high"] <= 1
        assert (row["low"], row["high"]) == pytest.approx(
            tuple(binomtest(round(4 * row["rate"]), 4).proportion_ci(method="exact"))
        )
        assert row["runs"] == 4
        assert (row["verdict"] == "holds") == (row["low"] <= 0.05)
        assert row["wrong"] == row["measure"].startswith("WRONG: ")


def test_wrong_measures_show(document):
    wrong = {row["measure"]: row["rate"] for row in document["rows"] if row["wrong"]}
    certain = {name: found for name, found in wrong.items() if "searched" not in name}
    assert len(certain) == 3
    assert set(certain.values()) == {1.0}


def test_measures_are_picked_by_parts_of_their_names_and_the_table_says_at_most():
    done = lab("--runs", "3", "--measures", "rsa,share, weights", "--measures", "mutual neighbours, k = 3")
    assert done.returncode == 0, done.stderr
    assert "at most 5 %" in done.stdout
    for name in ("variance share, question", "searched layers, RSA"):
        assert name in done.stdout
    assert "landing agreement" not in done.stdout and "k = 5" not in done.stdout
    one = calibrate(CalibrateConfig(3, measures=("searched layers, debiased CKA",)), quiet)
    assert [found.measure for found in one] == ["searched layers, debiased CKA"]


def test_a_rate_does_not_depend_on_what_else_is_asked_for_and_repeats():
    alone = calibrate(CalibrateConfig(3, seed=5, measures=("procrustes",)), quiet)
    among = calibrate(CalibrateConfig(3, seed=5, measures=("map",)), quiet)
    strip = {"q": 0.0, "verdict": "", "chance": 0.0}
    assert {replace(found, **strip) for found in alone} <= {replace(found, **strip) for found in among}
    other = calibrate(CalibrateConfig(3, seed=6, measures=("procrustes",)), quiet)
    assert other[0].mean != alone[0].mean


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--runs", "0"), "lab: expected at least 1 run"), (("--runs", "many"), "--runs")],
)
def test_mistakes_end_with_a_message_and_status_2(arguments, message):
    done = lab(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed from 0 up"),
        ({"measures": ("cosine",)}, "got 'cosine'; there are: debiased CKA;"),
        ({"measures": ("",)}, "got ''"),
        ({"measures": ("RSA,,CKA",)}, "got ''"),
    ],
)
def test_what_cannot_be_run_is_refused(changes, message):
    with pytest.raises(LabError, match=message):
        calibrate(CalibrateConfig(**changes), quiet)


def test_ctrl_c_ends_it_without_a_traceback():
    terminal, end = pty.openpty()
    running = subprocess.Popen(
        [*LAB, "calibrate", "--runs", "100000", "--measures", "debiased CKA"],
        stdout=subprocess.PIPE,
        stderr=end,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # shells ignore it in background jobs
    )
    os.close(end)
    deadline, shown = time.monotonic() + 120, b""
    while time.monotonic() < deadline:
        if b"null worlds" in shown and running.poll() is None:
            running.send_signal(signal.SIGINT)
            break
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096)
    try:
        out, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    while select.select([terminal], [], [], 0.1)[0]:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # Linux says so when nobody holds the other end
            break
    os.close(terminal)
    assert running.returncode == 130, shown
    assert b"interrupted; nothing was kept" in shown
    assert b"Traceback" not in shown
    assert out == b""


# ------------------------------------------------------------------ rates


@pytest.mark.parametrize("part", ["CKA", "ridge", "share", "landing"])
def test_rates_are_near_5_percent_in_short(part):
    """Whether they are 5 % takes 500 worlds of the command; this finds a null that is plainly wrong."""
    for found in calibrate(CalibrateConfig(40, seed=1, measures=(part,)), quiet):
        assert found.rate * 40 <= binom.ppf(0.9995, 40, 0.05), found
        assert not found.why.endswith("gave no p")


def test_an_unpaid_search_is_called_alike_too_often():
    (found,) = simulate(trials.mistakes()[-1:], 60, 0)
    assert found.verdict == "too many"
    assert found.rate > 0.15


def test_a_rate_counts_unknown_p_apart():
    row = Row("m", 19, "because")
    outcomes = [Outcome(1.0, 0.05, 0.2), Outcome(3.0, 0.2, 0.4), Outcome(9.0, float("nan"), 9.0)]
    found = rate(row, outcomes)
    assert (found.rate, found.runs, found.mean, found.chance) == (0.5, 2, 2.0, pytest.approx(0.3))
    assert found.why == "because; 1 of 3 worlds gave no p"
    assert rate(Row("m", 19), outcomes[:2]).why == ""
    nothing = rate(row, outcomes[2:])
    assert (nothing.verdict, nothing.runs) == ("cannot tell", 0)
    assert np.isnan([nothing.rate, nothing.low, nothing.high, nothing.mean]).all()


def test_one_row_of_many_above_5_percent_by_luck_is_unclear_and_not_too_many():
    def row(name, hits, n=500):
        return rate(Row(name, 99), [Outcome(0.0, 0.01 if i < hits else 0.5) for i in range(n)])

    alone = row("one", 36)
    assert alone.low > 0.05 and alone.verdict == "too many"
    assert alone.q == pytest.approx(binomtest(36, 500, 0.05, alternative="greater").pvalue)
    among = judged([alone, *(row(str(i), 25) for i in range(20)), row("bad", 60)])
    assert [found.verdict for found in among] == ["unclear", *["holds"] * 20, "too many"]


def test_every_trial_sees_world_i_under_the_same_seeds():
    drawn = [[], []]

    def trial(k):
        def run(rng):
            drawn[k].append(rng.random())
            return [Outcome(0.0, rng.random())]

        return Trial((Row(str(k), 19),), run)

    shares = []
    found = simulate([trial(0), trial(1)], 50, 3, shares.append)
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == 50
    assert [f.measure for f in found] == ["0", "1"]
    assert shares == [i / 50 for i in range(51)]


def test_ties_broken_at_random_make_p_uniform():
    rng = np.random.default_rng(2)
    p, exact = [], []
    for _ in range(2000):
        values = rng.integers(3, size=20).astype(float)
        tested = Result(values[0], values[1:])
        p.append(tested.p)
        exact.append(tie_broken(tested, rng))
    assert abs(np.mean(np.array(exact) <= 0.05) - 0.05) < 0.02
    assert np.mean(np.array(p) <= 0.05) < 0.005
    assert tie_broken(Result(1.0, np.zeros(19)), rng) <= 0.05
    assert calibration.LEVEL == 0.05


# ------------------------------------------------------------------ worlds


def test_null_worlds_share_strong_questions_and_nothing_else():
    rng = np.random.default_rng(3)
    asked, placed, strong = [], [], []
    for _ in range(40):
        cells = null_world(rng)
        assert [x.shape for x in cells] == [(9, 6, 24), (9, 6, 40)]
        levels = [x.mean(axis=0) for x in cells]
        strong.append(
            [(u**2).sum() / ((x - u) ** 2).mean(axis=0).sum() for u, x in zip(levels, cells, strict=True)]
        )
        means = [(x - u).mean(axis=1) for x, u in zip(cells, levels, strict=True)]
        for found, sides in ((asked, levels), (placed, means)):
            near = [(s - s.mean(axis=0)) @ (s - s.mean(axis=0)).T for s in sides]
            off = np.triu_indices(len(near[0]), 1)
            found.append(np.corrcoef(near[0][off], near[1][off])[0, 1])
    assert np.median(strong) > 5
    assert np.mean(asked) > 0.8
    assert abs(np.mean(placed)) < 3.3 * np.std(placed) / np.sqrt(40) + 0.05


def test_searched_and_mapped_worlds_keep_their_questions_apart():
    rng = np.random.default_rng(4)
    choosing, telling = searched_world(rng, layers=2)
    assert not set(choosing.questions) & set(telling.questions)
    assert (choosing.split, telling.split, telling.a.shape) == ("select", "test", (2, 9, 6, 9, 6))
    train, test = map_world(rng)
    assert [pair[0].split for pair in (*train, test)] == ["extract", "select", "test"]
    assert len({q for pair in (*train, test) for q in pair[0].questions}) == 7


def test_a_landing_world_has_the_effects_that_it_is_given():
    rng = np.random.default_rng(5)
    table = landing_world(rng, (6, 2, 5), noise=0.0, scaffold=2.0, weights=0.5)
    assert table.shape == (2, 6, 2, 5)
    np.testing.assert_allclose(table[0] - table[1], 1.0)
    assert table[0, :, 0, 0].std() == pytest.approx(2.0)
    with pytest.raises(KeyError):
        landing_world(rng, weight=1.0)
