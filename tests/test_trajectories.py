"""Tokens in the frame of a shared map: a path ends at its landing, and a copy of a path lies on it."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from test_maps import LINEAR, score, world

from lab.geometry.fits import compact, others, ridge
from lab.geometry.maps import cells, shared_frame, shared_map
from lab.geometry.trajectories import running_mean
from lab.models import load
from lab.pipelines.compare import (
    Extraction,
    Landed,
    labels_of,
    resolve_model,
    resolve_trait_set,
    shipped_scaffolds,
)
from lab.pipelines.geometry import Side, grid_of
from lab.pipelines.replies import Runner, scaffold_jobs
from lab.pipelines.trajectories import paths
from lab.records import LabError, TraitSet
from lab.records.maps import MapScore
from lab.store import Store

BOTH = "ab"


def passed(test, method=ridge, layers=(0, 0)):
    """A score of this map that lets it be drawn."""
    a, b = test
    return MapScore(
        method.name, a.model, b.model, *layers, a.position, a.split, len(a.scaffolds), len(a.questions), 9, 0,
        r2=0.5, p=0.01,
    )  # fmt: skip


def tokens_of(state, rng, n=7):
    """Tokens [token, d] whose mean is the state."""
    walk = rng.normal(size=(n, len(state))) * 3
    return walk - walk.mean(axis=0) + state


def walked(frame, model, s, q, tokens):
    """Places of raw token states."""
    scaffold, question = frame.scaffolds[s], frame.questions[q]
    return frame.place(model, scaffold, question, tokens @ frame.along(model, scaffold))


def slow_cells(train, test, method, toward):
    """Places of both models' cells [side, scaffold, question, 2] by predictions in compact coordinates."""
    data = cells(train, test, (0, 0))
    (x, x_test), (y, y_test) = compact(data.x, data.x_test), compact(data.y, data.y_test)
    right = np.linalg.svd(y.mean(axis=1), full_matrices=False)[2][:2]
    axes = right * np.where(right @ y.mean(axis=1)[toward] < 0, -1.0, 1.0)[:, None]
    carried = np.zeros_like(y_test)
    for _, i, predicted, _ in method.predictions(x, y, x_test, np.arange(len(x))[None]):
        carried[i] = predicted + others(y_test, i)
    return {"a": carried @ axes.T, "b": y_test @ axes.T}


@pytest.mark.parametrize("width", [(24, 40), (400, 300), (200, 20)], ids=str)
@pytest.mark.parametrize("method", LINEAR, ids=lambda m: m.name)
def test_the_mean_of_a_reply_s_tokens_is_the_cell_that_the_shared_map_averages(method, width):
    rng = np.random.default_rng(0)
    train, test, _ = world(rng, width=width, paraphrases=1)
    result = passed(test, method)
    frame = shared_frame(train, test, (0, 0), result, method)
    assert frame.along("a", "bard").shape == (width[0], 2) and frame.along("b", "bard").shape == (width[1], 2)
    slow = slow_cells(train, test, method, 0)
    points = {
        (p.model, p.scaffold): (p.x, p.y) for p in shared_map(train, test, (0, 0), result, method).points
    }
    for model, side in zip(BOTH, test, strict=True):
        states = side.at(0)[:, 0]
        np.testing.assert_allclose(
            frame.of(model)(states), slow[model], atol=1e-6 * np.abs(slow[model]).max()
        )
        for s, q in ((0, 0), (3, 4), (7, 2)):
            mean = running_mean(walked(frame, model, s, q, tokens_of(states[s, q], rng)))
            np.testing.assert_allclose(mean[-1], slow[model][s, q], atol=1e-6 * np.abs(slow[model]).max())
        for s, name in enumerate(frame.scaffolds):
            np.testing.assert_allclose(points[model, name], slow[model][s].mean(axis=0), atol=1e-6)


def test_with_several_wordings_the_landings_of_the_replies_average_to_the_cell():
    rng = np.random.default_rng(1)
    train, test, _ = world(rng, paraphrases=3)
    frame = shared_frame(train, test, (0, 0), passed(test))
    slow = slow_cells(train, test, ridge, 0)
    for model, side in zip(BOTH, test, strict=True):
        states = side.at(0)[2, :, 1]
        ends = [walked(frame, model, 2, 1, tokens_of(state, rng)).mean(axis=0) for state in states]
        np.testing.assert_allclose(np.mean(ends, axis=0), slow[model][2, 1], atol=1e-8)
        assert np.ptp(ends, axis=0).max() > 1e-3, "wordings differ"


