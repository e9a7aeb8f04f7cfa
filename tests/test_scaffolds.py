"""Scaffold files: the format, its errors, and the shipped scaffolds against the text of Hearth."""

import re
from functools import cache
from pathlib import Path

import pytest

from lab.prompts.scaffolds import parse_scaffold, read_scaffold, stated_levels
from lab.records import LabError, Scaffold, ScaffoldFile, Segment
from lab.world.latent import TRAITS
from lab.world.library import TEXT, library
from lab.world.scaffolds import conjugate

SHIPPED = sorted(
    p for p in (Path(__file__).parents[1] / "data" / "scaffolds").glob("*.md") if p.name != "README.md"
)
WRITTEN = [p for p in SHIPPED if p.stem != "none"]
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")

FULL = """<!-- hearth: warmth ++, intimacy - -->
# A friend
> Someone to
> talk to

I am A.
I am kind.

## Memory
- [verified] One.
- Two.
## Boundaries
- [model] Three.
## Rituals
* Four: five.
## Lessons
- [imported] Six.
---
I am kind and I am A.
"""


@cache
def hearth_words() -> frozenset[str]:
    """Every word form that the text of Hearth can produce; verbs in braces in all their forms."""
    words: set[str] = set()
    for path in TEXT.glob("*.txt"):
        lines = [x for x in path.read_text().lower().splitlines() if not x.startswith("#")]
        for braced in re.findall(r"\{[a-z]+\}", "\n".join(lines)):
            for person in ("you", "I", "base", "third"):
                for pronoun in ("she", "he", "they"):
                    words.add(conjugate(braced, person, pronoun).lower())
        words |= set(WORD.findall("\n".join(lines)))
    return frozenset(words)


def unknown_words(text: str) -> set[str]:
    """Words of `text` that do not occur in Hearth."""
    return {w for w in WORD.findall(text.lower()) if not {w, w.removesuffix("'s")} & hearth_words()}


@cache
def keys() -> dict[tuple[str, str], frozenset[str]]:
    """(trait, pole) → the key words at the top of traits.txt."""
    found, trait = {}, ""
    for line in (TEXT / "traits.txt").read_text().splitlines():
        if match := re.fullmatch(r"# ([a-z]+)", line):
            trait = match.group(1)
        elif match := re.fullmatch(r"keys ([+-]) : (.+)", line):
            found[trait, match.group(1)] = frozenset(match.group(2).split())
    return found


@cache
def phrases() -> list[tuple[re.Pattern[str], str, str]]:
    """(pattern, trait, level): each predicate phrase of Hearth in every grammatical person."""
    forms = [("you", "they"), ("I", "they"), ("base", "they")]
    forms += [("third", p) for p in ("she", "he", "they")]
    return [
        (re.compile(rf"\b{re.escape(conjugate(text, *form))}(?=[.\n])"), trait, level)
        for (trait, level), texts in library().trait_phrases.items()
        for text in texts
        for form in forms
    ]


def levels_in(text: str) -> dict[str, str]:
    """The trait levels that an identity text states, phrase by phrase."""
    return {trait: level for pattern, trait, level in phrases() if pattern.search(text)}


def body(scaffold: Scaffold) -> str:
    """The words of a scaffold without the headings that `Scaffold.text` adds."""
    return "\n".join(s.text for s in scaffold.segments) + "\n"


# ------------------------------------------------------------------ the format


def test_every_part_of_a_file_is_read() -> None:
    file = parse_scaffold(FULL, "stem")
    assert (file.name, file.description) == ("A friend", "Someone to talk to")
    assert [s.name for s in file.paraphrases] == ["A friend", "A friend"]
    assert file.paraphrases[0].segments == (
        Segment("identity", "I am A.\nI am kind.", "human"),
        Segment("memory", "One.", "verified"),
        Segment("memory", "Two.", "human"),
        Segment("boundary", "Three.", "model"),
        Segment("ritual", "Four: five.", "human"),
        Segment("lesson", "Six.", "imported"),
    )
    assert file.paraphrases[1].text == "I am kind and I am A."


def test_plain_text_is_one_identity_segment_named_after_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mira.txt"
    path.write_text("\ufeffYou are Mira.\n\n- loves tea\n> quotes\n", encoding="utf-8")
    scaffold = Scaffold("mira", (Segment("identity", "You are Mira.\n\n- loves tea\n> quotes"),))
    assert read_scaffold(path) == ScaffoldFile("mira", "", (scaffold,))
    assert stated_levels(path) == {}


def test_windows_line_ends_read_the_same() -> None:
    assert parse_scaffold(FULL.replace("\n", "\r\n"), "x") == parse_scaffold(FULL, "x")


def test_headings_without_title_keep_the_name_given() -> None:
    file = parse_scaffold("You are B.\n## Memory\n- [user] C.", "b")
    assert file.paraphrases[0].segments == (
        Segment("identity", "You are B."), Segment("memory", "C.", "user"),
    )  # fmt: skip
    assert file.name == "b"


