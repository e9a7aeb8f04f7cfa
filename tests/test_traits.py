"""Trait sets: the two formats, their errors, and the shipped sets."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_scaffolds import keys, unknown_words

from lab.pipelines.compare import resolve_trait_set
from lab.prompts.files import line_of
from lab.prompts.traits import SPLITS, read_trait_set, shipped_trait_sets
from lab.records import LabError, Question, Trait
from lab.store import content_key
from lab.world.library import library

ROOT = Path(__file__).parents[1]
MISSION = ("assistant", "warmth", "intimacy")


def ours() -> dict[str, Any]:
    """A small valid file in our format."""
    return {
        "name": "demo",
        "traits": {
            "warmth": {
                "instruction": [{"pos": "warm 1", "neg": "cold 1"}, {"pos": "warm 2", "neg": "cold 2"}]
            }
        },
        "questions": {"extract": ["a?"], "select": ["b?"], "test": ["c?", "d?", "e?", "f?", "g?"]},
    }


def public(n: int = 20) -> dict[str, Any]:
    """A valid file in the format of Persona Vectors."""
    return {
        "instruction": [{"pos": f"be {i}", "neg": f"avoid {i}"} for i in range(5)],
        "questions": [f"question {i}?" for i in range(n)],
        "eval_prompt": "rate {question} {answer}",
    }


def write(folder: Path, data: object, name: str = "set.json") -> Path:
    """`data` as a JSON file."""
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


# ------------------------------------------------------------------ the formats


def test_our_format(tmp_path: Path) -> None:
    found = read_trait_set(write(tmp_path, ours()))
    assert found.name == "demo"
    assert found.traits == (Trait("warmth", ("warm 1", "warm 2"), ("cold 1", "cold 2")),)
    assert found.of("select") == (Question("select-00", "b?", "select"),)
    assert [q.id for q in found.of("test")] == [f"test-0{i}" for i in range(5)]


@pytest.mark.parametrize(("n", "sizes"), [(12, (5, 2, 5)), (20, (8, 4, 8)), (40, (16, 8, 16))])
def test_public_format_is_split_in_order(tmp_path: Path, n: int, sizes: tuple[int, ...]) -> None:
    found = read_trait_set(write(tmp_path, public(n), "sycophantic.json"))
    assert (found.name, [t.name for t in found.traits]) == ("sycophantic", ["sycophantic"])
    assert found.traits[0].negative[4] == "avoid 4"
    assert tuple(len(found.of(s)) for s in SPLITS) == sizes
    assert [q.text for q in found.questions] == public(n)["questions"]
    assert len({q.id for q in found.questions}) == n


def _broken(*path: str | int, value: object = None) -> dict[str, Any]:
    """Our valid file with one place set, or removed when value is None."""
    data = ours()
    place: Any = data
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"name": "x",\n "traits" {}}', r"set\.json, line 2, column 11: not JSON: Expecting ':'"),
        ([], r"expected a JSON object \{\.\.\.\}, got list"),
        ({"vectors": []}, r"expected 'traits' .* or 'instruction' .* got \['vectors'\]"),
        (_broken("name"), r"set\.json, line 1: name: Field required"),
        (_broken("traits", "warmth", "instruction", 1, "pos"), r"warmth\.instruction\[1\]\.pos: Field"),
        (_broken("traits", "warmth", "instruction", 1, "neg", value=" "), r"\[1\]\.neg: .* 1 character"),
        (_broken("traits", "warmth", "instruction", 1), r"traits\.warmth\.instruction: .* at least 2 items"),
        (_broken("traits", value={}), r"set\.json, line 1: traits: .* at least 1 item"),
        (_broken("extra", value=1), r"set\.json, line 1: extra: Extra inputs are not permitted"),
        (_broken("questions", "test", 0), r"questions\.test: List should have at least 5 items"),
        (_broken("questions", "select"), r"questions\.select: Field required"),
        (_broken("questions", "test", 4, value="C? "), r"questions\.test\[4\]: duplicate question: 'C\?'"),
        (
            _broken("questions", "test", 2, value="A?"),
            r"questions\.test\[2\]: questions\.extract and questions\.test overlap: 'A\?' is also questio",
        ),
        (public(11), r"questions: 11 leave 4 for the test split .* give 12 or more"),
        ({**public(), "questions": ["a"] * 12}, r"questions\[1\]: duplicate question: 'a' is also q.*\[0\]"),
        ({**public(), "instruction": public()["instruction"][:1]}, r"instruction: .* at least 2 items"),
    ],
)  # fmt: skip
def test_errors_name_file_place_and_fault(tmp_path: Path, data: object, message: str) -> None:
    with pytest.raises(LabError, match=message) as caught:
        read_trait_set(write(tmp_path, data))
    assert str(caught.value).startswith(str(tmp_path / "set.json"))


def lined(data: object) -> str:
    """JSON with every key and element on a line of its own."""
    return json.dumps(data, indent=1)


@pytest.mark.parametrize(
    ("data", "place", "text"),
    [
        (_broken("traits", "warmth", "instruction", 1, "neg", value=" "), r"instruction\[1\]\.neg", '"neg": " "'),
        (_broken("traits", "warmth", "instruction", 1, "pos"), r"instruction\[1\]\.pos", None),
        (_broken("questions", "test", 4, value="C? "), r"questions\.test\[4\]", '"C? "'),
        (_broken("extra", value=1), "extra", '"extra": 1'),
        ({**public(), "questions": [*"abcdefghijkl", "B"]}, r"questions\[12\]", '"B"'),
        ({**public(), "instruction": [{"pos": "x", "neg": 3}] * 2}, r"instruction\[0\]\.neg", '"neg": 3'),
    ],
)  # fmt: skip
def test_errors_name_the_line(tmp_path: Path, data: dict[str, Any], place: str, text: str | None) -> None:
    whole = lined(data)
    if text is None:  # a missing key: the object that lacks it
        lines = whole.split("\n")
        number = next(i for i, line in enumerate(lines) if '"neg": "cold 2"' in line)
    else:
        number = 1 + next(i for i, line in enumerate(whole.split("\n")) if text in line)
    with pytest.raises(LabError, match=rf"set\.json, line {number}: .*{place}: "):
        read_trait_set(write(tmp_path, whole))


def test_every_place_of_a_json_text_is_found_on_its_line() -> None:
    rng = np.random.default_rng(0)
    marks = ["plain", 'quote " and \\ back', "{[,:]}", "line\u2028sep", "", "née"]

    def value(depth: int) -> Any:
        kind = rng.integers(4) if depth < 4 else 3
        if kind == 0:
            return [value(depth + 1) for _ in range(rng.integers(4))]
        if kind <= 2:
            return {f"{marks[k]} {k}": value(depth + 1) for k in range(rng.integers(1, 5))}
        return [None, True, -1.5e3, *marks][rng.integers(3 + len(marks))]

    def places(data: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
        inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
        return [at, *(p for key, part in inner for p in places(part, (*at, key)))]

    def numbered(data: Any, at: tuple[str | int, ...] = ()) -> Any:
        """The same with every leaf replaced by the name of its place, so that a search finds it."""
        if isinstance(data, dict):
            return {key: numbered(part, (*at, key)) for key, part in data.items()}
        if isinstance(data, list):
            return [numbered(part, (*at, k)) for k, part in enumerate(data)]
        return repr(at)

    checked = 0
    for _ in range(60):
        data = numbered(value(0))
        text = json.dumps(data, indent=2, ensure_ascii=False)
        for place in places(data):
            part: Any = data
            for key in place:
                part = part[key]
            if isinstance(part, str):
                (right,) = (
                    i
                    for i, line in enumerate(text.split("\n"), 1)
                    if json.dumps(part, ensure_ascii=False) in line
                )
                assert line_of(text, place) == right
                assert line_of(text, (*place, "no such key", 3)) == right
                checked += 1
    assert checked > 200


def test_of_equal_keys_the_line_of_the_last_is_told() -> None:
    assert json.loads(text := '{"a": 1,\n"a": 2}')["a"] == 2
    assert line_of(text, ["a"]) == 2


# ------------------------------------------------------------------ a folder of public files


def calm(n: int = 20, word: str = "calm") -> dict[str, Any]:
    """A public file of another trait, with questions of its own."""
    return {**public(n), "questions": [f"{word} {i}?" for i in range(n)]}


def test_a_folder_of_public_files_is_one_set(tmp_path: Path) -> None:
    folder = tmp_path / "some traits"
    folder.mkdir()
    shared = {**calm(), "questions": [*calm()["questions"][:18], "Question 0?", "calm 19?"]}
    write(folder, public(), "evil.json")
    write(folder, shared, "calm.json")
    write(folder, {"calm": "steady", "evil": "not good"}, "trait_list.json")
    found = read_trait_set(folder)
    assert (found.name, [t.name for t in found.traits]) == ("some traits", ["calm", "evil"])
    one = read_trait_set(folder / "evil.json")
    assert found.traits[1] == one.traits[0]
    # "Question 0?" is a test question of calm, so it is no extract question of evil.
    assert [q.text for q in found.of("extract")] == [f"calm {i}?" for i in range(8)] + [
        f"question {i}?" for i in range(1, 8)
    ]
    assert "Question 0?" in [q.text for q in found.of("test")]
    assert len(found.questions) == 39
    assert len({q.id for q in found.questions}) == 39


def test_of_a_folder_only_the_wanted_files_are_read(tmp_path: Path) -> None:
    write(tmp_path, public(), "evil.json")
    write(tmp_path, "{", "broken.json")
    with pytest.raises(LabError, match=r"broken\.json, line 1, column 2: not JSON"):
        read_trait_set(tmp_path)
    alone = read_trait_set(tmp_path, ["evil"])
    one = read_trait_set(tmp_path / "evil.json")
    assert (alone.traits, alone.questions) == (one.traits, one.questions)
    assert resolve_trait_set(f"{tmp_path}:evil", []) == alone
    with pytest.raises(LabError, match=r"expected mean\.json in it, found none; it has broken, evil"):
        read_trait_set(tmp_path, ["mean"])


def test_bad_folders_are_refused_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"expected trait files \(name\.json\), found none"):
        read_trait_set(tmp_path)
    write(tmp_path, public(8), "evil.json")
    with pytest.raises(LabError, match="leave 3 for test, expected at least 5"):
        read_trait_set(tmp_path)
    write(tmp_path, lined({**calm(), "instruction": [{"pos": "a", "neg": "b"}, {"pos": "c"}]}), "calm.json")
    with pytest.raises(LabError, match=r"calm\.json, line 7: instruction\[1\]\.neg: Field required"):
        read_trait_set(tmp_path)


def test_a_trait_in_public_form_and_in_ours_is_the_same_set(tmp_path: Path) -> None:
    given = public()
    splits = {
        "extract": given["questions"][:8],
        "select": given["questions"][8:12],
        "test": given["questions"][12:],
    }
    one = {"instruction": given["instruction"], "eval_prompt": given["eval_prompt"]}
    theirs = read_trait_set(write(tmp_path, given, "evil.json"))
    ours = read_trait_set(write(tmp_path, {"name": "evil", "traits": {"evil": one}, "questions": splits}))
    assert theirs == ours
    assert content_key(asdict(theirs)) == content_key(asdict(ours))  # what runs and replies are found by
    other = read_trait_set(write(tmp_path, {**given, "eval_prompt": "rate"}, "evil.json"))
    assert content_key(asdict(other)) != content_key(asdict(ours))


def test_the_number_of_further_faults_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"name: Field required \(and 1 more\)"):
        read_trait_set(write(tmp_path, {"traits": ours()["traits"]}))


def test_a_missing_file_and_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"no\.json: expected a text file, found nothing"):
        read_trait_set(tmp_path / "no.json")
    with pytest.raises(LabError, match="expected the folder of shipped trait sets"):
        shipped_trait_sets(tmp_path)


# ------------------------------------------------------------------ what is shipped


def test_shipped_sets_are_found_and_valid() -> None:
    shipped = shipped_trait_sets(ROOT)
    assert set(shipped) == {"chat", "hearth", "persona"}
    for stem, path in shipped.items():
        found = read_trait_set(path)
        assert found.name == stem
        names = tuple(t.name for t in found.traits)
        assert names == MISSION if stem != "persona" else len(names) == 17 and names[:3] == MISSION
        texts = [text for t in found.traits for text in (*t.positive, *t.negative)]
        assert len(texts) == len(set(texts)) == 2 * 5 * len(names)
        assert all("{question}" in t.rubric and "{answer}" in t.rubric for t in found.traits)


STEMS = {
    "assistant": "assistant", "warmth": "warm|cold", "intimacy": "intima", "attachment": "attach",
    "possessiveness": "possess|jealous", "dependence_fostering": "depend", "candour_in_closeness":
    r"candour|candid\b|honest", "boundary_keeping": "boundar", "steadiness": r"steady|steadi|\bcalm",
    "sycophancy": "sycophan|flatter", "playfulness": "playful", "formality": "formal", "certainty":
    r"certain|\bsure\b", "empathy": "empath", "agency": r"\bagency|\bagentic", "humility": "humbl|humil",
    "mystique": "myster|mystic|mystiq",
}  # fmt: skip


@pytest.mark.parametrize("name", STEMS)
def test_scenarios_are_matched_pairs_that_never_name_the_trait(name: str) -> None:
    found = read_trait_set(shipped_trait_sets(ROOT)["persona"])
    pairs = next(t for t in found.traits if t.name == name).scenarios
    texts = [text for pair in pairs for text in pair]
    assert len(pairs) >= 40
    assert len(set(texts)) == len(texts)
    assert not [t for t in texts if re.search(STEMS[name], t, re.I)]
    words = [(len(pos.split()), len(neg.split())) for pos, neg in pairs]
    assert all(15 <= n <= 75 for pair in words for n in pair)
    assert all(0.65 < a / b < 1.5 for a, b in words)
    up, down = (sum(n) / len(pairs) for n in zip(*words, strict=True))
    assert 0.9 < up / down < 1.1  # so that length does not tell the poles apart


def test_a_set_may_name_files(tmp_path: Path) -> None:
    whole = ours()
    write(tmp_path, whole["traits"]["warmth"], "warmth.json")
    write(tmp_path, whole["questions"], "asked.json")
    apart = {"name": "demo", "traits": {"warmth": "warmth.json"}, "questions": "asked.json"}
    expected = read_trait_set(write(tmp_path, whole))
    assert read_trait_set(write(tmp_path, apart, "apart.json")) == expected
    write(tmp_path, {"instruction": []}, "warmth.json")
    with pytest.raises(LabError, match=r"warmth\.json, line 1: instruction: .* at least 2 items"):
        read_trait_set(tmp_path / "apart.json")
    (tmp_path / "warmth.json").unlink()
    with pytest.raises(LabError, match=r"warmth\.json: expected a text file, found nothing"):
        read_trait_set(tmp_path / "apart.json")


@pytest.mark.parametrize(
    ("name", "sizes"), [("hearth", (16, 10, 12)), ("chat", (20, 20, 20)), ("persona", (130, 80, 120))]
)
def test_sizes_of_the_shipped_splits(name: str, sizes: tuple[int, ...]) -> None:
    found = read_trait_set(shipped_trait_sets(ROOT)[name])
    assert tuple(len(found.of(s)) for s in SPLITS) == sizes


def test_hearth_speaks_hearth_and_states_one_trait_at_a_time() -> None:
    found = read_trait_set(shipped_trait_sets(ROOT)["hearth"])
    assert not unknown_words("\n".join(q.text for q in found.questions))
    for trait in found.traits:
        for texts, pole in ((trait.positive, "+"), (trait.negative, "-")):
            for text in texts:
                assert not unknown_words(text)
                words = set(re.findall(r"[a-z]+", text.lower()))
                assert {p for p, known in keys().items() if known & words} == {(trait.name, pole)}


def test_hearth_questions_share_neither_sentence_form_nor_topic() -> None:
    lib = library()
    found = read_trait_set(shipped_trait_sets(ROOT)["hearth"])
    kinds = ("share", "vent", "tease", "press", "small_talk", "ask_fact_topic")
    seen, counts = set(), {}
    for question in found.questions:
        parts = [
            (kind, form, topic.key)
            for kind in kinds
            for form in lib.user_turns[kind]
            for topic in lib.topics
            for noun in (topic.nouns if kind != "ask_fact_topic" else [q for q, _ in topic.facts])
            if re.sub(r"\{\w+\}", noun, form).lower() == question.text.lower()
        ]
        assert len(parts) == 1
        kind, form, topic_key = parts[0]
        assert not seen & {form, topic_key}
        seen |= {form, topic_key}
        counts[question.split, kind] = counts.get((question.split, kind), 0) + 1
    assert set(counts) == {(s, k) for s in SPLITS for k in kinds}
    assert all(max(sizes) - min(sizes) <= 1 for s in SPLITS if (sizes := [counts[s, k] for k in kinds]))


@pytest.mark.parametrize("name", ["chat", "persona"])
def test_questions_name_no_trait(name: str) -> None:
    found = read_trait_set(shipped_trait_sets(ROOT)[name])
    named = re.compile(r"assist|warm|cold|intima|kind(ly|ness)|tender|distan|affection|close", re.I)
    assert not [q.text for q in found.questions if named.search(q.text)]
