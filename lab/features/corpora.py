"""Texts and chats to take activations from, read piece by piece, so that memory does not grow with them.

A corpus is a number of chunks that can be read in any order. Every pass goes through them, and through the
samples inside them, in another order. One in `HOLD_OUT_ONE_IN` samples of a file is held out, chosen by its
content: equal texts are on one side, and the order of the corpus does not matter. Hearth has no end; its
held-out part is drawn from other seeds.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np

from lab.records import LabError, Message

Part = Literal["train", "held_out"]
HOLD_OUT_ONE_IN = 20
WINDOW = 1024
"""Samples of a chunk that are held and shuffled at once."""
CHUNK_BYTES = 2**20
PARAGRAPHS = 2000
"""Characters of a .txt file, at least, that make one sample; it ends where a paragraph does."""
ROLES = ("system", "user", "assistant")
HEARTH = "hearth"
_HEARTH_SEEDS: dict[Part, int] = {"train": 5_001, "held_out": 5_002}
_HEARTH_CHUNK = 32


@dataclass(frozen=True)
class Sample:
    """A text, or a chat where there are messages."""

    text: str = ""
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """Chunks of samples; `chunks` is None where there is no end. `read` gives one part's samples of a chunk."""

    name: str
    chunks: int | None
    read: Callable[[int], Iterable[Sample]]


@dataclass(frozen=True)
class Place:
    """A place in a corpus that is read over and over: the pass, the chunk in that pass's order, the sample."""

    epoch: int = 0
    chunk: int = 0
    sample: int = 0


START = Place()


def open_corpus(name_or_path: str, part: Part = "train", seed: int = 0) -> Corpus:
    """A corpus by name ("hearth") or path; `seed` says which conversations where they are made up.

    LabError for a path that is not there or that holds nothing known; a bad line is told when it is read, with
    its file and number.
    """
    if name_or_path == HEARTH:
        return hearth(part, seed)
    path = Path(name_or_path)
    if path.is_dir() and ((path / "dataset_dict.json").is_file() or (path / "state.json").is_file()):
        return _dataset(path, part)
    if path.is_dir() and sorted(path.rglob("*.parquet")):
        return _parquet(sorted(path.rglob("*.parquet")), path, part)
    if path.is_dir() and sorted(path.glob("*.txt")):
        return _texts(sorted(path.glob("*.txt")), path, part)
    if path.is_file() and path.suffix == ".parquet":
        return _parquet([path], path, part)
    if path.is_file() and path.suffix == ".jsonl":
        return _json_lines(path, part)
    raise LabError(
        f'expected a corpus, "hearth", a .jsonl or .parquet file, a folder of .parquet or .txt files, or a Hugging '
        f"Face dataset that was saved to disk, got {name_or_path!r}"
    )


def digest(name_or_path: str) -> str:
    """Changes when a corpus does: files by name, size and time, Hearth by the files that make it up."""
    at = Path(__file__).parents[1] / "world" if name_or_path == HEARTH else Path(name_or_path)
    found = sha256()
    for file in sorted(p for p in ([at] if at.is_file() else at.rglob("*")) if p.is_file()):
        if name_or_path != HEARTH:
            found.update(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}\n".encode())
        elif file.suffix in (".py", ".txt"):
            found.update(file.read_bytes())
    return found.hexdigest()


# ------------------------------------------------------------------ order


def samples(corpus: Corpus, seed: int, place: Place = START) -> Iterator[tuple[Sample, Place]]:
    """Samples from `place` on, each with the place behind it; begins anew where the corpus ends.

    Chunks are permuted in every pass, and the samples in every window of WINDOW samples of a chunk. The same
    corpus, seed and place give the same samples. LabError when a whole pass gives none.
    """
    for epoch in count(place.epoch):
        found = False
        for k, chunk in _order(corpus, seed, epoch, place.chunk):
            skip = place.sample if (epoch, k) == (place.epoch, place.chunk) else 0
            rng = np.random.default_rng([seed, 3, epoch, chunk])
            for i, sample in enumerate(_shuffled(corpus.read(chunk), rng)):
                found = True
                if i >= skip:
                    yield sample, Place(epoch, k, i + 1)
        if not found and place.chunk == 0:
            raise LabError(
                f"{corpus.name}: no text in this part of the corpus; give a larger one (1 in {HOLD_OUT_ONE_IN} "
                "texts is held out)"
            )
        place = Place(epoch + 1)