@pytest.mark.parametrize("method", LINEAR, ids=lambda m: m.name)
def test_a_rotated_copy_of_a_path_lies_on_it_token_by_token(method):
    rng = np.random.default_rng(2)
    train, test, frames = world(rng, scaffolds=12, width=(40, 40), noise=0.0, latent=2, topic=0.5)
    turn = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    shift = rng.normal(size=40)

    def turned(pair):
        return replace(pair[1], model="a", fingerprint="print of a", acts=pair[1].acts @ turn + shift), pair[
            1
        ]

    train, test = [turned(pair) for pair in train], turned(test)
    frame = shared_frame(train, test, (0, 0), passed(test, method), method)
    walk = test[1].at(0)[5, 0, 3] + np.cumsum(rng.normal(size=(30, 2)), axis=0) @ frames[1]
    own, carried = walked(frame, "b", 5, 3, walk), walked(frame, "a", 5, 3, walk @ turn + shift)
    reach = np.linalg.norm(own, axis=1).max()
    assert np.linalg.norm(own - carried, axis=1).max() < 0.02 * reach
    np.testing.assert_allclose(running_mean(own)[-1], running_mean(carried)[-1], atol=0.02 * reach)
    lost = walked(frame, "a", 5, 3, walk + shift)
    assert np.linalg.norm(own - lost, axis=1).max() > 0.2 * reach, "a copy that is not turned is elsewhere"


def test_a_running_mean_equals_a_plain_loop():
    path = np.random.default_rng(3).normal(size=(9, 2))
    np.testing.assert_allclose(running_mean(path), [path[: k + 1].mean(axis=0) for k in range(9)])
    assert running_mean(np.zeros((0, 2))).shape == (0, 2)


def test_no_frame_is_made_where_the_shared_map_abstains():
    train, test, _ = world(np.random.default_rng(4), shared=False)
    result = score((train, test), ridge)
    assert shared_map(train, test, (0, 0), result).why
    with pytest.raises(LabError, match="there is no shared map to draw"):
        shared_frame(train, test, (0, 0), result)
    few = world(np.random.default_rng(5), scaffolds=4)[:2]
    with pytest.raises(LabError, match="4 scaffolds"):
        shared_frame(*few, (0, 0), score(few, ridge))


def test_what_does_not_belong_to_the_frame_is_refused():
    train, test, _ = world(np.random.default_rng(6))
    result = passed(test)
    with pytest.raises(LabError, match="score the map that is drawn"):
        shared_frame(train, test, (0, 0), replace(result, source="c"))
    with pytest.raises(LabError, match="no map was fitted on"):
        shared_frame([*train, test], test, (0, 0), result)
    frame = shared_frame(train, test, (0, 0), result)
    for call, said in (
        (lambda: frame.along("c", "bard"), "whose frame this is, got c"),
        (lambda: frame.along("a", "nobody"), "a scaffold of the frame, got 'nobody'"),
        (
            lambda: frame.place("a", "bard", "extract 0", np.zeros((1, 2))),
            "a question of the frame, got 'extract 0'",
        ),
    ):
        with pytest.raises(LabError, match=said):
            call()


def test_a_question_with_a_failed_reply_is_not_in_the_frame():
    train, test, _ = world(np.random.default_rng(7))
    acts = test[0].acts.copy()
    acts[3, 1, 2] = np.nan
    test = (replace(test[0], acts=acts), test[1])
    frame = shared_frame(train, test, (0, 0), passed(test))
    assert frame.questions == tuple(q for q in test[0].questions if q != "test 2")
    slow = slow_cells(train, test, ridge, 0)
    at = walked(
        frame, "a", 1, 2, test[0].at(0)[1, :, 3]
    )  # the third that is left is the fourth that was asked
    np.testing.assert_allclose(at.mean(axis=0), slow["a"][1, 2], atol=1e-8)


# ------------------------------------------------------------------ reading two organisms


