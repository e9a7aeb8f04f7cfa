"""Roles, question lists and conversations: the public formats, their errors, and what is shipped."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from lab.prompts.personas import (
    addressed,
    display_name,
    read_conversation,
    read_default,
    read_list,
    read_role,
    read_role_set,
)
from lab.prompts.questions import asked_by, read_questions
from lab.prompts.traits import read_trait_set
from lab.records import LabError, Message, Question, Role, RoleSet
from lab.store import content_key

PERSONAS = Path(__file__).parents[1] / "data" / "personas"


def put(path: Path, data: object) -> Path:
    """`data` as JSON, or as it is when it is text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def public_role(*prompts: str) -> dict:
    """A role file as The Assistant Axis keeps it."""
    return {"instruction": [{"pos": p} for p in prompts], "questions": ["why?"], "eval_prompt": "rate"}


def test_a_public_role_file_is_read_as_it_is(tmp_path):
    assert read_role(put(tmp_path / "ghost.json", public_role("Be a ghost.", "Boo."))) == Role(
        "ghost", ("Be a ghost.", "Boo.")
    )


def test_a_folder_of_roles_with_default_and_list(tmp_path):
    folder = tmp_path / "roles"
    put(folder / "ghost.json", public_role("Be a ghost."))
    put(folder / "elf.json", public_role("Be an elf."))
    put(tmp_path / "default.json", public_role("You are an AI system."))
    put(tmp_path / "role_list.json", {"elf": "someone small"})
    found = read_role_set(folder)
    assert found.default == ("You are an AI system.",)
    assert found.roles == (Role("elf", ("Be an elf.",), "someone small"), Role("ghost", ("Be a ghost.",)))


def test_the_default_may_be_told_nothing_and_its_own_name(tmp_path):
    prompts = ("", "You are {model_name}.", "Speak as you are.")
    folder = tmp_path / "roles"
    default = put(folder / "default.json", {"instruction": [{"pos": p} for p in prompts]})
    put(folder / "elf.json", public_role("Be an elf, not {model_name}."))
    assert read_default(default) == prompts
    roles = read_role_set(folder)
    assert roles.default == prompts  # the name is known only when a model is told it
    told = addressed(roles, "acme/Zephyr2.5-0.5B-it")
    assert told.default == ("", "You are Zephyr.", "Speak as you are.")
    assert told.roles[0].prompts == ("Be an elf, not Zephyr.",)
    put(folder / "elf.json", public_role("Be an elf.", " "))
    with pytest.raises(LabError, match=r"elf\.json, line 1: instruction\[1\]\.pos: .* 1 character"):
        read_role_set(folder)  # a role must say who


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("acme/Zephyr2.5-0.5B-Instruct", "Zephyr"), ("zephyr-3-27b-it", "Zephyr"), ("Meta-Zephyr-3-8B", "Meta-Zephyr"),
        ("zephyr_v2", "Zephyr"), ("models/plain/", "Plain"), ("Deep-R1-Distill", "Deep"), ("7b-chat", "7b-chat"),
    ],
)  # fmt: skip
def test_what_a_model_is_called(model, name):
    assert display_name(model) == name


def lines(texts):
    """A list of questions as JSON lines."""
    return "".join(json.dumps({"question": t, "id": i}) + "\n" for i, t in enumerate(texts))


def test_a_question_list_is_split_in_its_order_and_a_repeated_one_left_out_with_a_note(tmp_path):
    texts = [f"question {i}?" for i in range(20)]
    written = lines([*texts[:7], "Question  3?"]) + "\n" + lines(texts[7:])
    found = read_questions(put(tmp_path / "q.jsonl", written))
    assert [q.text for q in found.questions] == texts
    assert [q.split for q in found.questions] == ["extract"] * 8 + ["select"] * 4 + ["test"] * 8
    assert found.questions[12] == Question("test-00", "question 12?", "test")
    (note,) = found.notes
    assert note.endswith("q.jsonl, line 8: left out, as line 4 asks it: 'Question  3?'")
    assert read_questions(put(tmp_path / "once.jsonl", lines(texts))).notes == ()


def test_questions_in_our_form_are_the_same_questions(tmp_path):
    texts = [f"question {i}?" for i in range(20)]
    ours = {"extract": texts[:8], "select": texts[8:12], "test": texts[12:]}
    found = read_questions(put(tmp_path / "q.json", ours))
    assert found == read_questions(put(tmp_path / "q.jsonl", lines(texts)))
    with pytest.raises(LabError, match=r"q\.json, line 1: test\[0\]: extract and test overlap"):
        read_questions(put(tmp_path / "q.json", {**ours, "test": ours["extract"]}))


