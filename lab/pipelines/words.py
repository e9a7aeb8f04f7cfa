"""The same text in two models with different tokenizers: cuts, surprisal, attention.

One text is shown in full; a set of design texts gives the numbers with intervals. Heads are matched on one
half of the design texts (extract) and reported on the other (test). A third model, a second seed of the first, says how
far apart two trainings of one recipe are. Each text stands alone in a chat, in one place of it; what the
chat template adds is grey in pictures and left out of numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.geometry import attention as geometry
from lab.geometry.words import (
    Estimate,
    boundary_agreement,
    cells,
    coverage,
    cut_words,
    over_texts,
    pieces,
    repaired,
    words_of,
)
from lab.pipelines.compare import labels_of, resolve_model, shipped_scaffolds
from lab.records import LabError, Message
from lab.records.words import (
    Cut,
    HeadMatch,
    TokenCell,
    Word,
    WordAttention,
    WordMeasure,
    WordPieces,
    WordsBook,
)
from lab.stats import average, benjamini_hochberg

if TYPE_CHECKING:
    from lab.models import LoadedModel

Progress = Callable[[str, float], None]
QUESTION = "Who are you?"
"""What is asked where a place needs a user's words besides the text."""
LONGEST = 512
"""Tokens of a text; attention grows with their square."""
WORDS = 96
"""Words of a text over which attention is kept: its first ones."""
FEWEST = 16
"""Words that a design text needs, so that there is attention to compare."""


@dataclass(frozen=True)
class Placed:
    """One text inside the chat of one model.

    ids [pos]: the whole prompt up to the end of the text's last token; the text's tokens start at `first`; cut: which
    characters of the text they hold; before: what the template wrote in front.
    """

    ids: Int[ndarray, " pos"]
    first: int
    cut: Cut
    before: str


Place = Callable[[Any, str], Placed]


def as_reply(tokenizer: Any, text: str) -> Placed:
    """The text as the assistant's reply to QUESTION."""
    from lab.prompts.chat import render

    chat = render(tokenizer, [Message("user", QUESTION)])
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = np.concatenate([chat.ids, np.array(coded["input_ids"], np.int64)])
    return Placed(ids, len(chat.ids), repaired(text, coded["offset_mapping"]), chat.text)


def as_user(tokenizer: Any, text: str) -> Placed:
    """The text as the user's message."""
    return _in_prompt(tokenizer, text, [Message("user", text)])


def as_system(tokenizer: Any, text: str) -> Placed:
    """The text as the system prompt, where scaffolds stand."""
    return _in_prompt(tokenizer, text, [Message("system", text), Message("user", QUESTION)])


PLACES: dict[str, Place] = {"system": as_system, "user": as_user, "reply": as_reply}


def _in_prompt(tokenizer: Any, text: str, messages: Sequence[Message]) -> Placed:
    """A chat that begins with the text. Tokens that also hold template characters count as the text's."""
    from lab.prompts.chat import render

    chat = render(tokenizer, messages)
    special = tokenizer.chat_template is None
    coded = tokenizer(chat.text, add_special_tokens=special, return_offsets_mapping=True)
    whole = repaired(chat.text, coded["offset_mapping"])
    begin = chat.text.find(text, int(whole.start[chat.spans[0].start]))
    if begin < 0 or coded["input_ids"] != chat.ids.tolist():
        raise LabError("the chat template changes the text, so it cannot be located; try --place reply")
    end = begin + len(text)
    inside = np.flatnonzero((whole.start < end) & (whole.end > begin) & (whole.end > whole.start))
    rows = slice(int(inside[0]), int(inside[-1]) + 1)
    offsets = np.clip(np.stack([whole.start[rows], whole.end[rows]], axis=1) - begin, 0, len(text))
    return Placed(
        chat.ids[: rows.stop], rows.start, repaired(text, [(int(s), int(e)) for s, e in offsets]),
        chat.text[:begin],
    )  # fmt: skip


# ------------------------------------------------------------------ one text in one model


