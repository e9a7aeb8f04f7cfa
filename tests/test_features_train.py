"""Training is SAELens' own: a planted dictionary is found, interruption changes nothing, refusals are told."""

import json
import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from test_features_stream import json_lines, numbered

from lab.features import train as job
from lab.features.load import _from_folder
from lab.features.shelf import origin_of
from lab.features.train import train
from lab.features.trainer import begin, finish, fit, new_trainer
from lab.records import LabError, Site
from lab.records.features import ARCHITECTURES, SaeSettings

SMALL = SaeSettings(
    expansion=2, k=4, tokens=1600, batch=64, buffer=256, longest=40, look_every=10, dead_after=5
)


def quiet(said, fraction):
    pass


@pytest.fixture
def corpus(tmp_path):
    return json_lines(tmp_path / "texts.jsonl", [{"text": t} for t in numbered(200)])


def weights(folder):
    return load_file(folder / "sae_weights.safetensors")


# ------------------------------------------------------------------ a known truth


def planted(rng, n, d_in=24, atoms=36, active=3):
    """Activations made of `active` of the `atoms` each, and the atoms."""
    rows = rng.normal(size=(atoms, d_in))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    on = np.argsort(rng.random((n, atoms)), axis=1)[:, :active]
    x = np.zeros((n, d_in))
    for k in range(active):
        x += rng.uniform(1, 3, size=(n, 1)) * rows[on[:, k]]
    return torch.from_numpy((x + 2.0).astype(np.float32)), rows


def recovered(found, atoms):
    """Cosine of each atom with the decoder row that stands for it, one row per atom."""
    cosines = atoms @ (found / np.linalg.norm(found, axis=1, keepdims=True)).T
    rows, columns = linear_sum_assignment(-cosines)
    return cosines[rows, columns]


def trained_on(x, settings, **options):
    trainer = new_trainer(settings, x.shape[1], "cpu", {"hook_name": "blocks.0.hook_out"})
    begin(trainer, x)
    order = torch.from_numpy(np.random.default_rng(3).integers(0, len(x), (settings.steps, settings.batch)))
    fit(trainer, (x[rows] for rows in order), lambda: None)
    finish(trainer, x)
    return trainer


def reloaded(trainer, folder):
    trainer.sae.save_inference_model(folder)
    return _from_folder(folder, "cpu")


def test_a_planted_dictionary_is_found_and_keeps_its_l0(tmp_path):
    x, atoms = planted(np.random.default_rng(0), 8000)
    settings = replace(
        SMALL, expansion=2, k=3, tokens=512_000, batch=512, lr=1e-2, dead_after=100, buffer=2048
    )
    trainer = trained_on(x, settings)
    sae = reloaded(trainer, tmp_path / "sae")
    cosines = recovered(sae.W_dec.detach().numpy(), atoms)
    assert np.median(cosines) > 0.95 and (cosines > 0.9).mean() > 0.8, cosines.round(2)
    random = recovered(np.random.default_rng(1).normal(size=sae.W_dec.shape), atoms)
    assert np.median(random) < 0.75
    with torch.no_grad():
        features = sae.encode(x)
        explained = 1 - (x - sae.decode(features)).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
    assert explained > 0.9
    l0 = float((features > 0).float().sum(1).mean())
    assert l0 == pytest.approx(trainer.sae.cfg.metadata.l0, rel=0.1) == pytest.approx(3, rel=0.1)


def test_steps_are_those_of_saelens_bit_for_bit():
    from sae_lens.training.sae_trainer import SAETrainer

    x, _ = planted(np.random.default_rng(0), 640)
    settings = replace(SMALL, tokens=640)
    ours, theirs = (new_trainer(settings, 24, "cpu", {}) for _ in range(2))
    for trainer in (ours, theirs):
        begin(trainer, x)
    fit(ours, iter(x.split(64)), lambda: None)
    finish(ours, x)
    SAETrainer.fit(_with(theirs, iter(x.split(64))))
    state = theirs.sae.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in ours.sae.state_dict().items())
    assert ours.sae.cfg.metadata.l0 == theirs.sae.cfg.metadata.l0


