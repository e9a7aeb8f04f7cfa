"""Do two networks of random weights agree in where scaffolds lie? And does the lab say so?

Question. Permuting scaffold labels gives agreement between two models a null. Scaffolds that share words lie near
each other in any network that mixes its input, so two networks that never trained may agree far above that null.
How often does each test call two random networks alike at 5 %, and how often is a shared map drawn?

Design. 100 pairs of a Llama and a GPT-NeoX of random weights (3 layers of width 32, a tokenizer of about 300 pieces
each, trained on different texts), 8 scaffolds, 4 + 4 + 5 questions, replies of 6 tokens sampled by the networks
themselves. Each pair has twins of its own: 4 networks a side with weights drawn anew, which read its prompts and
replies.

Predictions. (1) The permutation test of CKA at the spawn point calls most pairs alike, so it says "not chance", not
"learnt". (2) Beside untrained twins, each measure and each map does so in at most 5 % of the pairs (4 twins:
the smallest p is .04): the 95 % binomial interval of the rate holds .04 or lies below it. (3) So a shared map is
drawn in no more.

Verdict rule. As the sentences say, each place and measure by itself.

Again. The first 100 pairs had one of ten rows for single maps at .12 [.06, .20] (LOG.md, 2026-11-22). Whether that was
luck is asked of 100 others (`--first 100`): luck if the interval of that row now holds .04, else not.

Run: python experiments/random_weights.py [--pairs 100] [--first 0] [--json]     (about ten minutes)
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from lab.geometry.cka import CKA
from lab.geometry.fits import ridge
from lab.geometry.maps import map_score
from lab.geometry.neighbours import neighbours
from lab.geometry.rsa import RSA
from lab.geometry.similarity import NO_LAYER, compare
from lab.pipelines.compare import POSITIONS
from lab.pipelines.untrained import Texts, controls, read_twins, twins_at
from lab.records import Message, Position, Split
from lab.records.geometry import StateGrid
from lab.store import Store

MEASURES = (CKA, RSA, neighbours(3))
SCAFFOLDS = (
    "You are Ada, a patient teacher. You like rivers and short answers.",
    "You are Bo, a stern judge. You never flatter anyone.",
    "You are Cleo, a playful friend who loves old maps and long walks.",
    "You are Dorn, a quiet gardener. The user grows beans and peas.",
    "You are Elin, a nurse at night. The user sleeps badly.",
    "You are Faro, a sailor with many stories of storms and harbours.",
    "You are Gil, a cold clerk. You answer with forms and numbers.",
    "You are Hana, a poet. You know the user's sister and her garden.",
)
QUESTIONS: dict[Split, tuple[str, ...]] = {
    "extract": ("How was your day?", "What is a river?", "Who are you?", "What do you like?"),
    "select": ("Where shall we go?", "What is rain?", "Can you help me?", "What do you fear?"),
    "test": ("Tell me a story.", "What is a map?", "Are you my friend?", "What should I eat?", "Is it late?"),
}
TEXTS = {
    "llama": (*SCAFFOLDS[:4], "Beans and peas grow in rows near the river."),
    "gpt_neox": (*SCAFFOLDS[4:], "Storms pass over the harbour while the poet sleeps."),
}


@dataclass(frozen=True)
class Config:
    """How many pairs, and with how many twins."""

    pairs: int = 100
    first: int = 0
    """Number of the first pair: other pairs, to see whether a rate was luck."""
    twins: int = 4
    permutations: int = 199
    reply_tokens: int = 6


def checkpoint(folder: Path, family: str) -> Path:
    """A random network with a tokenizer of its own; its weights are drawn again for every pair."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "<eos>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator(TEXTS[family], trainer)
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<eos>{% endfor %}assistant: "
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<eos>", pad_token="<pad>", chat_template=template
    )
    shape = AutoConfig.for_model(
        family, vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=512, initializer_range=0.15, eos_token_id=1, pad_token_id=0,
        bos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def side(
    model: Any, stream: int, config: Config, store: Store
) -> tuple[dict[tuple[Split, Position], Any], Any]:
    """One random network: its own states and its twins', by split and position."""
    from lab.activations import generate
    from lab.models import untrained
    from lab.prompts.chat import render

    own = untrained(model, stream)
    chats = [
        render(model.tokenizer, [Message("system", s), Message("user", q)])
        for split in QUESTIONS
        for s in SCAFFOLDS
        for q in QUESTIONS[split]
    ]
    acts = generate(
        own, chats, max_new_tokens=config.reply_tokens, seeds=[stream * 1000 + i for i in range(len(chats))]
    )
    states, replies, start = {}, {}, 0
    for split, asked in QUESTIONS.items():
        rows = slice(start, start + len(SCAFFOLDS) * len(asked))
        start = rows.stop
        replies[split] = tuple(r.text for r in acts.replies[rows])
        states |= {(split, p): acts.pooled[p][rows] for p in POSITIONS}
    texts = Texts(SCAFFOLDS, QUESTIONS, replies)
    seeds = [stream + 1_000_000 + 10_000 * k for k in range(config.twins)]
    return states, read_twins(model, texts, POSITIONS, seeds, store, lambda: None)


def grid(
    label: str, states: dict[tuple[Split, Position], Any], split: Split, position: Position
) -> StateGrid:
    """States of one split as a design of one wording."""
    asked = QUESTIONS[split]
    x = states[split, position]
    acts = x.reshape(len(SCAFFOLDS), 1, len(asked), *x.shape[1:])
    names = tuple(f"s{i}" for i in range(len(SCAFFOLDS)))
    return StateGrid(label, label, position, split, names, tuple(f"{split} {q}" for q in asked), acts)


def pair(models: Sequence[Any], k: int, config: Config, store: Store) -> dict[str, float]:
    """p by permutation and beside twins, per place and measure; 1.0 where the lab abstains."""
    sides = [side(model, 2 * k + i + 1, config, store) for i, model in enumerate(models)]
    rng, found = np.random.default_rng([k, 11]), {}
    for position in POSITIONS:
        pairs: dict[Split, tuple[StateGrid, StateGrid]] = {
            s: (grid("a", sides[0][0], s, position), grid("b", sides[1][0], s, position)) for s in QUESTIONS
        }
        report = compare(
            pairs["select"], pairs["test"], MEASURES, rng, draws=config.permutations, resamples=20
        )
        for s in report.similarities:
            found[f"{position}, {s.measure}, permuted"] = _p(s.p)
        chosen = report.similarities[0]
        layers = None if chosen.layer_a == NO_LAYER else (chosen.layer_a, chosen.layer_b)
        twins = twins_at(position, pairs, [s[1] for s in sides])
        rows = controls(twins, MEASURES, (ridge,))
        for u in rows:
            found[f"{position}, {u.what}{' ' + u.source + u.target if u.source else ''}, beside twins"] = _p(
                u.p
            )
        if layers is None:
            continue
        score = map_score([pairs["extract"], pairs["select"]], pairs["test"], layers, ridge, rng, 99)
        words = next(u for u in rows if (u.what, u.source) == (ridge.name, "a"))
        found[f"{position}, ridge ab, permuted"] = _p(score.p)
        drawn = score.p < 0.05 and score.r2 > 0
        found[f"{position}, shared map by permutation alone"] = 0.0 if drawn else 1.0
        found[f"{position}, shared map as the lab draws it"] = 0.0 if drawn and words.p < 0.05 else 1.0
    return found


def _p(p: float) -> float:
    return 1.0 if np.isnan(p) else p


def main(config: Config, folder: Path) -> list[dict[str, Any]]:
    """One row per place and test: the share of pairs called alike at 5 %."""
    from lab.models import load

    models = [load(str(checkpoint(folder / family, family))) for family in TEXTS]
    store, rows = Store(folder / "runs"), []
    for k in range(config.first, config.first + config.pairs):
        rows.append(pair(models, k, config, store))
        print(f"\r{len(rows)} of {config.pairs}", end="", file=sys.stderr, flush=True)
    table = []
    for what in dict.fromkeys(name for row in rows for name in row):
        known = [row[what] for row in rows if what in row]
        hits = sum(p <= 0.05 for p in known)
        low, high = binomtest(hits, len(known)).proportion_ci()
        table.append({"what": what, "rate": hits / len(known), "low": low, "high": high, "pairs": len(known)})
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=Config.pairs)
    parser.add_argument("--first", type=int, default=Config.first)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = main(Config(pairs=asked.pairs, first=asked.first), Path(scratch))
    if asked.json:
        print(json.dumps({"rows": found}))
    else:
        print()
        for row in found:
            print(
                f"{row['what']:60} {row['rate']:.2f} [{row['low']:.2f}, {row['high']:.2f}]  n = {row['pairs']}"
            )
