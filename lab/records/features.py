"""Sparse dictionaries (SAEs): how one is trained, whose it is, and how good it is when loaded."""

from dataclasses import dataclass

from lab.records import LabError

ARCHITECTURES = ("topk", "batchtopk", "matryoshka", "jumprelu", "standard", "gated")
STORED = ("float32", "bfloat16")
LR = 4e-3
"""Measured on hearth-a, layer 3, 1536 features, k 32, 400 steps of 2048: variance explained on held-out text .885 at
1e-3, .930 at 4e-3 (.946 at layer 2 after 300 steps), .935 at 1e-2, with the first features dying; 4e-3 leaves room
for longer trainings."""


@dataclass(frozen=True)
class SaeSettings:
    """How a dictionary is trained. LabError for values that cannot work."""

    architecture: str = "topk"
    expansion: int = 8
    """Features per dimension of the model."""
    k: int = 32
    """Features active per token: exactly ("topk"), on average ("batchtopk", "matryoshka") or aimed at
    ("jumprelu"). "standard" and "gated" go by `coefficient` instead."""
    coefficient: float = 1.0
    """Weight of the sparsity loss of "standard", "gated" (L1) and "jumprelu" (distance of L0 from k)."""
    tokens: int = 4_000_000
    """Activations trained on."""
    batch: int = 2048
    """Activations per step."""
    lr: float | None = None
    """Learning rate, for activations of mean norm sqrt(width); None: LR at 1536 features, falling with the square
    root of their number (Gao et al. 2024, arXiv 2406.04093, app. A)."""
    warm_up: float = 0.02
    """Share of the steps in which the learning rate rises from 0."""
    decay: float = 0.3
    """Share of the steps, at the end, in which it falls to 0."""
    corpus: str = "hearth"
    buffer: int = 131_072
    """Activations in the shuffle buffer, `buffer` x width x 4 bytes."""
    longest: int = 1024
    """Tokens of a text that are read together; longer ones are cut."""
    seed: int = 0
    look_every: int = 200
    """Steps between early looks."""
    dead_after: int = 200
    """Steps without firing after which a feature counts as dead and the auxiliary loss goes after it."""
    stored: str = "float32"
    """Number format of the saved weights; computing is always in float32."""

    def __post_init__(self) -> None:
        for name, choices in (("architecture", ARCHITECTURES), ("stored", STORED)):
            if getattr(self, name) not in choices:
                raise LabError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("expansion", "k", "tokens", "batch", "longest", "look_every", "dead_after"):
            if getattr(self, name) < 1:
                raise LabError(f"{name} must be at least 1, got {getattr(self, name)}")
        if (self.lr is not None and not self.lr > 0) or not self.coefficient > 0:
            raise LabError(f"lr and coefficient must be above 0, got {self.lr} and {self.coefficient}")
        if self.warm_up < 0 or self.decay < 0 or self.warm_up + self.decay > 1:
            raise LabError(
                f"warm_up and decay are shares of the steps that sum to at most 1, got {self.warm_up} and "
                f"{self.decay}"
            )
        if self.tokens < self.batch:
            raise LabError(
                f"expected tokens for at least one batch of {self.batch}, got {self.tokens}; raise --tokens"
            )
        if self.buffer < 2 * (self.batch + self.longest):
            raise LabError(
                f"expected a buffer of at least {2 * (self.batch + self.longest)} activations (twice a batch and "
                f"a text), got {self.buffer}; raise --buffer or lower --batch"
            )

    def rate(self, d_sae: int) -> float:
        """The learning rate of a dictionary of this many features."""
        return LR * (1536 / d_sae) ** 0.5 if self.lr is None else self.lr

    @property
    def steps(self) -> int:
        """Training steps; the last batch may go beyond `tokens`."""
        return -(-self.tokens // self.batch)


@dataclass(frozen=True)
class EarlyLook:
    """How a dictionary does on a held-out sample while it is trained.

    explained_variance, l0: on the sample; dead: share of features that have not fired in the last
    `dead_after` steps; tokens: trained on so far.
    """

    tokens: int
    explained_variance: float
    l0: float
    dead: float


@dataclass(frozen=True)
class SaeOrigin:
    """What a dictionary's own files say of it: its shape, whose activations it was made of, and how.

    hook: as TransformerLens names it; model, path, fingerprint: "" where the files do not say; processed:
    whether the weights were folded or centred (None: not said). l0_trained: mean active features at the end
    of training, NaN where not said; seed -1 where not said.
    """

    architecture: str
    d_in: int
    d_sae: int
    hook: str
    model: str
    path: str
    fingerprint: str
    processed: bool | None
    corpus: str
    tokens: int
    seed: int
    l0_trained: float


@dataclass(frozen=True)
class SaeQuality:
    """How good a loaded dictionary is on held-out text; low/high: 95 % intervals, texts resampled.

    explained_variance: 1 - squared residual / squared distance from the mean state, over all counted tokens;
    l0: active features per token; dead: share of features that no counted token switches on (its interval is a
    delete-one jackknife over texts, since resampled texts hold fewer different tokens than the real ones).
    loss_*: nats per token that counts for the loss (`loss_on`: "replies" or "all"), as the model is (clean), with
    the dictionary's output in place of the state (spliced), and with the mean state instead (ablated), at
    counted tokens; loss_recovered = (ablated - spliced) / (ablated - clean). NaN where not measured.
    texts, tokens: what it was measured on; loss_tokens: how many counted for the loss.
    """

    explained_variance: float
    explained_low: float
    explained_high: float
    l0: float
    l0_low: float
    l0_high: float
    dead: float
    dead_low: float
    dead_high: float
    loss_recovered: float
    recovered_low: float
    recovered_high: float
    loss_clean: float
    loss_spliced: float
    loss_ablated: float
    loss_on: str
    texts: int
    tokens: int
    loss_tokens: int


@dataclass(frozen=True)
class SaeCard:
    """One dictionary with what was measured of it at load.

    quality is None where it could not be measured, and `note` says why.
    """

    name: str
    folder: str
    origin: SaeOrigin
    quality: SaeQuality | None
    held_out: str
    note: str = ""
