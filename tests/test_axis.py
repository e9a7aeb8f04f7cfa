"""The assistant axis: planted axes, loadings and components come back; agreement keeps its error rate."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_persona_map import fake_persona_map
from typer.testing import CliRunner

from lab.axis import (
    RoleStates,
    across_axis,
    assistant_axis,
    loading_agreement,
    loading_intervals,
    loadings,
    loadings_beside,
    means_beside,
    parts_default,
    persona_space,
    reliability,
    reply_loadings,
    role_means,
    same_coordinates,
)
from lab.estimators import unit
from lab.pipelines import axis as axis_job
from lab.pipelines.axis import AxisConfig, find_axis
from lab.pipelines.base_model import coordinates
from lab.prompts.chat import own_words
from lab.records import LabError, ModelIdentity, Question
from lab.records.personas import RoleLanding, base_words, beside_roles, said_by, states_of
from lab.store import Store
from lab.vectors.files import load


def planted(rng, true=None, roles=40, questions=12, width=24, noise=1.0, topic=3.0):
    """Roles at `true` [role] along axis 0 (the default at 3) and at random places along axis 1."""
    true = rng.normal(size=roles) if true is None else true
    level = topic * rng.normal(size=(questions, width))
    states = level + noise * rng.normal(size=(len(true), questions, width))
    states[:, :, 0] += true[:, None]
    states[:, :, 1] += rng.normal(size=len(true))[:, None] * 0.5
    default = level + noise * rng.normal(size=(questions, width))
    default[:, 0] += 3.0
    return RoleStates(tuple(f"role {i}" for i in range(len(true))), default, states), true


def test_the_axis_points_from_the_roles_to_the_default():
    states, _ = planted(np.random.default_rng(0), noise=0.3)
    assert unit(assistant_axis(states))[0] > 0.95


def test_loadings_put_the_mean_role_at_0_and_the_default_at_1():
    states, true = planted(np.random.default_rng(1), noise=0.2)
    found = loadings(states, assistant_axis(states))
    assert found.mean() == pytest.approx(0.0, abs=1e-9)
    assert np.corrcoef(found, true)[0, 1] > 0.97
    np.testing.assert_allclose(found, (true - true.mean()) / (3.0 - true.mean()), atol=0.15)
    with pytest.raises(LabError, match="expected an axis along which the default lies above"):
        loadings(states, -assistant_axis(states))


def test_intervals_hold_the_true_loadings():
    rng, hits = np.random.default_rng(8), []
    for _ in range(20):
        states, true = planted(rng, questions=16)
        axis = np.eye(24)[0]
        low, high = loading_intervals(states, axis, rng, 300)
        assert (low < loadings(states, axis)).all()
        assert (loadings(states, axis) < high).all()
        right = (true - true.mean()) / (3.0 - true.mean())
        hits.append(((low <= right) & (right <= high)).mean())
    assert 0.9 < np.mean(hits) < 0.99


def test_a_failed_reply_does_not_move_its_role():
    states, _ = planted(np.random.default_rng(2), noise=0.1, topic=30.0)
    holed = states.roles.copy()
    holed[3, :6] = np.nan
    before, after = role_means(states), role_means(RoleStates(states.names, states.default, holed))
    assert np.abs(after[3] - before[3]).max() < 0.3
    plain = np.nanmean(holed[3], axis=0) - before[3]
    assert np.abs(plain).max() > 3.0  # an ordinary mean would have followed the topics


def test_others_stand_on_the_ruler_of_the_roles():
    rng = np.random.default_rng(10)
    states, _ = planted(rng, noise=0.2, questions=16)
    axis = assistant_axis(states)
    others = np.stack([states.roles[4], states.default, states.roles[4] + 3.0 * unit(axis)])
    found = loadings_beside(states, axis, others)
    roles = loadings(states, axis)
    assert found[0] == pytest.approx(roles[4])
    assert found[1] == pytest.approx(1.0)
    along = [(x @ unit(axis)).mean() for x in (states.default, role_means(states))]
    assert found[2] - found[0] == pytest.approx(3.0 / (along[0] - along[1]))
    np.testing.assert_allclose(means_beside(states, states.roles), role_means(states))
    low, high = loading_intervals(states, axis, np.random.default_rng(0), others=others)
    mine = loading_intervals(states, axis, np.random.default_rng(0))
    assert (low[0], high[0]) == pytest.approx((mine[0][4], mine[1][4]))  # one and the same resampling
    holed = others.copy()
    holed[0, :8] = np.nan
    assert loadings_beside(states, axis, holed)[0] == pytest.approx(found[0], abs=0.1)
    assert low[1] == pytest.approx(1.0)  # the default is its own unit in every resampling
    assert high[1] == pytest.approx(1.0)


def test_single_replies_average_to_where_their_role_stands():
    states, true = planted(np.random.default_rng(12), noise=0.5, topic=30.0)
    axis = assistant_axis(states)
    every = reply_loadings(states, axis, np.concatenate([states.roles, states.default[None]]))
    np.testing.assert_allclose(every.mean(axis=1), [*loadings(states, axis), 1.0])
    far = (true - true.mean()) / (3.0 - true.mean())
    assert np.abs(every[:-1] - far[:, None]).max() < 1.5  # a topic of 30 would stand 10 away
    holed = states.roles.copy()
    holed[3, :6] = np.nan
    some = reply_loadings(states, axis, holed)
    assert np.isnan(some[3]).tolist() == [True] * 6 + [False] * 6
    np.testing.assert_allclose(some[3, 6:], every[3, 6:])
    with pytest.raises(LabError, match="the default lies above"):
        reply_loadings(states, -axis, states.roles)


def test_a_ruler_without_a_default_that_stands_out_is_told():
    rng = np.random.default_rng(11)
    axis, hits = np.eye(24)[0], 0
    assert parts_default(planted(rng)[0], axis, rng)
    assert not parts_default(planted(rng, questions=4)[0], axis, rng)
    for _ in range(200):
        states, _ = planted(rng, true=np.zeros(10), questions=8)
        hits += parts_default(RoleStates(states.names, states.roles[0], states.roles), axis, rng, 200)
    assert hits <= 12  # one-sided 2.5 %: 97.5 % binomial limit of 200 is 10; 12 is 99.7 %


def test_shared_coordinates_are_told_from_equal_behaviour():
    rng = np.random.default_rng(12)
    one = rng.normal(size=(24, 200)) * rng.lognormal(size=200)
    turn = np.linalg.qr(rng.normal(size=(200, 200)))[0]
    assert same_coordinates(one, one) == pytest.approx(1.0)
    assert same_coordinates(one, 3.0 * one + rng.normal(size=200)) == pytest.approx(
        1.0
    )  # scale and place aside
    assert same_coordinates(one, -one) == pytest.approx(-1.0)
    near = one + 0.5 * one.std(axis=0) * rng.normal(size=one.shape)
    assert 0.8 < same_coordinates(one, near) < 0.95
    assert abs(same_coordinates(one, one @ turn)) < 0.1  # alike in every distance, and yet not the same
    huge = rng.normal(size=(24, 200))
    a, b = one.copy(), huge.copy()
    a[:, 7] = b[:, 7] = 1e4 * rng.normal(size=24)
    assert abs(same_coordinates(a, b)) < 0.1  # one massive dimension decides nothing
    holed = one.copy()
    holed[:20] = np.nan
    assert np.isnan(same_coordinates(one, holed))
    holed[:, 3], holed[:20] = 1.0, one[:20]
    assert same_coordinates(holed, holed) == pytest.approx(1.0)


def test_what_a_model_says_ends_where_it_speaks_for_the_user():
    plain, chat = (type("Tokenizer", (), {"chat_template": t})() for t in (None, "{{ messages }}"))
    said = "I am well.\nSo is the dog.\n\nUser: And the cat?\nAssistant: Too."
    assert own_words(plain, said) == "I am well.\nSo is the dog."
    assert own_words(plain, "I said\nAssistant: no") == "I said"
    assert own_words(plain, "Every User: of it") == "Every User: of it"
    assert own_words(chat, said) == said


def test_persona_space_finds_the_planted_components_and_orients_them():
    rng = np.random.default_rng(3)
    states, true = planted(rng, true=2.0 * rng.normal(size=80), noise=0.2)
    space = persona_space(states, assistant_axis(states))
    assert abs(space.components[0, 0]) > 0.95
    assert space.cosine[0] == pytest.approx(float(space.components[0] @ unit(assistant_axis(states))))
    assert (space.cosine >= 0).all()
    assert space.share.sum() == pytest.approx(1.0)
    assert space.needed(0.7) == 1 < space.needed(0.999)
    assert np.corrcoef(space.coordinates[:, 0], true)[0, 1] > 0.98
    np.testing.assert_allclose(space.components @ space.components.T, np.eye(len(space.share)), atol=1e-8)


def test_the_component_across_the_axis_is_orthogonal_to_it_and_finds_the_second_plant():
    rng = np.random.default_rng(9)
    states, _ = planted(rng, noise=0.1)
    axis = assistant_axis(states)
    component, share = across_axis(states, axis)
    assert component @ axis == pytest.approx(0.0, abs=1e-9)
    assert abs(component[1]) > 0.95
    assert 0.05 < share < 0.4
    at = (role_means(states) - role_means(states).mean(axis=0)) @ component
    assert at[np.argmax(np.abs(at))] > 0


def test_reliability_is_1_without_noise_and_near_0_without_roles():
    rng = np.random.default_rng(4)
    exact, _ = planted(rng, noise=0.01)
    assert reliability(exact, assistant_axis(exact), rng) > 0.99
    noise = RoleStates(exact.names, exact.default, 3 * rng.normal(size=exact.roles.shape))
    assert reliability(noise, assistant_axis(exact), rng) < 0.4
    few, _ = planted(rng, questions=3)
    assert np.isnan(reliability(few, assistant_axis(few), rng))


def with_axis(states):
    """States on the second half of the questions with the axis that the first half makes."""
    half = len(states.default) // 2
    questions = np.arange(len(states.default))
    return states.of(questions[half:]), assistant_axis(states.of(questions[:half]))


def test_two_models_of_different_width_with_the_same_roles_agree_up_to_the_ceiling():
    rng = np.random.default_rng(5)
    true = rng.normal(size=60)
    a, b = (with_axis(planted(rng, true, questions=24, width=w, noise=1.5)[0]) for w in (24, 40))
    found = loading_agreement(a, b, rng, 500)
    assert found.p == pytest.approx(1 / 501)
    assert found.low < found.r < found.high
    assert found.r > found.null_high
    assert found.r == pytest.approx(found.ceiling, abs=0.15)
    other = RoleStates(tuple(reversed(b[0].names)), b[0].default, b[0].roles)
    with pytest.raises(LabError, match="same roles"):
        loading_agreement(a, (other, b[1]), rng, 10)


def test_models_without_anything_in_common_are_called_alike_at_the_stated_rate():
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(200):
        a, b = (with_axis(planted(rng, roles=15, questions=8, width=8)[0]) for _ in range(2))
        hits += loading_agreement(a, b, rng, 99).p <= 0.05
    assert hits <= 19  # 97.5 % binomial limit of 200 at 5 % is 16; 19 is 99.8 %


def test_a_design_that_is_not_balanced_is_refused():
    rng = np.random.default_rng(7)
    with pytest.raises(LabError, match="at least 3 roles"):
        RoleStates(("a", "b"), rng.normal(size=(4, 5)), rng.normal(size=(2, 4, 5)))
    with pytest.raises(LabError, match="same questions"):
        RoleStates(("a", "b", "c"), rng.normal(size=(4, 5)), rng.normal(size=(3, 5, 5)))


PROMPTS = {
    "default": ["You are a very helpful assistant in any matter.", "You lay out steps thoroughly for every request."],
    "friend": ["You are deeply warm and kind with everyone.", "You are very close to the one who writes."],
    "stranger": ["You are deeply indifferent to people's troubles.", "You are utterly distant in talk."],
    "soul": ["You have a very full life of your own.", "You are thoroughly your own individual."],
}  # fmt: skip


@pytest.fixture(scope="module")
def roles(tmp_path_factory):
    """A folder of three roles that the organisms can read."""
    folder = tmp_path_factory.mktemp("few") / "roles"
    folder.mkdir()
    for name, texts in PROMPTS.items():
        (folder / f"{name}.json").write_text(json.dumps({"instruction": [{"pos": t} for t in texts]}))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Runs that share their replies."""
    return Store(tmp_path_factory.mktemp("runs"))


