"""Which dictionaries there are, and what their files say of them; read without torch and SAELens.

A dictionary is a folder as SAELens saves it: cfg.json and sae_weights.safetensors.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.records import LabError, Site
from lab.records.features import SaeOrigin

CONFIG = "cfg.json"
_FOLDS = ("fold_ln", "center_writing_weights")
"""What TransformerLens can do to weights that changes the residual stream of a LayerNorm model."""


def shelf(roots: Sequence[Path]) -> dict[str, Path]:
    """The folders with a dictionary below the roots, by name; a name in an earlier root hides a later one."""
    found: dict[str, Path] = {}
    for root in roots:
        for config in sorted(root.glob(f"*/{CONFIG}")):
            if not config.parent.name.startswith(".") and not config.parent.name.endswith(".checkpoint"):
                found.setdefault(config.parent.name, config.parent)
    return found


def find(name_or_path: str, roots: Sequence[Path]) -> Path | None:
    """The folder of a dictionary by path or name, None if it is no folder."""
    folder = Path(name_or_path)
    return folder if (folder / CONFIG).is_file() else shelf(roots).get(name_or_path)


def origin_of(folder: Path) -> SaeOrigin:
    """What a folder's cfg.json says, without loading anything. LabError when it cannot be read."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return origin_from(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f"{folder}: expected {CONFIG} as SAELens writes it ({error!r})") from error


def origin_from(config: dict[str, Any]) -> SaeOrigin:
    """The same of a configuration in memory. KeyError where it has no shape."""
    about: dict[str, Any] = config.get("metadata") or {}
    said: dict[str, Any] = {**config, **about}  # before SAELens 6 there was no metadata
    trained = about.get("training_architecture") or config.get("architecture", "standard")
    l0 = said.get("l0")
    return SaeOrigin(
        architecture=str(trained).removesuffix("_batchtopk"), d_in=int(config["d_in"]),
        d_sae=int(config["d_sae"]), hook=said.get("hook_name") or "", model=said.get("model_name") or "",
        path=said.get("lab_model") or said.get("model_name") or "",
        fingerprint=said.get("lab_fingerprint") or "", processed=_processed(said),
        corpus=said.get("lab_corpus") or "", tokens=int(said.get("lab_tokens") or 0),
        seed=int(said.get("lab_seed", -1)), l0_trained=float("nan") if l0 is None else float(l0),
    )  # fmt: skip


def _processed(said: dict[str, Any]) -> bool | None:
    if "lab_processed_weights" in said:
        return bool(said["lab_processed_weights"])
    asked = said.get("model_from_pretrained_kwargs")
    return None if asked is None else any(asked.get(name) for name in _FOLDS)


def site_of(hook: str) -> Site:
    """The site that a hook name means. LabError where it is not the residual stream after a block."""
    if found := re.fullmatch(r"blocks\.(\d+)\.hook_(?:resid_post|out)", hook):
        return Site(int(found[1]))
    if (found := re.fullmatch(r"blocks\.(\d+)\.hook_resid_pre", hook)) and int(found[1]):
        return Site(int(found[1]) - 1)  # what goes into a block is what came out of the one before
    if found := re.fullmatch(r"(?:\w+\.)+(?:layers|h)\.(\d+)", hook):
        return Site(int(found[1]))  # by Hugging Face's name of the block
    raise LabError(
        f"expected an SAE of the residual stream after a block (blocks.N.hook_out or hook_resid_post), got one of "
        f"{hook or 'no hook'!r}"
    )