def test_roles_in_public_form_and_in_ours_are_the_same_roles(tmp_path):
    prompts = {
        "default": ["You are an AI system.", ""],
        "elf": ["Be an elf.", "You are small."],
        "ghost": ["Boo."],
    }
    lists = {"elf": "someone small", "ghost": "someone dead"}
    for place, more in (
        ("ours", {}),
        ("public", {"questions": ["why?", "how?"], "eval_prompt": "rate {answer}"}),
    ):
        for name, texts in prompts.items():
            whole = {"instruction": [{"pos": t} for t in texts], **({} if name == "default" else more)}
            put(tmp_path / place / "roles" / f"{name}.json", whole)
    put(tmp_path / "ours" / "role_list.json", lists)
    put(tmp_path / "public" / "role_list.json", lists)
    ours, public = (read_role_set(tmp_path / place / "roles") for place in ("ours", "public"))
    assert isinstance(ours, RoleSet)
    assert ours == public
    assert content_key(asdict(ours)) == content_key(asdict(public))


def test_a_set_asked_by_a_list_is_the_set_that_holds_those_questions(tmp_path):
    texts = [f"question {i}?" for i in range(20)]
    pairs = [{"pos": f"be {i}", "neg": f"avoid {i}"} for i in range(5)]
    splits = {"extract": texts[:8], "select": texts[8:12], "test": texts[12:]}
    ours = {
        "name": "calm",
        "traits": {"calm": {"instruction": pairs, "eval_prompt": "rate"}},
        "questions": splits,
    }
    public = {
        "instruction": pairs,
        "questions": [f"other {i}?" for i in range(12)],
        "eval_prompt": "rate",
    }
    asked = read_questions(put(tmp_path / "q.jsonl", lines(texts))).questions
    found = asked_by(read_trait_set(put(tmp_path / "calm.json", public)), asked)
    right = read_trait_set(put(tmp_path / "ours.json", ours))
    assert found == right
    assert content_key(asdict(found)) == content_key(asdict(right))
    assert asked_by(right, ()) is right


@pytest.mark.parametrize("wrapped", [True, False])
def test_conversations_wrapped_and_bare(tmp_path, wrapped):
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]
    data = {"turns": 1, "conversation": messages} if wrapped else messages
    expected = (Message("user", "Hello"), Message("assistant", "Good day."))
    assert read_conversation(put(tmp_path / "c.json", data)) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", r"c\.json, line 1, column 2: not JSON"),
        (3, r"line 1: expected a list, or an object"),
        ('{"turns":\n 1}', r"line 1: conversation: Field required"),
        (
            '[\n{"role": "user", "content": "x"},\n{"role": "bot",\n "content": "x"}]',
            r"line 3: conversation\[1\]\.role: .*'assistant'",
        ),
        ('{"conversation": [\n{"role":\n "bot", "content": "x"}]}', r"line 3: conversation\[0\]\.role"),
        ([{"role": "user", "content": "x"}], r"at least one assistant message"),
        (
            '[{"role": "user", "content": "x"},\n\n {"role": "system", "content": "y"}]',
            r"line 3: conversation\[1\]: a system message may only be the first",
        ),
    ],
)
def test_conversations_that_are_refused(tmp_path, data, message):
    with pytest.raises(LabError, match=message):
        read_conversation(put(tmp_path / "c.json", data))


def test_faults_of_question_lists_name_the_line(tmp_path):
    for text, message in (
        ('{"question": "Why?"}\n{"id": 3}', r"line 2: question: Field required"),
        ('{"question": "Why?"}\nnope', r"line 2, column 1: not JSON"),
        ('{"question": "Why?"}\n{"question": "Why?"}', r"at least 12 different questions.* got 1$"),
        ("\n[1]", r"line 2: expected a JSON object"),
        ("", r"found none"),
    ):
        with pytest.raises(LabError, match=message):
            read_questions(put(tmp_path / "q.jsonl", text))


def test_faults_of_role_sets(tmp_path):
    folder = tmp_path / "roles"
    with pytest.raises(LabError, match="expected a folder of role files"):
        read_role_set(folder)
    folder.mkdir()
    with pytest.raises(LabError, match=r"expected default\.json"):
        read_role_set(folder)
    put(folder / "default.json", public_role("You are an AI system."))
    with pytest.raises(LabError, match="found none"):
        read_role_set(folder)
    put(folder / "elf.json", public_role("Be an elf.", "Be an elf."))
    with pytest.raises(LabError, match=r"elf\.json, line 1: instruction\[1\]\.pos: the prompt occurs twice"):
        read_role_set(folder)
    put(folder / "elf.json", public_role("Be an elf."))
    put(folder / "role_list.json", {"troll": "large"})
    with pytest.raises(LabError, match="roles without a file: troll"):
        read_role_set(folder)
    with pytest.raises(LabError, match="line 2: elf: expected one line of text"):
        read_list(put(tmp_path / "list.json", '{"troll": "large",\n"elf": 3}'))


def test_shipped_roles():
    found = read_role_set(PERSONAS / "roles")
    assert len(found.roles) >= 150
    assert len(found.default) == 5
    assert {"friend", "partner", "companion", "mentor", "caregiver"} <= {r.name for r in found.roles}
    assert all(len(r.prompts) == 5 and r.description for r in found.roles)
    texts = [p for r in found.roles for p in r.prompts] + list(found.default)
    assert len(set(texts)) == len(texts)
