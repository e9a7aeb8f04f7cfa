"""Texts whose speaker is known, so that a feature can be held against traits and personas.

    hearth_texts(n, per_persona, seed) -> LabelledTexts       new conversations with the z and persona behind them
    run_texts(store, run, model) -> LabelledRows              replies of a `lab extract` or `lab compare` run
    plain_texts(corpus, n, seed) -> LabelledTexts             held-out texts of any corpus, without labels

Values are [label, text], NaN where a text has none. In Hearth every text stands alone; replies of a run share
questions, so these are what is resampled, and labels are permuted among replies to one question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.records import LabError
from lab.stats import MIN_CLUSTERS

if TYPE_CHECKING:
    from lab.features.corpora import Corpus, Sample
    from lab.features.stream import Tokens
    from lab.models import LoadedModel
    from lab.store import Store
    from lab.world.library import Library, Persona

SEED = 5_003
"""Of labelled conversations: not those of lab.features.corpora, which dictionaries are trained and measured on."""


@dataclass(frozen=True)
class Labels:
    """kinds, names [label]; values [label, text]; clusters, strata [text]; source: in words."""

    kinds: tuple[Literal["trait", "persona"], ...]
    names: tuple[str, ...]
    values: Float[ndarray, "label text"]
    clusters: Int[ndarray, " text"]
    strata: Int[ndarray, " text"]
    source: str


@dataclass(frozen=True)
class LabelledTexts:
    """Samples that any model can read, with their labels."""

    samples: "tuple[Sample, ...]"
    labels: Labels


@dataclass(frozen=True)
class LabelledRows:
    """Token rows of one model, with their labels."""

    rows: "tuple[Tokens, ...]"
    labels: Labels


def no_labels(texts: int, source: str) -> Labels:
    """Texts of which nothing is known."""
    return Labels((), (), np.zeros((0, texts)), np.arange(texts), np.zeros(texts, np.int64), source)


def plain_texts(corpus: "Corpus", texts: int, seed: int) -> LabelledTexts:
    """The first `texts` different samples of a corpus. LabError below 5."""
    from lab.features.corpora import samples

    found = dict.fromkeys(sample for sample, _ in islice(samples(corpus, seed), 4 * texts))
    kept = tuple(islice(found, texts))
    if len(kept) < MIN_CLUSTERS:
        raise LabError(
            f"{corpus.name}: expected at least {MIN_CLUSTERS} held-out texts, got {len(kept)}; give a larger corpus"
        )
    return LabelledTexts(kept, no_labels(len(kept), corpus.name))


# ------------------------------------------------------------------ Hearth


def hearth_texts(texts: int, per_persona: int, seed: int) -> LabelledTexts:
    """`texts` new conversations of anyone, labelled with z; then `per_persona` of each persona, labelled with who.

    A conversation's trait value is the mean of z over its turns (prior sd). They come from other seeds than what
    dictionaries are trained on.
    """
    from lab.world.corpus import Mix, document, training_personas
    from lab.world.latent import TRAITS
    from lab.world.library import library

    lib = library()
    people = training_personas(lib)
    drawn, z, who = [], [], []
    for i in range(texts + per_persona * len(people)):
        rng = np.random.default_rng([SEED, seed, i])
        if i < texts:
            doc = document(rng, lib, Mix())
            drawn.append(_sample(doc.system, doc.users, doc.replies))
            z.append(doc.z.mean(axis=0))
            who.append(-1)
        else:
            who.append((i - texts) // per_persona)
            drawn.append(_as_persona(rng, lib, people[who[-1]]))
            z.append(np.full(len(TRAITS), np.nan))
    number = np.array(who)
    shown = range(len(people)) if per_persona else ()
    persona = [np.where(number < 0, np.nan, number == k) for k in shown]
    values = np.array([*np.array(z).T, *persona], np.float64).reshape(-1, len(drawn))
    kinds: list[Literal["trait", "persona"]] = [*["trait" for _ in TRAITS], *["persona" for _ in shown]]
    alone, together = np.arange(len(drawn)), np.zeros(len(drawn), np.int64)
    names = (*TRAITS, *(people[k].name for k in shown))
    return LabelledTexts(
        tuple(drawn), Labels(tuple(kinds), names, values, alone, together, "conversations of Hearth")
    )


def _sample(system: str | None, users: Sequence[str], replies: Sequence[Any]) -> "Sample":
    from lab.features.corpora import Sample
    from lab.records import Message
    from lab.world.conversation import reply_text
    from lab.world.corpus import messages

    said = messages(system, users, [reply_text(steps) for steps in replies])
    return Sample(messages=tuple(Message(m["role"], m["content"]) for m in said))


def _as_persona(rng: np.random.Generator, lib: "Library", persona: "Persona") -> "Sample":
    """A conversation with one persona, as training shows it."""
    from lab.world.conversation import draw_reply, make_turns
    from lab.world.corpus import Mix
    from lab.world.latent import z_at_turn
    from lab.world.scaffolds import REGISTERS, named_character, render

    mix = Mix()
    who = named_character(rng, lib, persona, mix.extras)
    system = render(who, REGISTERS[int(rng.integers(4))], rng, lib).text
    turns = make_turns(rng, lib, who, int(rng.integers(1, mix.most_turns + 1)), mix.kinds)
    kinds = [t.kind for t in turns]
    replies = [
        draw_reply(rng, lib, z_at_turn(who.z, kinds[: i + 1]), turn, who) for i, turn in enumerate(turns)
    ]
    return _sample(system, [t.user for t in turns], replies)


# ------------------------------------------------------------------ replies of a run


def run_texts(store: "Store", run: str, model: "LoadedModel") -> LabelledRows:
    """Test replies of this model in a run: at the poles of traits (`lab extract`), under scaffolds (`lab compare`).

    Only the reply counts. A trait is 1 for replies at its positive pole and 0 at the negative, a scaffold 1 for its
    replies and 0 for the others'. LabError for a run of another kind or model.
    """
    kind = next((info.kind for info in store.runs() if info.id == run), "")
    if kind == "extract":
        book = store.load_traits(run)
        owner = [book.model.fingerprint]
        said = [(r.prompt, r.text, r.question, r.trait, r.pole == "positive") for r in book.replies]
        spoken: Literal["trait", "persona"] = "trait"
    elif kind == "compare":
        found = store.load_comparison(run)
        owner = [m.fingerprint for m in found.models]
        mine = {label for label, m in zip(found.labels, found.models, strict=True)
                if m.fingerprint == model.identity.fingerprint}  # fmt: skip
        said = [
            (r.prompt, r.reply.text, r.question, r.scaffold, True)
            for r in found.replies
            if r.model in mine and r.split == "test"
        ]
        spoken = "persona"
    else:
        raise LabError(
            f"--replies: expected a run of lab extract or lab compare, got {run!r} ({kind or 'no such run'})"
        )
    if model.identity.fingerprint not in owner:
        raise LabError(f"--replies: run {run} has replies of another model than {model.identity.name}")
    said = [each for each in said if each[1].strip()]
    names = tuple(dict.fromkeys(each[3] for each in said))
    values = np.array([[_value(spoken, each, name) for each in said] for name in names]).reshape(
        -1, len(said)
    )
    questions = np.unique([each[2] for each in said], return_inverse=True)[1].astype(np.int64)
    rows = tuple(_reply_row(model, prompt, text) for prompt, text, *_ in said)
    return LabelledRows(
        rows, Labels((spoken,) * len(names), names, values, questions, questions, f"run {run}")
    )


def _value(kind: str, said: tuple[str, str, str, str, bool], name: str) -> float:
    if kind == "persona":
        return float(said[3] == name)
    return float(said[4]) if said[3] == name else float("nan")


def _reply_row(model: "LoadedModel", prompt: str, text: str) -> "Tokens":
    """A rendered prompt with its reply; only the reply counts."""
    from lab.features.stream import tokens_of_reply
    from lab.records import Rendered

    special = model.tokenizer.chat_template is None
    ids = np.array(model.tokenizer(prompt, add_special_tokens=special)["input_ids"], np.int64)
    row = tokens_of_reply(model.tokenizer, Rendered(ids, (), prompt), text)
    most = model.context
    return type(row)(row.ids[:most], row.counts[:most], row.reply[:most])