def test_no_scaffold_has_no_segments() -> None:
    assert parse_scaffold("# None\n(no scaffold)\n", "x").paraphrases == (Scaffold("None", ()),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s: the scaffold is empty"),
        ("<!-- only this -->\n\n", "s: the scaffold is empty"),
        ("# A\n> b\n", "s: paraphrase 1 of 1 is empty"),
        ("# A\nx\n---\n\n---\ny", "s: paraphrase 2 of 3 is empty"),
        ("# A\nx\n## Values\n- y", "s:3: unknown heading '## Values'; expected one of '## Memory'"),
        ("x\n# A\n", "s:2: unknown heading '# A'"),
        ("#\nx", "s:1: expected '# Title'"),
        ("x\n## Memory\n- a\n- [verifed] b", r"s:4: unknown provenance tag \[verifed\].*\[verified\]"),
        ("x\n## Memory\nno dash", "s:3: expected '- text' or .* under '## Memory', got 'no dash'"),
        ("x\n## Memory\n- [user]", "s:3: expected '- text'"),
        ("x\n---\ny", "s:2: '---' separates paraphrases, which only a file that starts with '# Title'"),
        ("# A\nx\n---\n(no scaffold)", r"s: '\(no scaffold\)' must be the whole file"),
        ("(no scaffold)\n## Memory\n- x", r"s: '\(no scaffold\)' must be the whole file"),
        ("<!-- a\nb -->\nx", "s:1: a comment must be a line of its own"),
    ],
)
def test_errors_name_place_and_fault(text: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        parse_scaffold(text, "s")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"missing\.md: expected a text file, found nothing"):
        read_scaffold(tmp_path / "missing.md")
    with pytest.raises(LabError, match="found a folder"):
        read_scaffold(tmp_path)
    path = tmp_path / "a.md"
    path.write_bytes(b"I am \xff\xfe")
    with pytest.raises(LabError, match="expected UTF-8 text, got other bytes at offset 5"):
        read_scaffold(path)
    path.write_bytes(b"PK\x03\x00\x00")
    with pytest.raises(LabError, match="got a binary file"):
        read_scaffold(path)
    path.write_text("## Nonsense\n- x\n")
    with pytest.raises(LabError, match=r"a\.md:1: unknown heading"):
        read_scaffold(path)


@pytest.mark.parametrize("levels", ["warmth", "warmth +++", "warmth +-", "warmth +, warmth -", "Warm +"])
def test_malformed_levels(tmp_path: Path, levels: str) -> None:
    path = tmp_path / "a.md"
    path.write_text(f"<!-- hearth: {levels} -->\nx\n")
    with pytest.raises(LabError, match=r"a\.md:1: expected 'trait level'"):
        stated_levels(path)


# ------------------------------------------------------------------ what is shipped


def test_there_are_enough_and_their_names_differ() -> None:
    assert len(WRITTEN) >= 14
    assert len({read_scaffold(p).name for p in SHIPPED}) == len(SHIPPED)


def test_none_is_the_model_as_it_comes() -> None:
    path = next(p for p in SHIPPED if p.stem == "none")
    assert [s.text for s in read_scaffold(path).paraphrases] == [""]
    assert stated_levels(path) == {}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda p: p.stem)
def test_shipped_file_is_three_wordings_of_one_character_in_hearths_words(path: Path) -> None:
    file, stated = read_scaffold(path), stated_levels(path)
    assert stated
    assert set(stated) <= set(TRAITS)
    assert len({s.text for s in file.paraphrases}) == len(file.paraphrases) == 3
    shapes = {tuple(sorted((s.kind, s.provenance) for s in p.segments)) for p in file.paraphrases}
    assert len(shapes) == 1
    wanted = {(trait, level[0]) for trait, level in stated.items()}
    for scaffold in file.paraphrases:
        assert not unknown_words(body(scaffold))
        words = set(WORD.findall(body(scaffold).lower()))
        assert {pole for pole, known in keys().items() if known & words} == wanted
        assert levels_in(scaffold.segments[0].text + "\n") == stated
    used = [
        {(t, p.pattern) for p, t, _ in phrases() if p.search(s.segments[0].text + "\n")}
        for s in file.paraphrases
    ]
    assert not used[0] & used[1]
    assert not used[1] & used[2]


def test_every_corner_of_the_three_mission_traits_is_covered() -> None:
    mission = ("assistant", "warmth", "intimacy")
    stated = [stated_levels(p) for p in WRITTEN]
    corners = {tuple(s[t][0] for t in mission) for s in stated if set(mission) <= set(s)}
    assert len(corners) == 8
    for trait in mission:
        assert {s[trait] for s in stated if trait in s} == {"++", "+", "-", "--"}
