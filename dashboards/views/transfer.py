"""Does one model's direction work in the other? Steering with what a map carried over, beside controls."""

from functools import partial

import streamlit as st

from dashboards import loaders, panels
from lab.figures import transfer
from lab.records import LabError
from lab.records.geometry import TransferBook

COLUMNS = {
    "trait": "trait", "source": "from", "target": "into", "layer_source": "its layer", "layer_target": "target's layer",
    "down": "lower dose", "up": "upper dose", "native": "own", "carried": "carried", "random": "random",
    "permuted": "shuffled maps", "wrong": "other traits", "recovery": "recovery", "p": "p", "cosine": "cosine",
}  # fmt: skip


def show(book: TransferBook) -> None:
    """One run: the picture, its files, and the numbers."""
    panels.draw(transfer.transfer_matrix(book, panels.shade()), "transfer_matrix")
    table = partial(transfer.transfers, book)
    panels.give(book, "transfer_matrix", partial(transfer.transfer_matrix, book), table)
    st.subheader("Numbers")
    st.dataframe(
        table(), hide_index=True, key="transfer_numbers", column_order=list(COLUMNS), column_config=COLUMNS
    )
    st.caption("Effects in the judge's unit; intervals, n and the judge are in the file.")


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
        show(loaders.transfer(runs[run]))
    except LabError as error:
        st.error(panels.plain(error))
