"""Models: the only importer of transformer_lens.

Any Hugging Face causal language model, by folder or hub name, behind TransformerBridge; its
wiring is verified at load and its identity is a fingerprint of weights, tokenizer, chat template
and dtype. Weights stay as they are (no folding, no centring).
"""

import copy
import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lab.prompts.chat import render, turn_end
from lab.records import LabError, Message, ModelIdentity, Site

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16")
PADDING_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest relative change of a state that left padding may cause."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be read and steered.

    `bridge` is the TransformerBridge, `tokenizer` the Hugging Face tokenizer, `context` the
    longest sequence in tokens, `stop_ids` the tokens that end a reply, `trait_set` what config.json
    names under "lab_trait_set".
    """

    bridge: Any
    tokenizer: Any
    identity: ModelIdentity
    context: int
    stop_ids: tuple[int, ...]
    trait_set: str | None

    @property
    def network(self) -> Any:
        """The Hugging Face module; its forward fires the bridge's hooks."""
        return self.bridge.original_model

    @property
    def device(self) -> "torch.device":
        """Where the weights are."""
        return next(self.network.parameters()).device


def hook_name(site: Site) -> str:
    """The one place that names a hook: the residual stream after a block."""
    return f"blocks.{site.layer}.hook_out"


@dataclass(frozen=True)
class Checkpoint:
    """A model as its files hold it, before hooks are put in: enough to know which model it is."""

    network: Any
    tokenizer: Any
    name: str
    path: str
    fingerprint: str
    dtype: str
    context: int
    stop_ids: tuple[int, ...]
    trait_set: str | None


def load(name_or_path: str, dtype: str = "float32") -> LoadedModel:
    """Load a folder (never touching the network) or, if no such folder exists, a hub name.

    Raises LabError for a missing or broken folder, an unknown architecture, a name that the hub
    or the local cache does not have, non-finite weights, or wiring that does not verify.
    """
    return wire(read_checkpoint(name_or_path, dtype))


def read_checkpoint(name_or_path: str, dtype: str = "float32") -> Checkpoint:
    """The first half of `load`, without TransformerLens, which takes seconds to import."""
    if dtype not in DTYPES:
        raise LabError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    folder = Path(name_or_path)
    local = _check_folder(name_or_path, folder)
    import torch
    from transformers import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    network, tokenizer = _read_checkpoint(name_or_path, local, getattr(torch, dtype))
    return Checkpoint(
        network,
        tokenizer,
        name=folder.resolve().name if local else name_or_path,
        path=str(folder) if local else name_or_path,
        fingerprint=fingerprint_of(network, tokenizer, dtype),
        dtype=dtype,
        context=_context(network.config),
        stop_ids=stop_ids(network, tokenizer),
        trait_set=getattr(network.config, "lab_trait_set", None),
    )


def files_digest(folder: Path) -> str:
    """Hash of every file in a checkpoint's folder, and of the versions of the libraries that read it.

    As long as it stays the same, so does the fingerprint, and nothing has to be loaded to know it.
    """
    digest = hashlib.sha256(
        "".join(f"{name} {version(name)} " for name in ("transformers", "torch")).encode()
    )
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()


def wire(checkpoint: Checkpoint) -> LoadedModel:
    """The second half of `load`: hooks put in and verified."""
    parameters = sum(p.numel() for p in checkpoint.network.parameters())  # the bridge adds biases of zero
    bridge = _bridge(checkpoint.path, checkpoint.network, checkpoint.tokenizer)
    identity = ModelIdentity(
        name=checkpoint.name,
        path=checkpoint.path,
        fingerprint=checkpoint.fingerprint,
        parameters=parameters,
        layers=bridge.cfg.n_layers,
        d_model=bridge.cfg.d_model,
        vocab=bridge.cfg.d_vocab,
        dtype=checkpoint.dtype,
        processed_weights=False,
    )
    model = LoadedModel(
        bridge, checkpoint.tokenizer, identity, checkpoint.context, checkpoint.stop_ids, checkpoint.trait_set
    )
    verify(model)
    return model


