"""Loading a sparse dictionary, checking that it belongs to a model, and coding with it.

A dictionary is a folder as SAELens saves it (cfg.json, sae_weights.safetensors), found by path or by name in given
folders, or "release/sae_id" of SAELens' list of published ones, which is downloaded. What is loaded computes in
float32 on the model's device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.sparse import csr_array

from lab.features.shelf import CONFIG, find, origin_from, origin_of, shelf, site_of
from lab.features.stream import Tokens, states
from lab.models import LoadedModel
from lab.records import LabError, Site
from lab.records.features import SaeOrigin

_PLAIN = ("topk", "jumprelu", "standard", "gated")


@dataclass(frozen=True)
class Sae:
    """A loaded dictionary that fits its model: `module` is SAELens' SAE, in float32, without gradients."""

    name: str
    folder: str
    site: Site
    origin: SaeOrigin
    module: Any


# ------------------------------------------------------------------ checking


def check_fits(origin: SaeOrigin, model: LoadedModel, force: bool = False) -> Site:
    """The site at which the dictionary fits the model.

    LabError for another hook, width or depth, for one made of folded or centred activations of a LayerNorm
    model (lab models keep their weights; under RMSNorm the residual stream is the same), and, unless `force`, for
    another model: by fingerprint where the files have one, else by name.
    """
    name = model.identity.name
    site = site_of(origin.hook)
    if origin.d_in != model.identity.d_model:
        raise LabError(
            f"the SAE takes states of width {origin.d_in} (of {origin.model or 'a model not named'}), {name} has "
            f"width {model.identity.d_model}; take one that was made for it"
        )
    if site.layer >= model.identity.layers:
        raise LabError(f"the SAE is of layer {site.layer}, {name} has {model.identity.layers} layers")
    norm = str(getattr(model.bridge.cfg, "normalization_type", ""))
    if origin.processed and not norm.startswith("RMS"):
        raise LabError(
            f"the SAE was made of {origin.model or 'a model'} with folded or centred weights, which changes the "
            f"residual stream of a model with LayerNorm such as {name}; take one of the unprocessed model"
        )
    same = (
        origin.fingerprint == model.identity.fingerprint
        if origin.fingerprint
        else _last(origin.model) == _last(name)
    )
    if not same and not force:
        how = "weights, tokenizer, template or dtype differ" if origin.fingerprint else "by name"
        raise LabError(
            f"the SAE was made of {origin.model or 'a model not named'}, which is not {name} ({how}); give --force "
            "if you know that it fits"
        )
    return site


def _last(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()


# ------------------------------------------------------------------ loading


def load_sae(name_or_path: str, model: LoadedModel, roots: Sequence[Path] = (), force: bool = False) -> Sae:
    """A dictionary by folder, by name in one of `roots`, or by "release/sae_id" of SAELens' list.

    Only the last may use the network. LabError as `check_fits`, for a name that is none of these, a broken
    folder, a dictionary that is no autoencoder, and one whose scale is not in its weights.
    """
    folder = find(name_or_path, roots)
    if folder is not None:
        origin = origin_of(folder)
        site = check_fits(origin, model, force)
        module = _from_folder(folder, str(model.device))
    else:
        if Path(name_or_path).exists():
            raise LabError(f"{name_or_path} has no {CONFIG}; expected a folder as SAELens saves one")
        module = _published(name_or_path, str(model.device), sorted(shelf(roots)))
        origin = origin_from(module.cfg.to_dict())
        site = check_fits(origin, model, force)
    _check_plain(name_or_path, module)
    module.eval().requires_grad_(False)
    return Sae(folder.name if folder else name_or_path, str(folder or ""), site, origin, module)


def _from_folder(folder: Path, device: str) -> Any:
    from sae_lens import SAE
    from safetensors import SafetensorError

    try:
        return SAE.load_from_disk(folder, device=device, dtype="float32")
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LabError(f"cannot read the SAE in {folder}: {first}") from error


def _published(name: str, device: str, known: Sequence[str]) -> Any:
    from sae_lens import SAE
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, _, sae_id = name.partition("/")
    listed = get_pretrained_saes_directory().get(release)
    if listed is None:
        raise LabError(
            f"no SAE {name!r}: it is no folder, no release of SAELens' list (release/sae_id), and none of "
            f"{', '.join(known) or '(none yet)'}; see lab sae list"
        )
    if sae_id not in listed.saes_map:
        some = ", ".join(list(listed.saes_map)[:4])
        raise LabError(f"the release {release} has no SAE {sae_id!r}; it has for example {some}")
    try:  # the hub's client raises nearly anything
        return SAE.from_pretrained(release, sae_id, device=device)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LabError(f"could not get the SAE {name} ({first}); is there a network?") from error


def _check_plain(name: str, module: Any) -> None:
    if module.cfg.architecture() not in _PLAIN:
        raise LabError(
            f"{name} is a {module.cfg.architecture()}; expected a sparse autoencoder, one of {', '.join(_PLAIN)}"
        )
    if module.cfg.normalize_activations in ("expected_average_only_in", "covariance_whitening"):
        raise LabError(
            f"{name} takes scaled states ({module.cfg.normalize_activations}) and does not say the scale; take what "
            "the training wrote at its end, not a checkpoint"
        )


# ------------------------------------------------------------------ coding


def encode(sae: Sae, found: Float[torch.Tensor, "*row d_in"]) -> Float[torch.Tensor, "*row d_sae"]:
    """Activations of all features, 0 where a feature is off."""
    with torch.no_grad():
        return sae.module.encode(found.float())


def decode(sae: Sae, features: Float[torch.Tensor, "*row d_sae"]) -> Float[torch.Tensor, "*row d_in"]:
    """States from activations of features: features @ rows + bias, but for dictionaries that normalise every state.

    Those need the `encode` of the same states right before.
    """
    with torch.no_grad():
        return sae.module.decode(features)


def decoder_rows(sae: Sae) -> Float[ndarray, "d_sae d_in"]:
    """What one unit of each feature adds to the state, float32."""
    rows = sae.module.W_dec.detach()
    if getattr(sae.module.cfg, "rescale_acts_by_decoder_norm", False):
        rows = rows / rows.norm(dim=-1, keepdim=True)
    return rows.float().cpu().numpy()


def decoder_bias(sae: Sae) -> Float[ndarray, " d_in"]:
    """The state when no feature is on, float32."""
    return sae.module.b_dec.detach().float().cpu().numpy()


def encode_tokens(
    sae: Sae, model: LoadedModel, rows: Sequence[Tokens], token_budget: int | None = None
) -> Iterator[tuple[int, csr_array]]:
    """(row, its features [pos, d_sae] as a sparse array) at the dictionary's site; short rows first.

    Every position is coded; `counts` and `reply` of the row say which the dictionary was made for. The forward
    pass ends at the site. Memory: one batch.
    """
    for i, found in states(model, sae.site, rows, token_budget):
        features = encode(sae, found)
        at = features.nonzero()
        values = features[at[:, 0], at[:, 1]].cpu().numpy()
        pos, which = at.cpu().numpy().astype(np.int32).T
        yield i, csr_array((values, (pos, which)), shape=tuple(features.shape))