@dataclass(frozen=True)
class Reading:
    """One text as one model reads it.

    nats [token]: surprisal -log p of the text's tokens, NaN for one with nothing before it; attention
    [layer * head, word, word] over the first words and outside [layer, head], as in WordAttention.
    """

    placed: Placed
    nats: Float[ndarray, " token"]
    words: tuple[Word, ...]
    attention: Float[ndarray, "layer_head word word"]
    outside: Float[ndarray, "layer head"]


def pattern_hook(layer: int) -> str:
    """The bridge's name of a layer's attention pattern [batch, head, query, key]."""
    return f"blocks.{layer}.attn.hook_pattern"


def read_text(model: "LoadedModel", text: str, place: Place, most: int = WORDS) -> Reading:
    """One forward pass; a layer's patterns over tokens are let go as soon as they are summed to words.

    LabError for a text without words, of more than LONGEST tokens or longer than the context, and for a
    model that has layers without attention patterns.
    """
    import torch

    name = model.identity.name
    placed = place(model.tokenizer, text)
    _check_length(name, placed, model.context)
    words = words_of(text)[:most]
    weights = geometry.word_weights(placed.cut, words)
    found: dict[int, tuple[geometry.Heads, Float[ndarray, " head"]]] = {}

    def keep(value: "torch.Tensor", hook: Any, layer: int) -> None:
        pattern = value[0, :, placed.first :].detach().float().cpu().numpy()
        found[layer] = geometry.to_words(pattern, weights, placed.first)

    layers = range(model.identity.layers)
    hooks = [(pattern_hook(k), lambda value, hook, k=k: keep(value, hook, k)) for k in layers]
    ids = torch.from_numpy(placed.ids[None]).to(model.device)
    with torch.inference_mode(), model.bridge.hooks(fwd_hooks=hooks):
        logits = model.network(input_ids=ids, use_cache=False).logits[0]
        start = max(placed.first, 1)
        nats = torch.nn.functional.cross_entropy(
            logits[start - 1 : -1].float(), ids[0, start:], reduction="none"
        )
    missing = [k for k in layers if k not in found]
    if missing:
        raise LabError(
            f"{name}: no attention pattern came out of layer {missing[0]}; expected softmax attention in every "
            "layer: compare models with such attention"
        )
    unknown = np.full(start - placed.first, np.nan)
    return Reading(
        placed, np.concatenate([unknown, nats.double().cpu().numpy()]), words,
        np.concatenate([found[k][0] for k in layers]).astype(np.float32),
        np.stack([found[k][1] for k in layers]),
    )  # fmt: skip


def _check_length(name: str, placed: Placed, context: int) -> None:
    tokens = len(placed.ids) - placed.first
    if tokens > LONGEST or len(placed.ids) > context:
        raise LabError(
            f"expected a text of at most {LONGEST} tokens that fits the context of {context}, got {tokens} tokens "
            f"({len(placed.ids)} with the template) in {name}; take a shorter text"
        )


# ------------------------------------------------------------------ the job


@dataclass(frozen=True)
class WordsConfig:
    """Which text, in which models, and over which texts numbers are taken."""

    models: tuple[str, str]
    """Two model folders, shipped names or hub names; the same twice is allowed."""
    control: str | None = None
    """A second seed of the first model."""
    text: str | None = None
    """The text that is shown; None: the first design text."""
    design: tuple[str, ...] = ()
    """Texts for numbers and head matching; none: the shipped scaffolds."""
    place: str = "system"
    dtype: str = "float32"
    seed: int = 0
    draws: int = 1000


def shipped_texts() -> tuple[str, ...]:
    """Every shipped scaffold that says something, in its first wording."""
    texts = (s.paraphrases[0].text.strip() for s in shipped_scaffolds())
    return tuple(t for t in texts if t)


def check_text(text: str, words: int = 1) -> str:
    """The text without blanks around it. LabError when it has fewer words than asked for."""
    found = sum(not w.mark for w in words_of(text))
    if found < words:
        raise LabError(
            f"expected a text of at least {words} word{'s' if words > 1 else ''}, got {found} in {text[:60]!r}; give "
            "letters or digits to read"
        )
    return text.strip()


