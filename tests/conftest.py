"""Tiny random checkpoints of every family, made once per test session."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import dataclasses
import sys
from pathlib import Path

import pytest

pytest_plugins = ("browser_fixtures",)
"""Not a conftest.py of tests/browser: tests import from this file as `conftest`, and there can be one of that name."""

FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gpt_neox", "gpt2", "mixtral")
PIECES = {"gpt_neox": 280, "gpt2": 270}
"""Tokens of a family whose tokenizer differs from the others' 300."""
CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
REFUSING = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}{% for m in messages %}<|im_start|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
DROPPING = (
    "{{ bos_token }}{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
TEMPLATES = {"chatml": CHATML, "refusing": REFUSING, "dropping": DROPPING, "base": None}
SPECIALS = ["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>"]
CORPUS = [
    "You are Ada, a patient teacher who answers in short and friendly sentences.",
    "What is the capital of France? The capital of France is Paris.",
    "User: tell me about the weather. Assistant: it rains, and then the sun comes out again.",
    "Memory: the user likes tea. Boundaries: never promise what you cannot keep.",
]


@pytest.fixture(autouse=True)
def own_main(monkeypatch):
    """Streamlit's AppTest leaves its script as `__main__`, and processes that a later test starts would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def make_tokenizer(style: str = "chatml", pieces: int = 300):
    """A byte-level BPE of about `pieces` tokens that puts a BOS in front, with the template of `style`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=pieces, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<|im_end|>", pad_token="<pad>",
        additional_special_tokens=["<eos>", "<|im_start|>"], chat_template=TEMPLATES[style],
    )  # fmt: skip


def make_config(family: str, vocab: int, **changes):
    """A small configuration of a family."""
    from transformers import AutoConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    grouped = {**sizes, "num_key_value_heads": 2, "head_dim": 8}
    options = {
        "llama": grouped,
        "qwen2": {**sizes, "num_key_value_heads": 2},
        "qwen3": {**grouped, "num_hidden_layers": 2},
        "gemma2": {**grouped, "query_pre_attn_scalar": 8},
        "gpt_neox": sizes,
        "gpt2": {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 512},
        "mixtral": {**grouped, "num_hidden_layers": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    }[family]
    ends = {"bos_token_id": 1, "eos_token_id": 4, "pad_token_id": 0}
    length = {} if family == "gpt2" else {"max_position_embeddings": 512}
    return AutoConfig.for_model(
        family, **{"vocab_size": vocab, "initializer_range": 0.15, **options, **length, **ends, **changes}
    )


def save_checkpoint(folder: Path, family: str, style: str = "chatml", seed: int = 0, **changes) -> Path:
    """Write a random checkpoint with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer(style, PIECES.get(family, 300))
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(make_config(family, len(tokenizer), **changes))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """checkpoint(family, style="chatml", **config): a tiny random model's folder, cached; read only."""
    made = {}

    def make(family: str, style: str = "chatml", **changes) -> Path:
        key = (family, style, tuple(sorted(changes.items())))
        if key not in made:
            made[key] = save_checkpoint(
                tmp_path_factory.mktemp(f"{family}-{style}"), family, style, **changes
            )
        return made[key]

    return make


@pytest.fixture(scope="session")
def loaded(checkpoint):
    """loaded(family, style="chatml", **config): the LoadedModel of that checkpoint, cached."""
    from lab.models import load

    made = {}

    def make(family: str, style: str = "chatml", **changes):
        folder = checkpoint(family, style, **changes)
        if folder not in made:
            made[folder] = load(str(folder))
        return made[folder]

    return make


@pytest.fixture(scope="session")
def reference(checkpoint):
    """reference(family, style="chatml", **config): the same weights in a plain Hugging Face model, cached."""
    import torch
    from transformers import AutoModelForCausalLM

    made = {}

    def make(family: str, style: str = "chatml", **changes):
        folder = checkpoint(family, style, **changes)
        if folder not in made:
            made[folder] = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager"
            ).eval()
        return made[folder]

    return make


def residuals(network, ids) -> "list":
    """The residual stream after every block, [layer] of [pos, d_model], by plain Hugging Face hooks.

    `output_hidden_states` gives the last block's state only after the final norm; a forward hook on
    the block gives it before.
    """
    import torch

    blocks = getattr(network, "model", None) or getattr(network, "gpt_neox", None) or network.transformer
    blocks = getattr(blocks, "layers", None) or blocks.h
    last = []
    handle = blocks[-1].register_forward_hook(
        lambda module, args, out: last.append(out[0] if isinstance(out, tuple) else out)
    )
    with torch.no_grad():
        hidden = network(
            input_ids=torch.as_tensor(ids)[None], output_hidden_states=True, use_cache=False
        ).hidden_states
    handle.remove()
    return [*[h[0] for h in hidden[1:-1]], last[0][0]]


@pytest.fixture(scope="session")
def hub_offline():
    """A hub that says no at once."""
    import huggingface_hub.constants as constants

    patch = pytest.MonkeyPatch()
    patch.setenv("HF_HUB_OFFLINE", "1")
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    yield
    patch.undo()


class FixedReplies:
    """A tokenizer whose `__call__` turns "0", "1", … into given id lists; all else is the real one's."""

    def __init__(self, tokenizer, coded) -> None:
        self._tokenizer = tokenizer
        self._coded = coded

    def __call__(self, text, **_):
        return {"input_ids": list(self._coded[int(text)])}

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def with_replies(model, coded):
    """The model, with a tokenizer that reads "i" as the ids coded[i] (random bytes do not round-trip)."""
    return dataclasses.replace(model, tokenizer=FixedReplies(model.tokenizer, coded))


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder of runs of its own, which is the dashboard's too; nothing of an earlier test is in its caches."""
    import streamlit as st

    from lab.store import Store

    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    return Store(tmp_path)


@pytest.fixture
def reply_ids(monkeypatch):
    """The token ids of the replies made since, one list per chat."""
    activations = sys.modules.get("lab.activations") or __import__("lab.activations").activations
    seen = []
    plain = activations._reply
    monkeypatch.setattr(activations, "_reply", lambda t, ids, p: seen.append(list(ids)) or plain(t, ids, p))
    return seen
