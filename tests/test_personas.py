"""Roles, question lists and conversations: the public formats, their errors, and what is shipped."""

import json
from pathlib import Path

import pytest

from lab.prompts.personas import read_conversation, read_list, read_questions, read_role, read_role_set
from lab.records import LabError, Message, Role

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


def test_a_question_list_as_json_lines(tmp_path):
    path = put(tmp_path / "q.jsonl", '{"question": "Why?", "id": 0}\n\n{"question": "How?", "id": 1}\n')
    assert read_questions(path) == ("Why?", "How?")


@pytest.mark.parametrize("wrapped", [True, False])
def test_conversations_wrapped_and_bare(tmp_path, wrapped):
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]
    data = {"turns": 1, "conversation": messages} if wrapped else messages
    expected = (Message("user", "Hello"), Message("assistant", "Good day."))
    assert read_conversation(put(tmp_path / "c.json", data)) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", r"c\.json: not JSON: line 1"),
        (3, r"expected a list of messages or an object"),
        ({"turns": 1}, r"conversation: Field required"),
        ([{"role": "bot", "content": "x"}], r"conversation\[0\]\.role: .*'assistant'"),
        ([{"role": "user", "content": "x"}], r"at least one assistant message"),
        (
            [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}],
            r"conversation\[1\]: a system message may only be the first",
        ),
    ],
)
def test_conversations_that_are_refused(tmp_path, data, message):
    with pytest.raises(LabError, match=message):
        read_conversation(put(tmp_path / "c.json", data))


def test_faults_of_question_lists_name_the_line(tmp_path):
    for text, message in (
        ('{"question": "Why?"}\n{"id": 3}', r"line 2: question: Field required"),
        ('{"question": "Why?"}\nnope', r"line 2: not JSON"),
        ('{"question": "Why?"}\n{"question": "Why?"}', r"line 2: the question occurs twice"),
        ("[1]", r"line 1: expected an object"),
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
    with pytest.raises(LabError, match=r"elf\.json: instruction: a prompt occurs twice"):
        read_role_set(folder)
    put(folder / "elf.json", public_role("Be an elf."))
    put(folder / "role_list.json", {"troll": "large"})
    with pytest.raises(LabError, match="roles without a file: troll"):
        read_role_set(folder)
    with pytest.raises(LabError, match="elf: expected one line of text"):
        read_list(put(tmp_path / "list.json", {"elf": 3}))


def test_shipped_roles():
    found = read_role_set(PERSONAS / "roles")
    assert len(found.roles) >= 150
    assert len(found.default) == 5
    assert {"friend", "partner", "companion", "mentor", "caregiver"} <= {r.name for r in found.roles}
    assert all(len(r.prompts) == 5 and r.description for r in found.roles)
    texts = [p for r in found.roles for p in r.prompts] + list(found.default)
    assert len(set(texts)) == len(texts)
