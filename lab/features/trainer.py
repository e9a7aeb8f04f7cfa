"""SAELens' own trainer, step by step: its dictionaries by name, what comes before the first step and after the last.

What SAELens does in a step is left alone.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedTrainingSAE,
    GatedTrainingSAEConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    LoggingConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    SAETrainer,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata

from lab.records import LabError
from lab.records.features import EarlyLook, SaeSettings

Made = tuple[type[Any], Any]

# ------------------------------------------------------------------ architectures


def _topk(s: SaeSettings, shape: dict[str, Any]) -> Made:
    return TopKTrainingSAE, TopKTrainingSAEConfig(**shape, k=s.k)


def _batchtopk(s: SaeSettings, shape: dict[str, Any]) -> Made:
    return BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig(**shape, k=s.k)


def _matryoshka(s: SaeSettings, shape: dict[str, Any]) -> Made:
    """Nested dictionaries of an eighth, a quarter, half and all of the features."""
    widths = sorted({max(1, shape["d_sae"] // part) for part in (8, 4, 2, 1)})
    cfg = MatryoshkaBatchTopKTrainingSAEConfig(**shape, k=s.k, matryoshka_widths=widths)
    return MatryoshkaBatchTopKTrainingSAE, cfg


def _jumprelu(s: SaeSettings, shape: dict[str, Any]) -> Made:
    """With the quadratic loss that aims at an L0 of k."""
    cfg = JumpReLUTrainingSAEConfig(
        **shape, jumprelu_sparsity_loss_mode="quadratic", target_l0=s.k, l0_coefficient=s.coefficient,
        l0_warm_up_steps=s.steps // 4,
    )  # fmt: skip
    return JumpReLUTrainingSAE, cfg


def _standard(s: SaeSettings, shape: dict[str, Any]) -> Made:
    cfg = StandardTrainingSAEConfig(**shape, l1_coefficient=s.coefficient, l1_warm_up_steps=s.steps // 4)
    return StandardTrainingSAE, cfg


def _gated(s: SaeSettings, shape: dict[str, Any]) -> Made:
    cfg = GatedTrainingSAEConfig(**shape, l1_coefficient=s.coefficient, l1_warm_up_steps=s.steps // 4)
    return GatedTrainingSAE, cfg


_MAKERS: dict[str, Callable[[SaeSettings, dict[str, Any]], Made]] = {
    "topk": _topk, "batchtopk": _batchtopk, "matryoshka": _matryoshka, "jumprelu": _jumprelu,
    "standard": _standard, "gated": _gated,
}  # fmt: skip


def new_trainer(settings: SaeSettings, d_in: int, device: str, metadata: dict[str, Any]) -> SAETrainer:
    """SAELens' trainer with a dictionary whose weights are drawn with the settings' seed.

    LabError when k is more than the features.
    """
    d_sae = d_in * settings.expansion
    if settings.k > d_sae:
        raise LabError(f"expected k of at most {d_sae} (expansion x width), got {settings.k}")
    shape = {
        "d_in": d_in, "d_sae": d_sae, "device": device, "normalize_activations": "expected_average_only_in",
        "metadata": SAEMetadata(**metadata),
    }  # fmt: skip
    kind, cfg = _MAKERS[settings.architecture](settings, shape)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        sae = kind(cfg)
    steps, lr = settings.steps, settings.rate(d_sae)
    rise, fall = (round(share * steps) for share in (settings.warm_up, settings.decay))
    trainer_cfg = SAETrainerConfig(
        total_training_samples=steps * settings.batch, train_batch_size_samples=settings.batch, lr=lr,
        lr_end=lr / 10, lr_warm_up_steps=rise if rise > 1 else 0, lr_decay_steps=fall, device=device,
        dead_feature_window=settings.dead_after, feature_sampling_window=-(-steps // 10),
        logger=LoggingConfig(log_to_wandb=False),
    )  # fmt: skip
    return SAETrainer(trainer_cfg, sae, iter(()))


def begin(trainer: SAETrainer, block: torch.Tensor) -> None:
    """Scale and bias from activations [row, d_in], before the first step."""
    norm = float(block.norm(dim=-1).mean(dtype=torch.float64))
    if not norm > 0:
        raise LabError("every activation of the first block is 0; choose another layer")
    trainer.activation_scaler.scaling_factor = block.shape[1] ** 0.5 / norm
    mean = trainer.activation_scaler(block.mean(dim=0, dtype=torch.float64))
    with torch.no_grad():
        trainer.sae.b_dec.copy_(mean)


def fit(trainer: SAETrainer, batches: Iterator[torch.Tensor], after: Callable[[], None]) -> None:
    """What `SAETrainer.fit` does, through the seams that SAELens keeps for coordinators; `after` follows every step.

    Ctrl-C waits until a step and its `after` are over, so that a KeyboardInterrupt finds the trainer whole.
    """
    with _guard() as guard:
        while trainer.n_training_samples < trainer.cfg.total_training_samples:
            batch = next(batches)
            with guard:
                trainer.maybe_reset_sparsity()
                trainer.step(batch)
                trainer.n_training_steps += 1
                after()


@torch.no_grad()
def finish(trainer: SAETrainer, held_out: torch.Tensor) -> None:
    """Set the threshold of BatchTopK, and fold the scale into the weights as `SAETrainer.fit` does at its end.

    held_out [row, d_in]: activations on which the threshold leaves k features on, as the batch's did in training.
    SAELens takes a running mean that starts at 0 and lags behind a dictionary that still grows, so that few steps
    leave a much larger L0.
    """
    sae: Any = trainer.sae
    if isinstance(sae, BatchTopKTrainingSAE):
        rows = trainer.activation_scaler(held_out[: trainer.cfg.train_batch_size_samples].to(sae.device))
        found = sae.encode_with_hidden_pre(rows)[1].relu().flatten()
        sae.topk_threshold.copy_(found.topk(int(sae.cfg.k * len(rows)) + 1).values[-1])
    scale = trainer.activation_scaler.scaling_factor
    assert scale is not None, "begin() sets it"
    sae.fold_activation_norm_scaling_factor(scale)
    trainer.activation_scaler.scaling_factor = None
    trainer.set_final_sae_metadata()


@torch.no_grad()
def look(trainer: SAETrainer, held_out: torch.Tensor) -> EarlyLook:
    """How the dictionary does now on activations [row, d_in] that it is not trained on."""
    x = trainer.activation_scaler(held_out.to(trainer.sae.device))
    found = trainer.sae.encode(x)
    residual, around = x - trainer.sae.decode(found), x - x.mean(dim=0)
    explained = 1 - float((residual.double() ** 2).sum() / (around.double() ** 2).sum())
    l0 = float((found != 0).sum(dim=-1).double().mean())
    return EarlyLook(trainer.n_training_samples, explained, l0, float(trainer.dead_neurons.double().mean()))


# ------------------------------------------------------------------ Ctrl-C


class _Guard:
    """Inside it Ctrl-C is put off until its end."""

    def __init__(self) -> None:
        self.held = self.pending = False

    def __enter__(self) -> None:
        self.held = True

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.held = False
        if self.pending and kind is None:
            self.pending = False
            raise KeyboardInterrupt

    def handle(self, number: int, frame: Any) -> None:
        """What SIGINT does meanwhile."""
        if not self.held:
            raise KeyboardInterrupt
        self.pending = True


@contextmanager
def _guard() -> Iterator[_Guard]:
    guard = _Guard()
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread
        yield guard
        return
    before = signal.signal(signal.SIGINT, guard.handle)
    try:
        yield guard
    finally:
        signal.signal(signal.SIGINT, before)
