"""`lab sae …`: sparse dictionaries of a model's residual stream."""

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
    app,
    number,
    print_json,
    progress,
    table,
    with_interval,
)

if TYPE_CHECKING:
    from lab.records.features import SaeCard

sae = typer.Typer(
    help="Sparse dictionaries (SAEs): train, list, measure; features (cards), decompose (directions), readout "
    "(scaffolds), difference (near twins).",
    no_args_is_help=True,
)
app.add_typer(sae, name="sae")
Name = Annotated[
    str, typer.Argument(help='A name of "lab sae list", a folder, or release/sae_id of SAELens.')
]
Model = Annotated[str, typer.Option("--model", help="The model; default: the one that the files name.")]
Corpus = Annotated[
    str, typer.Option("--corpus", help="Texts; default: held-out ones of its training corpus.")
]
Texts = Annotated[int, typer.Option("--texts", help="How many held-out texts.")]
Force = Annotated[
    bool, typer.Option("--force", help="Take it though it was made of another model of this shape.")
]
L0_SLACK = 0.1
"""A dictionary whose L0 at load differs by a larger share from that at the end of its training is told of."""


@sae.command("train")
def sae_train(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder or a hub name.")],
    layer: Annotated[int | None, typer.Option(help="After which block; default: the middle one.")] = None,
    corpus: Annotated[
        str,
        typer.Option(
            help='"hearth", a .jsonl or .parquet file (text or messages), a folder of .parquet or .txt files, or '
            "a saved Hugging Face dataset."
        ),
    ] = "hearth",
    expansion: Annotated[int, typer.Option(help="Features per dimension of the model.")] = 8,
    k: Annotated[int, typer.Option(help="Features active per token.")] = 32,
    architecture: Annotated[
        str, typer.Option(help="topk, batchtopk, matryoshka, jumprelu, standard or gated.")
    ] = "topk",
    coefficient: Annotated[
        float, typer.Option(help="Weight of the sparsity loss of jumprelu, standard and gated.")
    ] = 1.0,
    tokens: Annotated[int, typer.Option(help="Activations to train on.")] = 4_000_000,
    batch: Annotated[int, typer.Option(help="Activations per step.")] = 2048,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate (activations are scaled alike for all models).")
    ] = None,
    buffer: Annotated[int, typer.Option(help="Activations in the shuffle buffer: memory.")] = 131_072,
    longest: Annotated[int, typer.Option(help="Tokens of a text that are read together.")] = 1024,
    stored: Annotated[str, typer.Option(help="Number format of the saved weights: float32 or bfloat16.")] = "float32",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: saes/NAME in the folder of runs.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and made-up conversations.")] = 0,
    dtype: Dtype = "float32",
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train a dictionary on a model's residual stream, and measure it. Ctrl-C, and the same command goes on there."""
    from lab.pipelines.sae import MeasureConfig, SaeConfig, measure_sae, train_sae
    from lab.records.features import SaeSettings
    from lab.store import Store

    settings = SaeSettings(
        architecture=architecture, expansion=expansion, k=k, coefficient=coefficient, tokens=tokens, batch=batch,
        lr=lr, corpus=corpus, buffer=buffer, longest=longest, seed=seed, stored=stored,
    )  # fmt: skip
    store = Store(runs)
    with progress(as_json) as update:
        folder = train_sae(SaeConfig(model, settings, layer, out, dtype), store, update)
        card = measure_sae(str(folder), MeasureConfig(dtype=dtype), store, update)
    _print(card, as_json)


@sae.command("list")
def sae_list(runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """The dictionaries that are here, measured as they load on held-out text (the first time takes a while)."""
    from lab.pipelines.sae import list_saes, listed
    from lab.store import Store

    with progress(as_json) as update:
        cards = list_saes(Store(runs), update)
    if as_json:
        print_json(listed(cards))
        return
    rows = [
        [
            c.name, c.origin.model, c.origin.hook, str(c.origin.d_sae),
            *((number(x, 3) for x in (c.quality.explained_variance, c.quality.l0, c.quality.loss_recovered,
                                       c.quality.dead)) if c.quality else ["cannot tell"] * 4),
        ]
        for c in cards
    ]  # fmt: skip
    table(
        "dictionaries",
        ["name", "model", "hook", "features", "variance explained", "L0", "loss recovered", "dead"],
        rows,
    )
    for c in cards:
        if c.quality is None:
            print(f"{c.name}: {c.note}")


@sae.command("measure")
def sae_measure(
    name: Name,
    model: Model = "",
    corpus: Corpus = "",
    texts: Texts = 128,
    force: Force = False,
    seed: Annotated[int, typer.Option(help="Seed of texts and bootstrap.")] = 0,
    dtype: Dtype = "float32",
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:  # fmt: skip
    """How good a dictionary is when loaded: variance explained, L0, dead features, loss recovered when spliced in."""
    from lab.pipelines.sae import MeasureConfig, measure_sae
    from lab.store import Store

    with progress(as_json) as update:
        card = measure_sae(name, MeasureConfig(model, corpus, texts, dtype, seed, force), Store(runs), update)
    _print(card, as_json)


def sae_document(card: "SaeCard") -> dict[str, Any]:
    """What `lab sae measure --json` prints."""
    return asdict(card)


def _print(card: "SaeCard", as_json: bool) -> None:
    q, o = card.quality, card.origin
    if as_json or q is None:
        print_json(sae_document(card))
        return
    rows = [
        ["variance explained", with_interval(q.explained_variance, q.explained_low, q.explained_high)],
        ["active features per token (L0)", with_interval(q.l0, q.l0_low, q.l0_high)],
        ["L0 at the end of training", number(o.l0_trained)],
        ["loss recovered when spliced in", with_interval(q.loss_recovered, q.recovered_low, q.recovered_high)],
        ["loss: as it is / spliced / mean state", f"{q.loss_clean:.3f} / {q.loss_spliced:.3f} / {q.loss_ablated:.3f}"],
        [f"features that {q.tokens:,} tokens never switch on", with_interval(q.dead, q.dead_low, q.dead_high)],
    ]  # fmt: skip
    where = f"{o.model} {o.hook}, {o.architecture}, {o.d_in} x {o.d_sae}"
    table(f"{card.name}: {where}; {q.texts} held-out texts", ["what", "value"], rows)
    if not isnan(o.l0_trained) and abs(q.l0 - o.l0_trained) > L0_SLACK * o.l0_trained:
        print("L0 is not what it was in training: too few steps for a running threshold, or other text.")
    print(f"{card.folder or card.name}; 95 % intervals over texts; loss of {q.loss_on}, nats per token.")
