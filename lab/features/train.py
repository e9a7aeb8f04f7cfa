"""Training a sparse dictionary: SAELens' own trainer, step by step, over a stream of activations.

What SAELens does in a step is left alone. Around it: activations are scaled to a mean norm of sqrt(d_in), so
that one learning rate serves all models, and the scale is folded into the weights at the end
(`normalize_activations` "none": what is saved takes states as they are); the decoder's bias begins at the mean
activation; BatchTopK's threshold is set at the end (`finish`); no wandb, no network.

Interrupted (Ctrl-C) or killed, the same call goes on: after Ctrl-C from the last finished step, after a kill from
the last checkpoint, which is written every `SAVE_EVERY` seconds. On one machine, with the same number of threads and
the same versions, what comes out is bit for bit what an uninterrupted training with the same seed gives (tested);
on a GPU it is not, because its sums have no fixed order. Checkpoints are SAELens' own files and go when the training
is done.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from sae_lens import SAE, SAETrainer

from lab.features.corpora import digest, open_corpus
from lab.features.stream import ActivationStream, StreamPlace, check_site
from lab.features.trainer import begin, finish, fit, look, new_trainer
from lab.models import LoadedModel, hook_name
from lab.records import LabError, Site
from lab.records.features import EarlyLook, SaeSettings

Progress = Callable[[str, float], None]
SAVE_EVERY = 120.0
"""Seconds between checkpoints."""
TELL_EVERY = 0.5
"""Seconds between calls of `progress`."""
LOOKED_AT = 4096
"""Held-out activations of an early look."""
TRAINING, STATE = "training.json", "state.json"


def train(
    model: LoadedModel, site: Site, settings: SaeSettings, folder: Path, progress: Progress, source: str = ""
) -> Path:
    """Train a dictionary on the site's activations and write it to `folder`, whole or not at all.

    The folder holds SAELens' cfg.json and sae_weights.safetensors and the course of the training, training.json.
    `source` is how the model was named, for finding it again (default: its path). A finished training with the
    same settings is returned as it is; an unfinished one goes on. LabError for a folder with something else,
    a layer or corpus that is not there, and a training that ran off to NaN.
    """
    check_site(model, site)
    asked = {
        "model": model.identity.name, "fingerprint": model.identity.fingerprint, "hook": hook_name(site),
        "settings": asdict(settings),
    }  # fmt: skip
    if _is_done(folder, asked):
        progress("found a finished training", 1.0)
        return folder
    held_out = _held_out(model, site, settings)
    trainer = new_trainer(
        settings, model.identity.d_model, str(model.device), _metadata(model, site, settings, source)
    )
    run = Run.begin(model, site, settings, folder, trainer, asked)

    def after() -> None:
        run.place = run.stream.place
        steps = trainer.n_training_steps
        if steps % settings.look_every == 0 or steps == settings.steps:
            run.looks.append(look(trainer, held_out))
            _check_finite(run.looks[-1])
        run.tell(progress)
        run.save(SAVE_EVERY)

    try:
        fit(trainer, run.stream, after)
    except KeyboardInterrupt:
        run.save(0.0)
        raise
    finish(trainer, held_out)
    _write(folder, trainer, settings.stored, {**asked, "looks": [asdict(x) for x in run.looks]})
    shutil.rmtree(_checkpoint(folder), ignore_errors=True)
    return folder


class Run:
    """A training under way: where its stream is, and when it was last saved and told of."""

    def __init__(
        self, trainer: SAETrainer, stream: ActivationStream, looks: list[EarlyLook], checkpoint: Path, asked: Any,
        corpus: str,
    ) -> None:  # fmt: skip
        self.trainer, self.stream, self.looks, self.asked = trainer, stream, looks, asked
        self.place, self._checkpoint, self._corpus = stream.place, checkpoint, corpus
        self._first, self._began = trainer.n_training_samples, time.monotonic()
        self._saved = self._told = self._began

    @staticmethod
    def begin(
        model: LoadedModel, site: Site, settings: SaeSettings, folder: Path, trainer: SAETrainer, asked: Any
    ) -> "Run":
        """From the beginning, or from the checkpoint that is there."""
        checkpoint, corpus = _checkpoint(folder), digest(settings.corpus)
        there = next((c for c in (checkpoint, _beside(checkpoint)) if (c / STATE).is_file()), None)
        state = json.loads((there / STATE).read_text(encoding="utf-8")) if there else None
        if state is not None and state["asked"] != asked:
            raise LabError(
                f"{checkpoint} holds an unfinished training with other settings ({_differing(state['asked'], asked)}); "
                "delete it, or choose another folder with --out"
            )
        if state is not None and state.get("corpus") != corpus:
            raise LabError(
                f"the corpus {settings.corpus} has changed since the training was interrupted; delete {checkpoint} "
                "to begin anew"
            )
        stream = ActivationStream(
            model, site, open_corpus(settings.corpus, "train", settings.seed), batch=settings.batch,
            buffer=settings.buffer, seed=settings.seed, longest=settings.longest,
            place=StreamPlace.of(state["place"]) if state else StreamPlace(),
            seen=state["seen"] if state else 0,
        )  # fmt: skip
        if there is None or state is None:
            begin(trainer, torch.from_numpy(stream.block))
            return Run(trainer, stream, [], checkpoint, asked, corpus)
        trainer.load_trainer_state(there)
        trainer.sae.load_weights_from_checkpoint(there)
        return Run(trainer, stream, [EarlyLook(**x) for x in state["looks"]], checkpoint, asked, corpus)

    def save(self, every: float) -> None:
        """Write a checkpoint where the last is older than `every` seconds."""
        if time.monotonic() - self._saved < every:
            return
        new = _beside(self._checkpoint)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        self.trainer.sae.save_model(new)
        self.trainer.save_trainer_state(new)
        state = {
            "asked": self.asked, "corpus": self._corpus, "place": self.place.to_dict(),
            "seen": self.trainer.n_training_samples, "looks": [asdict(x) for x in self.looks],
        }  # fmt: skip
        (new / STATE).write_text(json.dumps(state), encoding="utf-8")
        shutil.rmtree(self._checkpoint, ignore_errors=True)
        new.rename(self._checkpoint)
        self._saved = time.monotonic()

    def tell(self, progress: Progress) -> None:
        """Say how far it is, not more often than every TELL_EVERY seconds."""
        now, seen = time.monotonic(), self.trainer.n_training_samples
        total = self.trainer.cfg.total_training_samples
        if now - self._told < TELL_EVERY and seen < total:
            return
        self._told = now
        speed = (seen - self._first) / max(now - self._began, 1e-9)
        said = f"{seen / 1e6:.2f} of {total / 1e6:.2f} M activations, {speed:,.0f}/s"
        if self.looks:
            last = self.looks[-1]
            said += f"; explained {last.explained_variance:.3f}, L0 {last.l0:.1f}, dead {last.dead:.0%}"
        progress(said, seen / total)


# ------------------------------------------------------------------ around it


def _held_out(model: LoadedModel, site: Site, settings: SaeSettings) -> torch.Tensor:
    """Activations [row, d_in] for early looks."""
    stream = ActivationStream(
        model, site, open_corpus(settings.corpus, "held_out", settings.seed), batch=LOOKED_AT,
        buffer=2 * (LOOKED_AT + settings.longest), seed=settings.seed, longest=settings.longest,
    )  # fmt: skip
    return next(stream)


def _metadata(model: LoadedModel, site: Site, settings: SaeSettings, source: str) -> dict[str, Any]:
    """What SAELens keeps in cfg.json beside the shape; names that are ours begin with lab_."""
    return {
        "model_name": model.identity.name, "hook_name": hook_name(site), "context_size": settings.longest,
        "lab_model": source or model.identity.path, "lab_fingerprint": model.identity.fingerprint,
        "lab_processed_weights": model.identity.processed_weights, "lab_corpus": settings.corpus,
        "lab_tokens": settings.steps * settings.batch, "lab_seed": settings.seed,
    }  # fmt: skip


def _is_done(folder: Path, asked: dict[str, Any]) -> bool:
    """Whether this very training is finished there. LabError where the folder holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    done = folder / TRAINING
    if not done.is_file():
        raise LabError(f"{folder} is there already and holds no SAE of this lab; choose another --out")
    found = json.loads(done.read_text(encoding="utf-8"))
    there = {name: found.get(name) for name in asked}
    if there != asked:
        raise LabError(
            f"{folder} holds an SAE that was trained otherwise ({_differing(there, asked)}); choose another --out"
        )
    return True


def _differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    flat = [
        {**{k: v for k, v in x.items() if k != "settings"}, **(x["settings"] or {})} for x in (one, other)
    ]
    names = [name for name in flat[1] if flat[0].get(name) != flat[1][name]]
    return ", ".join(f"{name} {flat[0].get(name)} there, {flat[1][name]} asked for" for name in names)


def _check_finite(found: EarlyLook) -> None:
    if found.explained_variance != found.explained_variance:
        raise LabError("the training ran off to NaN; lower --lr")


def _write(folder: Path, trainer: SAETrainer, stored: str, training: dict[str, Any]) -> None:
    new = _beside(folder)
    shutil.rmtree(new, ignore_errors=True)
    trainer.sae.save_inference_model(new)
    if stored != "float32":
        # Loaded first, so that what is folded for inference is folded in float32.
        SAE.load_from_disk(new).to(dtype=getattr(torch, stored)).save_model(new)
    (new / TRAINING).write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
    if folder.exists():
        folder.rmdir()  # an empty one
    new.rename(folder)


def _checkpoint(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.checkpoint")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