def matrices(checkpoint: Checkpoint) -> dict[str, NDArray[np.float64]]:
    """Every weight with two axes or more by name; one that is used twice (a tied embedding) once. Gains are left out."""
    return {
        name: weight.detach().double().cpu().numpy()
        for name, weight in checkpoint.network.named_parameters()
        if weight.ndim >= 2
    }


def with_matrices(
    checkpoint: Checkpoint, weights: Mapping[str, NDArray[np.float64]], name: str
) -> Checkpoint:
    """A copy of a checkpoint with some of its weights in place of its own, and a fingerprint of its own.

    The checkpoint stays as it is; it must not have been wired. LabError for a weight that it lacks, or of another
    shape.
    """
    import torch

    network = copy.deepcopy(checkpoint.network)
    own = dict(network.named_parameters())
    with torch.no_grad():
        for key, value in weights.items():
            if key not in own or own[key].shape != value.shape:
                had = tuple(own[key].shape) if key in own else "no such weight"
                raise LabError(f"{checkpoint.name}, {key}: expected the shape {had}, got {value.shape}")
            own[key].copy_(torch.from_numpy(value))
    fingerprint = fingerprint_of(network, checkpoint.tokenizer, checkpoint.dtype)
    return replace(checkpoint, network=network, name=name, fingerprint=fingerprint)


def untrained(model: LoadedModel, seed: int) -> LoadedModel:
    """The same architecture and tokenizer with weights as they are before training, drawn with `seed`.

    What such a twin makes of a text is due to the text, the tokenizer and the architecture alone. LabError where
    the checkpoint's own code cannot make a network from its configuration.
    """
    name = f"{model.identity.name} untrained {seed}"
    network = _untrained_network(model.network.config, model.identity.dtype, model.identity.name, seed)
    fingerprint = hashlib.sha256(f"{model.identity.fingerprint} untrained {seed}".encode()).hexdigest()
    checkpoint = Checkpoint(
        network.to(model.device).eval(), model.tokenizer, name, model.identity.path, fingerprint,
        model.identity.dtype, model.context, model.stop_ids, model.trait_set,
    )  # fmt: skip
    return wire(checkpoint)


def fresh(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """A checkpoint as it is before training, weights drawn with `seed`; LabError as for `untrained`."""
    network = _untrained_network(checkpoint.network.config, checkpoint.dtype, checkpoint.name, seed).eval()
    fingerprint = hashlib.sha256(f"{checkpoint.fingerprint} untrained {seed}".encode()).hexdigest()
    return replace(
        checkpoint, network=network, name=f"{checkpoint.name} untrained {seed}", fingerprint=fingerprint
    )


def _untrained_network(config: Any, dtype: str, name: str, seed: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        except (ValueError, TypeError, NotImplementedError) as error:
            raise LabError(
                f"cannot make {name} anew with random weights ({error}); leave that control out"
            ) from error


def _check_folder(name: str, folder: Path) -> bool:
    """Whether `name` is a local checkpoint; LabError when it looks like one but is not."""
    if name and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise LabError(f"{folder} has no config.json; expected a Hugging Face model folder")
        return True
    parts = name.split("/")
    if folder.exists() or len(parts) > 2 or name.startswith((".", "/", "~")) or not all(parts):
        raise LabError(
            f"no model folder {name!r}; give a folder with config.json, a shipped name or a hub name"
        )
    return False


def _read_checkpoint(name: str, local: bool, dtype: "torch.dtype") -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:  # the libraries below raise nearly anything, bare Exception included
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local)
        if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
            raise ValueError("its files give an empty vocabulary")
    except Exception as error:
        raise LabError(_why(name, local, "tokenizer", error)) from error
    try:
        both: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, local_files_only=local, output_loading_info=True
        )
        network, found = both
        if found["missing_keys"]:
            raise ValueError(f"no tensor {', '.join(sorted(found['missing_keys'])[:3])}")
    except Exception as error:
        raise LabError(_why(name, local, "weights", error)) from error
    return network.eval(), tokenizer


