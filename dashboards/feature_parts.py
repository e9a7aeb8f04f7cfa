"""What the page Features shows around cards: dictionaries, what is found in them, both models under a scaffold."""

from collections.abc import Sequence
from functools import partial
from html import escape

import pandas as pd
import streamlit as st

from dashboards import loaders, panels, related_features
from dashboards.feature_card_parts import Look, card, picture
from lab.figures import feature_cards, feature_scatter, feature_tables
from lab.figures import feature_words as words
from lab.figures.theme import MODEL_COLOURS
from lab.records import LabError
from lab.records.decomposition import ReadoutBook
from lab.records.feature_cards import FeatureBook

MODES = ("word", "trait", "persona", "all")
MODE_WORDS = {
    "word": "a word",
    "trait": "a trait",
    "persona": "a persona or role",
    "all": "how often it fires",
}


# ------------------------------------------------------------------ dictionaries


def quality(looks: Sequence[Look]) -> None:
    """How good each shown dictionary is, and what holds of all its features."""
    cards = [next((c for c in x.book.qualities if c.name == x.sae), None) for x in looks]
    known = [c for c in cards if c is not None]
    table = feature_tables.quality(known)
    if len(table):
        st.dataframe(table, hide_index=True, key="features_quality")
        made = "; ".join(words.made_of(c) for c in known)
        st.caption(
            "Each dictionary as it loads, on texts held out from its training; 95 % intervals over texts. "
            f"{panels.plain(made)}."
        )
    for look, found in zip(looks, cards, strict=True):
        if found is None or found.quality is None:
            why = f": {found.note}" if found is not None and found.note else ""
            st.warning(
                f"How good {panels.plain(look.sae)} is was not measured with this run{panels.plain(why)}."
            )
            st.code(related_features.command("measure", look.sae), language=None)
    tables = [feature_tables.summaries(look.book, [look.sae]) for look in looks]
    whole = pd.concat(tables, ignore_index=True)
    if len(whole):
        st.dataframe(whole, hide_index=True, key="features_summaries")
        st.caption(
            "Shares of all features (or choices) of a dictionary; null: what the same search finds by chance."
        )


# ------------------------------------------------------------------ finding features


def find(looks: Sequence[Look]) -> None:
    """How features are looked for, then what is found and the card of one of them, a column per dictionary."""
    left, right = st.columns(2)
    with left:
        mode = panels.choose("Find features by", MODES, "features_find", words=MODE_WORDS.__getitem__)
    with right:
        asked = ask(mode, looks)
    for column, look in zip(st.columns(len(looks)), looks, strict=True):
        with column:
            title = f"{look.sae} ({look.book.models[look.book.saes.index(look.sae)].name})"
            colour = MODEL_COLOURS[look.column]
            st.html(f'<b style="border-left:4px solid {colour};padding-left:8px">{escape(title)}</b>')
            try:
                found = results(look, mode, asked)
            except LabError as error:
                st.error(panels.plain(error))
                continue
            card(look, chosen(look, found, f"{mode} {asked}"), looks)


def ask(mode: str, looks: Sequence[Look]) -> str:
    """What is looked for; "" for nothing."""
    if mode == "word":
        return st.text_input(
            "Word: fires on it, promotes it, or goes with a trait, persona or choice of that name",
            key="features_word", bind="query-params", placeholder="tea",
        ).strip()  # fmt: skip
    rows = [r for x in looks for r in x.book.labels if r.sae == x.sae and r.kind == mode]
    known = list(dict.fromkeys(r.label for r in rows))
    if mode == "all":
        return ""
    if not known:
        st.info(
            f"No {mode} is known of these texts. Replies of a run say what features go with: `lab sae features … "
            "--replies RUN` (a run of `lab extract` for traits, of `lab compare` for personas)."
        )
        return ""
    return panels.choose(mode.capitalize(), known, f"features_{mode}")


