"""Who stands where between the assistant and the others, in one model and across two."""

import streamlit as st

from dashboards import loaders, panels
from lab.figures import personas, tables
from lab.records import LabError
from lab.records.personas import PersonaMap


def show(found: PersonaMap) -> None:
    """One run: the map of a model, its roles as a table, and the agreement of two."""
    theme = panels.shade()
    model = panels.choose("Model", [s.model for s in found.summaries], "persona_model")
    panels.draw_with_clicks(personas.persona_map(found, model, theme), "persona_map", {"persona_role": 0})
    panels.give(
        found,
        "persona_map",
        lambda: personas.persona_map(found, model),
        lambda: tables.roles(found),
        model=model,
    )
    said(found, model)
    st.dataframe(tables.roles(found), hide_index=True, key="roles")
    if found.agreement is not None:
        panels.draw_with_clicks(personas.role_agreement(found, theme), "role_agreement", {"persona_role": 0})
        panels.give(
            found, "role_agreement", lambda: personas.role_agreement(found), lambda: tables.roles(found)
        )


def said(found: PersonaMap, model: str) -> None:
    """What one of them said to the test questions, beside where each reply stands, and under which prompts."""
    rows = {r.role: r for r in personas.roles_of(found, model)}
    role = panels.choose("Who (or click a mark)", list(rows), "persona_role")
    replies = personas.replies_of(found, model, role)
    if not replies:
        st.info("This run kept no replies (an older `lab axis` made it); run it again.")
        return
    table = tables.role_replies(replies)
    places = {"loading": st.column_config.NumberColumn(format="%.2f", width=80)}
    st.dataframe(table.drop(columns="system"), hide_index=True, key="role_replies", column_config=places)
    prompts = list(dict.fromkeys(r.system for r in replies))
    with st.expander(f"System prompts ({len(prompts)})" if any(prompts) else "No system prompt was given"):
        for prompt in filter(None, prompts):
            st.text(prompt)


st.title("Persona map")
st.caption(
    "The assistant axis of a model, and where every role stands on it, with error bars. Click a mark to read it."
)
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