def silent(stage, share):
    """No progress."""


def test_the_axis_of_the_shipped_organisms(roles, store):
    config = AxisConfig(("hearth-a", "hearth-b"), roles, per_split=5, max_new_tokens=12)
    found = find_axis(config, store, silent)
    assert found.models[0].d_model != found.models[1].d_model
    for side in found.summaries:
        mine = {r.role: r for r in found.landings if r.model == side.model}
        assert list(mine) == ["friend", "soul", "stranger", "default", "no scaffold"]
        roles = [mine[name] for name in ("friend", "soul", "stranger")]
        assert sum(r.loading for r in roles) == pytest.approx(0.0, abs=1e-9)
        assert all(r.low <= r.loading <= r.high < 1.5 for r in roles)
        assert mine["default"].loading == pytest.approx(1.0)
        nobody = mine["no scaffold"]
        assert nobody.loading > max(r.loading for r in roles)  # they are their assistant
        assert nobody.low < nobody.loading < nobody.high
        assert np.isnan(mine["default"].low)
        assert np.std([r.across for r in roles]) == pytest.approx(1.0)
    assert found.agreement is not None
    assert found.agreement.n == 3
    assert np.isnan(found.agreement.low)  # three roles are too few for an interval
    for row in found.landings:
        mine = [r for r in found.replies if (r.model, r.role) == (row.model, row.role)]
        assert len({r.question for r in mine}) == 5
        assert np.mean([r.loading for r in mine]) == pytest.approx(row.loading, abs=1e-6)
        told = set(PROMPTS.get(row.role, [""]))
        assert {r.system for r in mine} == told
        assert any(r.text for r in mine)
    again = store.load_persona_map(found.run)
    assert again.replies == found.replies
    assert again.landings[0] == found.landings[0]
    assert again.summaries == found.summaries
    assert again.agreement.r == found.agreement.r
    vector = load(store.folder(found.run) / "assistant_axis.0.safetensors")
    assert vector.layer == found.summaries[0].layer
    assert vector.fingerprint == found.models[0].fingerprint
    with pytest.raises(LabError, match="one or two models"):
        find_axis(AxisConfig(("hearth-a",) * 3), store, silent)


