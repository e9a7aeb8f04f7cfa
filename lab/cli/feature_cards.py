"""`lab sae features`: what each feature of a dictionary stands for."""

from dataclasses import asdict
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.cli.common import (
    DEFAULT_RUNS,
    Dtype,
    Json,
    Runs,
    number,
    print_json,
    progress,
    table,
    with_interval,
)
from lab.cli.features import Corpus, Force, Model, Name, Texts, sae

if TYPE_CHECKING:
    from lab.pipelines.feature_runs import Hit
    from lab.records.feature_cards import FeatureBook, FeatureCard

SHOWN = 12


@sae.command("features")
def sae_features(
    name: Name,
    other: Annotated[
        str, typer.Option(help="A dictionary of another model: cards for it too, features matched.")
    ] = "",
    second: Annotated[
        str, typer.Option(help='Another seed of the dictionary; default: one that is here, "none" for none.')
    ] = "",
    search: Annotated[str, typer.Option(help="Show features of a word, trait, persona or choice.")] = "",
    model: Model = "",
    other_model: Annotated[str, typer.Option(help="The same for the other dictionary.")] = "",
    corpus: Corpus = "",
    texts: Texts = 256,
    per_persona: Annotated[int, typer.Option(help="On Hearth, conversations of each persona besides.")] = 6,
    truth_texts: Annotated[
        int, typer.Option(help="On Hearth, conversations read for the choices of its grammar; 0: none.")
    ] = 1500,
    replies: Annotated[
        list[str] | None, typer.Option(help="A run of lab extract or lab compare: what features go with.")
    ] = None,
    force: Force = False,
    seed: Annotated[int, typer.Option(help="Seed of texts, halves, bootstrap and nulls.")] = 0,
    dtype: Dtype = "float32",
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Cards of every feature: examples, promoted tokens, traits and personas, twins in another seed and model."""
    from lab.pipelines.feature_runs import search as look
    from lab.pipelines.features import FeaturesConfig, features
    from lab.store import Store

    config = FeaturesConfig(
        name, other, second, model, other_model, corpus, texts=texts, per_persona=per_persona,
        truth_texts=truth_texts, replies=tuple(replies or ()), dtype=dtype, seed=seed, force=force,
    )  # fmt: skip
    with progress(as_json) as update:
        found = features(config, Store(runs), update)
    hits = look(found, search) if search else ()
    if as_json:
        print_json(features_document(found, hits if search else None))
        return
    if search:
        _show_hits(found, hits, search)
    else:
        _show(found)
    print(f"run {found.run}; tables in {runs / found.run}")


def features_document(found: "FeatureBook", hits: "tuple[Hit, ...] | None" = None) -> dict[str, Any]:
    """What `lab sae features --json` prints: numbers and the cards that were searched for; without a search, all cards.

    Examples are in the run's tables.
    """
    wanted = None if hits is None else {(h.sae, h.feature) for h in hits}
    rows = {
        name: [asdict(r) for r in getattr(found, name) if wanted is None or (r.sae, r.feature) in wanted]
        for name in ("cards", "labels", "twins", "choices")
    }
    return {
        "run": found.run, "saes": list(found.saes), "models": [asdict(m) for m in found.models],
        "corpus": found.corpus, "settings": dict(found.settings),
        "summaries": [asdict(s) for s in found.summaries],
        **({} if hits is None else {"hits": [asdict(h) for h in hits]}), **rows,
    }  # fmt: skip


def _show(found: "FeatureBook") -> None:
    for name in found.saes:
        cards = [c for c in found.cards if c.sae == name and c.texts >= 5]
        all_cards = sum(c.sae == name for c in found.cards)
        print(f"{name}: {all_cards} features, {len(cards)} fire in 5 texts or more")
    if found.summaries:
        rows = [
            [f"{s.sae}: {s.what}", with_interval(s.value, s.low, s.high), number(s.null, 3), str(s.n)]
            for s in found.summaries
        ]
        table("dictionaries", ["share of", "value", "by chance", "n"], rows)
        print("\n".join(dict.fromkeys(f"{s.what}: {s.note}" for s in found.summaries)))
    strong = sorted((r for r in found.labels if r.q < 0.05), key=lambda r: -abs(r.r))
    best = list({(r.sae, r.kind, r.label): r for r in reversed(strong)}.values())[::-1]
    rows = [
        [
            r.sae,
            str(r.feature),
            f"{r.kind} {r.label}",
            with_interval(r.r, r.low, r.high),
            f"{r.q:.3g}",
            str(r.n),
        ]
        for r in sorted(best, key=lambda r: -abs(r.r))[: 2 * SHOWN]
    ]
    if rows:
        table(
            "the feature that goes with it best", ["dictionary", "feature", "with", "r", "q", "texts"], rows
        )


def _show_hits(found: "FeatureBook", hits: "tuple[Hit, ...]", word: str) -> None:
    cards = {(c.sae, c.feature): c for c in found.cards}
    rows = [
        [h.sae, str(h.feature), h.why, *_of(cards[h.sae, h.feature]), _example(found, h)]
        for h in hits[:SHOWN]
    ]
    columns = ["dictionary", "feature", "why", "fires at", "promotes", "strongest example"]
    table(f"features of {word!r}" if rows else f"no feature of {word!r}", columns, rows)


def _of(card: "FeatureCard") -> list[str]:
    fires = "never" if isnan(card.mean) else f"{card.fires:.2%}"
    return [fires, ", ".join(t.strip() for t in card.promoted[:3])]


def _example(found: "FeatureBook", hit: "Hit") -> str:
    for row in found.examples:
        if (row.sae, row.feature, row.quantile, row.rank) == (hit.sae, hit.feature, "top", 0):
            tokens = list(row.tokens)
            tokens[row.at] = f"[{tokens[row.at]}]"
            return "".join(tokens[max(0, row.at - 6) : row.at + 3]).replace("\n", " ")
    return ""