def _with(trainer, provider):
    trainer.data_provider = provider
    return trainer


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka"])
def test_after_few_steps_the_saved_threshold_leaves_as_many_features_on_as_training(tmp_path, architecture):
    x, _ = planted(np.random.default_rng(0), 6000)
    settings = replace(
        SMALL, architecture=architecture, k=3, tokens=50 * 256, batch=256, lr=3e-3, buffer=2048
    )
    trainer = trained_on(x[:4000], settings)
    sae = reloaded(trainer, tmp_path / "sae")
    with torch.no_grad():
        l0 = float((sae.encode(x[4000:]) > 0).float().sum(1).mean())
    assert l0 == pytest.approx(trainer.sae.cfg.metadata.l0, rel=0.1) == pytest.approx(3, rel=0.1)


# ------------------------------------------------------------------ the job


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_interrupted_training_goes_on_bit_for_bit(loaded, corpus, tmp_path, monkeypatch, architecture):
    monkeypatch.setattr(job, "TELL_EVERY", 0.0)
    monkeypatch.setattr(job, "LOOKED_AT", 128)
    model = loaded("llama")
    settings = replace(SMALL, architecture=architecture, corpus=corpus)
    calls = []

    def interrupt(said, fraction):
        calls.append(fraction)
        if len(calls) in (8, 17):
            os.kill(os.getpid(), signal.SIGINT)

    whole = train(model, Site(1), settings, tmp_path / "whole", quiet)
    handler = signal.getsignal(signal.SIGINT)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(model, Site(1), settings, tmp_path / "parts", interrupt)
        assert not (tmp_path / "parts").exists() and signal.getsignal(signal.SIGINT) is handler
    parts = train(model, Site(1), settings, tmp_path / "parts", interrupt)
    assert len(calls) == settings.steps == 25, "every step once"
    one, other = weights(whole), weights(parts)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (whole / "training.json").read_text() == (parts / "training.json").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts", "texts.jsonl", "whole"]
    again = replace(settings, seed=1)
    apart = weights(train(model, Site(1), again, tmp_path / "other seed", quiet))
    assert not torch.equal(one["W_dec"], apart["W_dec"])


def test_a_killed_training_goes_on_from_its_last_checkpoint(loaded, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "TELL_EVERY", 0.0)
    monkeypatch.setattr(job, "LOOKED_AT", 128)
    model, settings = loaded("mixtral"), replace(SMALL, corpus=corpus)
    monkeypatch.setattr(job, "SAVE_EVERY", 0.0)

    def killed(said, fraction):
        if fraction > 0.5:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        train(model, Site(0), settings, tmp_path / "parts", killed)
    checkpoint = tmp_path / "parts.checkpoint"
    assert json.loads((checkpoint / "state.json").read_text())["seen"] == 12 * 64
    checkpoint.rename(tmp_path / ".parts.checkpoint.new")  # killed while the checkpoint was exchanged
    monkeypatch.setattr(job, "SAVE_EVERY", 1e9)
    parts = train(model, Site(0), settings, tmp_path / "parts", quiet)
    whole = train(model, Site(0), settings, tmp_path / "whole", quiet)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(parts).items())


