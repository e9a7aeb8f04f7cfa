"""Writing with a dictionary: its features taken out of the states that a model works with.

For `lab.steering.edit_hooks`, which asks an edit for its direction (whose site and model count) and calls it with the
state. Adding features needs nothing new: it is an `Add` along the sum of their decoder rows.
"""

from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING

from lab.features.load import Sae, decode, encode
from lab.records import Direction, LabError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class AblateFeatures:
    """h - (what the features add to the dictionary's reconstruction of h), at every token.

    What the dictionary does not explain stays as it is, and so do all other features, as active as they are with these.
    `direction`: only its site and model are used. `digest`: of the dictionary's files, for cache keys, where a field
    must stand for it. LabError for a feature that it has not, or for another site.
    """

    direction: Direction
    features: tuple[int, ...]
    digest: str
    sae: InitVar[Sae]

    def __post_init__(self, sae: Sae) -> None:
        check_features(self.features, sae.origin.d_sae)
        if self.direction.site != sae.site:
            raise LabError(
                f"expected a direction at layer {sae.site.layer}, where the dictionary reads, got one at "
                f"layer {self.direction.site.layer}"
            )
        object.__setattr__(self, "_sae", sae)  # no field: it would be copied into every key

    def __call__(self, h: "torch.Tensor", v: "torch.Tensor") -> "torch.Tensor":
        """The state without the features' part; `v` is not used."""
        sae: Sae = self._sae  # type: ignore[attr-defined]
        active = encode(sae, h)
        others = active.clone()
        others[..., list(self.features)] = 0.0
        # The difference of two reconstructions, so that whatever a dictionary does after its rows is in it.
        return (h.float() - decode(sae, active) + decode(sae, others)).to(h.dtype)


def check_features(features: Sequence[int], d_sae: int) -> None:
    """LabError for features that a dictionary has not, or none."""
    wrong = [f for f in features if not 0 <= f < d_sae]
    if wrong or not len(features):
        raise LabError(
            f"expected features from 0 to {d_sae - 1}, at least one, got {list(features)[:8]}; see the dictionary's size"
        )