def load_models(names: Sequence[str], dtype: str) -> list["LoadedModel"]:
    """The models, each loaded once. LabError where a tokenizer gives no character offsets."""
    from lab.models import read_checkpoint, wire

    loaded: dict[str, LoadedModel] = {}
    for name in names:
        if name not in loaded:
            checkpoint = read_checkpoint(resolve_model(name), dtype)
            if not getattr(checkpoint.tokenizer, "is_fast", False):
                raise LabError(
                    f"{name}: its tokenizer ({type(checkpoint.tokenizer).__name__}) gives no character offsets; "
                    "expected a fast one: put a tokenizer.json into the folder (load with AutoTokenizer from a "
                    "checkpoint that has one, then save_pretrained)"
                )
            loaded[name] = wire(checkpoint)
    return [loaded[name] for name in names]


def words(config: WordsConfig, progress: Progress) -> WordsBook:
    """Read the texts in all models and compare. LabError for what cannot be read or compared."""
    if config.place not in PLACES:
        raise LabError(f"the place of a text must be one of {', '.join(PLACES)}, got {config.place!r}")
    design = tuple(check_text(t, FEWEST) for t in config.design or shipped_texts())
    if len(design) < 4:
        raise LabError(
            f"expected at least 4 design texts, half to match heads on, got {len(design)}; add texts"
        )
    text = check_text(design[0] if config.text is None else config.text)
    progress("loading models", 0.0)
    models = load_models([*config.models, *([config.control] if config.control else [])], config.dtype)
    place, total, shown, read = PLACES[config.place], len(models) * (len(design) + 1), [], []
    for k, model in enumerate(models):
        rows = []
        for i, one in enumerate((text, *design)):
            progress(f"reading in {model.identity.name}", 0.1 + 0.7 * (k * (len(design) + 1) + i) / total)
            rows.append(read_text(model, one, place))
        shown.append(rows[0])
        read.append(rows[1:])
    progress("statistics", 0.85)
    found = _conclude(config, models, text, shown, read)
    progress("done", 1.0)
    return found


def _conclude(
    config: WordsConfig, models: Sequence["LoadedModel"], text: str, shown: Sequence[Reading],
    read: Sequence[Sequence[Reading]],
) -> WordsBook:  # fmt: skip
    rng = np.random.default_rng([config.seed, 8])
    labels = labels_of(models)
    heads = geometry.compare_heads([[r.attention for r in rows] for rows in read], rng)
    scope = f"{len(read[0])} texts"
    measures = [
        *cut_measures("this text", labels, [[r] for r in shown[:2]], config, rng),
        *cut_measures(scope, labels, read[:2], config, rng),
        *attention_measures(scope, labels, read, heads, config, rng),
    ]
    sizes = [r.outside.shape[1] for r in shown]
    return WordsBook(
        models=tuple(m.identity for m in models), labels=labels, place=config.place, text=text,
        words=_word_pieces(shown[0], shown[1], text), cells=_token_cells(labels, shown[:2]),
        measures=tuple(measures),
        matches=_match_rows(labels, sizes, heads.matchings[0], rng, config.draws),
        attention=(_word_attention(labels[0], shown[0]), _word_attention(labels[1], shown[1])),
        grid=heads.grid,
    )  # fmt: skip


def _word_pieces(a: Reading, b: Reading, text: str) -> tuple[WordPieces, ...]:
    found = words_of(text)
    counts = zip(pieces(a.placed.cut, found).tolist(), pieces(b.placed.cut, found).tolist(), strict=True)
    return tuple(
        WordPieces(w.text, w.start, w.end, w.mark, i, j) for w, (i, j) in zip(found, counts, strict=True)
    )


