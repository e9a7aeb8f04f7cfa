"""Geometry runs on disk: tables, the inner products at the chosen layers, the paths of replies."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lab.records import LabError, ModelIdentity, Position
from lab.records.geometry import GeometryBook, MultiverseCell, Place, PlacedLanding
from lab.records.maps import LandingAgreement, MapScore, Share, SharedMap, SharedPoint
from lab.records.similarity import ChosenGrams, Dissimilarity, GridCell, Similarity, UntrainedControl
from lab.records.trajectories import PathPoint
from lab.store import Store, readable

GRAMS = "grams.safetensors"
_TABLES: dict[str, type] = {
    "similarities": Similarity, "cells": GridCell, "dissimilarities": Dissimilarity, "maps": MapScore,
    "shares": Share, "agreements": LandingAgreement, "prepared": Similarity, "untrained": UntrainedControl,
}  # fmt: skip


def save_geometry(
    store: Store, found: GeometryBook, grams: Mapping[Position, Sequence[ChosenGrams]],
    walked: Sequence[PathPoint] = (),
) -> None:  # fmt: skip
    """A run of tables, one per kind of record, with a column for the position; inner products beside them."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in (*_TABLES, "shared", "points")}
    for place in found.places:
        for name in _TABLES:
            tables[name] += [{**asdict(r), "place": place.position} for r in getattr(place, name)]
        for k, drawn in enumerate(place.shared):
            row = {**asdict(drawn), "place": place.position, "number": k}
            points = row.pop("points")
            tables["shared"].append(row)
            tables["points"] += [{**point, "place": place.position, "number": k} for point in points]
    extra = {name: [asdict(r) for r in getattr(found, name)] for name in ("landings", "multiverse")}
    more = {"labels": found.labels, "settings": dict(found.settings)}
    extra["paths"] = [asdict(p) for p in walked]
    frames = {name: pd.DataFrame(rows) for name, rows in {**tables, **extra}.items()}
    store.save_tables(found.run, "geometry", found.models, frames, partial(_write_grams, grams), more)


def _write_grams(grams: Mapping[Position, Sequence[ChosenGrams]], folder: Path) -> None:
    arrays, questions = {}, {}
    for position, kept in grams.items():
        for g in kept:
            name = f"{position} {g.measure}"
            questions[name] = g.questions
            arrays |= {f"{name} {side}": np.ascontiguousarray(x) for side, x in (("a", g.a), ("b", g.b))}
    save_file(arrays, folder / GRAMS, {"questions": json.dumps(questions)})


def load_grams(store: Store, run: str) -> dict[str, tuple[ChosenGrams, ...]]:
    """Inner products at the chosen layers of a finished run, by position. LabError where it has none."""
    path = store.folder(run) / GRAMS
    try:
        with safe_open(path, framework="numpy") as file:
            questions = json.loads((file.metadata() or {})["questions"])
            found: dict[str, list[ChosenGrams]] = {}
            for name, asked in questions.items():
                position, _, measure = name.partition(" ")
                a, b = (file.get_tensor(f"{name} {side}") for side in "ab")
                found.setdefault(position, []).append(ChosenGrams(measure, tuple(asked), a, b))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise LabError(
            f"run {run} has no readable {GRAMS} ({error}); make it again with this version"
        ) from error
    return {position: tuple(kept) for position, kept in found.items()}


def load_paths(store: Store, run: str) -> tuple[PathPoint, ...]:
    """Token by token, every reply of a finished run in the shared frame; none where no map was drawn."""
    _, tables = store.load_rows(run, "geometry", ("paths",))
    with readable(run):
        return tuple(PathPoint(**r) for r in tables["paths"])


def load_geometry(store: Store, run: str) -> GeometryBook:
    """The geometry of a finished run. LabError when it is missing, damaged or of another version."""
    data, tables = store.load_rows(run, "geometry", (*_TABLES, "shared", "points", "landings", "multiverse"))
    with readable(run):
        return _book(run, data, tables)


def _book(run: str, data: dict[str, Any], tables: dict[str, list[dict[str, Any]]]) -> GeometryBook:
    def of(name: str, kind: type, place: object, number: object = None) -> tuple[Any, ...]:
        rows = [r for r in tables[name] if r["place"] == place and (number is None or r["number"] == number)]
        return tuple(kind(**{k: v for k, v in r.items() if k not in ("place", "number")}) for r in rows)

    places = []
    for position in dict.fromkeys(r["place"] for r in tables["similarities"]):
        kinds = {name: of(name, kind, position) for name, kind in _TABLES.items()}
        drawn = [r for r in tables["shared"] if r["place"] == position]
        shared = tuple(
            SharedMap(
                **{k: v for k, v in r.items() if k not in ("place", "number")},
                points=of("points", SharedPoint, position, r["number"]),
            )
            for r in drawn
        )
        places.append(Place(position, shared=shared, **kinds))
    return GeometryBook(
        run, tuple(ModelIdentity(**m) for m in data["models"]), tuple(data["labels"]), tuple(places),
        tuple(PlacedLanding(**r) for r in tables["landings"]), data["settings"],
        tuple(MultiverseCell(**r) for r in tables["multiverse"]),
    )  # fmt: skip