def results(look: Look, mode: str, asked: str) -> list[int]:
    """What is found, drawn or listed; the strongest first. LabError for what cannot be looked for."""
    if mode in ("trait", "persona") and asked:
        make = partial(feature_cards.label_features, look.book, look.sae, mode, asked, words=look.names)
        table = partial(feature_tables.of_label, look.book, look.sae, mode, asked)
        picture(look, "by_label", make, table, {look.key: 0}, kind=mode, label=asked)
        return [r.feature for r in words.features_of(look.book, look.sae, mode, asked)]
    if mode == "word" and asked:
        hits = [h for h in loaders.hits(look.info, asked) if h.sae == look.sae]
        rows = pd.DataFrame(
            [(look.names[h.feature], h.why, h.score) for h in hits], columns=["feature", "why", "score"]
        )
        return listed(look, rows, [h.feature for h in hits], f"No feature of {panels.plain(asked)} here.")
    cards = sorted((c for c in look.book.cards if c.sae == look.sae), key=lambda c: -c.fires)
    rows = pd.DataFrame(
        [(look.names[c.feature], c.fires, c.fires_low, c.fires_high, c.texts) for c in cards],
        columns=["feature", "fires at (share of tokens)", "low", "high", "texts"],
    )
    return listed(look, rows, [c.feature for c in cards], "This run has no cards of it.")


def listed(look: Look, rows: pd.DataFrame, features: list[int], nothing: str) -> list[int]:
    """A list of features; a click on a row chooses its feature."""
    if not features:
        st.info(nothing)
        return []
    key = f"features_{'ab'[look.column]}_list"
    st.dataframe(
        rows, hide_index=True, height=246, key=key, selection_mode="single-row",
        on_select=partial(take_row, key, look.key, features),
    )  # fmt: skip
    return features


def take_row(table: str, key: str, features: Sequence[int]) -> None:
    """The clicked row of a list chooses the card."""
    rows = st.session_state[table]["selection"]["rows"]
    if rows and rows[0] < len(features):
        st.session_state[key] = str(features[rows[0]])


def chosen(look: Look, found: Sequence[int], asked: str) -> int:
    """The feature whose card is shown: the first found when something else is asked, but what a link or click says."""
    last = f"{look.key} asked"
    if st.session_state.get(last, asked) != asked and found:
        st.session_state[look.key] = str(found[0])
    st.session_state[last] = asked
    here = st.session_state.get(look.key, st.query_params.get(look.key, ""))
    known = look.names
    options = list(dict.fromkeys(map(str, found)))
    if here not in options and here.isdecimal() and int(here) in known:
        options.insert(0, here)
    options = options or [str(min(known))]
    default = options[0] if not found else str(found[0])
    return int(panels.choose("Feature", options, look.key, default, words=lambda f: known[int(f)]))


# ------------------------------------------------------------------ both under a scaffold


def scaffolded(looks: Sequence[Look]) -> None:
    """What a scaffold does to matched features in both models; a click on a mark shows both cards."""
    if len(looks) < 2 or looks[0].info.id != looks[1].info.id:
        return
    one, other = looks
    st.subheader("Both models under a scaffold")
    found = related_features.readouts_of([one.sae, other.sae])
    if not found:
        st.info("No scaffold was read in both dictionaries here yet. That is done by")
        words = ["readout", one.sae, "--other", other.sae, "--twins", one.info.id, "--scaffold", "FILE.md"]
        st.code(related_features.command(*words), language=None, wrap_lines=True)
        return
    runs = {x.id: x for x in found}
    left, right = st.columns(2)
    with left:
        run = panels.choose(
            "Readout", list(runs), "features_readout", words=lambda x: panels.run_words(runs[x])
        )
    try:
        read = loaders.book(runs[run], ReadoutBook)
        with right:
            scaffold = panels.choose("Scaffold", list(read.scaffolds), "features_scaffold")
        keys = {x.sae: x.key for x in looks}
        show_scatter(one.book, read, scaffold, {keys[sae]: k for k, sae in enumerate(one.book.saes)})
        st.dataframe(feature_tables.places(read, scaffold), hide_index=True, key="features_places")
    except LabError as error:
        st.error(panels.plain(error))


def show_scatter(book: FeatureBook, read: ReadoutBook, scaffold: str, into: dict[str, int]) -> None:
    """The scatter and its files."""
    make = partial(feature_scatter.feature_scatter, book, read, scaffold)
    panels.draw_in_column(make(theme=panels.shade()), "features_scatter", into)
    table = partial(feature_scatter.table, book, read, scaffold)
    panels.give(book, "features_scatter", make, table, readout=read.run, scaffold=scaffold)
