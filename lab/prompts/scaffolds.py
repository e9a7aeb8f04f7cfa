"""Scaffold files: Markdown that people write, read into `ScaffoldFile` (schema: data/scaffolds/README.md)."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from lab.records import SEGMENT_HEADINGS, LabError, Scaffold, ScaffoldFile, Segment

PROVENANCES = ("human", "user", "model", "imported", "verified")
NO_SCAFFOLD = "(no scaffold)"
LEVELS = ("++", "+", "-", "--")
_KINDS = {heading: kind for kind, heading in SEGMENT_HEADINGS.items()}
_HEARTH = re.compile(r"<!--\s*hearth\s*:(.*)-->")
_LEVEL = re.compile(r"([a-z]+)\s+([+-]{1,2})")

Line = tuple[int, str]  # 1-based number in the file, text without trailing space


def read_scaffold(path: Path) -> ScaffoldFile:
    """The scaffold in a UTF-8 file. Its name is the title, or the file's stem without a title.

    Raises LabError, with path and line, when the file is missing, no text, empty, or not in the
    format of data/scaffolds/README.md.
    """
    return _parse(read_text(path), path.stem, str(path))


def parse_scaffold(text: str, name: str) -> ScaffoldFile:
    """The scaffold in a text; `name` serves where the text has no title, and in errors.

    Raises LabError, with the line, as `read_scaffold` does.
    """
    return _parse(text, name, name)


def stated_levels(path: Path) -> dict[str, str]:
    """Trait → level (++, +, -, --) from the `<!-- hearth: warmth ++, ... -->` line of a file.

    Empty when the file has no such line or states nothing. Raises LabError as `read_scaffold` does
    for a file that cannot be read, and with the line when the comment is malformed.
    """
    levels: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        found = _HEARTH.fullmatch(line.strip())
        for part in found.group(1).split(",") if found and found.group(1).strip() else ():
            match = _LEVEL.fullmatch(part.strip())
            if not match or match.group(2) not in LEVELS or match.group(1) in levels:
                raise LabError(
                    f"{path}:{number}: expected 'trait level' with level one of {' '.join(LEVELS)}, each "
                    f"trait once, separated by commas; got {part.strip()!r}"
                )
            levels[match.group(1)] = match.group(2)
    return levels


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, a byte-order mark left out.

    Raises LabError when the file is missing, a folder, unreadable or not UTF-8 text.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise LabError(f"{path}: expected a text file, found {found}; check the path")
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise LabError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except UnicodeDecodeError as error:
        raise LabError(
            f"{path}: expected UTF-8 text, got other bytes at offset {error.start}; save the file as UTF-8"
        ) from error
    if "\0" in text:
        raise LabError(f"{path}: expected UTF-8 text, got a binary file; give a .md or .txt file")
    return text


def _parse(text: str, name: str, place: str) -> ScaffoldFile:
    lines = _visible(text, place)
    if not any(line for _, line in lines):
        raise LabError(
            f"{place}: the scaffold is empty; write its text, or '{NO_SCAFFOLD}' for the bare model"
        )
    title, description, body = _head(lines, place)
    rulers = [i for i, (_, line) in enumerate(body) if line == "---"]
    if rulers and not title:
        raise LabError(
            f"{place}:{body[rulers[0]][0]}: '---' separates paraphrases, which only a file that starts with "
            "'# Title' may have; add the title, or drop the line if this is plain text"
        )
    edges = [-1, *rulers, len(body)]
    parts = [body[a + 1 : b] for a, b in pairwise(edges)]
    scaffolds = []
    for index, part in enumerate(parts):
        segments = _segments(part, place)
        if segments is None and len(parts) > 1:
            raise LabError(f"{place}: '{NO_SCAFFOLD}' must be the whole file; drop the other paraphrases")
        if segments == ():
            raise LabError(
                f"{place}: paraphrase {index + 1} of {len(parts)} is empty; write it or drop its '---'"
            )
        scaffolds.append(Scaffold(title or name, segments or ()))
    return ScaffoldFile(title or name, description, tuple(scaffolds))


def _visible(text: str, place: str) -> list[Line]:
    """Numbered lines without comment lines."""
    lines = []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = raw.rstrip()
        if not line.lstrip().startswith("<!--"):
            lines.append((number, line))
        elif not line.endswith("-->"):
            raise LabError(
                f"{place}:{number}: a comment must be a line of its own, '<!-- ... -->'; got {line!r}"
            )
    return lines


def _head(lines: Sequence[Line], place: str) -> tuple[str, str, list[Line]]:
    """Title, description (both may be "") and the lines after them."""
    rest = list(lines)
    while rest and not rest[0][1]:
        rest.pop(0)
    if not rest or not re.match(r"#(\s|$)", rest[0][1]):
        return "", "", rest
    number, first = rest.pop(0)
    title = first[1:].strip()
    if not title:
        raise LabError(f"{place}:{number}: expected '# Title', got '#' alone; write the title after it")
    while rest and not rest[0][1]:
        rest.pop(0)
    description = []
    while rest and rest[0][1].startswith(">"):
        description.append(rest.pop(0)[1][1:].strip())
    return title, " ".join(description), rest


def _segments(lines: Sequence[Line], place: str) -> tuple[Segment, ...] | None:
    """The segments of one paraphrase; None for `(no scaffold)`."""
    identity: list[str] = []
    rest: list[Segment] = []
    kind = "identity"
    for number, line in lines:
        heading = re.match(r"(#{1,6})(?:\s+(.*))?$", line)
        if heading:
            kind = _kind(heading, f"{place}:{number}")
        elif kind == "identity":
            identity.append(line)
        elif line:
            rest.append(_item(line, kind, f"{place}:{number}"))
    text = "\n".join(identity).strip("\n")
    if text.strip() == NO_SCAFFOLD:
        if rest:
            raise LabError(f"{place}: '{NO_SCAFFOLD}' must be the whole file; drop it or the lists below it")
        return None
    return (*([Segment("identity", text)] if text.strip() else []), *rest)


def _kind(heading: re.Match[str], place: str) -> str:
    """The kind of segment that a heading opens."""
    marks, words = heading.group(1), (heading.group(2) or "").strip()
    if marks != "##" or words not in _KINDS:
        known = ", ".join(f"'## {h}'" for h in _KINDS)
        raise LabError(
            f"{place}: unknown heading {heading.group(0)!r}; expected one of {known} ('# Title' only at "
            "the top of the file). To keep it as identity text, write it without the '#'"
        )
    return _KINDS[words]


def _item(line: str, kind: str, place: str) -> Segment:
    """One list entry, `- text` or `- [provenance] text`."""
    match = re.match(r"\s*[-*]\s+(?:\[([^\]]*)\]\s*)?(.*)$", line)
    if not match or not match.group(2):
        raise LabError(
            f"{place}: expected '- text' or '- [provenance] text' under '## {SEGMENT_HEADINGS[kind]}', got "
            f"{line!r}; identity text stands above the first heading"
        )
    tag = match.group(1)
    if tag is not None and tag not in PROVENANCES:
        raise LabError(
            f"{place}: unknown provenance tag [{tag}]; expected one of "
            f"{', '.join(f'[{p}]' for p in PROVENANCES)}, or none (human)"
        )
    return Segment(kind, match.group(2), tag or "human")