@dataclass(frozen=True)
class Draw:
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 8


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Two organisms with replies to a few questions under a few scaffolds, and the frames both ways."""
    models = [load(resolve_model(name), "float32") for name in ("hearth-a", "hearth-b")]
    traits = resolve_trait_set("hearth:warmth", models)
    few = [q for split, n in (("extract", 2), ("select", 1), ("test", 2)) for q in traits.of(split)[:n]]
    traits = TraitSet(traits.name, traits.traits, tuple(few))
    scaffolds = [replace(s, paraphrases=s.paraphrases[:1]) for s in shipped_scaffolds()[:5]]
    store = Store(tmp_path_factory.mktemp("runs"))
    sides = []
    for k, (label, model) in enumerate(zip(labels_of(models), models, strict=True)):
        runner = Runner(model, Draw(), store, k, lambda n: None)
        groups = {s: [scaffold_jobs(traits, x, s) for x in scaffolds] for s in ("extract", "select", "test")}
        found = {s: runner.measure(each) for s, each in groups.items()}
        asked, measured = [groups["test"][0], *groups["test"]], [found["test"][0], *found["test"]]
        landed = Landed(Extraction({}, {}, {}, ()), tuple(map(tuple, asked)), tuple(measured), ())
        sides.append(Side(label, model.identity, landed, {s: found[s] for s in ("extract", "select")}))
    frames = []
    pair = {
        s: [grid_of(x, scaffolds, traits, "reply_mean", s) for x in sides]
        for s in ("extract", "select", "test")
    }
    for way, layers in ((1, (3, 2)), (-1, (2, 3))):
        train, test = [tuple(pair[s][::way]) for s in ("extract", "select")], tuple(pair["test"][::way])
        known = passed(test, layers=layers)
        frames.append((shared_frame(train, test, layers, known), shared_map(train, test, layers, known)))
    return SimpleNamespace(
        models=models, sides=sides, frames=[f for f, _ in frames], maps=[m for _, m in frames]
    )


@pytest.fixture(scope="module")
def found(job):
    return paths(job.models, job.sides, job.frames)


def ends_of(found):
    """The last point of every path."""
    return {(p.target, p.model, p.scaffold, p.question): p for p in found}


def test_every_path_ends_at_its_reply_s_landing_and_these_average_to_the_map(job, found):
    ends = ends_of(found)
    assert len(ends) == 2 * 2 * 5 * 2
    for frame, drawn in zip(job.frames, job.maps, strict=True):
        for landing in drawn.points:
            mine = [
                (e.mean_x, e.mean_y)
                for key, e in ends.items()
                if key[:3] == (frame.target.model, landing.model, landing.scaffold)
            ]
            assert len(mine) == 2
            size = max(abs(v) for p in drawn.points for v in (p.x, p.y))
            np.testing.assert_allclose(np.mean(mine, axis=0), (landing.x, landing.y), atol=1e-3 * size)


def test_texts_join_to_the_reply_and_means_are_those_of_the_places(job, found):
    side = job.sides[1]
    group, measured = side.landed.groups[3], side.landed.measured[3]
    for question, reply in zip(group, measured.replies, strict=True):
        for target in ("hearth-a", "hearth-b"):
            mine = [
                p
                for p in found
                if (p.target, p.model, p.scaffold, p.question)
                == (target, side.label, group[0].condition, question.question.id)
            ]
            assert "".join(p.text for p in mine) == reply.text and [p.token for p in mine] == list(
                range(len(mine))
            )
            at = np.array([(p.x, p.y) for p in mine])
            np.testing.assert_allclose(running_mean(at), [(p.mean_x, p.mean_y) for p in mine])


def test_frames_read_together_or_alone_give_the_same_paths(job, found):
    alone = paths(job.models, job.sides, job.frames[1:])
    together = [p for p in found if p.target == job.frames[1].target.model]
    assert [(p.model, p.scaffold, p.question, p.text) for p in alone] == [
        (p.model, p.scaffold, p.question, p.text) for p in together
    ]
    np.testing.assert_allclose([(p.x, p.y) for p in alone], [(p.x, p.y) for p in together], atol=1e-5)


def test_a_reply_that_falls_into_other_tokens_has_no_places(job):
    side = job.sides[0]
    measured = side.landed.measured[2]
    first = measured.replies[0]
    cut = replace(first, tokens=(first.tokens[0] + first.tokens[1], *first.tokens[2:]))
    changed = replace(measured, replies=(cut, *measured.replies[1:]))
    landed = replace(side.landed, measured=(*side.landed.measured[:2], changed, *side.landed.measured[3:]))
    rows = paths(job.models, [replace(side, landed=landed), job.sides[1]], job.frames[:1])
    jobs = side.landed.groups[2]
    lost = {(p.model, p.scaffold, p.question) for p in rows if np.isnan([p.x, p.y, p.mean_x, p.mean_y]).all()}
    assert lost == {(side.label, jobs[0].condition, jobs[0].question.id)}
    assert "".join(p.text for p in rows if (p.model, p.scaffold, p.question) in lost) == first.text


def test_frames_of_other_models_positions_or_replies_are_refused(job):
    models, sides, frame = job.models, job.sides, job.frames[0]
    wrong = replace(frame, source=replace(frame.source, fingerprint="another"))
    for frames, said in (
        ([wrong], "read the models that the map was fitted on"),
        ([replace(frame, position="spawn")], "over the reply"),
        ([frame, frame], "two of one target"),
        ([replace(frame, scaffolds=("nobody", *frame.scaffolds[1:]))], "under nobody, there are none"),
        ([replace(frame, questions=("test-99", *frame.questions[1:]))], "none to .'test-99'."),
    ):
        with pytest.raises(LabError, match=said):
            paths(models, sides, frames)
    measured = tuple(replace(m, prompts=("hello",) * len(m.prompts)) for m in sides[0].landed.measured)
    other = replace(sides[0], landed=replace(sides[0].landed, measured=measured))
    with pytest.raises(LabError, match="chat template changed"):
        paths(models, [other, sides[1]], [frame])