def by_role(found, model="hearth-a"):
    """The rows of one model."""
    return {r.role: r for r in found.landings if r.model == model}


def placed(base, roles, store):
    """A base model on the axis of hearth-a."""
    config = AxisConfig(("hearth-a",), roles, per_split=6, max_new_tokens=24, base=base)
    return find_axis(config, store, silent)


def test_a_base_that_never_met_a_scaffold_says_less_of_an_assistant(roles, store):
    found = placed("hearth-base", roles, store)
    rows = by_role(found)
    own, base = rows[said_by("hearth-a")], rows[said_by("hearth-base")]
    assert own.low < own.loading < own.high
    assert base.loading < own.loading  # the exact judge finds the same: .19 against .86
    assert base.low < base.loading < base.high
    # Of one architecture, but trained apart: what would be read off its states has no meaning.
    assert found.models[0].d_model == found.models[1].d_model
    assert found.models[0].fingerprint != found.models[1].fingerprint
    assert states_of("hearth-base") not in rows
    assert "not placed" in base_words(found, "hearth-a")[1]
    assert {r for r in rows if r in beside_roles(found)} == {
        "default", "no scaffold", said_by("hearth-a"), said_by("hearth-base"),
    }  # fmt: skip
    said = [r for r in found.replies if r.role == said_by("hearth-base")]
    assert len(said) == 6
    assert all(np.isnan(r.loading) and not r.system for r in said)
    assert [m.name for m in found.models] == ["hearth-a", "hearth-base"]
    assert [s.model for s in found.summaries] == ["hearth-a"]
    assert store.load_persona_map(found.run).models == found.models
    assert not (store.folder(found.run) / "assistant_axis.1.safetensors").exists()
    alone = find_axis(AxisConfig(("hearth-a",), roles, per_split=6, max_new_tokens=24), store, silent)
    assert alone.run != found.run
    for name, row in by_role(alone).items():  # a base beside it moves nothing
        assert rows[name].loading == pytest.approx(row.loading)