def _why(name: str, local: bool, what: str, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if local:
        return f"cannot read the {what} of {name}: {first}; expected a complete Hugging Face causal-LM folder"
    return (
        f"no model {name!r}: it is no folder and no shipped model, and the hub did not give it ({first}); "
        "check the name, or the network if you mean a hub model"
    )


def _context(config: Any) -> int:
    text = config.get_text_config()
    return int(getattr(text, "max_position_embeddings", None) or 2048)


def _bridge(name: str, network: Any, tokenizer: Any) -> Any:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return TransformerBridge.boot_transformers(name, hf_model=network, tokenizer=tokenizer, device=device)
    except (ValueError, KeyError, NotImplementedError, AttributeError) as error:
        kind = type(network).__name__
        raise LabError(
            f"{name}: TransformerLens cannot wire {kind} ({error}); use another architecture"
        ) from error


def stop_ids(network: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end a reply, sorted.

    Those that generation_config.json and the tokenizer call end of sequence; for a chat model
    also the special token with which its template closes an assistant message; for a base model,
    whose chat is written line by line, every token with a line break.
    """
    configured = getattr(network.generation_config, "eos_token_id", None)
    found = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id}
    if tokenizer.chat_template is None:
        vocab = list(range(len(tokenizer)))
        texts = tokenizer.batch_decode([[i] for i in vocab], clean_up_tokenization_spaces=False)
        found |= {i for i, text in zip(vocab, texts, strict=True) if "\n" in text}
    else:
        found.add(turn_end(tokenizer))
    return tuple(sorted(i for i in found if i is not None))


_NOT_BEHAVIOUR = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "lab_trait_set")


def fingerprint_of(network: Any, tokenizer: Any, dtype: str) -> str:
    """sha256 over weights (names, shapes, bytes), configuration, stop tokens, tokenizer, template and dtype.

    The configuration counts because equal weights compute something else under another number of
    heads or another position scaling.
    """
    import torch

    digest = hashlib.sha256(dtype.encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    config = {k: v for k, v in network.config.to_dict().items() if k not in _NOT_BEHAVIOUR}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(str(stop_ids(network, tokenizer)).encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = json.loads(backend.to_str()) if backend else tokenizer.get_vocab()
    if backend:  # what the last call asked for, not what the tokenizer is
        words |= {"padding": None, "truncation": None}
    digest.update(json.dumps(words, sort_keys=True).encode())
    digest.update(str(tokenizer.chat_template).encode())
    return digest.hexdigest()


def verify(model: LoadedModel) -> None:
    """Check that the parts fit: tokenizer to embedding, spans to text, hooks to the network.

    Every layer's hook fires with the right shape, finite, blind to left padding, and what is
    written at the first, middle and last layer changes the output. Raises LabError naming what failed.
    """
    import torch

    name, width = model.identity.name, model.identity.d_model
    _verify_chat(model)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.identity.vocab, (1, 8), generator=generator).to(model.device)
    plain = _states(model, ids, torch.ones_like(ids))
    padded_ids = torch.cat([torch.full((1, 3), model.tokenizer.pad_token_id, device=ids.device), ids], dim=1)
    mask = torch.tensor([[0] * 3 + [1] * 8], device=ids.device)
    padded = _states(model, padded_ids, mask)
    for layer in range(model.identity.layers):
        if layer not in plain:
            raise LabError(f"{name}: no residual stream came out of layer {layer}")
        state = plain[layer]
        if state.shape != (1, 8, width):
            raise LabError(
                f"{name}: layer {layer} gives states {tuple(state.shape)}, expected (1, 8, {width})"
            )
        if not torch.isfinite(state).all():
            raise LabError(f"{name}: NaN or infinite activations at layer {layer}; the weights are broken")
        gap = (padded[layer][:, 3:] - state).norm() / state.norm()
        if not gap <= PADDING_TOLERANCE[model.identity.dtype]:
            raise LabError(
                f"{name}: left padding changes layer {layer} by {gap:.1%}; it cannot be read in batches"
            )
    _verify_writing(model, ids, plain)


def _verify_chat(model: LoadedModel) -> None:
    """Token ids of a chat lie in the embedding, and each message's span decodes to its text."""
    name = model.identity.name
    said = (Message("system", "You are Ada, 27."), Message("user", "Who are you? Tell me!"))
    chat = render(model.tokenizer, said)
    rows = model.network.get_input_embeddings().weight.shape[0]
    if int(chat.ids.max()) >= rows:
        raise LabError(
            f"{name}: its tokenizer gives token {int(chat.ids.max())}, its embedding has {rows} rows; "
            "tokenizer and weights belong to different models"
        )
    for message, span in zip(said[-len(chat.spans) :], chat.spans, strict=True):
        text = model.tokenizer.decode(chat.ids[span.start : span.end])
        if "".join(message.content.split()).lower() not in "".join(text.split()).lower():
            raise LabError(
                f"{name}: its tokenizer says that {message.content!r} are the tokens of {text!r}; "
                "its character offsets are wrong, so no message can be located"
            )


def _verify_writing(model: LoadedModel, ids: "torch.Tensor", plain: dict[int, "torch.Tensor"]) -> None:
    import torch

    def logits(hooks: list[Any]) -> "torch.Tensor":
        with torch.inference_mode(), model.bridge.hooks(fwd_hooks=hooks):
            return model.network(input_ids=ids, use_cache=False).logits.float()

    before, last = logits([]), model.identity.layers - 1
    for layer in sorted({0, last // 2, last}):
        push = torch.zeros_like(plain[layer])
        push[..., 0] = plain[layer].norm(dim=-1)
        after = logits(
            [(hook_name(Site(layer)), lambda value, hook, push=push: value + push.to(value.dtype))]
        )
        if torch.equal(before, after):
            raise LabError(f"{model.identity.name}: writing at layer {layer} does not reach the output")


def _states(model: LoadedModel, ids: "torch.Tensor", mask: "torch.Tensor") -> dict[int, "torch.Tensor"]:
    import torch

    found: dict[int, torch.Tensor] = {}
    hooks = [
        (
            hook_name(Site(layer)),
            lambda value, hook, layer=layer: found.__setitem__(layer, value.detach().float()),
        )
        for layer in range(model.identity.layers)
    ]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode(), model.bridge.hooks(fwd_hooks=hooks):
        model.network(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return found


# ------------------------------------------------------------------ the shelf


def catalogue(root: Path) -> list[dict[str, Any]]:
    """The checkpoints in the folders below `root`, read without torch.

    Each: name, path, parameters, layers, d_model, vocab, card (Markdown of its README).
    """
    found = []
    for config_file in sorted(root.glob("*/config.json")):
        folder = config_file.parent
        try:
            config = json.loads(config_file.read_text(encoding="utf-8"))
        except ValueError:
            continue
        card = folder / "README.md"
        found.append(
            {
                "name": folder.name,
                "path": str(folder),
                "parameters": sum(_count(p) for p in sorted(folder.glob("*.safetensors"))),
                "layers": config.get("num_hidden_layers", config.get("n_layer")),
                "d_model": config.get("hidden_size", config.get("n_embd")),
                "vocab": config.get("vocab_size"),
                "card": card.read_text(encoding="utf-8") if card.is_file() else "",
            }
        )
    return found


def _count(path: Path) -> int:
    """Parameters in a safetensors file, from its header (8 bytes of length, then JSON); 0 if broken."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, path.stat().st_size)))
    except (ValueError, struct.error):
        return 0
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
