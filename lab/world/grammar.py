"""A log-linear grammar of replies: sampling, next-word distributions and parsing.

A slot is a list of alternatives. A trait slot chooses alternative a with probability
proportional to exp(SHARPNESS * load_a * z_trait); a template slot chooses uniformly.
Alternatives are sequences of words, slot references and variables; the grammar has no
recursion, so every question about it can be answered exactly.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.world.latent import INDEX

SHARPNESS = 2.0
LOADS: dict[str, float] = {"++": 1.0, "+": 0.6, "-": -0.6, "--": -1.0}
_WORD = re.compile(r"<[a-z_.]+>|\{[a-z]+\}|[A-Za-z]+(?:'[A-Za-z]+)*|[.,!?;:]|(\S)")
_HEADER = re.compile(r"\[([a-z_.]+)(?:\s*:\s*([a-z]+))?\]")


@dataclass(frozen=True)
class Word:
    """A terminal: one word or one punctuation mark."""

    text: str


@dataclass(frozen=True)
class Ref:
    """A reference to a slot."""

    slot: str


@dataclass(frozen=True)
class Var:
    """A hole that the conversation fills, e.g. the topic."""

    name: str


@dataclass(frozen=True)
class Mark:
    """A zero-width sign; the only one is `END`, the end of the reply."""

    name: str


Symbol = Word | Ref | Var | Mark
END = Mark("end")
Stack = tuple[Symbol, ...]
States = list[tuple[Stack, float]]
Choice = tuple[str, int]
Words = tuple[str, ...]
Filling = Mapping[str, Sequence[tuple[Words, float]]]
"""Per variable: its possible word sequences with their probabilities."""


class GrammarError(ValueError):
    """A grammar file breaks the format; the message names file and line."""


def split_words(text: str) -> list[str]:
    """Words and punctuation marks of plain text, in order."""
    return [m.group(0) for m in re.finditer(r"[A-Za-z]+(?:'[A-Za-z]+)*|[^\sA-Za-z]", text)]


def join_words(words: Sequence[str]) -> str:
    """Inverse of `split_words` for text of this world: marks attach to the word before."""
    return "".join(w if w in ",.!?;:" or i == 0 else " " + w for i, w in enumerate(words))


def capitalise(word: str) -> str:
    """The word as it stands at the start of a sentence."""
    return word[:1].upper() + word[1:]


@dataclass(frozen=True)
class Slot:
    """One choice: alternatives and, for a trait slot, their loads on that trait."""

    name: str
    trait: str | None
    alternatives: tuple[Stack, ...]
    loads: NDArray[np.float64]

    def log_probabilities(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """[alternative], natural log, for one z [trait]."""
        logits = np.zeros(len(self.loads))
        if self.trait is not None:
            logits = SHARPNESS * self.loads * z[INDEX[self.trait]]
        top = logits.max()
        return logits - top - np.log(np.exp(logits - top).sum())


def parse_symbols(text: str) -> Stack:
    """The symbols of one right-hand side as it is written in a grammar file."""
    symbols: list[Symbol] = []
    for match in _WORD.finditer(text):
        token = match.group(0)
        if match.group(1):
            raise GrammarError(f"character {token!r} is not allowed in {text!r}")
        if token.startswith("<"):
            symbols.append(Ref(token[1:-1]))
        elif token.startswith("{"):
            symbols.append(Var(token[1:-1]))
        else:
            symbols.append(Word(token))
    return tuple(symbols)


def read_slots(path: Path) -> list[Slot]:
    """The slots of one grammar file."""
    blocks: list[tuple[str, str | None, list[tuple[str, Stack]]]] = []
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        header = _HEADER.fullmatch(line)
        if header:
            blocks.append((header.group(1), header.group(2), []))
            continue
        sign, _, text = line.partition(" ")
        if not blocks or sign not in (*LOADS, "="):
            raise GrammarError(f"{path.name}:{number}: expected [slot] or a sign, got {line!r}")
        if (sign == "=") != (blocks[-1][1] is None):
            raise GrammarError(f"{path.name}:{number}: sign {sign!r} does not fit the slot")
        blocks[-1][2].append((sign, parse_symbols(text)))
    return [
        Slot(name, trait, tuple(s for _, s in rows), np.array([LOADS.get(k, 0.0) for k, _ in rows]))
        for name, trait, rows in blocks
    ]


@dataclass(frozen=True)
class _Lead:
    """One way a slot can begin: a first symbol that is no slot, what follows, and the choices."""

    first: Word | Var
    rest: Stack
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Grammar:
    """All slots by name. Immutable; safe to share."""

    slots: Mapping[str, Slot]
    _leads: dict[str, tuple[_Lead, ...]] = field(default_factory=dict, repr=False)

    @staticmethod
    def read(paths: Sequence[Path]) -> "Grammar":
        """The grammar in these files; unknown references and double names are errors."""
        slots: dict[str, Slot] = {}
        for path in paths:
            for slot in read_slots(path):
                if slot.name in slots:
                    raise GrammarError(f"{path.name}: slot {slot.name} is defined twice")
                if slot.trait is not None and slot.trait not in INDEX:
                    raise GrammarError(f"{path.name}: {slot.name} has unknown trait {slot.trait}")
                slots[slot.name] = slot
        for slot in slots.values():
            for symbol in (s for alt in slot.alternatives for s in alt):
                if isinstance(symbol, Ref) and symbol.slot not in slots:
                    raise GrammarError(f"slot {slot.name} refers to unknown slot {symbol.slot}")
        return Grammar(slots)

    @cached_property
    def words(self) -> frozenset[str]:
        """Every terminal of the grammar, as written."""
        every = (s for slot in self.slots.values() for alt in slot.alternatives for s in alt)
        return frozenset(s.text for s in every if isinstance(s, Word))

    def leads(self, name: str) -> tuple[_Lead, ...]:
        """Every way slot `name` can begin."""
        known = self._leads.get(name)
        if known is not None:
            return known
        found: list[_Lead] = []
        for index, alternative in enumerate(self.slots[name].alternatives):
            first, rest = alternative[0], alternative[1:]
            if isinstance(first, Ref):
                for inner in self.leads(first.slot):
                    choices = ((name, index), *inner.choices)
                    found.append(_Lead(inner.first, inner.rest + rest, choices))
            elif isinstance(first, (Word, Var)):
                found.append(_Lead(first, rest, ((name, index),)))
        self._leads[name] = tuple(found)
        return self._leads[name]

    def parse(self, slot: str, words: Words, filling: Filling) -> list[tuple[Choice, ...]]:
        """All derivations of exactly `words` from `slot` (usually one; none if it does not parse).

        Words are compared without regard to case.
        """
        low = tuple(w.lower() for w in words)
        return [choices for end, choices in self._match((Ref(slot),), low, 0, filling) if end == len(low)]

    def _match(
        self, stack: Stack, words: Words, at: int, filling: Filling
    ) -> Iterator[tuple[int, tuple[Choice, ...]]]:
        if not stack:
            yield at, ()
            return
        first, rest = stack[0], stack[1:]
        if isinstance(first, Ref):
            for lead in self.leads(first.slot):
                for end, choices in self._match((lead.first, *lead.rest, *rest), words, at, filling):
                    yield end, (*lead.choices, *choices)
            return
        if isinstance(first, Word):
            options: Sequence[Words] = ((first.text.lower(),),)
        elif isinstance(first, Var):
            options = [tuple(w.lower() for w in ws) for ws, _ in filling.get(first.name, ())]
        else:
            options = ((),)
        for option in options:
            if words[at : at + len(option)] == option:
                yield from self._match(rest, words, at + len(option), filling)


class Source:
    """The true source for one reply: the grammar at one z with its variables filled.

    `states` are the derivations still possible after a prefix, as stacks with probabilities.
    """

    def __init__(self, grammar: Grammar, z: NDArray[np.float64], filling: Filling) -> None:
        self.grammar = grammar
        self.filling = filling
        self._z = z
        self._log: dict[str, NDArray[np.float64]] = {}
        self._starts: dict[str, list[tuple[Symbol, Stack, float]]] = {}

    def _probability(self, choices: tuple[Choice, ...]) -> float:
        total = 0.0
        for name, index in choices:
            if name not in self._log:
                self._log[name] = self.grammar.slots[name].log_probabilities(self._z)
            total += self._log[name][index]
        return float(np.exp(total))

    def _expand(self, stack: Stack, p: float, start: bool) -> Iterator[tuple[str, Stack, float]]:
        """Next word, stack after it and probability, for one live stack."""
        first, rest = stack[0], stack[1:]
        if isinstance(first, Ref):
            if first.slot not in self._starts:
                self._starts[first.slot] = [
                    (lead.first, lead.rest, self._probability(lead.choices))
                    for lead in self.grammar.leads(first.slot)
                ]
            for symbol, inner, q in self._starts[first.slot]:
                yield from self._terminal(symbol, inner + rest, p * q, start)
        else:
            yield from self._terminal(first, rest, p, start)

    def _terminal(
        self, symbol: Symbol, rest: Stack, p: float, start: bool
    ) -> Iterator[tuple[str, Stack, float]]:
        if isinstance(symbol, Word):
            yield capitalise(symbol.text) if start else symbol.text, rest, p
        elif isinstance(symbol, Var):
            for words, q in self.filling[symbol.name]:
                tail = tuple(Word(w) for w in words[1:])
                yield capitalise(words[0]) if start else words[0], tail + rest, p * q
        else:
            yield "", rest, p

    def step(self, states: States, start: bool) -> dict[str, States]:
        """Per next word ("" = end of reply): the live stacks after it, with joint probabilities.

        `start` says that the word begins a sentence and so takes a capital. `states` must sum
        to 1; the sum over a word's stacks is then its exact probability.
        """
        after: dict[str, States] = {}
        for stack, p in states:
            for word, rest, q in self._expand(stack, p, start):
                after.setdefault(word, []).append((rest, q))
        return after
