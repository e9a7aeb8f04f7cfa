"""The persona map and the agreement of two models, mark by mark."""

from dataclasses import replace

import numpy as np
import pytest
from fake_persona_map import MODELS, ROLES, fake_persona_map

from lab.figures import personas, tables
from lab.records import LabError
from lab.records.personas import (
    PersonaMap,
    RoleLanding,
    RoleReply,
    base_words,
    beside_roles,
    said_by,
    states_of,
)
from lab.store import Store

BASE = "base <b>"


def with_base(found: PersonaMap, said: bool = True, states: tuple[str, ...] = MODELS[:1]) -> PersonaMap:
    """The map with a base model on it; its states on the maps of some models only."""
    rows = list(found.landings)
    for summary in found.summaries:
        label = summary.model
        if said:
            rows.append(RoleLanding(label, said_by(label), 0.8, 0.6, 1.0, 0.3))
            rows.append(RoleLanding(label, said_by(BASE), 0.1, -0.3, 0.5, -0.2))
        if label in states:
            rows.append(RoleLanding(label, states_of(BASE), 0.7, 0.65, 0.75, 0.2))
    base = replace(found.models[0], name=BASE, fingerprint="another")
    return replace(found, models=(*found.models, base), landings=tuple(rows))


def trace(figure, role):
    """The trace of a kind."""
    return next(t for t in figure.data if t.meta["role"] == role)


def test_every_role_is_where_the_record_says():
    found = fake_persona_map()
    figure = personas.persona_map(found, MODELS[0])
    marks = trace(figure, "roles")
    rows = {r.role: r for r in found.landings if r.model == MODELS[0]}
    assert [c[0] for c in marks.customdata] == list(ROLES)
    for x, y, up, (name, _) in zip(marks.x, marks.y, marks.error_x.array, marks.customdata, strict=True):
        assert (x, y) == (rows[name].loading, rows[name].across)
        assert up == pytest.approx(0.1)
    fixed = trace(figure, "default and no scaffold")
    assert list(fixed.x) == [1.0, 0.9]
    low, high = figure.layout.xaxis.range
    assert low < min(marks.x) and high > 1.0
    assert marks.unselected.textfont.color == marks.textfont.color  # a click leaves the names readable
    assert marks.unselected.marker.opacity < 0.5  # and fades the other marks
    note = next(a.text for a in figure.layout.annotations if a.name == "panel note")
    for said in ("n = 8 questions", "20 roles", "Split: test", "40%", "0.80", "arbitrary"):
        assert said in note.replace("<br>", " ")
    named = {name for t, (name, _) in zip(marks.text, marks.customdata, strict=True) if t}
    order = [r.role for r in sorted((rows[role] for role in ROLES), key=lambda r: r.loading)]
    ends = {*order[: personas.NAMED], *order[-personas.NAMED :]}
    assert named <= ends
    assert len(named) >= len(ends) - 3  # a name without a free place is left to the hover text
    assert [t.meta["role"] for t in figure.data] == ["roles", "default and no scaffold"]


def test_a_base_model_stands_beside_the_roles_and_is_explained():
    found = with_base(fake_persona_map())
    figure = personas.persona_map(found, MODELS[0])
    said = trace(figure, "what is said without scaffold")
    assert {(name, x) for x, (name, _) in zip(said.x, said.customdata, strict=True)} == {
        (said_by(MODELS[0]), 0.8),
        (said_by(BASE), 0.1),
    }
    assert list(said.error_x.array) == pytest.approx([0.2, 0.4])
    assert {t for t in said.text if t} <= {MODELS[0], "base &lt;b&gt;"}  # the legend says what of it
    states = trace(figure, "a base model's states")
    assert (list(states.x), list(states.y)) == ([0.7], [0.2])
    assert len(trace(figure, "roles").x) == len(ROLES)
    note = next(a.text for a in figure.layout.annotations if a.name == "panel note").replace("<br>", " ")
    assert "Its states are base &lt;b&gt;'s own" in note
    assert "<b>" not in note
    assert "20 roles" in note


