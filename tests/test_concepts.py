"""Concept sets: the shipped ones are whole and known to their models; a bad file is told where it is bad."""

import json
from pathlib import Path

import pytest

from lab.pipelines.compare import unseen_words
from lab.prompts.concepts import MIN_FRAMES, MIN_WORDS, read_concepts, shipped_concepts
from lab.records import LabError
from lab.records.atlas import SLOT, Category

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = shipped_concepts(ROOT)


def small():
    return {
        "name": "small",
        "frames": [f"Frame {k} about {SLOT}, I suppose." for k in range(MIN_FRAMES)],
        "categories": {
            "one": {"words": [f"a{k}" for k in range(MIN_WORDS)]},
            "two": {"words": [f"b{k}" for k in range(MIN_WORDS)], "phrase": "the {word} there"},
        },
    }


def written(tmp_path, data):
    path = tmp_path / "set.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_sets_have_many_words_in_many_frames(name):
    found = read_concepts(SHIPPED[name])
    assert len(found.words) >= 120 and all(len(c.words) >= 20 for c in found.categories)
    assert found.frames >= 12
    assert len(found.codes) == len(found.words)
    for word in found.words:
        for context in found.contexts(word):
            assert context.text[context.start : context.end] == word and SLOT not in context.text
            assert context.end < len(context.text), "no word stands at the very end"
    assert name != "words" or found.shared_frames


def test_the_english_set_has_the_concepts_that_the_claims_name():
    found = read_concepts(SHIPPED["words"])
    assert {"joy", "love", "intimacy"} <= set(found.words)
    assert [c.name for c in found.categories] == ["emotion", "relation", "role", "thing", "abstract"]
    nurse = found.contexts("nurse")[0]
    assert nurse.text == "She wrote a whole page about the nurse and then put the pen down."


def test_the_organisms_have_read_every_word_of_their_set_and_its_sentences():
    found = read_concepts(SHIPPED["hearth"])
    sentences = " ".join(c.text for w in found.words for c in found.contexts(w))
    assert unseen_words("hearth-a", sentences) == []
    assert {c.place for c in found.categories} == {"user", "system"} and not found.shared_frames


def test_a_set_is_read_as_it_is_written(tmp_path):
    found = read_concepts(written(tmp_path, small()))
    assert found.words == (*(f"a{k}" for k in range(12)), *(f"b{k}" for k in range(12)))
    assert found.codes == (0,) * 12 + (1,) * 12
    context = found.contexts("b3")[2]
    assert (context.text, context.category, context.place) == (
        "Frame 2 about the b3 there, I suppose.",
        "two",
        "user",
    )
    assert context.text[context.start : context.end] == "b3"
    with pytest.raises(LabError, match="no concept 'c' in small"):
        found.contexts("c")
    assert Category("x", ("w",), ("{word}!",)).context("w", 0).start == 0


def change(data, path, value):
    *first, last = path
    for key in first:
        data = data[key]
    if value is None:
        del data[last]
    else:
        data[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("name",), None, r"set\.json, line 1: name: Field required"),
        (("frames",), None, r"set\.json: categories\.one: no frames"),
        (("frames", 3), "no place", r"frames\[3\]: expected \{word\} exactly once"),
        (("frames", 3), "{word} and {word}", r"frames\[3\]: expected \{word\} exactly once"),
        (("frames", 3), "frame  1 About {word}!", r"frames\[3\]: begins like frames\[1\]"),
        (("frames",), ["{word}"], r"frames: expected at least 8 frames, got 1"),
        (("categories", "two", "frames"), [f"{k} {{word}}" for k in range(9)], "equally many frames.*8 in one, 9 in two"),
        (("categories", "two", "frames"), ["{word}"] * 8, r"categories\.two\.frames\[1\]: begins like"),
        (("categories", "two", "phrase"), "the", r"categories\.two\.phrase: expected \{word\} exactly once"),
        (("categories", "two", "place"), "nowhere", r"categories\.two\.place: Input should be 'user' or 'system'"),
        (("categories", "two", "words", 4), "A2", r"categories\.two\.words\[4\]: 'A2' is also categories\.one\.words\[2\]"),
        (("categories", "two", "words"), ["b"], r"categories\.two\.words: List should have at least 12 items"),
        (("categories", "two", "more"), 1, r"categories\.two\.more: Extra inputs"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(tmp_path, path, value, message):
    data = small()
    change(data, path, value)
    with pytest.raises(LabError, match=message):
        read_concepts(written(tmp_path, data))


def test_what_is_no_file_or_no_json_is_told(tmp_path):
    with pytest.raises(LabError, match="line 1, column 2"):
        read_concepts(written(tmp_path, "{name"))
    with pytest.raises(LabError, match=r"nothing\.json"):
        read_concepts(tmp_path / "nothing.json")
    with pytest.raises(LabError, match="expected the folder of shipped concept sets"):
        shipped_concepts(tmp_path)
