"""`lab extract`, `lab export`, `lab scoreboard`, `lab axis`: directions of one model, and how good they are."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

if TYPE_CHECKING:
    from lab.records import Question
    from lab.records.cards import TraitBook
    from lab.records.personas import PersonaMap

from lab.cli.common import (
    DEFAULT_RUNS,
    Dtype,
    Json,
    Runs,
    Seed,
    Tokens,
    Traits,
    app,
    bracket,
    one_of,
    print_json,
    progress,
    table,
)
from lab.errors import LabError

Questions = Annotated[
    Path | None,
    typer.Option(
        help="File of questions to ask in place of the trait set's own: JSON lines {question, id}, split in "
        "their order (40 % extract, 20 % select, the rest test), or a .json file with these three lists."
    ),
]


def _asked(file: Path | None) -> "tuple[Question, ...]":
    """The questions of a file; what was left out of it is told on stderr."""
    if file is None:
        return ()
    if file.name.isdigit() and not file.exists():
        raise LabError(
            f"--questions takes a file; how many `lab axis` asks of each split is --per-split {file}"
        )
    from lab.prompts.questions import read_questions

    found = read_questions(file)
    for note in found.notes:
        print(f"lab: {note}", file=sys.stderr)
    return found.questions


@app.command()
def extract(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder or a hub name.")],
    traits: Traits = "auto",
    questions: Questions = None,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    screen: Annotated[
        str,
        typer.Option(
            help="Make directions only of replies that pass the literature's filter by this judge: exact "
            "(Hearth), model:NAME or api:URL@MODEL. Test replies are never filtered."
        ),
    ] = "",
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the key of an api judge; none is sent without.")
    ] = "",
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Directions of every trait in one model, with how well each layer separates the poles."""
    from lab.pipelines.extract import ExtractConfig
    from lab.pipelines.extract import extract as job
    from lab.store import Store

    config = ExtractConfig(
        model, traits, dtype, seed, max_new_tokens, screen, key_variable, _asked(questions)
    )
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        names = ("depth", "cards", "agreements", "transfers", "removed")
        tables = {name: [asdict(r) for r in getattr(found, name)] for name in names}
        print_json({"run": found.run, "model": found.model.name, **tables})
        return
    rows = [
        [
            c.trait, f"{c.estimator}, {c.position}, {c.layer}", f"{c.auroc:.3f} [{c.low:.3f}, {c.high:.3f}]",
            f"{c.d_prime:.2f}", f"{c.select_d_prime - c.d_prime:+.2f}", f"{c.p:.4f}",
            "yes" if c.p < 0.05 and c.auroc > 0.5 else "no direction",
        ]
        for c in found.cards
        if c.selected and c.elicitation == "instruction"
    ]  # fmt: skip
    columns = ["trait", "recipe, layer", "AUROC", "d′", "optimism", "p", "found"]
    title = (
        f"{found.model.name}: recipes chosen on select, scores on {found.cards[0].questions} test questions"
    )
    table(title, columns, rows)
    if found.transfers:
        _transfer_table(found)
    if screen:
        print(
            f"the filter by {screen} removed {len(found.removed)} extract and select replies (removed.parquet)"
        )
    pairs: dict[tuple[str, str], list[float]] = {}
    for a in found.agreements:
        pairs.setdefault((a.first, a.second), []).append(a.r)
    _agreement("how alike recipes order the test replies inside the poles", pairs)
    print(f"run {found.run}; vectors in {runs / found.run}   (lab export {found.run} TRAIT FILE)")


