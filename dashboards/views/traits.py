"""Quality cards: how well each trait's direction separates its poles, and by which recipe."""

import streamlit as st

from dashboards import direction_parts, loaders, panels, trait_parts
from lab.figures import steering, tables, traits
from lab.records import LabError
from lab.records.cards import TraitBook

SHOWN = 5


def show(book: TraitBook) -> None:
    """One run of `lab extract`."""
    theme = panels.shade()
    st.caption(
        f"Selected recipe of every trait in {panels.plain(book.model.name)}; scores on test questions."
    )
    st.dataframe(tables.cards(book), hide_index=True, key="cards")
    trait = panels.choose("Trait", traits.traits(book), "card_trait")
    position = panels.choose("Pooled at", traits.positions(book), "card_position", words=steering.PLACES.get)
    panels.draw(traits.depth(book, trait, position, theme), "card_depth")
    panels.give(
        book, "card_depth", lambda: traits.depth(book, trait, position),
        lambda: tables.depth_of_traits(book, trait), trait=trait, position=position,
    )  # fmt: skip
    panels.draw_with_clicks(traits.recipes(book, trait, theme), "recipes", {"card_position": 5})
    panels.give(
        book, "recipes", lambda: traits.recipes(book, trait), lambda: tables.cards(book, trait), trait=trait
    )
    panels.draw_with_clicks(traits.recipe_agreement(book, trait, theme), "agreement", {"card_position": 1})
    panels.give(
        book, "agreement", lambda: traits.recipe_agreement(book, trait),
        lambda: tables.agreements(book, trait), trait=trait,
    )  # fmt: skip
    elicitations(book, trait)
    examples(book, trait)
    trait_parts.judged(book, trait)
    trait_parts.doses(book, trait)
    direction_parts.features(book, trait)


def elicitations(book: TraitBook, trait: str) -> None:
    """Told by instruction or brought out by situations: does one's direction read the other's replies?"""
    moved, removed = tables.transfers(book, trait), tables.removed(book, trait)
    if len(moved):
        st.subheader("By instruction, by scenario")
        st.caption(
            "A direction made by one elicitation, read on test replies of the other; AUROC 0.5 is chance."
        )
        st.dataframe(moved, hide_index=True, key="transfers")
    if len(removed):
        st.subheader("Filtered")
        st.caption(
            f"{len(removed)} extract and select replies did not pass; test replies are never filtered."
        )
        st.dataframe(removed, hide_index=True, key="removed")


def examples(book: TraitBook, trait: str) -> None:
    """Test replies farthest up and down, and the least clear ones of each pole."""
    st.subheader("Replies")
    frame = tables.pole_replies(book, trait)
    up, down = frame[frame["pole"] == "positive"], frame[frame["pole"] == "negative"]
    parts = {
        "highest": frame.head(SHOWN), "lowest": frame.tail(SHOWN).iloc[::-1],
        "least clear of the positive pole": up.tail(SHOWN).iloc[::-1],
        "least clear of the negative pole": down.head(SHOWN),
    }  # fmt: skip
    which = panels.choose("Which", list(parts), "card_which")
    st.caption(
        "place: along the direction, about -1 at the negative pole and 1 at the positive (from select)."
    )
    st.dataframe(
        parts[which][["place", "pole", "question", "text", "prompt"]], hide_index=True, key="pole_replies"
    )


st.title("Traits")
st.caption("What each direction is worth: separation on questions that had no part in making it.")
runs = {x.id: x for x in loaders.saved_runs("extract")}
if not runs:
    st.info("No extraction is saved here yet. Make one:")
    st.code("lab extract hearth-a", language=None)
else:
    run = panels.choose("Run", list(runs), "traits_run", words=lambda x: panels.run_words(runs[x]))
    try:
        show(loaders.book(runs[run], TraitBook))
    except LabError as error:
        st.error(panels.plain(error))
