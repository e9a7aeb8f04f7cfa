"""Who stands where between the assistant and the others, in one model and across two."""

import streamlit as st

from dashboards import loaders, panels
from lab.figures import personas, tables
from lab.records import LabError, PersonaMap


def show(found: PersonaMap) -> None:
    """One run: the map of a model, its roles as a table, and the agreement of two."""
    theme = panels.shade()
    model = panels.choose("Model", [s.model for s in found.summaries], "persona_model")
    panels.draw(personas.persona_map(found, model, theme), "persona_map")
    panels.give(
        found,
        "persona_map",
        lambda: personas.persona_map(found, model),
        lambda: tables.roles(found),
        model=model,
    )
    st.dataframe(tables.roles(found), hide_index=True, key="roles")
    if found.agreement is not None:
        panels.draw(personas.role_agreement(found, theme), "role_agreement")
        panels.give(
            found, "role_agreement", lambda: personas.role_agreement(found), lambda: tables.roles(found)
        )


st.title("Persona map")
st.caption("The assistant axis of a model, and where every role stands on it, with error bars.")
runs = {x.id: x for x in loaders.saved_runs("axis")}
if not runs:
    st.info("No persona map is saved here yet. Make one:")
    st.code("lab axis hearth-a hearth-b", language=None)
else:
    run = panels.choose("Run", list(runs), "persona_run", words=lambda x: panels.run_words(runs[x]))
    try:
        show(loaders.book(runs[run], PersonaMap))
    except LabError as error:
        st.error(panels.plain(error))
