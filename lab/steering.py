"""Writing into the residual stream: add along a direction, ablate it, cap it, keep it above a floor."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lab.models import LoadedModel, hook_name
from lab.records import Direction, LabError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Add:
    """h + coefficient * norm * v: `coefficient` in units of `norm`, the site's mean residual norm."""

    direction: Direction
    coefficient: float
    norm: float

    def __call__(self, h: "torch.Tensor", v: "torch.Tensor") -> "torch.Tensor":
        return h + self.coefficient * self.norm * v


@dataclass(frozen=True)
class Ablate:
    """h - <h, v> v: the direction taken out."""

    direction: Direction

    def __call__(self, h: "torch.Tensor", v: "torch.Tensor") -> "torch.Tensor":
        return h - (h @ v)[..., None] * v


@dataclass(frozen=True)
class Cap:
    """h - max(<h, v> - at, 0) v: the projection never above `at` (raw projection)."""

    direction: Direction
    at: float

    def __call__(self, h: "torch.Tensor", v: "torch.Tensor") -> "torch.Tensor":
        return h - ((h @ v) - self.at).clamp(min=0)[..., None] * v


@dataclass(frozen=True)
class Floor:
    """h + max(at - <h, v>, 0) v: the projection never below `at` (raw projection)."""

    direction: Direction
    at: float

    def __call__(self, h: "torch.Tensor", v: "torch.Tensor") -> "torch.Tensor":
        return h + (self.at - (h @ v)).clamp(min=0)[..., None] * v


class Edit(Protocol):
    """What is done to the residual stream h [.., d_model] at its direction's site; v: the direction, on h's device."""

    @property
    def direction(self) -> Direction: ...

    def __call__(self, h: "torch.Tensor", v: "torch.Tensor") -> "torch.Tensor": ...


@dataclass
class Gate:
    """Lets edits through for the prompt and the first `release` reply tokens; None: for all."""

    release: int | None = None
    open: bool = True

    def at(self, token: int) -> None:
        """What is run next is reply token `token`; 0 for the prompt too."""
        self.open = self.release is None or token < self.release


def edit_hooks(
    model: LoadedModel, edits: Sequence[Edit], gate: Gate | None = None
) -> list[tuple[str, object]]:
    """Forward hooks of the edits, in order. LabError when a direction is from another model."""
    import torch

    gate = gate or Gate()
    hooks = []
    for edit in edits:
        direction = edit.direction
        if direction.fingerprint != model.identity.fingerprint:
            raise LabError(
                f"the direction {direction.trait!r} was made in another model (fingerprint "
                f"{direction.fingerprint[:12]}, this is {model.identity.fingerprint[:12]}); "
                "extract it here first"
            )
        dtype = next(model.network.parameters()).dtype
        v = torch.from_numpy(np.asarray(direction.vector, dtype=np.float32)).to(model.device, dtype)
        hooks.append(
            (
                hook_name(direction.site),
                lambda value, hook, edit=edit, v=v: edit(value, v) if gate.open else value,
            )
        )
    return hooks


@contextmanager
def steered(model: LoadedModel, edits: Sequence[Edit], gate: Gate | None = None) -> Iterator[None]:
    """Every forward pass inside the block runs with the edits, as long as the gate is open."""
    with model.bridge.hooks(fwd_hooks=edit_hooks(model, edits, gate)):
        yield
