"""Steering figures, mark by mark, and what a saved run gives back."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from fake_steering import DOSES, TRAITS, fake_steering

from lab.figures import steering, tables, trace
from lab.records import LabError
from lab.store import Store


def traced(figure, role):
    return [t for t in figure.data if t.meta["role"] == role]


def test_dose_response_shows_change_coherence_and_task_with_controls_and_prompt():
    found = fake_steering()
    figure = steering.dose_response(found, "warmth")
    (line,) = traced(figure, "native change")
    assert list(line.x) == list(DOSES)
    np.testing.assert_allclose(line.y, [3 * c for c in DOSES])
    np.testing.assert_allclose(line.error_y.array, [0.2, 0.2, 0, 0.2, 0.2])
    assert [list(t.y) for t in traced(figure, "native coherence")] == [[1 - abs(c) / 4 for c in DOSES]]
    (controls,) = traced(figure, "random change")
    assert len(controls.x) == 6
    levels = sorted({s.y0 for s in figure.layout.shapes})
    assert {-1.5, 1.5} <= set(levels), "what telling does"
    note = " ".join(a.text for a in figure.layout.annotations if a.name == "panel note").replace("<br>", " ")
    for said in ("prior sd", "exact", "n = 24", "Split: test", "±0.30", "+1.70", "layer 2", "p = 0.040"):
        assert said in note
    assert "coherent enough" not in note
    assert figure.layout.yaxis2.range == (-0.04, 1.04)


def test_a_direction_taken_out_stands_at_no_push_in_every_panel():
    found = fake_steering()
    assert not traced(steering.dose_response(found, "warmth"), "ablate change")
    base = next(r for r in found.doses if r.kind == "none" and r.steered == r.read == "warmth")
    row = replace(base, kind="ablate", change=-7.0, low=-8.0, high=-6.5, coherence=0.3, task=0.2)
    figure = steering.dose_response(replace(found, doses=(*found.doses, row)), "warmth")
    values = {"change": -7.0, "coherence": 0.3, "task": 0.2}
    for name, value in values.items():
        (mark,) = traced(figure, f"ablate {name}")
        assert (list(mark.x), list(mark.y)) == ([0.0], [value])
    (mark,) = traced(figure, "ablate change")
    assert (mark.error_y.array[0], mark.error_y.arrayminus[0]) == (0.5, 1.0)
    assert figure.layout.yaxis.range[0] <= -8.0, "its bar lies inside the axis"
    (line,) = traced(figure, "native change")
    assert len(line.x) == len(DOSES), "it is no dose"


def test_a_run_without_a_coherent_dose_says_so_and_names_stay_text():
    figure = steering.dose_response(fake_steering(), TRAITS[1])
    assert "candour &lt;b&gt;" in figure.layout.title.text
    notes = [a.text for a in figure.layout.annotations if a.name == "panel note"]
    assert "coherent enough" in notes[0].replace("<br>", " ")
    with pytest.raises(LabError, match="trait"):
        steering.dose_response(fake_steering(), "absent")


def test_entanglement_is_centred_and_reads_between_the_chosen_doses():
    figure = steering.entanglement(fake_steering())
    (matrix,) = traced(figure, "matrix")
    np.testing.assert_allclose(matrix.z, [[1.5, 0.05], [0.05, 1.5]])
    assert matrix.zmin == -matrix.zmax
    assert matrix.zmid == 0


def test_the_return_shows_its_band_and_says_what_is_left():
    figure = steering.letting_go(fake_steering(), "warmth")
    (course,) = traced(figure, "course +0.25")
    assert course.y[3] == 1.0
    assert course.y[4] == 0.5
    assert figure.layout.shapes[0].x0 == 2.5
    note = " ".join(a.text for a in figure.layout.annotations).replace("<br>", " ")
    assert "half of it is left after 1.0 tokens" in note
    assert "no half-life in the window" in note


def test_a_saved_run_comes_back_as_it_was(tmp_path):
    store, found = Store(tmp_path), fake_steering()
    store.save_steering(found)
    again = store.load_steering(found.run)
    assert again.summaries == found.summaries
    assert again.settings == found.settings
    assert (again.judge, again.unit, again.model) == (found.judge, found.unit, found.model)
    tables.doses(again).equals(tables.doses(found))
    assert len(tables.doses(again, "warmth")) == len(tables.doses(again)) / 2
    with pytest.raises(LabError, match="not of `lab axis`"):
        store.load_persona_map(found.run)


@dataclass
class Said:
    tokens: tuple
    traces: dict


def test_the_trace_leads_to_its_token_and_escapes_it():
    replies = {"pushed": Said(("<script>", " b"), {"warmth": (0.5, -1.0)})}
    figure = trace.token_trace("a", replies, "warmth")
    assert [c[:2] for c in figure.data[0].customdata] == [["pushed", 0], ["pushed", 1]]
    assert "&lt;script&gt;" in figure.data[0].customdata[0][2]
    page = trace.scrolling(replies, "warmth", ("pushed", 1))
    assert "scrollIntoView" in page
    assert 'data-reply="pushed"' in page
    assert "&lt;script&gt;" in page
    assert "scrollIntoView" not in trace.scrolling(replies, "warmth", None)
