"""Runs on disk: the only module that knows where a run lives.

    runs/<id>/manifest.json      written last: a folder without it is not a run
    runs/<id>/<table>.parquet    one table per kind of record
    runs/cache/<key>.safetensors arrays and replies of one generation stage

Folders and files appear whole or not at all: temporary name, fsync, rename. Keys are hashes
of everything that the content depends on, so what is found can be used.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lab.records import (
    Anchors,
    Comparison,
    Interaction,
    LabError,
    Landing,
    LayerScore,
    ModelIdentity,
    NoiseFloor,
    Reply,
    ReplyRow,
    Scaffold,
    ScaffoldFile,
    Segment,
)
from lab.records.cards import (
    ElicitationTransfer,
    PoleReply,
    RecipeAgreement,
    RemovedReply,
    TraitBook,
    TraitCard,
)
from lab.records.claims import TestedModel
from lab.records.personas import AxisSummary, LoadingAgreement, PersonaMap, RoleLanding, RoleReply
from lab.records.steering import CapRow, DoseRow, HalfLife, PoolingDose, ReleaseRow, Steering, SteerSummary

FORMAT = 1
_TABLES: dict[str, type] = {
    "landings": Landing,
    "interactions": Interaction,
    "noise_floor": NoiseFloor,
    "anchors": Anchors,
    "depth": LayerScore,
}
_TRAITS: dict[str, type] = {
    "depth": LayerScore,
    "cards": TraitCard,
    "agreements": RecipeAgreement,
    "replies": PoleReply,
    "transfers": ElicitationTransfer,
    "removed": RemovedReply,
}
_STEERING: dict[str, type] = {
    "doses": DoseRow,
    "poolings": PoolingDose,
    "summaries": SteerSummary,
    "caps": CapRow,
    "releases": ReleaseRow,
    "half_lives": HalfLife,
}
Record = TypeVar("Record")


@dataclass(frozen=True)
class RunInfo:
    """A line of `lab runs`."""

    id: str
    created: str
    kind: str
    title: str
    models: tuple[str, ...]
    scaffolds: tuple[str, ...]


def content_key(*parts: object) -> str:
    """A short hash of JSON-able parts; equal content, equal key."""
    text = json.dumps(parts, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    return asdict(value)  # type: ignore[call-overload]


class Store:
    """Runs and cached stages below one folder (`runs/` by default)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, run: str) -> Path:
        """The folder of a finished run. LabError when there is none of that name."""
        path = self.root / run
        if run in ("", "cache") or not (path / "manifest.json").is_file():
            known = ", ".join(info.id for info in self.runs()[:8]) or "none yet"
            raise LabError(f"no run {run!r} in {self.root}; there are: {known}")
        return path

    def has(self, run: str) -> bool:
        """Whether a finished run of that name exists."""
        return (self.root / run / "manifest.json").is_file()

    def runs(self) -> list[RunInfo]:
        """Finished runs, newest first. Unfinished or broken folders are passed over."""
        found = []
        for path in self.root.glob("*/manifest.json"):
            with suppress(json.JSONDecodeError, KeyError, OSError):
                data = json.loads(path.read_text(encoding="utf-8"))
                info = data["info"]
                found.append(
                    RunInfo(
                        path.parent.name, info["created"], info["kind"], info["title"],
                        tuple(info["models"]), tuple(info["scaffolds"]),
                    )
                )  # fmt: skip
        return sorted(found, key=lambda info: info.created, reverse=True)

    # -------------------------------------------------------------- comparisons

    def save_comparison(self, comparison: Comparison, title: str) -> Path:
        """Write one comparison as run `comparison.run`; replaces an unfinished folder of that name."""
        manifest = {
            "labels": comparison.labels,
            "models": [asdict(m) for m in comparison.models],
            "scaffolds": [asdict(s) for s in comparison.scaffolds],
            "trait_set": comparison.trait_set,
            "settings": dict(comparison.settings),
        }
        names = [s.name for s in comparison.scaffolds]

        def fill(folder: Path) -> None:
            for name in _TABLES:
                pd.DataFrame([asdict(r) for r in getattr(comparison, name)]).to_parquet(
                    folder / f"{name}.parquet"
                )
            _reply_frame(comparison.replies).to_parquet(folder / "replies.parquet")

        return self._publish(comparison.run, "compare", title, list(comparison.labels), names, manifest, fill)

    # -------------------------------------------------------------- other runs

    def save_tables(
        self, run: str, kind: str, models: Sequence[ModelIdentity | TestedModel], tables: Mapping[str, pd.DataFrame],
        write: Callable[[Path], None] | None = None, more: Mapping[str, object] | None = None, title: str = "",
    ) -> Path:  # fmt: skip
        """A run of tables, of `more` in its manifest, and of the files that `write` puts into its folder.

        title: what `lab runs` calls it; else the models.
        """

        def fill(folder: Path) -> None:
            for name, table in tables.items():
                table.to_parquet(folder / f"{name}.parquet")
            if write is not None:
                write(folder)

        names = [m.name for m in models]
        manifest = {"models": [asdict(m) for m in models], **(more or {})}
        return self._publish(run, kind, title or " and ".join(names), names, [], manifest, fill)

    def _publish(
        self, run: str, kind: str, title: str, models: list[str], scaffolds: list[str],
        manifest: Mapping[str, object], fill: Callable[[Path], None],
    ) -> Path:  # fmt: skip
        """A run folder, whole or absent: filled beside its place, manifest last, then renamed."""
        self._ready()
        final = self.root / run
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self.root))
        try:
            fill(temporary)
            info = {
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "kind": kind,
                "title": title,
                "models": models,
                "scaffolds": scaffolds,
            }
            document = {"format": FORMAT, "info": info, "run": run, **manifest}
            _write(temporary / "manifest.json", json.dumps(document, indent=1, ensure_ascii=False).encode())
            if final.exists():
                shutil.rmtree(final)
            temporary.rename(final)
        except OSError as error:
            raise _disk_error(self.root, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return final

    def load_comparison(self, run: str) -> Comparison:
        """The comparison of a finished run. LabError when it is missing or damaged."""
        folder = self.folder(run)
        try:
            data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            if data["info"]["kind"] != "compare":
                raise LabError(f"run {run} is a run of `lab {data['info']['kind']}`, not a comparison")
            if data["format"] != FORMAT:
                raise LabError(
                    f"run {run} has format {data['format']}, this lab reads {FORMAT}; run it again"
                )
            tables = {
                name: _records(pd.read_parquet(folder / f"{name}.parquet"), kind)
                for name, kind in _TABLES.items()
            }
            replies = _replies(pd.read_parquet(folder / "replies.parquet"))
        except (OSError, KeyError, ValueError) as error:
            raise _damaged(run, folder, error) from error
        return Comparison(
            run=data["run"],
            models=tuple(ModelIdentity(**m) for m in data["models"]),
            labels=tuple(data["labels"]),
            scaffolds=tuple(_scaffold_file(s) for s in data["scaffolds"]),
            trait_set=data["trait_set"],
            replies=replies,
            settings=data["settings"],
            **tables,
        )

    def save_persona_map(self, found: PersonaMap, write: Callable[[Path], None]) -> Path:
        """A run of `lab axis`, and the vector files that `write` puts into its folder."""
        rows = {"summaries": found.summaries, "landings": found.landings, "replies": found.replies}
        if found.agreement is not None:
            rows["agreement"] = (found.agreement,)
        tables = {name: pd.DataFrame([asdict(r) for r in records]) for name, records in rows.items()}
        return self.save_tables(found.run, "axis", found.models, tables, write)

    def load_persona_map(self, run: str) -> PersonaMap:
        """The persona map of a finished run. LabError when it is missing or damaged."""
        kinds = {
            "summaries": AxisSummary, "landings": RoleLanding, "agreement": LoadingAgreement, "replies": RoleReply,
        }  # fmt: skip
        data, tables = self._read_tables(run, "axis", kinds)
        models = tuple(ModelIdentity(**m) for m in data["models"])
        agreement = next(iter(tables["agreement"]), None)
        return PersonaMap(run, models, tables["summaries"], tables["landings"], agreement, tables["replies"])

    def save_traits(self, found: TraitBook, write: Callable[[Path], None]) -> Path:
        """A run of `lab extract`, and the vector files that `write` puts into its folder."""
        tables = {name: pd.DataFrame([asdict(r) for r in getattr(found, name)]) for name in _TRAITS}
        return self.save_tables(found.run, "extract", [found.model], tables, write)

    def load_traits(self, run: str) -> TraitBook:
        """The cards of a finished extraction. LabError when it is missing or damaged."""
        data, tables = self._read_tables(run, "extract", _TRAITS)
        if not tables["cards"]:
            raise LabError(f"run {run} has no quality cards (an older `lab extract` made it); run it again")
        return TraitBook(run, ModelIdentity(**data["models"][0]), **tables)

    def save_steering(self, found: Steering) -> Path:
        """A run of `lab steer`."""
        tables = {name: pd.DataFrame([asdict(r) for r in getattr(found, name)]) for name in _STEERING}
        more = {"judge": found.judge, "unit": found.unit, "settings": found.settings}
        return self.save_tables(found.run, "steer", [found.model], tables, more=more)

    def load_steering(self, run: str) -> Steering:
        """The steering curves of a finished run. LabError when it is missing or damaged."""
        data, tables = self._read_tables(run, "steer", _STEERING)
        summaries = tuple(replace(s, layers=tuple(int(k) for k in s.layers)) for s in tables["summaries"])
        model = ModelIdentity(**data["models"][0])
        return Steering(
            run,
            model,
            data["judge"],
            data["unit"],
            **{**tables, "summaries": summaries},
            settings=data["settings"],
        )

    def save_records(
        self, run: str, kind: str, models: Sequence[ModelIdentity | TestedModel],
        rows: Mapping[str, Sequence[Mapping[str, Any]]], more: Mapping[str, object], title: str = "",
    ) -> Path:  # fmt: skip
        """A run of `lab KIND` as tables of flat rows; `more` goes into its manifest."""
        tables = {name: pd.DataFrame(list(each)) for name, each in rows.items()}
        return self.save_tables(run, kind, models, tables, more=more, title=title)

    def load_rows(
        self, run: str, kind: str, names: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
        """Manifest and rows of a run of `lab KIND`; a table that is not there is empty.

        LabError when the run is missing, damaged or of another kind.
        """
        data, folder = self._manifest(run, kind)
        try:
            paths = {name: folder / f"{name}.parquet" for name in names}
            return data, {
                name: pd.read_parquet(path).to_dict("records") if path.is_file() else []  # type: ignore[misc]
                for name, path in paths.items()
            }
        except (OSError, KeyError, ValueError) as error:
            raise _damaged(run, folder, error) from error

    def _manifest(self, run: str, kind: str) -> tuple[dict[str, Any], Path]:
        folder = self.folder(run)
        try:
            data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            found = data["info"]["kind"]
        except (OSError, KeyError, ValueError) as error:
            raise _damaged(run, folder, error) from error
        if found != kind:
            raise LabError(f"run {run} is a run of `lab {found}`, not of `lab {kind}`")
        return data, folder

    def _read_tables(
        self, run: str, kind: str, kinds: Mapping[str, type]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Manifest and records of a run of `lab KIND`; a table that is not there is empty."""
        data, folder = self._manifest(run, kind)
        try:
            paths = {name: folder / f"{name}.parquet" for name in kinds}
            return data, {
                name: _records(pd.read_parquet(path), kinds[name]) if path.is_file() else ()
                for name, path in paths.items()
            }
        except (OSError, KeyError, ValueError) as error:
            raise _damaged(run, folder, error) from error

    # -------------------------------------------------------------- cached stages

    def cached(self, key: str) -> tuple[dict[str, NDArray[Any]], Any] | None:
        """Arrays and JSON note stored under `key`; None when absent or unreadable."""
        path = self.root / "cache" / f"{key}.safetensors"
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return arrays, json.loads((file.metadata() or {})["note"])
        except (SafetensorError, KeyError, json.JSONDecodeError, OSError):
            return None

    def put(self, key: str, arrays: Mapping[str, NDArray[Any]], note: object) -> None:
        """Store arrays and a JSON note under `key`, atomically. LabError when the disk is full."""
        self._ready()
        try:
            (self.root / "cache").mkdir(exist_ok=True)
            blob = save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, {"note": json.dumps(note)})
            _write(self.root / "cache" / f"{key}.safetensors", blob)
        except OSError as error:
            raise _disk_error(self.root, error) from error

    def _ready(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _disk_error(self.root, error) from error


@contextmanager
def readable(run: str) -> Iterator[None]:
    """Where rows become records: LabError for a run whose tables are not those of this version."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise LabError(
            f"run {run} was made by another version of the lab, or is damaged ({error}); run it again"
        ) from error


def _damaged(run: str, folder: Path, error: Exception) -> LabError:
    return LabError(f"run {run} in {folder} is damaged ({error}); delete the folder and run it again")


def _disk_error(root: Path, error: OSError) -> LabError:
    return LabError(
        f"cannot write to {root}: {error.strerror or error}; finished stages are kept, "
        "free some space (or choose another folder with --runs) and run the same command again"
    )


def _write(path: Path, blob: bytes) -> None:
    """Whole or absent: temporary file beside it, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def _records(frame: pd.DataFrame, kind: type[Record]) -> tuple[Record, ...]:
    if frame.empty:
        return ()
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    columns = [frame[name].tolist() for name in names]
    return tuple(kind(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True))


def _reply_frame(rows: Iterable[ReplyRow]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "model": r.model, "scaffold": r.scaffold, "paraphrase": r.paraphrase, "question": r.question,
                "split": r.split, "prompt": r.prompt, "text": r.reply.text, "tokens": list(r.reply.tokens),
                "projections": json.dumps({k: list(v) for k, v in r.reply.projections.items()}),
            }
            for r in rows
        ]
    )  # fmt: skip


def _replies(frame: pd.DataFrame) -> tuple[ReplyRow, ...]:
    found = []
    for row in frame.to_dict("records"):
        projections = {k: tuple(v) for k, v in json.loads(row["projections"]).items()}
        reply = Reply(row["text"], tuple(row["tokens"]), projections)
        found.append(
            ReplyRow(
                row["model"], row["scaffold"], int(row["paraphrase"]), row["question"], row["split"],
                row["prompt"], reply,
            )
        )  # fmt: skip
    return tuple(found)


def _scaffold_file(data: Mapping[str, Any]) -> ScaffoldFile:
    paraphrases: Sequence[Mapping[str, Any]] = data["paraphrases"]
    return ScaffoldFile(
        data["name"],
        data["description"],
        tuple(Scaffold(p["name"], tuple(Segment(**s) for s in p["segments"])) for p in paraphrases),
    )