def test_what_cannot_be_placed_of_a_base_is_said():
    found = with_base(fake_persona_map(), said=False, states=())
    figure = personas.persona_map(found, MODELS[1])
    assert [t.meta["role"] for t in figure.data] == ["roles", "default and no scaffold"]
    said, own = base_words(found, MODELS[1])
    assert "cannot be placed" in said
    assert "are not placed" in own
    assert base_words(fake_persona_map(), MODELS[0]) == ()
    assert beside_roles(fake_persona_map()) == ("default", "no scaffold")


def test_two_models_and_a_base_are_compared_where_both_have_a_place():
    found = with_base(fake_persona_map())
    marks = trace(personas.role_agreement(found), "roles")
    names = [name for (name,) in marks.customdata]
    assert set(names) == {*ROLES, "default", "no scaffold", said_by(BASE)}
    symbols = dict(zip(names, marks.marker.symbol, strict=True))
    assert (symbols["default"], symbols[said_by(BASE)], symbols[ROLES[0]]) == ("star", "x", "circle")
    table = tables.roles(found)
    assert said_by(BASE) in set(table[table.model == MODELS[0]].role)


def test_names_cannot_bring_markup():
    figure = personas.persona_map(fake_persona_map(), MODELS[1])
    assert "b &lt;i&gt;" in figure.layout.title.text
    with pytest.raises(LabError, match="No model"):
        personas.persona_map(fake_persona_map(), "c")


def test_agreement_pairs_roles_and_states_null_and_ceiling():
    found = fake_persona_map()
    figure = personas.role_agreement(found)
    marks = trace(figure, "roles")
    a, b = ({r.role: r.loading for r in personas.roles_of(found, m)} for m in MODELS)
    for x, y, (name,) in zip(marks.x, marks.y, marks.customdata, strict=True):
        assert (x, y) == (a[name], b[name])
    assert len(marks.x) == len(ROLES) + 2
    note = next(t.text for t in figure.layout.annotations if t.name == "panel note").replace("<br>", " ")
    for said in ("r = 0.70 [0.40, 0.90]", "20 roles", "p = .001", "null 97.5 %: 0.40", "reach 0.90"):
        assert said in note
    assert figure.layout.xaxis.range == figure.layout.yaxis.range


def test_the_table_has_every_role_of_every_model():
    table = tables.roles(fake_persona_map())
    assert len(table) == 2 * (len(ROLES) + 2)
    assert (np.diff(table[table.model == MODELS[0]].loading) <= 0).all()


def test_the_replies_of_a_mark_are_those_of_who_stands_there():
    model, nan = MODELS[0], float("nan")
    found = with_base(fake_persona_map())
    said = tuple(RoleReply(m, said_by(BASE), "", "Q?", f"base read by {m}", nan) for m in MODELS)
    found = replace(found, replies=(*found.replies, *said))
    mine = personas.replies_of(found, model, ROLES[3])
    assert [r.text for r in mine] == [f"{ROLES[3]} of {model} to {q}" for q in range(2)]
    assert personas.replies_of(found, model, said_by(model)) == personas.replies_of(
        found, model, "no scaffold"
    )
    for row in (said_by(BASE), states_of(BASE)):
        assert [r.text for r in personas.replies_of(found, model, row)] == [f"base read by {model}"]
    table = tables.role_replies([*said[:1], *mine])
    assert table.text.tolist() == [mine[1].text, mine[0].text, said[0].text]  # the assistant's end first
    assert personas.replies_of(replace(found, replies=()), model, ROLES[3]) == ()


def test_a_persona_map_survives_the_round_trip(tmp_path):
    for models in (MODELS, MODELS[:1]):
        found = fake_persona_map(f"axis-{len(models)}", models)
        store = Store(tmp_path)
        store.save_persona_map(found, lambda folder: None)
        again = store.load_persona_map(found.run)
        assert again.models == found.models
        assert again.summaries == found.summaries
        assert again.agreement == found.agreement
        assert again.replies == found.replies
        assert [r.role for r in again.landings] == [r.role for r in found.landings]
        np.testing.assert_allclose([r.loading for r in again.landings], [r.loading for r in found.landings])
    with pytest.raises(LabError, match="not a comparison"):
        store.load_comparison("axis-2")
    (tmp_path / "axis-2" / "landings.parquet").write_bytes(b"torn")
    with pytest.raises(LabError, match="is damaged"):
        store.load_persona_map("axis-2")