def _token_cells(labels: Sequence[str], readings: Sequence[Reading]) -> tuple[TokenCell, ...]:
    rows = []
    for label, reading in zip(labels, readings, strict=False):
        rows.append(TokenCell(label, reading.placed.before, -1, -1, reading.placed.first, float("nan"), True))
        cut = reading.placed.cut
        for c in cells(cut, reading.nats):
            rows.append(TokenCell(label, cut.text[c.start : c.end], c.start, c.end, c.tokens, c.value, False))
    return tuple(rows)


def _word_attention(label: str, reading: Reading) -> WordAttention:
    layers, heads = reading.outside.shape
    size = len(reading.words)
    return WordAttention(
        label, tuple(w.text for w in reading.words), reading.attention.reshape(layers, heads, size, size),
        reading.outside,
    )  # fmt: skip


# ------------------------------------------------------------------ numbers


@dataclass(frozen=True)
class _Rows:
    """Writes one measure a row; what all rows share stands here."""

    scope: str
    over: str
    split: str

    def row(self, what: str, model: str, found: Estimate, unit: str, note: str = "") -> WordMeasure:
        if not note and np.isnan(found.low):
            note = (
                "one text: no interval"
                if found.n == 1
                else f"n = {found.n} {self.over}: too few for an interval"
            )
        return WordMeasure(
            what, model, self.scope, found.value, found.low, found.high, found.null, found.p, found.n, self.over,
            unit, self.split, note,
        )  # fmt: skip


def cut_measures(
    scope: str, labels: Sequence[str], read: Sequence[Sequence[Reading]], config: WordsConfig,
    rng: np.random.Generator,
) -> list[WordMeasure]:  # fmt: skip
    """How A and B cut the texts, and how surprising they find them; `read` [model][text]."""
    write, sides = _Rows(scope, "texts", "all"), list(zip(labels, read, strict=False))
    both, between = list(zip(*read, strict=True)), " | ".join(labels[:2])
    shared = np.array([coverage(a.placed.cut, b.placed.cut) for a, b in both])
    visible = np.array([sum(not c.isspace() for c in a.placed.cut.text) for a, _ in both])

    def over(values: ndarray, sizes: ndarray, null: float = np.nan) -> Estimate:
        return over_texts(values, rng, null, sizes, config.draws)

    rows = [write.row("characters in a token of both", between, over(shared, visible), "share")]
    for unit, per in (("tokens per word", _word_tokens), ("tokens per character", _text_tokens)):
        parts = {label: np.array([per(r) for r in own]) for label, own in sides}
        ratio = {label: x[:, 0] / x[:, 1] for label, x in parts.items()}
        rows += [write.row(unit, label, over(ratio[label], x[:, 1]), unit) for label, x in parts.items()]
    rows.append(_agreement_row(scope, between, both, config, rng))
    nats = {label: np.array([_nats(r) for r in own]) for label, own in sides}
    rate = {label: x[:, 0] / x[:, 1] for label, x in nats.items()}
    unit = "nats per character"
    rows += [write.row("surprisal", label, over(rate[label], x[:, 1]), unit) for label, x in nats.items()]
    a, b = (rate[label] for label in labels[:2])
    rows.append(write.row("surprisal, first less second", between, over(a - b, visible, 0.0), unit))
    return rows


def _word_tokens(reading: Reading) -> tuple[int, int]:
    """Tokens that touch words, a token counting in each, and the words; marks left out."""
    words = [w for w in words_of(reading.placed.cut.text) if not w.mark]
    return int(pieces(reading.placed.cut, words).sum()), len(words)


def _text_tokens(reading: Reading) -> tuple[int, int]:
    return len(reading.placed.cut.start), len(reading.placed.cut.text)


def _nats(reading: Reading) -> tuple[float, int]:
    """Surprisal in all and the characters of the cells where it is known."""
    known = [c for c in cells(reading.placed.cut, reading.nats) if not np.isnan(c.value)]
    return sum(c.value for c in known), sum(c.end - c.start for c in known)


