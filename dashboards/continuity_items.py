"""Single items of the battery, as the page Continuity shows them: what was asked, replied, checked, and why it failed."""

from collections.abc import Sequence
from functools import partial
from math import isnan
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import loaders, panels
from lab.figures import continuity as figures
from lab.figures.theme import MODEL_COLOURS
from lab.pipelines.continuity_shown import asked, check_words, shown
from lab.records import LabError
from lab.records.continuity import EVERY, ContinuityItem, ContinuityResult, Outcome
from lab.store import RunInfo

ANY, DIFFER = "any", "models differ"
OUTCOMES = ("failed", "passed", "unscored")
VERDICTS = {1.0: "passed", 0.0: "failed"}
SPEAKERS = {"system": "System prompt", "user": "Person", "assistant": "Earlier reply"}


def items(found: Sequence[ContinuityResult], info: RunInfo) -> None:
    """Choose an item by family, variant, condition and outcome; then all that is known of it."""
    st.subheader("Item by item")
    mine = _chosen(found)
    if not mine:
        st.info("No item is so.")
        return
    words = {o.item: f"{o.item}, {_verdict(o)}{_tone(o)}" for o in mine}
    item = panels.choose("Item (the best tone first)", list(words), "battery_item", words=words.get)
    condition = next(o for o in mine if o.item == item).condition
    known = _asked(found[0], info).get(item)
    some = next(o for o in mine if o.item == item)
    st.caption(
        panels.plain(
            ", ".join(
                x for x in (figures.family_words(some.family), some.variant, some.who) if x and x != item
            )
        )
    )
    _chat(known, condition)
    rows = [next((o for o in r.outcomes if (o.item, o.condition) == (item, condition)), None) for r in found]
    for column, row, label, colour in zip(
        st.columns(len(found)), rows, figures.labels(found), MODEL_COLOURS, strict=False
    ):
        _reply(column, row, label, colour)
    _checked(known)
    _elsewhere(found, item)


def _chosen(found: Sequence[ContinuityResult]) -> list[Outcome]:
    """The outcomes of the first run that are asked for, the best tone first."""
    columns = st.columns(4)
    rows = list(found[0].outcomes)
    families = [EVERY, *(f for f in figures.families_of(found[:1]) if f != EVERY)]
    with columns[0]:
        family = panels.choose("Family", families, "battery_family", words=figures.family_words)
    rows = [o for o in rows if family in (EVERY, o.family)]
    variants = list(dict.fromkeys(o.variant for o in rows if o.variant))
    with columns[1]:
        variant = panels.choose("Variant", [ANY, *variants], "battery_variant")
    with columns[2]:
        condition = panels.choose("Condition", figures.conditions_of(found[:1]), "battery_condition")
    with columns[3]:
        options = [ANY, *OUTCOMES, *([DIFFER] if len(found) > 1 else [])]
        outcome = panels.choose(f"Outcome of {panels.plain(found[0].model.name)}", options, "battery_outcome")
    rows = [o for o in rows if o.condition == condition and variant in (ANY, o.variant)]
    if outcome == DIFFER:
        other = {o.item: _verdict(o) for o in found[1].outcomes if o.condition == condition}
        rows = [o for o in rows if other.get(o.item, _verdict(o)) != _verdict(o)]
    elif outcome != ANY:
        rows = [o for o in rows if _verdict(o) == outcome]
    return sorted(rows, key=lambda o: -o.tone if o.tone == o.tone else float("inf"))


def _verdict(o: Outcome) -> str:
    return VERDICTS.get(o.passed, "unscored")


def _tone(o: Outcome) -> str:
    return "" if isnan(o.tone) else f", tone {o.tone:+.2f}"


def _asked(found: ContinuityResult, info: RunInfo) -> dict[str, ContinuityItem]:
    """Items of the run's set, or of a file that the reader names."""
    try:
        return loaders.battery(info)
    except LabError:
        place = st.text_input(
            f"Where the items of {panels.plain(found.set_name)} are (a file or a folder); the run keeps replies only",
            key="battery_items",
        )
        if not place.strip():
            return {}
    try:
        return asked(found, place.strip())
    except LabError as error:
        st.error(panels.plain(error))
        return {}


def _chat(item: ContinuityItem | None, condition: str) -> None:
    if item is None:
        st.info("The run keeps replies, not chats, and this item is not in its set any more as it was asked.")
        return
    given = shown(item, condition, loaders.scaffolds())
    with st.expander("The chat that it was shown", expanded=True):
        if given.chat[0].role != "system":
            st.caption(panels.plain(f"Without {given.missing}, which the run does not keep."
                                    if given.missing else "No system prompt under this condition."))  # fmt: skip
        for message in given.chat:
            panels.said(st, SPEAKERS[message.role], [message.content], "#8a8f98")
        st.caption("Made anew from the set as it is here now: a run keeps replies, not chats.")


def _reply(column: Any, row: Outcome | None, label: str, colour: str) -> None:
    if row is None:
        column.info(f"{panels.plain(label)} was not asked this under this condition.")
        return
    panels.said(column, f"{label}: {_verdict(row)}", [row.reply], colour)
    more = [row.reason] if row.reason else []
    more += [f"tone match {row.tone:.2f}"] if not isnan(row.tone) else ["tone could not be read"]
    more += [f"judge's score {row.score:.0f} of 100"] if not isnan(row.score) else []
    column.caption(panels.plain("; ".join(more)))


def _checked(item: ContinuityItem | None) -> None:
    if item is None:
        return
    st.markdown("**What was checked** (all of it must hold)")
    for check in item.checks:
        st.text(f"• {check_words(check)}")
    if item.rubric:
        st.text(f"• a judge finds: {item.rubric}")
    draws = ((item.chance, "without the scaffold"), (item.ceiling, "with it"))
    told = [f"{share:.0%} of draws {how}" for share, how in draws if not isnan(share)]
    if told:
        st.caption(f"The world's own source passes it in {' and '.join(told)}.")


def _elsewhere(found: Sequence[ContinuityResult], item: str) -> None:
    """The same item under every condition, in every run shown."""
    rows = [
        {
            "model": label, "condition": o.condition, "outcome": _verdict(o), "tone": o.tone, "why": o.reason,
            "reply": o.reply,
        }
        for r, label in zip(found, figures.labels(found), strict=True)
        for o in r.outcomes
        if o.item == item
    ]  # fmt: skip
    st.markdown("**The same item under every condition**")
    key = "battery_elsewhere"
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, key=key, selection_mode="single-row",
        column_config={"tone": st.column_config.NumberColumn(format="%.2f")},
        on_select=partial(panels.take_row, key, [_there(item, str(r["condition"])) for r in rows]),
    )  # fmt: skip
    st.caption("Click a row to read it above.")


def _there(item: str, condition: str) -> dict[str, str]:
    return {"battery_item": item, "battery_condition": condition, "battery_outcome": ANY}