def _order(corpus: Corpus, seed: int, epoch: int, first: int) -> Iterator[tuple[int, int]]:
    """(place in the order, chunk) of one pass, from `first` on."""
    if corpus.chunks is None:
        return zip(count(first), count(first), strict=False)
    order = np.random.default_rng([seed, 2, epoch]).permutation(corpus.chunks)
    return ((k, int(order[k])) for k in range(first, corpus.chunks))


def _shuffled(found: Iterable[Sample], rng: np.random.Generator) -> Iterator[Sample]:
    left = iter(found)
    while window := list(islice(left, WINDOW)):
        for i in rng.permutation(len(window)):
            yield window[i]


def _in_part(sample: Sample, part: Part) -> bool:
    content = sample.text + "\0".join(f"{m.role} {m.content}" for m in sample.messages)
    return (crc32(content.encode()) % HOLD_OUT_ONE_IN == 0) == (part == "held_out")


# ------------------------------------------------------------------ Hearth


def hearth(part: Part, seed: int) -> Corpus:
    """Conversations of Hearth, system prompt and all, drawn from the source and never from a model."""

    def read(chunk: int) -> Iterator[Sample]:
        from lab.world.conversation import reply_text
        from lab.world.corpus import Mix, document, messages
        from lab.world.library import library

        for i in range(chunk * _HEARTH_CHUNK, (chunk + 1) * _HEARTH_CHUNK):
            rng = np.random.default_rng([_HEARTH_SEEDS[part], seed, i])
            doc = document(rng, library(), Mix())
            said = messages(doc.system, doc.users, [reply_text(steps) for steps in doc.replies])
            yield Sample(messages=tuple(Message(m["role"], m["content"]) for m in said))

    return Corpus(HEARTH, None, read)


# ------------------------------------------------------------------ files


def to_sample(row: Any, where: str) -> Sample:
    """A sample of {"text": …} or {"messages": [{"role", "content"}, …]}. LabError, saying where, for anything else."""
    if isinstance(row, dict) and isinstance(row.get("messages"), Sequence) and len(row["messages"]):
        return Sample(messages=_messages(row["messages"], where))
    if isinstance(row, dict) and isinstance(row.get("text"), str):
        return Sample(row["text"])
    got = f"the fields {', '.join(map(str, row)) or 'none'}" if isinstance(row, dict) else repr(row)[:60]
    raise LabError(f'{where}: expected a "text" that is a string, or "messages" with at least one, got {got}')


def _messages(rows: Sequence[Any], where: str) -> tuple[Message, ...]:
    for row in rows:
        good = isinstance(row, dict) and row.get("role") in ROLES and isinstance(row.get("content"), str)
        if not good:
            raise LabError(
                f'{where}: expected messages of {{"role": {" | ".join(ROLES)}, "content": text}}, got '
                f"{json.dumps(row, ensure_ascii=False, default=str)[:80]}"
            )
    found = tuple(Message(row["role"], row["content"]) for row in rows)
    asked = found[:-1] if found[-1].role == "assistant" else found
    if not asked or asked[-1].role != "user":
        raise LabError(
            f"{where}: expected a chat that ends with a user message or with a reply to one, got the roles "
            f"{', '.join(m.role for m in found)}"
        )
    return found