def _agreement_row(
    scope: str, between: str, both: Sequence[tuple[Reading, Reading]], config: WordsConfig,
    rng: np.random.Generator,
) -> WordMeasure:  # fmt: skip
    words = [w for a, b in both for w in cut_words(a.placed.cut, b.placed.cut)]
    found = boundary_agreement(words, rng, config.draws)
    note = f"random places in any word: {found.anywhere:.2f}" if found.n else "neither cuts a word"
    if found.n and np.isnan(found.low):
        note += f"; n = {found.n} cut words: too few for an interval"
    estimate = Estimate(found.f1, found.low, found.high, found.chance, found.p, found.n)
    return _Rows(scope, "cut words", "all").row("same cuts inside words", between, estimate, "F1", note)


def attention_measures(
    scope: str, labels: Sequence[str], read: Sequence[Sequence[Reading]], heads: geometry.HeadComparison,
    config: WordsConfig, rng: np.random.Generator,
) -> list[WordMeasure]:  # fmt: skip
    """How far apart the models' attention is on the test texts, beside null and control."""
    unit = "squared Hellinger distance"
    test = _Rows(f"{heads.test} texts x {heads.words} words", "texts", "test")
    rows = []
    for label, own in zip(labels, read, strict=True):
        outside = np.array([r.outside.mean() for r in own])
        estimate = over_texts(outside, rng, draws=config.draws)
        everything = _Rows(scope, "texts", "all")
        rows.append(everything.row("attention outside the text's words", label, estimate, "share"))

    def against(values: ndarray, null: ndarray | float = np.nan) -> Estimate:
        return over_texts(values, rng, null, draws=config.draws)

    for other, one, mean in zip(labels[1:], heads.matchings, heads.means, strict=True):
        between = f"{labels[0]} | {other}"
        value, null, moved = (np.asarray(average(x, 1)) for x in (one.value, one.other, one.shuffled))
        note = f"{len(one.pairs)} pairs, matched on {heads.extract} other texts; null: all of it on different texts"
        unknown = int(np.isnan(one.value).sum())
        note += (
            f"; {unknown} of {one.value.size} values unknown: a head that hardly looks at the text"
            if unknown
            else ""
        )
        rows.append(test.row("matched heads", between, against(value, null), unit, note))
        note = "how much nearer on the same text than on different ones"
        rows.append(test.row("gain of matched heads", between, against(null - value, 0.0), unit, note))
        note = "null: the second model's attention on random words it may look at"
        rows.append(test.row("matched heads, shuffled", between, against(value, moved), unit, note))
        rows.append(test.row("all pairs of heads", between, against(one.unmatched), unit))
        found = against(mean.value[:, 0], mean.other[:, 0])
        rows.append(test.row("mean over heads", between, found, unit, "null: different texts"))
    if len(heads.matchings) > 1:
        further = geometry.beyond_control(heads.matchings[0], heads.matchings[1])
        between, note = f"{labels[0]} | {labels[1]} less {labels[2]}", "over heads that both matched"
        rows.append(test.row("matched heads beyond the control", between, against(further, 0.0), unit, note))
    return rows


def _match_rows(
    labels: Sequence[str], heads: Sequence[int], found: geometry.Matching, rng: np.random.Generator, draws: int
) -> tuple[HeadMatch, ...]:  # fmt: skip
    """One row per matched pair; its own null is the same pair on different texts."""
    rows = []
    for k, (i, j) in enumerate(found.pairs.tolist()):
        value = over_texts(found.value[:, k], rng, draws=draws)
        gain = over_texts(found.apart[:, k] - found.value[:, k], rng, 0.0, draws=draws)
        rows.append((i, j, value, gain))
    q = benjamini_hochberg(np.array([gain.p for *_, gain in rows]))
    return tuple(
        HeadMatch(
            labels[0], labels[1], i // heads[0], i % heads[0], j // heads[1], j % heads[1], value.value, value.low,
            value.high, value.value + gain.value, gain.value, gain.low, gain.high, float(p), value.n, "test",
        )
        for (i, j, value, gain), p in zip(rows, q, strict=True)
    )  # fmt: skip