def _agreement(what: str, pairs: Mapping[tuple[str, str], Sequence[float]]) -> None:
    """A triangle of correlations in hundredths, mean over traits; columns are numbered like the lines."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    count = max((len(values) for values in pairs.values()), default=0)
    print(f"{what}: correlation in hundredths, mean over {count} trait{'s' if count > 1 else ''}")
    for i, name in enumerate(names, 1):
        values = [pairs.get((other, name)) or pairs[name, other] for other in names[: i - 1]]
        known = [[v for v in some if not isnan(v)] for some in values]
        cells = (f"{100 * sum(some) / len(some):4.0f}" if some else "   ?" for some in known)
        print(f"{i:3} {name:<{max(map(len, names))}}{''.join(cells)}")


def _transfer_table(found: "TraitBook") -> None:
    """How directions by one elicitation read what another brings out."""
    own = {(c.trait, c.elicitation): c for c in found.cards if c.selected}
    rows = [
        [
            t.trait, f"{t.made_by} → {t.read_on}", f"{t.auroc:.3f} [{t.low:.3f}, {t.high:.3f}]", f"{t.d_prime:.2f}",
            f"{own[t.trait, t.read_on].auroc:.3f}", f"{t.p:.4f}", f"{t.cosine:+.2f}",
        ]
        for t in found.transfers
    ]  # fmt: skip
    columns = ["trait", "made by → read on", "AUROC", "d′", "own AUROC there", "p", "cosine"]
    table(f"{found.model.name}: does a direction read what another elicitation brings out?", columns, rows)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run of `lab extract`.")],
    trait: Annotated[str, typer.Argument(help="Which trait.")],
    file: Annotated[Path, typer.Argument(help="Where to: .gguf, .pt or .safetensors.")],
    position: Annotated[
        str,
        typer.Option(
            help="selected: the recipe chosen on select. Or a mean difference by its pooling: reply_mean, spawn, "
            "first_tokens or decision."
        ),
    ] = "selected",
    elicitation: Annotated[
        str, typer.Option(help="How the trait was brought out: instruction or scenario.")
    ] = "instruction",
    format: Annotated[
        str | None, typer.Option(help="lab, persona_vectors, assistant_axis or gguf; default by suffix.")
    ] = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """A persona vector in the format of another tool: llama.cpp, persona-vectors, assistant-axis."""
    from lab.pipelines.extract import Format
    from lab.pipelines.extract import export as job
    from lab.records import Elicitation, Position
    from lab.store import Store

    which = one_of("--position", position, ("selected", *get_args(Position)))
    way = one_of("--elicitation", elicitation, get_args(Elicitation))
    kind = None if format is None else one_of("--format", format, get_args(Format))
    for lost in job(Store(runs), run, trait, file, which, way, kind):
        print(f"lab: {lost}", file=sys.stderr)
    print(file)


@app.command()
def scoreboard(
    models: Annotated[
        list[str] | None, typer.Argument(help="Organisms of Hearth; default: hearth-a and hearth-b.")
    ] = None,
    trait: Annotated[list[str] | None, typer.Option(help="Only this trait; repeat for more.")] = None,
    select: Annotated[int, typer.Option(help="Characters that a recipe is chosen on.")] = 48,
    test: Annotated[int, typer.Option(help="Characters that it is reported on.")] = 72,
    seed: Seed = 0,
    max_new_tokens: Tokens = 70,
    runs: Runs = DEFAULT_RUNS,
    every: Annotated[bool, typer.Option("--all", help="Every recipe, not only the one chosen.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the README's table of the chosen recipes, nothing else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """How well each recipe for a direction reads the known truth: estimator x pooling x trait."""
    from lab.pipelines.scoreboard import ScoreConfig, document, markdown
    from lab.pipelines.scoreboard import scoreboard as job
    from lab.store import Store

    names = models or ["hearth-a", "hearth-b"]
    config = ScoreConfig(tuple(names), tuple(trait or ()), select, test, max_new_tokens, seed)
    with progress(as_json or as_markdown) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json(document(found))
        return
    if as_markdown:
        print(markdown(found))
        return
    columns = ["trait", "estimator, pooling, layer", "R² with z", "judge's", "share", "leakage", "optimism"]
    for organism in dict.fromkeys(r.organism for r in found.rows):
        rows = [
            [
                r.trait, f"{r.estimator}, {r.pooling}, {r.layer}", f"{r.r2:.2f} [{r.low:.2f}, {r.high:.2f}]",
                f"{r.ceiling:.2f}", f"{r.share_of_ceiling:.2f}", f"{r.leakage:.2f}", f"{r.select_r2 - r.r2:+.2f}",
            ]
            for r in found.rows
            if r.organism == organism and (r.selected or every)
        ]  # fmt: skip
        title = (
            f"{organism}: recipes chosen on {select} characters, R² with their z on {found.rows[0].n} others"
        )
        table(title, columns, rows)
        pairs: dict[tuple[str, str], list[float]] = {}
        for a in (a for a in found.agreements if a.organism == organism):
            order = sorted(range(len(a.recipes)), key=lambda i, a=a: a.recipes[i])
            for k, i in enumerate(order):
                for j in order[k + 1 :]:
                    pair = " ".join(a.recipes[i]), " ".join(a.recipes[j])
                    pairs.setdefault(pair, []).append(float(a.r[i, j]))
        _agreement(f"{organism}: how alike recipes order the test characters", pairs)


@app.command()
def axis(
    models: Annotated[list[str], typer.Argument(help="One or two models.")],
    base: Annotated[
        str,
        typer.Option(
            help="A base model: where its replies stand, read by each model; of any width and tokenizer."
        ),
    ] = "",
    roles: Annotated[
        Path | None,
        typer.Option(help="Folder of role files, default.json in it or beside it; default: the shipped."),
    ] = None,
    traits: Traits = "auto",
    questions: Questions = None,
    per_split: Annotated[
        int, typer.Option(help="Questions asked of each split, drawn with a fixed seed.")
    ] = 8,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """The assistant axis: where no scaffold, a base model and every role stand, and whether two models agree.

    Of the trait set (--traits) only the questions are asked.
    """
    from lab.pipelines.axis import AxisConfig, find_axis
    from lab.store import Store

    config = AxisConfig(
        models=tuple(models), roles=roles, per_split=per_split, dtype=dtype, seed=seed, max_new_tokens=max_new_tokens,
        trait_set=traits, questions=_asked(questions), base=base,
    )  # fmt: skip
    with progress(as_json) as update:
        found = find_axis(config, Store(runs), update)
    if as_json:
        document = {k: v for k, v in asdict(found).items() if k not in ("models", "replies")}
        names = [m.name for m in found.models]
        several = len(found.summaries)
        print_json({**document, "models": names[:several], "bases": names[several:]})
        return
    for side in found.summaries:
        _role_table(found, side.model)
        print(
            f"first component: {side.share:.0%} of the variance between roles, cosine with the axis "
            f"{side.cosine:.2f}; {side.needed} components for 70 %; reliability of the loadings "
            f"{side.reliability:.2f} ({side.n} {side.split} questions)"
        )
    if found.agreement is not None:
        a = found.agreement
        print(
            f"both models: r {a.r:.2f}{bracket(a.low, a.high)} over {a.n} roles, p {a.p:.4f}, null 97.5 % "
            f"{a.null_high:.2f}, ceiling {a.ceiling:.2f}"
        )
    print(f"run {found.run}; tables and vectors in {runs / found.run}")


def _role_table(found: "PersonaMap", model: str) -> None:
    """The roles at both ends of one model's axis, and all that is no role."""
    from lab.records.personas import base_words, beside_roles

    mine = sorted((r for r in found.landings if r.model == model), key=lambda r: -r.loading)
    roles = [r for r in mine if r.role not in beside_roles(found)]
    beside = [r for r in mine if r.role in beside_roles(found)]
    cells = [
        [r.role, f"{r.loading:+.2f}{bracket(r.low, r.high)}"]
        for r in [*beside, *roles[:10], *roles[10:][-8:]]
    ]
    layer = next(s.layer for s in found.summaries if s.model == model)
    title = (
        f"{model}, layer {layer}: no role, then most and least like the assistant (0 mean role, 1 default)"
    )
    table(title, ["role", "loading"], cells)
    for words in base_words(found, model):
        print(words)
