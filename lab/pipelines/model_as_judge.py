"""A loaded model as a judge: how likely it finds given replies, and what it would say next."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy import ndarray

from lab.activations import batches
from lab.judging.judges import NextLogprobs
from lab.judging.likelihood_ratio import LogProbs
from lab.likelihood import padded, token_log_probs
from lab.models import LoadedModel
from lab.prompts.chat import check_length, render
from lab.records import LabError, Message

TOP = 50
"""How many of the likeliest next tokens are kept of a local model's answer."""


def chat_log_probs(model: LoadedModel) -> LogProbs:
    """`lab.likelihood.token_log_probs` of this model, unsteered. LabError for a chat beyond its context."""

    def log_probs(chats: Sequence[Sequence[Message]], replies: Sequence[str]) -> Sequence[ndarray]:
        rendered = [render(model.tokenizer, chat) for chat in chats]
        lengths = [len(model.tokenizer(r, add_special_tokens=False)["input_ids"]) for r in replies]
        for chat, length in zip(rendered, lengths, strict=True):
            check_length(chat, model.context, length)
        return token_log_probs(model, rendered, replies)

    return log_probs


def next_logprobs(model: LoadedModel, top: int = TOP, token_budget: int = 16384) -> NextLogprobs:
    """What would come next under each chat: the `top` likeliest tokens of this model, unsteered.

    LabError for a chat that does not fit into the model's context.
    """
    import torch

    def answer(chats: Sequence[Sequence[Message]]) -> Sequence[Mapping[str, float]]:
        rendered = [render(model.tokenizer, chat) for chat in chats]
        longest = max((len(chat.ids) for chat in rendered), default=0)
        if longest >= model.context:
            raise LabError(
                f"judge {model.identity.name}: a question with its reply and the rubric has {longest} "
                f"tokens, which does not fit into a context of {model.context}; take shorter replies "
                "(--max-new-tokens) or another judge"
            )
        found: list[Mapping[str, float]] = [{}] * len(chats)
        order = sorted(range(len(chats)), key=lambda i: len(rendered[i].ids))
        for batch in batches(order, rendered, 0, token_budget):
            ids, mask, positions = padded([rendered[i].ids for i in batch], model)
            with torch.inference_mode():
                logits = model.network(
                    input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False,
                    logits_to_keep=1,
                ).logits[:, -1]  # fmt: skip
            best = logits.double().log_softmax(-1).topk(min(top, logits.shape[-1]))
            for i, values, tokens in zip(batch, best.values.tolist(), best.indices.tolist(), strict=True):
                found[i] = _by_text(model, tokens, values)
        return found

    return answer


def _by_text(model: LoadedModel, tokens: Sequence[int], values: Sequence[float]) -> dict[str, float]:
    """Log-probs by decoded text; the probabilities of tokens that read the same are added."""
    found: dict[str, float] = {}
    for token, value in zip(tokens, values, strict=True):
        text = model.tokenizer.decode([token])
        found[text] = float(np.logaddexp(found[text], value)) if text in found else value
    return found


def one_token(model: LoadedModel) -> Callable[[str], bool]:
    """Whether a text, as this model's reply begins with it, is one token.

    Told by writing it behind a chat, not by itself: some tokenizers put a space in front of what stands
    alone. A base model's reply begins with a space.
    """
    chat = render(model.tokenizer, [Message("user", "Give a number.")])
    bare = model.tokenizer.chat_template is None
    before = chat.ids.tolist()

    def check(text: str) -> bool:
        whole = chat.text + (" " if bare else "") + text
        ids = model.tokenizer(whole, add_special_tokens=bare)["input_ids"]
        if bare:  # a tokenizer may end what it is given with a special token
            ids = [i for k, i in enumerate(ids) if k < len(before) or i not in model.stop_ids]
        return ids[:-1] == before

    return check
