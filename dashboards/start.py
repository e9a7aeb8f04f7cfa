"""The form that starts a comparison, and its progress."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboards import background, loaders
from dashboards.panels import plain
from lab.records import Comparison, LabError, ScaffoldFile

START_WITH = 8
SHOWN_WORDS = 40


def model_choice(label: str, key: str, index: int) -> str | None:
    """A shipped model, or any folder or hub name typed in."""
    names = loaders.model_names()
    typed = st.session_state.get(key, st.query_params.get(key))
    options = names if not typed or typed in names else [*names, typed]
    return st.selectbox(
        label, options, index=min(index, len(names) - 1) if names else None, key=key, bind="query-params",
        accept_new_options=True, placeholder="choose, or type a folder or hub name",
        help="A model that comes with the lab, or the folder or hub name of any causal language model.",
    )  # fmt: skip


def scaffold_choice() -> tuple[list[ScaffoldFile], list[ScaffoldFile]]:
    """Shipped scaffolds; then uploaded ones and one written here. LabError: a bad format."""
    from lab.prompts.scaffolds import parse_scaffold

    texts = loaders.scaffold_texts()
    names = list(texts)
    picked = st.multiselect(
        "Scaffolds that come with the lab", names, default=names[:START_WITH], key="shipped", bind="query-params",
        help="Eight or more let their geometry be tested; what was run before is not run again.",
    )  # fmt: skip
    uploads = st.file_uploader(
        "Your own (Markdown or text)", type=["md", "txt"], accept_multiple_files=True, max_upload_size=1
    )
    base = st.selectbox("Edit a copy of", names, index=None, placeholder="start from nothing", key="base")
    written = st.text_area(
        "Scaffold text", texts.get(base or "", ""), height=220, key=f"text of {base}",
        placeholder="# Title\n\nYou are …\n\n## Memory\n- …",
    )  # fmt: skip
    own = [(x.name.rsplit(".", 1)[0], decode(x.name, x.getvalue())) for x in uploads]
    if written.strip() and written.strip() != texts.get(base or "", "").strip():
        own.append(("edited", written))
    chosen = [parse_scaffold(texts[name], name) for name in picked]
    for name, text in own:
        scaffold = parse_scaffold(text, name)
        taken = {x.name for x in chosen}
        chosen.append(replace(scaffold, name=_free(scaffold.name, taken)))
    return chosen[: len(picked)], chosen[len(picked) :]


def decode(name: str, raw: bytes) -> str:
    """The text of an uploaded file. LabError when it is not UTF-8."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabError(
            f"{name}: expected UTF-8 text, got other bytes at {error.start}; save it as UTF-8"
        ) from error


def _free(name: str, taken: set[str]) -> str:
    tries = (name, f"{name} (edited)", *(f"{name} (edited {i})" for i in range(2, 100)))
    return next(x for x in tries if x not in taken)


def unseen(models: list[str], scaffolds: list[ScaffoldFile]) -> None:
    """Say which words of people's own scaffolds a model never met: they say nothing to it."""
    for scaffold in scaffolds:
        text = "\n".join(x.text for x in scaffold.paraphrases)
        for model in models:
            words = loaders.unseen_words(model, text)
            if words:
                more = f" and {len(words) - SHOWN_WORDS} more" if len(words) > SHOWN_WORDS else ""
                count = f"{len(words)} word{'s' if len(words) > 1 else ''}"
                st.warning(
                    f"{plain(model)} never saw {count} of “{plain(scaffold.name)}” in training: "
                    f"{plain(', '.join(words[:SHOWN_WORDS]))}{more}"
                )


def form() -> None:
    """Choose models and scaffolds, then run."""
    left, right = st.columns(2)
    with left:
        a = model_choice("Model A", "a", 0)
    with right:
        b = model_choice("Model B", "b", 1)
    try:
        shipped, own = scaffold_choice()
    except LabError as error:
        st.error(plain(error))
        shipped, own = [], []
    models = [x for x in (a, b) if x]
    scaffolds = [*shipped, *own]
    unseen(models, own)
    with st.expander("Settings"):
        columns = st.columns(4)
        trait_set = columns[0].text_input(
            "Trait set",
            "auto",
            help="auto, a shipped name or a file; persona:warmth,attachment takes two of its traits",
        )
        seed = columns[1].number_input("Seed", 0, value=0, step=1)
        tokens = columns[2].number_input("New tokens per reply", 4, 512, 40)
        dtype = columns[3].selectbox("Number format", ["float32", "bfloat16"])
    busy = background.busy()
    ready = len(models) == 2 and bool(scaffolds)
    if st.button("Run the comparison", type="primary", disabled=busy or not ready):
        start(models, scaffolds, trait_set.strip() or "auto", int(seed), int(tokens), dtype)
        st.rerun()
    progress(offer)


def start(
    models: list[str], scaffolds: list[ScaffoldFile], trait_set: str, seed: int, tokens: int, dtype: str
) -> None:
    """Hand the comparison to the runner."""
    from lab.pipelines.compare import CompareConfig

    config = CompareConfig(
        models=tuple(models), scaffolds=tuple(scaffolds), trait_set=trait_set, dtype=dtype, seed=seed,
        max_new_tokens=tokens,
    )  # fmt: skip
    background.in_background("lab.pipelines.compare:compare", config)


def progress(finished: Callable[[Any], None]) -> None:
    """The state of the current job, renewed every second while it runs; its result goes to `finished`."""
    job = loaders.runner().job
    if job is None:
        return

    @st.fragment(run_every=1.0 if job.running else None)
    def show(was_running: bool) -> None:
        if job.running:
            st.progress(job.fraction, text=f"{plain(job.stage)}: {job.fraction:.0%}")
            st.caption("Finished stages are kept: a run that is stopped goes on from there.")
            return
        if was_running:
            st.rerun()
        outcome(job.outcome, finished)

    show(job.running)


def outcome(future: Future[Any], finished: Callable[[Any], None]) -> None:
    """What went wrong, or what is to be done with the result."""
    error = future.exception()
    if isinstance(error, LabError):
        st.error(plain(error))
    elif error is not None:
        st.exception(error)
    else:
        finished(future.result())


def offer(done: object) -> None:
    """A finished comparison, to be opened; the result of another page's job is not for here."""
    if isinstance(done, Comparison):
        st.success("The comparison is done.")
        if st.button("Open the result", on_click=open_run, args=(done.run,), type="primary"):
            st.rerun()


def open_run(run: str) -> None:
    """Turn to a saved run."""
    st.session_state["view"] = "Saved run"
    st.session_state["run"] = run
