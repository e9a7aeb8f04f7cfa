"""Log-probs of given replies, against one reply at a time through the bare network."""

import numpy as np
import pytest
import torch

from lab.likelihood import token_log_probs
from lab.prompts.chat import render
from lab.records import LabError, Message


@pytest.fixture
def tiny_llama(loaded):
    return loaded("llama")


def _chats(model):
    texts = ("hello", "what do you think of the sea today, and of the hills behind it?", "why")
    return [render(model.tokenizer, [Message("user", t)]) for t in texts]


def test_log_probs_are_those_of_the_bare_network_one_by_one(tiny_llama):
    chats, replies = _chats(tiny_llama), ["yes", "the sea is calm and the hills are green", ""]
    found = token_log_probs(tiny_llama, chats, replies)
    for chat, reply, row in zip(chats, replies, found, strict=True):
        ids = tiny_llama.tokenizer(reply, add_special_tokens=False)["input_ids"]
        whole = torch.tensor([[*chat.ids.tolist(), *ids]])
        with torch.inference_mode():
            logits = tiny_llama.network(input_ids=whole).logits[0].log_softmax(-1)
        expected = [float(logits[len(chat.ids) + k - 1, token]) for k, token in enumerate(ids)]
        np.testing.assert_allclose(row, expected, atol=1e-4)


def test_it_asks_for_one_reply_per_chat(tiny_llama):
    with pytest.raises(LabError, match="one reply per chat"):
        token_log_probs(tiny_llama, _chats(tiny_llama), ["yes"])
