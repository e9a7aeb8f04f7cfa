"""Chats as token ids: rendered and tokenised once, with the span of every message's content."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from lab.records import LabError, Message, Rendered, Span


def render(tokenizer: Any, messages: Sequence[Message]) -> Rendered:
    """Ids of a chat, ready for the assistant's reply, with one span per message.

    Chat models: their own template. A template without a system role (it raises, or drops the
    text) gets the system text in front of the first user message. Base models: plain text. BOS as
    the tokenizer or template has it, never twice.
    """
    if not messages or messages[-1].role != "user":
        raise LabError("a chat to be continued must end with a user message")
    messages = _accepted(tokenizer, messages)
    text = _text(tokenizer, messages)
    special = tokenizer.chat_template is None
    encoded = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
    ids = np.array(encoded["input_ids"], dtype=np.int64)
    offsets = _repaired(encoded["offset_mapping"])
    headers = _headers(tokenizer, messages)
    return Rendered(ids, _spans(text, messages, headers, offsets), text)


def check_length(chat: Rendered, context: int, reserve: int) -> None:
    """LabError when the chat and `reserve` tokens of reply do not fit into the context."""
    if len(chat.ids) + reserve > context:
        raise LabError(
            f"the scaffold with its question has {len(chat.ids)} tokens; with a reply of {reserve} "
            f"that is more than the model's context of {context}; shorten the scaffold or the reply "
            "(--max-new-tokens)"
        )


def _accepted(tokenizer: Any, messages: Sequence[Message]) -> Sequence[Message]:
    """The messages as this template can take them."""
    if messages[0].role != "system" or tokenizer.chat_template is None:
        return messages
    from jinja2 import TemplateError

    try:
        if _mark(0) in _template(tokenizer, _marked(messages)):
            return messages
    except TemplateError:
        pass
    first = messages[1]
    return [Message(first.role, f"{messages[0].content}\n\n{first.content}"), *messages[2:]]


def _mark(i: int) -> str:
    return f"\ue000{i}\ue000"


def _marked(messages: Sequence[Message]) -> list[Message]:
    """The same roles with contents that no template has in its own text."""
    return [Message(m.role, _mark(i)) for i, m in enumerate(messages)]


def _headers(tokenizer: Any, messages: Sequence[Message]) -> list[str]:
    """What comes before each content, so that a content that reads "user" is not found in a role name."""
    parts = re.split("\ue000\\d+\ue000", _text(tokenizer, _marked(messages)))
    return parts[:-1] if len(parts) == len(messages) + 1 else [""] * len(messages)


_TEMPLATE_OPTIONS = {"enable_thinking": False, "thinking": False, "date_string": "01 Jan 2025"}
"""For templates that know these names: the reply itself instead of a chain of thought, and a fixed
"today", so that a prompt does not change overnight. Others ignore them."""


def _template(tokenizer: Any, messages: Sequence[Message], reply: bool = True) -> str:
    """The chat by the model's own template; with `reply`, ready for the assistant to speak."""
    chat = [{"role": m.role, "content": m.content} for m in messages]
    return tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=reply, **_TEMPLATE_OPTIONS
    )


def turn_end(tokenizer: Any) -> int | None:
    """The special token with which the template closes an assistant message; None if it has none."""
    from jinja2 import TemplateError

    try:
        text = _template(tokenizer, _marked([Message("user", ""), Message("assistant", "")]), reply=False)
    except TemplateError:
        return None
    after = text.partition(_mark(1))[2]
    ids = tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return next((i for i in ids[:2] if i in special), None)


def _text(tokenizer: Any, messages: Sequence[Message]) -> str:
    if tokenizer.chat_template is not None:
        from jinja2 import TemplateError

        try:
            return _template(tokenizer, messages)
        except TemplateError as error:
            roles = ", ".join(m.role for m in messages)
            raise LabError(f"the chat template of the model refuses a chat of {roles}: {error}") from error
    ends = {"user": "\n", "assistant": "\n", "system": "\n\n"}
    return "".join(_NAMES[m.role] + m.content + ends[m.role] for m in messages) + "Assistant:"


_NAMES = {"user": "User: ", "assistant": "Assistant: ", "system": ""}
"""What stands before a message where a model has no chat template."""


def own_words(tokenizer: Any, reply: str) -> str:
    """A reply without the further turns that a model without chat template writes after it, for both sides."""
    if tokenizer.chat_template is not None:
        return reply
    return re.split("|".join(rf"\n\s*{_NAMES[role].strip()}" for role in ("user", "assistant")), reply)[0]


def _repaired(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets in which a zero-width token reaches to the start of the next one."""
    fixed = [(start, end) for start, end in offsets]
    for i in range(len(fixed) - 2, -1, -1):
        start, end = fixed[i]
        if start == end and fixed[i + 1][0] > end:
            fixed[i] = (start, fixed[i + 1][0])
    return fixed


def _spans(
    text: str, messages: Sequence[Message], headers: Sequence[str], offsets: Sequence[tuple[int, int]]
) -> tuple[Span, ...]:
    """Token range of every message's content, by characters, in order."""
    spans, at = [], 0
    for message, header in zip(messages, headers, strict=True):
        content = message.content.strip()
        begin = text.find(content, at + len(header))
        if begin < 0:
            raise LabError(
                f"the chat template changes the text of the {message.role} message; it cannot be located"
            )
        at = begin + len(content)
        inside = [i for i, (s, e) in enumerate(offsets) if s < at and e > begin and e > s]
        first = inside[0] if inside else 0
        spans.append(Span(message.role, first, inside[-1] + 1 if inside else first))
    return tuple(spans)
