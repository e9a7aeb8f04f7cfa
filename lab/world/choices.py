"""What the source chose in a reply, and where: every trait-bearing choice with its characters.

    choices_in(text) -> Read                    from the text alone, by parsing
    trait_choices(grammar) -> Option rows       every (slot, alternative) of a slot whose odds depend on z

A reply is a chain of choices; those of a trait slot have odds exp(SHARPNESS load z_trait), so they alone carry z. The
text gives them back nearly always: where derivations of a sentence differ, only what they agree on counts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from lab.world.grammar import Grammar, Mark, Ref, Stack, Var, Word, Words
from lab.world.judge import open_filling, sentence_slots
from lab.world.library import as_words, library

_PIECE = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[^\sA-Za-z]")
"""As lab.world.grammar.split_words."""


@dataclass(frozen=True, order=True)
class Chosen:
    """One choice: alternative of a trait slot, at characters start to end - 1."""

    slot: str
    alternative: int
    start: int
    end: int


@dataclass(frozen=True)
class Read:
    """Choices of a text in reading order; of its `sentences`, `parsed` have a derivation or are a ritual."""

    choices: tuple[Chosen, ...]
    sentences: int
    parsed: int


@dataclass(frozen=True)
class Option:
    """A choice that the grammar offers: its words as written, the trait and what it says of it (load in [-1, 1]).

    inner: whether it is words alone; else other slots are inside, whole sentences with choices of their own.
    """

    slot: str
    alternative: int
    words: str
    trait: str
    load: float
    inner: bool = True


def trait_choices(grammar: Grammar) -> tuple[Option, ...]:
    """Every trait-bearing choice, slot by slot."""
    return tuple(
        Option(slot.name, k, _written(stack), slot.trait, float(slot.loads[k]), _plain(stack))
        for slot in grammar.slots.values()
        if slot.trait is not None and np.ptp(slot.loads) > 0
        for k, stack in enumerate(slot.alternatives)
    )


def _plain(stack: Stack) -> bool:
    return not any(isinstance(symbol, Ref) for symbol in stack)


def _written(stack: Stack) -> str:
    names = {Word: "{}", Var: "{{{}}}", Ref: "<{}>", Mark: ""}
    said = [
        names[type(s)].format(getattr(s, "text", getattr(s, "slot", getattr(s, "name", "")))) for s in stack
    ]
    return re.sub(r" (?=[,.!?;:])", "", " ".join(said))


def choices_in(text: str) -> Read:
    """What was chosen in a reply of Hearth, without knowing what it replies to."""
    found: list[Chosen] = []
    sentences = parsed = 0
    for pieces in _sentences(text):
        made = _choices(tuple(p.group(0).lower() for p in pieces))
        sentences, parsed = sentences + 1, parsed + (made is not None)
        for slot, alternative, first, stop in made or ():
            found.append(Chosen(slot, alternative, pieces[first].start(), pieces[stop - 1].end()))
    return Read(tuple(found), sentences, parsed)


def _sentences(text: str) -> Iterator[list[re.Match[str]]]:
    """The words of each sentence, its end mark among them, as lab.world.judge.sentences_of."""
    current: list[re.Match[str]] = []
    for piece in _PIECE.finditer(text):
        current.append(piece)
        if piece.group(0) in (".", "!", "?"):
            yield current
            current = []
    if current:
        yield current


# ------------------------------------------------------------------ parsing with places

Placed = tuple[str, int, int, int]
"""(slot, alternative, first word, word after the last)."""
Way = tuple[int, tuple[Placed, ...]]
"""Where a derivation ends, and its choices."""


@cache
def _desk() -> tuple[dict[str, dict[str, list[Words]]], tuple[str, ...], frozenset[Words]]:
    """Fillings of each variable by their first word, the slots of whole sentences, and the rituals."""
    lib = library()
    filling: dict[str, dict[str, list[Words]]] = {}
    for name, options in open_filling(lib).items():
        filling[name] = {}
        for words in {tuple(w.lower() for w in words) for words, _ in options}:
            filling[name].setdefault(words[0], []).append(words)
    rituals = frozenset(tuple(w.lower() for w in as_words(r.phrase)) for r in lib.rituals)
    return filling, tuple(sentence_slots(lib.grammar)), rituals


@lru_cache(maxsize=1 << 15)
def _choices(words: Words) -> tuple[Placed, ...] | None:
    """Trait-bearing choices that all derivations of a sentence share; None where it has none."""
    _, slots, rituals = _desk()
    if words in rituals:
        return ()
    parser = _Parser(words)
    found = [set(made) for slot in slots for end, made in parser.slot(slot, 0) if end == len(words)]
    if not found:
        return None
    shared = set.intersection(*found)
    traits = library().grammar.slots
    return tuple(sorted((p for p in shared if traits[p[0]].trait is not None), key=lambda p: (p[2], -p[3])))


class _Parser:
    """Derivations of one sentence, each slot at each place once."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._grammar = library().grammar
        self._known: dict[tuple[str, int], list[Way]] = {}

    def slot(self, name: str, at: int) -> list[Way]:
        """Every way in which the slot derives words from `at` on."""
        key = (name, at)
        if key not in self._known:
            self._known[key] = [
                (end, ((name, k, at, end), *made))
                for k, stack in enumerate(self._grammar.slots[name].alternatives)
                for end, made in self._stack(stack, at)
            ]
        return self._known[key]

    def _stack(self, stack: Stack, at: int) -> Iterator[Way]:
        if not stack:
            yield at, ()
            return
        for middle, made in self._symbol(stack[0], at):
            for end, rest in self._stack(stack[1:], middle):
                yield end, (*made, *rest)

    def _symbol(self, symbol: Word | Ref | Var | Mark, at: int) -> list[Way]:
        if isinstance(symbol, Ref):
            return self.slot(symbol.slot, at)
        if isinstance(symbol, Mark):
            return [(at, ())]
        if at >= len(self._words):
            return []
        if isinstance(symbol, Word):
            return [(at + 1, ())] if symbol.text.lower() == self._words[at] else []
        options = _desk()[0][symbol.name].get(self._words[at], [])
        return [(at + len(o), ()) for o in options if self._words[at : at + len(o)] == o]