def _json_lines(path: Path, part: Part) -> Corpus:
    """Chunk c has the lines that begin in its CHUNK_BYTES bytes, so no index of the file is held."""

    def read(chunk: int) -> Iterator[Sample]:
        with path.open("rb") as file:
            if chunk:
                file.seek(chunk * CHUNK_BYTES - 1)
                file.readline()  # the line that began before
            while (at := file.tell()) < (chunk + 1) * CHUNK_BYTES and (line := file.readline()):
                if line.strip():
                    sample = _line(path, at, line)
                    if _in_part(sample, part):
                        yield sample

    return Corpus(str(path), -(-path.stat().st_size // CHUNK_BYTES), read)


def _line(path: Path, at: int, line: bytes) -> Sample:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise LabError(f"{path}, line {_number(path, at)}: not JSON ({error})") from error
    try:
        return to_sample(row, "")
    except LabError as error:
        raise LabError(f"{path}, line {_number(path, at)}{error}") from None


def _number(path: Path, at: int) -> int:
    """Which line begins at a byte."""
    with path.open("rb") as file:
        return 1 + sum(
            file.read(min(CHUNK_BYTES, at - start)).count(b"\n") for start in range(0, at, CHUNK_BYTES)
        )


def _texts(paths: Sequence[Path], folder: Path, part: Part) -> Corpus:
    def read(chunk: int) -> Iterator[Sample]:
        try:
            with paths[chunk].open(encoding="utf-8") as file:
                yield from (s for s in map(Sample, _paragraphs(file)) if _in_part(s, part))
        except UnicodeDecodeError as error:
            raise LabError(f"{paths[chunk]}: expected UTF-8 text ({error}); convert the file") from error

    return Corpus(str(folder), len(paths), read)


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Pieces of at least PARAGRAPHS characters, each ending before a blank line or at twice that length."""
    held, size = [], 0
    for line in lines:
        if held and ((size >= PARAGRAPHS and not line.strip()) or size >= 2 * PARAGRAPHS):
            yield "".join(held).strip()
            held, size = [], 0
        if held or line.strip():
            held.append(line)
            size += len(line)
    if held:
        yield "".join(held).strip()


def _column(names: Iterable[str], where: str) -> str:
    found = next((n for n in ("messages", "text") if n in set(names)), None)
    if found is None:
        raise LabError(f'{where}: expected a column "text" or "messages", got {", ".join(names)}')
    return found


def _parquet(paths: Sequence[Path], name: Path, part: Part) -> Corpus:
    """One chunk per row group, its pages read as they come."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def opened(path: Path) -> Any:
        try:
            return pq.ParquetFile(path, buffer_size=CHUNK_BYTES, pre_buffer=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise LabError(f"{path}: not a Parquet file that can be read ({error})") from error

    groups = []
    for path in paths:
        with opened(path) as file:
            _column(file.schema_arrow.names, str(path))
            rows = 0
            for g in range(file.num_row_groups):
                groups.append((path, g, rows))
                rows += file.metadata.row_group(g).num_rows

    def read(chunk: int) -> Iterator[Sample]:
        path, group, first = groups[chunk]
        with opened(path) as file:
            column = _column(file.schema_arrow.names, str(path))
            batches = file.iter_batches(256, row_groups=[group], columns=[column], use_threads=False)
            rows = (row for batch in batches for row in batch.to_pylist())
            for i, row in enumerate(rows, first + 1):
                sample = to_sample(row, f"{path}, row {i}")
                if _in_part(sample, part):
                    yield sample

    return Corpus(str(name), len(groups), read)


def _dataset(path: Path, part: Part) -> Corpus:
    """A Hugging Face dataset as `save_to_disk` writes it; of several splits "train"."""
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as error:
        raise LabError(
            f"{path} is a Hugging Face dataset; reading it needs the package datasets: pip install datasets"
        ) from error
    found: Any = load_from_disk(str(path))
    if isinstance(found, DatasetDict):
        if "train" not in found and len(found) != 1:
            raise LabError(
                f'{path}: expected a split "train", got {", ".join(map(str, found))}; give the folder of one'
            )
        found = found["train"] if "train" in found else next(iter(found.values()))
    column = _column(found.column_names, str(path))

    def read(chunk: int) -> Iterator[Sample]:
        first = chunk * WINDOW
        for i, value in enumerate(found[first : first + WINDOW][column], first + 1):
            sample = to_sample({column: value}, f"{path}, row {i}")
            if _in_part(sample, part):
                yield sample

    return Corpus(str(path), -(-len(found) // WINDOW), read)