def test_early_looks_and_the_files_say_what_was_done(loaded, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "LOOKED_AT", 256)
    model = loaded("gemma2")
    settings = replace(SMALL, corpus=corpus, tokens=6400, lr=1e-2, stored="bfloat16")
    told = []
    folder = train(
        model, Site(1), settings, tmp_path / "sae", lambda s, x: told.append((s, x)), source="here"
    )
    looks = json.loads((folder / "training.json").read_text())["looks"]
    assert [x["tokens"] for x in looks] == [640 * k for k in range(1, 11)]
    assert looks[-1]["explained_variance"] > looks[0]["explained_variance"] and looks[-1]["l0"] <= 4
    assert told[-1][1] == 1.0 and "activations" in told[-1][0] and "explained" in told[-1][0]
    origin = origin_of(folder)
    assert (origin.hook, origin.path, origin.d_in, origin.d_sae) == ("blocks.1.hook_out", "here", 32, 64)
    assert (origin.fingerprint, origin.processed) == (model.identity.fingerprint, False)
    assert (origin.corpus, origin.tokens, origin.seed) == (corpus, 6400, 0)
    assert origin.l0_trained == pytest.approx(looks[-1]["l0"], rel=0.1)
    assert {v.dtype for v in weights(folder).values()} == {torch.bfloat16}
    sae = _from_folder(folder, "cpu")
    assert sae.W_dec.dtype == torch.float32 and sae.cfg.normalize_activations == "none"


def test_what_is_finished_is_found_and_what_is_else_is_refused(loaded, corpus, tmp_path):
    model, settings = loaded("llama"), replace(SMALL, corpus=corpus, tokens=128)
    folder = train(model, Site(1), settings, tmp_path / "sae", quiet)
    before = (folder / "cfg.json").stat().st_mtime_ns
    told = []
    assert train(model, Site(1), settings, folder, lambda s, x: told.append(s)) == folder
    assert told == ["found a finished training"] and (folder / "cfg.json").stat().st_mtime_ns == before
    with pytest.raises(LabError, match=r"trained otherwise .*lr None there, 0\.01 asked for"):
        train(model, Site(1), replace(settings, lr=1e-2), folder, quiet)
    with pytest.raises(LabError, match=r"hook blocks\.1\.hook_out there, blocks\.0\.hook_out"):
        train(model, Site(0), settings, folder, quiet)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "diary.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(LabError, match="holds no SAE of this lab"):
        train(model, Site(1), settings, tmp_path / "else", quiet)

    def interrupted(said, fraction):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, Site(1), replace(settings, tokens=128), tmp_path / "new", interrupted)
    with pytest.raises(LabError, match=r"unfinished training with other settings .*seed 0 there, 1"):
        train(model, Site(1), replace(settings, seed=1), tmp_path / "new", quiet)
    with open(corpus, "a", encoding="utf-8") as file:
        file.write('{"text": "one more"}\n')
    with pytest.raises(LabError, match="has changed since the training was interrupted"):
        train(model, Site(1), settings, tmp_path / "new", quiet)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "lasso"}, "architecture must be one of topk"),
        ({"stored": "int8"}, "stored must be one of"),
        ({"k": 0}, "k must be at least 1"),
        ({"lr": 0.0}, "lr and coefficient must be above 0"),
        ({"warm_up": 0.8, "decay": 0.3}, "sum to at most 1"),
        ({"tokens": 10}, "at least one batch of 64"),
        ({"buffer": 100}, "buffer of at least 208"),
    ],
)
def test_settings_that_cannot_work_are_refused(change, said):
    with pytest.raises(LabError, match=said):
        replace(SMALL, **change)


def test_more_active_features_than_there_are_and_nan_are_refused(loaded, corpus, tmp_path):
    with pytest.raises(LabError, match="k of at most 64"):
        train(loaded("llama"), Site(1), replace(SMALL, k=65, corpus=corpus), tmp_path / "k", quiet)
    with pytest.raises(LabError, match="lower --lr"):
        train(loaded("llama"), Site(1), replace(SMALL, lr=1e30, corpus=corpus), tmp_path / "nan", quiet)


def test_outside_the_main_thread_training_takes_no_signals(loaded, corpus, tmp_path):
    settings, found = replace(SMALL, corpus=corpus, tokens=64), []
    run = lambda: found.append(train(loaded("llama"), Site(1), settings, tmp_path / "sae", quiet))  # noqa: E731
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [tmp_path / "sae"]
