"""Do two models' scaffolds lie alike, and does one's geometry map onto the other's?"""

import streamlit as st

from dashboards import control_parts, loaders, panels, trajectory_parts
from dashboards import geometry_parts as parts
from lab.figures import geometry
from lab.records import LabError
from lab.records.geometry import GeometryBook

# Each function draws its part of a `Look`; what is added here is shown. (A string here would be, too.)
SECTIONS: dict[str, tuple[parts.Part, ...]] = {
    "Do the scaffolds lie alike?": (parts.alike,),
    "Does one map onto the other?": (parts.map_scores, parts.shared_frame),
    "How does a reply get there?": (trajectory_parts.way_of_a_reply,),
    "Is it more than the words?": (control_parts.what_words_do,),
    "Less alike than a reference pair?": (control_parts.another_run,),
    "Are both moved alike?": (parts.agreement, parts.shares, parts.other_recipes),
    "One scaffold": (parts.one_scaffold,),
}


def show(book: GeometryBook) -> None:
    """One run at one place, section by section."""
    left, right = st.columns(2)
    with left:
        position = panels.choose(
            "Read at", geometry.positions(book), "geometry_position", words=panels.POSITIONS.__getitem__
        )
    with right:
        trait = panels.choose("Trait", geometry.traits(book), "geometry_trait")
    for title, some in SECTIONS.items():
        st.subheader(title)
        for part in some:
            part(parts.Look(book, position, trait))


st.title("Geometry")
st.caption("Two models under the same scaffolds: whether their geometry is one, with nulls and ceilings.")
runs = {x.id: x for x in loaders.saved_runs("geometry")}
if not runs:
    st.info("No comparison of geometry is saved here yet. Make one:")
    st.code("lab geometry hearth-a hearth-b", language=None)
else:
    run = panels.choose("Run", list(runs), "geometry_run", words=lambda x: panels.run_words(runs[x]))
    try:
        show(loaders.book(runs[run], GeometryBook))
    except LabError as error:
        st.error(panels.plain(error))
