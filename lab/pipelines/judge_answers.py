"""What judges said, kept in the store as it comes and by content, so that a killed run goes on where it was."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import fields
from typing import TypeVar

import numpy as np

from lab.judging.judges import Item, LogprobJudge, NextLogprobs
from lab.judging.likelihood_ratio import Likelihoods, likelihoods
from lab.models import LoadedModel, load
from lab.pipelines.compare import resolve_model
from lab.pipelines.model_as_judge import TOP, chat_log_probs, next_logprobs, one_token
from lab.records import Message, Trait
from lab.store import Store, content_key
from lab.world.exact import Readings, edition, readings

CHUNK = 32
"""Replies judged between two saves."""
Tick = Callable[[int], None]
Arrays = TypeVar("Arrays", Readings, Likelihoods)


def kept_readings(items: Sequence[Item], store: Store, tick: Tick) -> Readings:
    """The exact judge's readings of the answers, from the store where they are there."""
    make = lambda part: readings([item.answer for item in part])  # noqa: E731
    return _arrays(Readings, make, ["exact-1", edition()], items, store, tick)


def kept_likelihoods(
    model: LoadedModel, trait: Trait, items: Sequence[Item], store: Store, tick: Tick
) -> Likelihoods:
    """How likely the answers are under the trait's prompts, from the store where they are there."""
    make = lambda part: likelihoods(chat_log_probs(model), trait, part)  # noqa: E731
    key = ["contrast-1", model.identity.fingerprint, trait.positive, trait.negative]
    return _arrays(Likelihoods, make, key, items, store, tick)


def _arrays(
    kind: type[Arrays], make: Callable[[Sequence[Item]], Arrays], key: Sequence[object],
    items: Sequence[Item], store: Store, tick: Tick,
) -> Arrays:  # fmt: skip
    """A record of arrays over items, made and saved CHUNK by CHUNK."""
    names = [f.name for f in fields(kind)]
    parts = []
    for start in range(0, len(items), CHUNK):
        part = items[start : start + CHUNK]
        name = content_key("judge", *key, [[item.question, item.answer] for item in part])
        hit = store.cached(name)
        found = kind(**hit[0]) if hit else make(part)
        if not hit:
            store.put(name, {n: getattr(found, n) for n in names}, {})
        parts.append(found)
        tick(len(part))
    return kind(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})


def local_judge(
    name: str, dtype: str = "float32", store: Store | None = None, tick: Tick = lambda _: None
) -> LogprobJudge:
    """A judge that asks a local chat model; its answers are kept in `store` if one is given.

    `name` is a shipped name, a folder or a hub name. LabError for what cannot be loaded and for a
    tokenizer that writes numbers in pieces.
    """
    model = load(resolve_model(name), dtype)
    ask = next_logprobs(model)
    kept = ask if store is None else _kept(ask, model.identity.fingerprint, store, tick)
    return LogprobJudge(model.identity.name, kept, one_token(model))


def _kept(ask: NextLogprobs, fingerprint: str, store: Store, tick: Tick) -> NextLogprobs:
    """`ask`, with what was answered before taken from the store, CHUNK by CHUNK."""

    def answer(chats: Sequence[Sequence[Message]]) -> Sequence[Mapping[str, float]]:
        found: list[Mapping[str, float]] = []
        for start in range(0, len(chats), CHUNK):
            part = chats[start : start + CHUNK]
            key = content_key("next-1", fingerprint, TOP, [[[m.role, m.content] for m in c] for c in part])
            hit = store.cached(key)
            answers = hit[1] if hit else ask(part)
            if not hit:
                store.put(key, {}, answers)
            found += answers
            tick(len(part))
        return found

    return answer


class ServerAnswers(MutableMapping[str, str]):
    """A server's answers in the store, by content hash. Iterates over what this run has seen only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, str] = {}

    def __getitem__(self, key: str) -> str:
        if key not in self._seen:
            hit = self._store.cached(content_key("api-1", key))
            if hit is None:
                raise KeyError(key)
            self._seen[key] = hit[1]["answer"]
        return self._seen[key]

    def __setitem__(self, key: str, answer: str) -> None:
        self._store.put(content_key("api-1", key), {}, {"answer": answer})
        self._seen[key] = answer

    def __delitem__(self, key: str) -> None:
        raise TypeError("answers are kept; delete the cache folder of the runs to forget them")

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)
