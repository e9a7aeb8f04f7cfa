"""The numbers behind the pictures of an atlas, one row per record; user text as it is."""

from dataclasses import asdict

import pandas as pd

from lab.figures.atlas import depth_rows, neighbourhood
from lab.records.atlas import AtlasBook, Scope, Stage


def similarities(book: AtlasBook) -> pd.DataFrame:
    """One row per stage, scope and measure."""
    return pd.DataFrame([{"stage": s.stage, "scope": s.scope, **asdict(s.found)} for s in book.similarities])


def depth(book: AtlasBook, scope: Scope, measure: str) -> pd.DataFrame:
    """One row per depth."""
    return pd.DataFrame([asdict(d) for d in depth_rows(book, scope, measure)])


def maps(book: AtlasBook) -> pd.DataFrame:
    """One row per stage, scope and direction."""
    return pd.DataFrame([asdict(m) for m in book.maps])


def scores(book: AtlasBook, stage: Stage, scope: Scope) -> pd.DataFrame:
    """One row per concept and direction."""
    return pd.DataFrame([asdict(s) for both in book.scores_at(stage, scope).values() for s in both])


def shared(book: AtlasBook, stage: Stage) -> pd.DataFrame:
    """One row per category and per concept."""
    return pd.DataFrame([asdict(s) for s in book.shared if s.stage == stage])


def neighbours(book: AtlasBook, concept: str, stage: Stage) -> pd.DataFrame:
    """One row per model and neighbour."""
    a, b = neighbourhood(book, concept, stage)
    return pd.DataFrame([asdict(n) for n in (*a, *b)])


def contexts(book: AtlasBook, concept: str) -> pd.DataFrame:
    """The concept's sentences, up to the word (what the model had read) and after it. LabError for another concept."""
    rows = book.concept_set.contexts(concept)
    columns = ["frame", "said by", "read", "not read"]
    return pd.DataFrame(
        [[c.frame + 1, c.place, c.text[: c.end], c.text[c.end :]] for c in rows], columns=columns
    )
