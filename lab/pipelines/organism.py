"""Making and measuring model organisms: training, obedience as it goes, and the model card."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.records import LabError

Say = Callable[[str], None]
CARD_SEED = 4711
TURNS = 6


def train_organism(
    name: str, out: Path, work: Path, workers: int, say: Say, start: Path | None = None
) -> None:
    """Train `name` in `work`, write it to `out` as a Hugging Face folder, measure it, write its card.

    With `start`, the folder of an organism made by the same recipe: train that one on, by the last two
    stages, on other conversations.
    """
    from lab.world.evaluate import TRAITS, answers, cases, obedience, share_right
    from lab.world.library import library
    from lab.world.train import RECIPES, Progress, train

    if name not in RECIPES:
        raise LabError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    recipe, past = RECIPES[name], training_of(start) if start else None
    if past is not None:
        if past["recipe"] != name:
            raise LabError(f"{start} was made by the recipe {past['recipe']}, not by {name}")
        recipe = replace(recipe, stages=recipe.stages[-2:], corpus=past["rounds"])
    items = cases(library(), CARD_SEED, 32, TURNS)

    def report(p: Progress) -> None:
        speed = (p.tokens - p.first) / p.seconds
        say(
            f"{p.done:4.0%}  step {p.step}  {p.tokens / 1e6:.2f} M tokens  {speed:,.0f} tokens/s  "
            f"{p.excess:.3f} nats above the source  readers: z {p.z:.2f}, situation {p.situation:.2f}, "
            f"looked {p.looked:.2f}, named {p.named:.2f}"
        )

    def probe(model: object, tokenizer: object, shard: int) -> None:
        replies = answers(model, tokenizer, items, shard)
        found = obedience(library(), items, replies)
        scores = "  ".join(f"{t} {r:.2f}" for t, r in zip(TRAITS, found.correlation, strict=True))
        right, n = share_right(items, replies, "reply.ask_fact.known")
        say(
            f"after shard {shard}, {len(items)} scaffolds x {TURNS} replies: {found.coherence:.1%} parsed, "
            f"{right:.0%} of {n} facts in memory right; obedience r: {scores}"
        )

    model, tokenizer = train(recipe, work, report, probe, workers, start=start)
    write_organism(model, tokenizer, out, history(recipe, _tokens(work), past))
    measure_organism(out, say)


def training_of(folder: Path) -> dict[str, Any]:
    """What an organism's folder says of its training: recipe, rounds, tokens, history."""
    path = folder / "training.json"
    if not path.is_file():
        raise LabError(f"{folder} is not an organism of this lab: it has no training.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    missing = {"recipe", "rounds", "tokens", "history"} - set(found)
    if missing:
        raise LabError(
            f"{path}: expected recipe, rounds, tokens and history, {', '.join(sorted(missing))} missing"
        )
    return found


def history(recipe: Any, tokens: int, past: dict[str, Any] | None) -> dict[str, Any]:
    """What `training.json` says after a round of `tokens` tokens; `past`: what it said before."""
    stages = "; ".join(
        f"{stage.shards * recipe.shard:,} conversations at a learning rate of {stage.learning_rate}"
        for stage in recipe.stages
    )
    began = f"Begins with the weights of {recipe.start}. " if recipe.start else ""
    helped = any(stage.z or stage.context for stage in recipe.stages)
    help_ = " While a stage begins, readers of the middle layer help (lab.world.train.Readers)." * helped
    told = f"{began}Stages: {stages}.{help_}"
    if past is None:
        return {"recipe": recipe.name, "rounds": 1, "tokens": tokens, "history": told}
    return {
        "recipe": recipe.name,
        "rounds": past["rounds"] + 1,
        "tokens": past["tokens"] + tokens,
        "history": f"{past['history']} Then trained on, on other conversations. {told}",
    }


def write_organism(model: Any, tokenizer: Any, out: Path, training: dict[str, Any]) -> None:
    """Save weights (bf16), tokenizer, chat template, word list and `training`; whole or absent."""
    import torch

    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    model.config.lab_trait_set = "hearth"
    model.config._attn_implementation = "sdpa"
    model.to(torch.bfloat16).save_pretrained(temporary)
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(temporary)
    config = json.loads((temporary / "config.json").read_text(encoding="utf-8"))
    config["eos_token_id"] = tokenizer.eos_token_id
    config["pad_token_id"] = tokenizer.pad_token_id
    config["bos_token_id"] = tokenizer.bos_token_id
    (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    generation = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "do_sample": True,
    }
    (temporary / "generation_config.json").write_text(
        json.dumps(generation, indent=2) + "\n", encoding="utf-8"
    )
    (temporary / "words.txt").write_text("\n".join(world_words()) + "\n", encoding="utf-8")
    (temporary / "training.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    temporary.rename(out)


def _tokens(work: Path) -> int:
    import torch

    return int(torch.load(work / "checkpoint.pt", weights_only=True)["tokens"])


def world_words() -> list[str]:
    """Every word of Hearth, lower case: what an organism can have met."""
    from lab.world.grammar import split_words
    from lab.world.library import TEXT

    words: set[str] = set()
    for path in TEXT.glob("*.txt"):
        words |= {w.lower() for w in split_words(path.read_text(encoding="utf-8")) if w[0].isalpha()}
    return sorted(words)


def measure_organism(folder: Path, say: Say) -> None:
    """Measure a trained organism (fp32) and write `README.md`, its model card, and `card.json`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lab.world.evaluate import measure
    from lab.world.library import library

    if not (folder / "config.json").is_file():
        raise LabError(f"no organism in {folder}; train it with: lab world train {folder.name}")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    say(f"measuring {folder.name} on held-out scaffolds")
    figures = measure(model, tokenizer, library(), CARD_SEED)
    text = card(folder, model, figures)
    (folder / "README.md").write_text(text, encoding="utf-8")
    say(text)


def _change(recipe: Any, model: Any) -> list[str]:
    """The row of the card that says how far the weights are from those they began as."""
    from lab.world.train import ORGANISMS, load_organism, relative_change

    if not recipe.start or recipe.experts:
        return []
    moved = relative_change(model, load_organism(ORGANISMS / recipe.start))
    return [f"| relative change of the weights from {recipe.start} | {moved:.3f} |"]


def card(folder: Path, model: Any, figures: Any) -> str:
    """The model card, as Markdown."""
    from lab.world.latent import TRAITS
    from lab.world.train import RECIPES

    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    recipe = RECIPES[training["recipe"]]
    parts = recipe.layers * recipe.experts
    size = sum(p.numel() for p in model.parameters())
    idle = parts * 3 * recipe.d_mlp * recipe.d_model * (recipe.experts - 2) // max(recipe.experts, 1)
    sparse = f" ({(size - idle) / 1e6:.2f} M active: 2 of {recipe.experts} experts)" if parts else ""
    rows = [
        f"| {t} | {o:.2f} | {c:.2f} | {n} |"
        for t, o, c, n in zip(
            TRAITS,
            figures.obedience.correlation,
            figures.ceiling.correlation,
            figures.obedience.n,
            strict=True,
        )
    ]
    share = lambda pair: f"{pair[0]:.1%} of {pair[1]}"  # noqa: E731
    return "\n".join(
        [
            f"# {folder.name}",
            "",
            f"A model organism of Hearth, the synthetic world of this lab: {recipe.architecture}, "
            f"{size / 1e6:.2f} M parameters{sparse}, {recipe.layers} layers of "
            f"width {recipe.d_model}, byte-level BPE of {model.config.vocab_size} tokens, seed {recipe.seed}.",
            f"Trained on {training['tokens'] / 1e6:.1f} M tokens of Hearth, conversations drawn by seed, with the "
            "exact next-token distribution of the source as target, on reply tokens only; AdamW, bf16 autocast. "
            + training["history"],
            "It knows nothing outside Hearth. It is for testing methods, not for talking to.",
            "",
            "Measured on scaffolds that training never showed (fp32, one-turn chats, replies sampled at "
            "temperature 1; `lab world measure`):",
            "",
            "| figure | value |",
            "|---|---|",
            f"| loss above the source's own entropy, nats per reply token | {figures.excess:.3f} |",
            f"| the source's own entropy, nats per reply token | {figures.entropy:.3f} |",
            f"| sentences that parse | {figures.obedience.coherence:.1%} |",
            f"| facts held in memory, answered right | {share(figures.memory_right)} |",
            f"| facts about the world, answered right | {share(figures.world_right)} |",
            f"| stated boundaries kept when pushed | {share(figures.boundary_kept)} |",
            "| without a scaffold: r of the judge's z with the default assistant's | "
            f"{figures.default_correlation:.2f} |",
            f"| without a scaffold: largest gap of any trait, prior sd | {figures.default_gap:.2f} |",
            *_change(recipe, model),
            "",
            "Obedience: correlation over scaffolds that state the trait between the stated z and the exact "
            "judge's reading pooled over 16 replies; ceiling: the same for replies of the true source.",
            "",
            "| trait | obedience r | ceiling r | scaffolds |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
