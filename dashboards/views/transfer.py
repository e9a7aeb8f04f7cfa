"""Does one model's direction work in the other? Steering with what a map carried over, beside controls."""

from functools import partial

import streamlit as st

from dashboards import loaders, panels
from lab.figures import theme, transfer, transfer_doses
from lab.records import LabError
from lab.records.geometry import TransferBook

# Kinds of push side by side; what counts first, its controls under it. (A string here would be shown on the page.)
ROWS = (("none", "native", "carried"), ("random", "permuted", "wrong"))


def show(book: TransferBook) -> None:
    """One run: all traits, then one of them dose by dose and in its own words, and the numbers."""
    clicks = {"transfer_trait": 0, "transfer_source": 1}
    panels.draw_with_clicks(transfer.transfer_matrix(book, panels.shade()), "transfer_matrix", clicks)
    matrix, table = partial(transfer.transfer_matrix, book), partial(transfer.transfers, book)
    panels.give(book, "transfer_matrix", matrix, table)
    st.dataframe(transfer.numbers(book), hide_index=True, key="transfer_numbers")

    st.subheader("One trait")
    left, right = st.columns(2)
    with left:
        trait = panels.choose("Trait (or click a mark above)", transfer.traits(book), "transfer_trait")
    with right:
        into = dict(transfer.ways(book))
        source = panels.choose(
            "Carried", list(into), "transfer_source", words=lambda a: f"from {a} into {into[a]}"
        )
    curve = partial(transfer_doses.dose_curve, book, trait, source)
    panels.draw_with_clicks(curve(theme=panels.shade()), "transfer_doses", {"transfer_side": 2})
    table = partial(transfer_doses.doses, book, trait, source)
    panels.give(book, "transfer_doses", curve, table, trait=trait, source=source)
    replies(book, trait, source)


def replies(book: TransferBook, trait: str, source: str) -> None:
    """What the target said to one question under every kind of push at one dose."""
    asked, t = transfer_doses.questions(book), transfer_doses.transfer_of(book, trait, source)
    if not asked:
        st.info("This run kept no replies.")
        return
    left, right = st.columns(2)
    with left:
        question = panels.choose("Question", list(asked), "transfer_question", words=asked.__getitem__)
    with right:
        doses = {"up": t.up, "down": t.down}
        side = panels.choose(
            "Push (or click a dose above)", list(doses), "transfer_side",
            words=lambda x: f"{transfer_doses.SIDES[x]}, {doses[x]:+g} mean residual norms",
        )  # fmt: skip
    found = transfer_doses.replies_of(book, trait, source, side, question)
    labels = list(book.labels)
    owner = {"native": t.target, "carried": t.source}
    for kinds in ROWS:
        for column, kind in zip(st.columns(len(kinds)), kinds, strict=True):
            if kind in found:
                label = owner.get(kind)
                colour = theme.MODEL_COLOURS[labels.index(label)] if label else panels.shade().faint
                texts = [r.text for r in found[kind]]
                panels.said(column, transfer_doses.head(found[kind][0]), texts, colour)
    st.caption(
        f"{panels.plain(t.target)} to test questions without a system prompt, sampled; all pushes of one dose at one layer "
        f"({t.layer_target}) and with the same seeds. Controls: the first direction drawn of each kind, whatever it did."
    )


st.title("Transfer")
st.caption(
    "Each model steered with the other's directions, carried through the map between them: as well as with its own?"
)
runs = {x.id: x for x in loaders.saved_runs("transfer")}
if not runs:
    st.info("No transfer is saved here yet. Make one:")
    st.code("lab transfer hearth-a hearth-b", language=None)
else:
    run = panels.choose("Run", list(runs), "transfer_run", words=lambda x: panels.run_words(runs[x]))
    try:
        show(loaders.book(runs[run], TransferBook))
    except LabError as error:
        st.error(panels.plain(error))
