"""What other runs say of a trait of this very model: judges, doses."""

import streamlit as st

from dashboards import loaders, panels
from lab.figures import judges, steering
from lab.records import LabError
from lab.records.cards import TraitBook
from lab.records.steering import Steering


def doses(book: TraitBook, trait: str) -> None:
    """Dose and response, if this very model was steered here."""
    runs = loaders.saved_runs("steer")
    books = (loaders.book(run, Steering) for run in runs)
    same = [b for b in books if b.model.fingerprint == book.model.fingerprint and trait in steering.traits(b)]
    st.subheader("Dose and response")
    if same:
        panels.draw(steering.dose_response(same[0], trait, panels.shade()), "card_dose")
    else:
        st.info("This model was not steered here yet:")
        st.code(f"lab steer {book.model.name}", language=None)


def judged(book: TraitBook, trait: str) -> None:
    """How far judges agree on this very model's replies, if they were asked."""
    st.subheader("Judges")
    found = _newest(book, trait)
    if found is None:
        st.info("No judge was asked about this trait in this model's replies here yet:")
        exact = " --judge exact --judge contrast" if book.model.name in loaders.model_names() else ""
        st.code(f"lab judge {book.model.name}{exact}", language=None)
        return
    run, rows = found
    panels.draw(judges.judges(rows, trait, panels.shade()), "card_judges")
    panels.give(
        book,
        "judges",
        lambda: judges.judges(rows, trait),
        lambda: judges.table(rows),
        trait=trait,
        judged=run,
    )
    st.dataframe(judges.table(rows), hide_index=True, key="card_judged")
    st.caption(f"From run {panels.plain(run)}.")


def _newest(book: TraitBook, trait: str) -> tuple[str, list[judges.Row]] | None:
    """The newest run of `lab judge` that asked about this trait of this model, and what its judges said."""
    for info in loaders.saved_runs("judge"):
        try:
            manifest, tables = loaders.store().load_rows(info.id, "judge", ["verdicts"])
        except LabError as error:
            st.error(panels.plain(error))
            continue
        rows: list[judges.Row] = [r for r in tables["verdicts"] if r["trait"] == trait]
        if rows and manifest["models"][0]["fingerprint"] == book.model.fingerprint:
            return info.id, rows
    return None