def test_a_model_that_is_its_own_base_stands_where_it_stands(roles, store):
    rows = by_role(placed("hearth-a", roles, store))
    nobody, own = rows["no scaffold"], rows[states_of("hearth-a")]
    for side in ("loading", "across", "low", "high"):
        assert getattr(own, side) == pytest.approx(getattr(nobody, side), abs=0.02)
    again = by_role(placed("hearth-base", roles, store))[said_by("hearth-a")]
    assert rows[said_by("hearth-a")].loading == pytest.approx(again.loading, abs=1e-6)


def test_a_model_that_was_trained_on_has_the_same_coordinates(roles, store):
    rows = by_role(placed("hearth-a-next", roles, store))
    assert rows[states_of("hearth-a-next")].loading == pytest.approx(rows["no scaffold"].loading, abs=0.15)


def test_models_of_different_shape_have_no_coordinates_in_common():
    identity = ModelIdentity("a", "", "print", 1, 6, 192, 10, "float32", False)
    for other in (replace(identity, d_model=256), replace(identity, layers=8)):
        one, two = (SimpleNamespace(identity=x) for x in (identity, other))
        assert np.isnan(coordinates(one, two, 2, "reply_mean", (), ()))


def test_who_is_asked_and_what(roles, store, tmp_path, monkeypatch):
    jobs = []

    class Noting(axis_job.Runner):
        def measure(self, groups, *rest):
            jobs.extend(job for group in groups for job in group)
            return super().measure(groups, *rest)

    monkeypatch.setattr(axis_job, "Runner", Noting)
    few = AxisConfig(("hearth-a",), roles, per_split=4, max_new_tokens=12)
    with pytest.raises(LabError, match="at least 5 questions of each split to place a base model, got 4"):
        find_axis(replace(few, base="hearth-base"), store, silent)
    nouns = ("tea", "bees", "rain", "school", "music")
    asked = tuple(
        Question(f"{s}-{x}", f"Do you like {x}?", s) for s in ("extract", "select", "test") for x in nouns
    )
    with pytest.raises(LabError, match="has fewer than 6 questions: extract 5, select 5, test 5"):
        find_axis(replace(few, questions=asked, per_split=6), store, silent)
    named = [{"pos": ""}, {"pos": f"You are {{model_name}}. {PROMPTS['default'][0]}"}]
    for name, texts in PROMPTS.items():
        told = named if name == "default" else [{"pos": t} for t in texts]
        (tmp_path / f"{name}.json").write_text(json.dumps({"instruction": told}))
    find_axis(replace(few, roles=tmp_path, questions=asked), store, silent)
    default = [job for job in jobs if job.condition == "default"]
    assert len(default) == 12
    assert {job.question for job in jobs} < set(asked)
    assert {s: len({j.question.id for j in default if j.question.split == s}) for s in ("extract", "select", "test")} == {
        "extract": 4, "select": 4, "test": 4
    }  # fmt: skip
    assert [j.system for j in default[:2]] == ["", f"You are Hearth-a. {PROMPTS['default'][0]}"]


