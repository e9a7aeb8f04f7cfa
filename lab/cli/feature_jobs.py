"""`lab sae decompose`, `readout`, `difference`: directions, scaffolds and near twins in sparse features."""

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.cli.common import (
    DEFAULT_RUNS,
    Dtype,
    Json,
    Runs,
    Seed,
    Tokens,
    Traits,
    number,
    print_json,
    progress,
    table,
    with_interval,
)
from lab.cli.features import Corpus, Force, Model, Name, Texts, sae

if TYPE_CHECKING:
    from lab.records.decomposition import DecompositionBook, DifferenceBook, ReadoutBook

SHOWN = 12
"""Rows of a table."""


@sae.command("decompose")
def sae_decompose(
    name: Name,
    traits: Traits = "auto",
    causal: Annotated[
        bool, typer.Option("--causal", help="Also push and take out the features and let a judge read the replies.")
    ] = False,
    k: Annotated[int, typer.Option(help="Features that are pushed and taken out: 1, 2, 4, 8, 16 or 32.")] = 8,
    draws: Annotated[int, typer.Option(help="Null directions of each kind.")] = 200,
    controls: Annotated[
        int, typer.Option(help="Sets of other features that are pushed and taken out; 19 or more can reach p = .05.")
    ] = 19,
    dose: Annotated[
        list[float] | None,
        typer.Option(help="Size of a push to try, in mean residual norms; repeat for more. Default: .125 to .5."),
    ] = None,
    model: Model = "",
    force: Force = False,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:  # fmt: skip
    """What each trait's direction is made of: few features or none, against directions that are not the trait."""
    from lab.pipelines.decompose import DecomposeConfig, decompose_traits
    from lab.pipelines.feature_causes import CausalConfig
    from lab.store import Store

    push = CausalConfig(tuple(dose or CausalConfig().doses), controls) if causal else None
    config = DecomposeConfig(name, model, traits, draws, k, push, dtype, seed, max_new_tokens, force)
    with progress(as_json) as update:
        found = decompose_traits(config, Store(runs), update)
    if as_json:
        print_json(decomposition_document(found))
        return
    _print_decomposition(found, k)


def decomposition_document(found: "DecompositionBook") -> dict[str, Any]:
    """What `lab sae decompose --json` prints: only differences with q < .05."""
    document = asdict(found)
    document["differences"] = [d for d in document["differences"] if d["q"] < 0.05]
    return document


def _print_decomposition(found: "DecompositionBook", k: int) -> None:
    at = {(s.trait, s.method): s for s in found.shares if s.k == k}
    rows = []
    for v in found.verdicts:
        share = at.get((v.trait, v.method))
        explained = with_interval(share.share, share.low, share.high) if share else "not tried"
        parts = [p for p in found.parts if (p.trait, p.method, p.k) == (v.trait, v.method, k)]
        heaviest = sorted(parts, key=lambda p: -abs(p.weight))[:4]
        told = ", ".join(f"{p.feature} ({p.weight:+.2f})" for p in heaviest)
        rows.append(
            [v.trait, v.method, "yes" if v.decomposable else "no", explained, number(v.p, 3), v.null, told]
        )
    title = f"{found.sae}, layer {found.layer} of {found.model.name}; {k} features"
    columns = ["trait", "fit", "few features", "share explained", "p", "hardest null", "heaviest features"]
    table(title, columns, rows)
    effects = [
        [
            c.trait, c.way, c.what, with_interval(c.effect, c.low, c.high), _known(c.share), _known(c.null_high),
            _known(c.p, 3),
        ]
        for c in found.causal
        if c.what != "random"
    ]  # fmt: skip
    if effects:
        heads = ["trait", "way", "what", "effect", "share of the whole", "other features, 97.5 %", "p"]
        table("does it carry the trait?", heads, effects)
    print(f"run {found.run}")


def _known(value: float, digits: int = 2) -> str:
    """A number where there is one to be told."""
    return "" if isnan(value) else number(value, digits)


@sae.command("readout")
def sae_readout(
    name: Name,
    scaffold: Annotated[
        list[Path], typer.Option("--scaffold", help="A scaffold file; repeat for more.", show_default=False)
    ],
    other: Annotated[str, typer.Option(help="Another dictionary, of another model, to read beside it.")] = "",
    twins: Annotated[
        str, typer.Option(help="Run of `lab sae features` that matched both: what is common, what only in one.")
    ] = "",
    traits: Traits = "auto",
    segments: Annotated[bool, typer.Option(help="Leave every segment out in turn.")] = True,
    model: Model = "",
    other_model: Annotated[str, typer.Option(help="The model of --other; default: the one its files name.")] = "",
    force: Force = False,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Which features a scaffold switches on against the model's own neutral, alone or in two models."""
    from lab.pipelines.readout import ReadoutConfig, readout
    from lab.prompts.scaffolds import read_scaffold
    from lab.store import Store

    saes = (name, other) if other else (name,)
    models = (model, other_model)[: len(saes)]
    config = ReadoutConfig(
        saes,
        tuple(read_scaffold(p) for p in scaffold),
        models,
        traits,
        twins,
        segments,
        dtype,
        seed,
        max_new_tokens,
        force,
    )
    with progress(as_json) as update:
        found = readout(config, Store(runs), update)
    if as_json:
        print_json(readout_document(found))
        return
    _print_readout(found)


def readout_document(found: "ReadoutBook") -> dict[str, Any]:
    """What `lab sae readout --json` prints: only what has q < .05."""
    document = asdict(found)
    for name in ("features", "segments"):
        document[name] = [row for row in document[name] if row["q"] < 0.05]
    return document


def _print_readout(found: "ReadoutBook") -> None:
    for model in found.labels:
        for scaffold in found.scaffolds:
            mine = [f for f in found.features if (f.model, f.scaffold) == (model, scaffold)]
            clear = sorted((f for f in mine if f.q < 0.05), key=lambda f: -abs(f.effect))
            rows = [
                [
                    str(f.feature), with_interval(f.effect, f.low / f.unit, f.high / f.unit), number(f.q, 3),
                    str(f.match) if f.match >= 0 else "", f.place, _holding(found, model, scaffold, f.feature),
                ]
                for f in clear[:SHOWN]
            ]  # fmt: skip
            title = f"{scaffold} in {model}: {len(clear)} of {len(mine)} features switched (q < .05)"
            columns = ["feature", "change", "q", "match", "other model", "held up by"]
            table(title, columns, rows)
    if found.why:
        print(found.why)
    print(f"run {found.run}")


def _holding(found: "ReadoutBook", model: str, scaffold: str, feature: int) -> str:
    """Segments without which a feature clearly falls in the same replies."""
    mine = [
        s for s in found.segments
        if (s.model, s.scaffold, s.feature, s.said) == (model, scaffold, feature, "same") and min(0.05 - s.q, s.fall) > 0
    ]  # fmt: skip
    best = sorted(mine, key=lambda s: -s.fall)[:2]
    return "; ".join(f"{s.text.splitlines()[0][:30]} [{s.provenance}]" for s in best)


@sae.command("difference")
def sae_difference(
    name: Name,
    other_model: Annotated[str, typer.Argument(help="A near twin of its model: same tokenizer, same width.")],
    corpus: Corpus = "",
    texts: Texts = 128,
    model: Model = "",
    force: Force = False,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Which latents of a dictionary a near twin of its model has too, checked by latent scaling."""
    from lab.pipelines.model_difference import DifferenceConfig, model_difference
    from lab.store import Store

    config = DifferenceConfig(name, other_model, model, corpus, texts, dtype=dtype, seed=seed, force=force)
    with progress(as_json) as update:
        found = model_difference(config, Store(runs), update)
    if as_json:
        print_json(asdict(found))
        return
    _print_difference(found)


def _print_difference(found: "DifferenceBook") -> None:
    a, b = (m.name for m in found.models)
    words = list(dict.fromkeys(x.verdict for x in found.latents))
    counts = [[w, str(sum(x.verdict == w for x in found.latents))] for w in sorted(words)]
    table(
        f"latents of {a} in {b}: {found.tokens:,} tokens of {found.texts} texts",
        ["verdict", "latents"],
        counts,
    )
    apart = sorted((x for x in found.latents if x.verdict in ("specific", "shrunk")), key=lambda x: x.nu)
    rows = [
        [
            str(x.feature),
            x.verdict,
            with_interval(x.nu, x.low, x.high),
            number(x.alone),
            number(x.ratio),
            str(x.texts),
        ]
        for x in apart[:SHOWN]
    ]
    if rows:
        columns = ["feature", "verdict", "nu", "fitted alone", "activity there / here", "texts"]
        table("silent in the other model by the dictionary", columns, rows)
    if found.why:
        print(found.why)
    print(f"coordinates correlate {found.coordinates:.2f}; run {found.run}")
