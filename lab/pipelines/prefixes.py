"""Replies that go on from words put into a model's mouth: does it come back to what it would have said?

The words are a reply's beginning, said by the model under another system prompt; they stand as the model's own
in its turn, and it goes on from there. Cached by content, as all replies are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.pipelines.replies import Sampling
from lab.records import Message, Question, Rendered
from lab.store import Store, content_key

if TYPE_CHECKING:
    from lab.models import LoadedModel


@dataclass(frozen=True)
class Begun:
    """A question under a system prompt ("" for none), and how the reply begins; sample: which of several."""

    system: str
    question: Question
    beginning: str
    sample: int = 0


def beginning(reply: str) -> str:
    """The first sentence of a reply that has more than one; of any other the first half of its words, at least one."""
    sentence = re.match(r".+?[.!?]+(?=\s+\S)", reply, re.DOTALL)
    if sentence:
        return sentence.group()
    words = list(re.finditer(r"\S+", reply))
    return reply[: words[(len(words) - 1) // 2].end()] if words else ""


def continued(model: "LoadedModel", begun: Sequence[Begun], config: Sampling, store: Store) -> list[str]:
    """How every reply goes on, without its beginning. LabError for a chat that does not fit the context."""
    asked = [[b.system, b.question.text, b.beginning, b.sample] for b in begun]
    key = content_key(
        "continued-1", model.identity.fingerprint, config.dtype, config.seed, config.max_new_tokens, asked
    )
    hit = store.cached(key)
    if hit is not None:
        return hit[1]["said"]
    from lab.activations import generate

    chats = [_chat(model, b, config.max_new_tokens) for b in begun]
    seeds = [int(content_key(config.seed, *row)[:12], 16) for row in asked]
    acts = generate(model, chats, max_new_tokens=config.max_new_tokens, seeds=seeds)
    said = [r.text.strip() for r in acts.replies]
    store.put(key, {}, {"said": said})
    return said


def _chat(model: "LoadedModel", begun: Begun, longest: int) -> Rendered:
    from lab.prompts.chat import check_length, render

    system = [Message("system", begun.system)] if begun.system else []
    chat = render(model.tokenizer, [*system, Message("user", begun.question.text)])
    ids = model.tokenizer(begun.beginning, add_special_tokens=False)["input_ids"]
    whole = Rendered(
        np.concatenate([chat.ids, np.array(ids, np.int64)]), chat.spans, chat.text + begun.beginning
    )
    check_length(whole, model.context, longest)
    return whole