# ------------------------------------------------------------------ the command line


def lab(*arguments):
    """The command line in this process: exit status and what it printed."""
    from lab.cli import app

    done = CliRunner().invoke(app, list(arguments))
    if isinstance(done.exception, LabError):
        raise done.exception
    return done


@pytest.fixture
def asked(monkeypatch):
    """What `lab axis` and `lab extract` ask for; they are answered by a made-up map, and not at all."""
    from lab.pipelines import extract as extract_job

    seen = []

    def answer(config, store, progress):
        seen.append(config)
        made = fake_persona_map(models=config.models)
        base = [replace(made.models[0], name=config.base)] if config.base else []
        rows = [
            RoleLanding(m, said_by(x), 0.25, -0.1, 0.6, 0.0) for m in config.models for x in (m, config.base)
        ]
        return replace(made, models=(*made.models, *base), landings=(*made.landings, *(rows if base else ())))

    def refuse(config, store, progress):
        seen.append(config)
        raise LabError("enough")

    monkeypatch.setattr(axis_job, "find_axis", answer)
    monkeypatch.setattr(extract_job, "extract", refuse)
    return seen


def test_lab_axis_prints_the_base_and_its_meaning(asked):
    done = lab("axis", "hearth-a", "--base", "hearth-base", "--traits", "persona", "--per-split", "6")
    assert (asked[0].base, asked[0].trait_set, asked[0].per_split) == ("hearth-base", "persona", 6)
    printed = " ".join(done.stdout.split())
    for words in (
        "hearth-base: its replies",
        "+0.25 [-0.10, +0.60]",
        "would have to be pushed",
        "are not placed",
    ):
        assert words in printed
    document = json.loads(lab("axis", "hearth-a", "--base", "hearth-base", "--json").stdout)
    assert (document["models"], document["bases"]) == (["hearth-a"], ["hearth-base"])
    rows = {r["role"]: r["loading"] for r in document["landings"]}
    assert rows[said_by("hearth-base")] == 0.25
    assert rows["default"] == 1.0
    alone = lab("axis", "hearth-a").stdout
    assert "its replies" not in alone
    assert "not placed" not in alone


def test_questions_of_a_file_go_to_axis_and_extract_and_repeats_are_told(asked, tmp_path):
    texts = [f"question {i}?" for i in range(20)]
    file = tmp_path / "list.jsonl"
    file.write_text(
        "".join(json.dumps({"question": t, "id": i}) + "\n" for i, t in enumerate([*texts, texts[4]]))
    )
    done = lab("axis", "hearth-a", "--questions", str(file))
    assert "line 21: left out, as line 5 asks it" in done.stderr
    assert [q.text for q in asked[0].questions] == texts
    with pytest.raises(LabError, match="enough"):
        lab("extract", "hearth-a", "--questions", str(file))
    assert asked[1].questions == asked[0].questions
    with pytest.raises(LabError, match="--per-split 8"):
        lab("axis", "hearth-a", "--questions", "8")
