"""A dictionary is loaded where it fits, refused where it does not, and measured as a slow formula measures it."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import residuals
from safetensors.torch import load_file
from test_features_stream import CHAT, fixed, json_lines, numbered

from lab.features import train as job
from lab.features.corpora import Sample, open_corpus
from lab.features.load import (
    Sae,
    decode,
    decoder_bias,
    decoder_rows,
    encode,
    encode_tokens,
    load_sae,
)
from lab.features.quality import code, dead_share, held_out_tokens, losses, measure
from lab.features.shelf import origin_of, shelf, site_of
from lab.features.stream import Tokens, states, tokens_of
from lab.features.train import train
from lab.records import LabError, Message, Site
from lab.records.features import SaeOrigin, SaeSettings
from lab.stats import cluster_weights, interval

SMALL = SaeSettings(expansion=2, k=4, tokens=1280, batch=64, buffer=256, longest=40, lr=1e-2)
FAMILIES = ("llama", "gemma2", "mixtral")


@pytest.fixture(scope="module")
def trained(loaded, tmp_path_factory):
    """trained(family, **settings): (the model, the folder of a small dictionary of its layer 1), cached; read only."""
    root = tmp_path_factory.mktemp("saes")
    corpus = json_lines(root / "texts.jsonl", [{"text": t} for t in numbered(200)])
    made = {}

    def make(family="llama", layer=1, **changes):
        key = (family, layer, tuple(sorted(changes.items())))
        if key not in made:
            settings = replace(SMALL, corpus=corpus, **changes)
            folder = root / f"{family}-{len(made)}"
            made[key] = train(loaded(family), Site(layer), settings, folder, lambda said, x: None)
        return loaded(family), made[key]

    patch = pytest.MonkeyPatch()
    patch.setattr(job, "LOOKED_AT", 128)
    yield make
    patch.undo()


def changed(folder, target, **metadata):
    """A copy of a dictionary whose files say something else; None takes an entry out."""
    shutil.copytree(folder, target)
    config = json.loads((target / "cfg.json").read_text())
    for name, value in metadata.items():
        there = config if name in config else config["metadata"]
        there[name] = value
    config["metadata"] = {k: v for k, v in config["metadata"].items() if v is not None}
    (target / "cfg.json").write_text(json.dumps(config))
    return target


def chats(tokenizer, n=6):
    """Chats of several lengths, one of them without a reply of its own."""
    made = [Sample(messages=CHAT[: 3 + 2 * (i % 2)]) for i in range(n - 2)]
    made += [Sample(messages=(Message("user", t), Message("assistant", t[:20]))) for t in numbered(2)]
    return [row for sample in made for row in tokens_of(tokenizer, sample, 60)]


# ------------------------------------------------------------------ loading and coding


@pytest.mark.parametrize("family", FAMILIES)
def test_coding_has_its_shapes_and_decoding_is_rows_and_bias(trained, family):
    model, folder = trained(family, layer=0)
    sae = load_sae(str(folder), model)
    assert (sae.site, sae.name, sae.origin.d_sae) == (Site(0), folder.name, 64)
    x = torch.randn(3, 5, 32)
    features = encode(sae, x)
    assert features.shape == (3, 5, 64) and ((features > 0).sum(-1) <= 4).all()
    rows, bias = decoder_rows(sae), decoder_bias(sae)
    assert rows.shape == (64, 32) and bias.shape == (32,)
    np.testing.assert_allclose(decode(sae, features), features.numpy() @ rows + bias, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    tokens = chats(model.tokenizer)
    coded = dict(encode_tokens(sae, model, tokens))
    for i, value in states(model, Site(0), tokens):
        assert coded[i].shape == (len(tokens[i].ids), 64)
        np.testing.assert_allclose(coded[i].toarray(), encode(sae, value), atol=1e-6)


def test_a_name_is_looked_for_in_the_roots_and_an_unknown_one_told(trained, tmp_path, hub_offline):
    model, folder = trained()
    for root, name in (("mine", "one"), ("theirs", "one"), ("theirs", "two")):
        changed(folder, tmp_path / root / name, lab_seed=len(root))
    roots = (tmp_path / "mine", tmp_path / "theirs")
    assert list(shelf(roots)) == ["one", "two"]
    assert load_sae("one", model, roots).origin.seed == 4
    assert load_sae("two", model, roots).origin.seed == 6
    with pytest.raises(LabError, match=r"no SAE 'three': .* none of one, two"):
        load_sae("three", model, roots)
    with pytest.raises(LabError, match="has no SAE 'layer_0'; it has for example"):
        load_sae("gemma-scope-2b-pt-res-canonical/layer_0", model)
    with pytest.raises(LabError, match="could not get the SAE gemma-scope"):
        load_sae("gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical", model)
    with pytest.raises(LabError, match=r"has no cfg\.json"):
        load_sae(str(tmp_path), model)


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ({"hook_name": "blocks.1.hook_mlp_out"}, "expected an SAE of the residual stream"),
        ({"hook_name": None}, "got one of 'no hook'"),
        ({"hook_name": "blocks.3.hook_out"}, "is of layer 3, .* has 3 layers"),
        ({"lab_fingerprint": "other"}, "which is not llama.*--force"),
        ({"lab_fingerprint": None, "model_name": "gpt9"}, r"made of gpt9, which is not llama.* \(by name\)"),
        ({"normalize_activations": "expected_average_only_in"}, "does not say the scale"),
    ],
)
def test_what_does_not_fit_is_refused(trained, tmp_path, says, said):
    model, folder = trained()
    with pytest.raises(LabError, match=said):
        load_sae(str(changed(folder, tmp_path / "sae", **says)), model)


def test_force_is_for_another_model_of_the_same_shape_only(trained, loaded, tmp_path):
    _, folder = trained()
    other = loaded("llama", "base")
    with pytest.raises(LabError, match="template or dtype differ"):
        load_sae(str(folder), other)
    assert load_sae(str(folder), other, force=True).site == Site(1)
    with pytest.raises(LabError, match=r"takes states of width 32 .* has width 48"):
        load_sae(str(folder), loaded("gpt2"), force=True)
    nameless = changed(
        folder, tmp_path / "sae", lab_fingerprint=None, model_name=f"Org/{other.identity.name}"
    )
    assert load_sae(str(nameless), other).origin.fingerprint == ""


def test_folded_weights_are_refused_under_layernorm_and_harmless_under_rmsnorm(trained, loaded, tmp_path):
    model, folder = trained()
    for k, asked in enumerate(({"center_writing_weights": True}, {"fold_ln": True})):
        says = {"lab_processed_weights": None, "model_from_pretrained_kwargs": asked}
        there = changed(folder, tmp_path / str(k), **says)
        assert origin_of(there).processed and load_sae(str(there), model).site == Site(1)
        with pytest.raises(LabError, match="folded or centred weights"):
            load_sae(str(there), loaded("gpt_neox"), force=True)
    raw = changed(
        folder, tmp_path / "raw", lab_processed_weights=None, model_from_pretrained_kwargs={"fold_ln": False}
    )
    assert load_sae(str(raw), loaded("gpt_neox"), force=True).origin.processed is False


def test_broken_files_and_what_is_no_autoencoder_are_refused(trained, tmp_path):
    model, folder = trained()
    broken = changed(folder, tmp_path / "broken")
    (broken / "sae_weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(LabError, match="cannot read the SAE in"):
        load_sae(str(broken), model)
    (broken / "cfg.json").write_text("{}")
    with pytest.raises(LabError, match=r"expected cfg\.json as SAELens writes it"):
        load_sae(str(broken), model)
    from sae_lens import Transcoder, TranscoderConfig
    from sae_lens.saes.sae import SAEMetadata

    about = SAEMetadata(hook_name="blocks.1.hook_out", lab_fingerprint=model.identity.fingerprint)
    Transcoder(
        TranscoderConfig(d_in=32, d_sae=8, d_out=32, apply_b_dec_to_input=False, metadata=about)
    ).save_model(tmp_path / "coder")
    with pytest.raises(LabError, match="is a transcoder; expected a sparse autoencoder"):
        load_sae(str(tmp_path / "coder"), model)


def test_hook_names_that_mean_the_same_place():
    for hook in (
        "blocks.4.hook_out", "blocks.4.hook_resid_post", "blocks.5.hook_resid_pre", "model.layers.4",
        "model.language_model.layers.4", "transformer.h.4", "gpt_neox.layers.4",
    ):  # fmt: skip
        assert site_of(hook) == Site(4), hook
    for hook in ("blocks.0.hook_resid_pre", "blocks.4.attn.hook_z", "model.layers.4.mlp", "hook_embed", ""):
        with pytest.raises(LabError, match="residual stream after a block"):
            site_of(hook)


def test_bfloat16_files_are_half_as_large_and_code_nearly_the_same(trained):
    model, folder = trained()
    _, half = trained(stored="bfloat16")
    sizes = [(f / "sae_weights.safetensors").stat().st_size for f in (folder, half)]
    assert sizes[1] < 0.6 * sizes[0]
    assert {v.dtype for v in load_file(half / "sae_weights.safetensors").values()} == {torch.bfloat16}
    saes = [load_sae(str(f), model) for f in (folder, half)]
    x = torch.randn(400, 32, generator=torch.Generator().manual_seed(0))
    one, other = (decode(s, encode(s, x)) for s in saes)
    assert float((one - other).norm() / one.norm()) < 0.1  # a feature at the edge of the k may change places


# ------------------------------------------------------------------ quality


def spoken(plain, rows, more=12):
    """Rows that go on as the model itself would, so that it does better with its states than without."""
    found = []
    for row in rows:
        ids = torch.from_numpy(row.ids[:20])[None]
        for _ in range(more + len(found)):
            with torch.no_grad():
                ids = torch.cat([ids, plain(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
        said = np.arange(ids.shape[1]) >= 20
        counts = np.concatenate([row.counts[:20], said[20:]])
        found.append(Tokens(ids[0].numpy(), counts, said))
    return found


def slow(sae, plain, layer, rows, on):
    """One text after the other with plain Hugging Face hooks: states, features, losses as they are, spliced, ablated."""
    x = [residuals(plain, row.ids)[layer].double()[torch.from_numpy(row.counts)] for row in rows]
    mean = torch.cat(x).mean(0)
    block = (plain.model.layers)[layer]

    def loss(rule):
        total, n = [], []
        for row in rows:
            at = torch.from_numpy(row.counts)

            def put(module, args, out, at=at):
                state = (out[0] if isinstance(out, tuple) else out).clone()
                state[0, at] = rule(state[0, at])
                return (state, *out[1:]) if isinstance(out, tuple) else state

            handle = block.register_forward_hook(put)
            with torch.no_grad():
                logits = plain(input_ids=torch.from_numpy(row.ids)[None]).logits[0, :-1]
            handle.remove()
            which = torch.from_numpy((row.reply if on == "replies" else row.counts)[1:])
            nats = torch.nn.functional.cross_entropy(logits, torch.from_numpy(row.ids[1:]), reduction="none")
            total.append(float(nats[which].double().sum()))
            n.append(int(which.sum()))
        return np.array(total), np.array(n)

    clean, n = loss(lambda s: s)
    spliced, _ = loss(lambda s: decode(sae, encode(sae, s)))
    ablated, _ = loss(lambda s: mean.float().expand_as(s))
    return x, clean, spliced, ablated, n


@pytest.mark.parametrize("family", FAMILIES)
def test_the_numbers_are_those_of_the_slow_formula(trained, reference, family):
    model, folder = trained(family, layer=0)
    sae, rows = load_sae(str(folder), model), spoken(reference(family), chats(model.tokenizer))
    found = measure(sae, model, rows, np.random.default_rng(0), draws=50)
    x, clean, spliced, ablated, n = slow(sae, reference(family), 0, rows, "replies")
    states_, features = torch.cat(x), encode(sae, torch.cat(x))
    residual = states_ - decode(sae, features).double()
    around = states_ - states_.mean(0)
    assert found.explained_variance == pytest.approx(
        1 - float((residual**2).sum() / (around**2).sum()), abs=1e-4
    )
    assert found.l0 == pytest.approx(float((features > 0).sum(1).double().mean()), abs=0.02)
    assert found.dead == pytest.approx(float((features.amax(0) == 0).double().mean()), abs=0.02)
    assert (found.texts, found.tokens, found.loss_tokens) == (len(rows), len(states_), n.sum())
    for name, value in (("clean", clean), ("spliced", spliced), ("ablated", ablated)):
        assert getattr(found, f"loss_{name}") == pytest.approx(value.sum() / n.sum(), abs=2e-3), name
    expected = (ablated - spliced).sum() / (ablated - clean).sum()
    assert found.loss_recovered == pytest.approx(expected, rel=0.05)
    assert found.loss_on == "replies"
    weights = cluster_weights([np.arange(len(rows))], 50, np.random.default_rng(0))
    draws = []
    for w in weights.astype(int):
        xs = torch.cat([v for v, k in zip(x, w, strict=True) for _ in range(k)])
        rest = xs - decode(sae, encode(sae, xs)).double()
        draws.append(1 - float((rest**2).sum() / ((xs - xs.mean(0)) ** 2).sum()))
    low, high = interval(np.array(draws), len(rows))
    assert (found.explained_low, found.explained_high) == pytest.approx((low, high), abs=1e-3)


def made_up(model, encode_with, decode_with, d_sae=32):
    """A dictionary that codes by given functions."""
    module = SimpleNamespace(encode=encode_with, decode=decode_with)
    d_in = model.identity.d_model
    origin = SaeOrigin("topk", d_in, d_sae, "blocks.0.hook_out", "", "", "", False, "", 0, 0, float("nan"))
    return Sae("made up", "", Site(0), origin, module)


def test_a_perfect_dictionary_recovers_all_and_one_that_says_the_mean_nothing(loaded, reference):
    model = loaded("llama")
    rows = spoken(reference("llama"), chats(model.tokenizer, 8))
    perfect = made_up(model, lambda x: x, lambda f: f)
    found = measure(perfect, model, rows, np.random.default_rng(0), draws=50)
    assert found.explained_variance == 1 and found.loss_recovered == 1
    assert found.loss_clean == found.loss_spliced != found.loss_ablated
    coded = code(perfect, model, rows)
    mean = torch.from_numpy(coded.total.sum(0) / coded.tokens.sum()).float()
    dull = made_up(model, lambda x: x * 0, lambda f: mean.expand_as(f))
    found = measure(dull, model, rows, np.random.default_rng(0), draws=50)
    assert found.explained_variance == pytest.approx(0, abs=1e-6)
    assert found.loss_recovered == pytest.approx(0, abs=1e-6)
    assert (found.l0, found.dead) == (0, 1)
    plain = losses(perfect, model, [replace(r, reply=r.reply & False) for r in rows], coded.total[0] * 0)
    assert plain.on == "all" and plain.tokens.sum() == coded.tokens.sum()


def test_dead_features_have_a_jackknife_interval():
    rng = np.random.default_rng(0)
    fires = rng.random((40, 200)) < rng.uniform(0, 0.1, size=200)
    dead, low, high = dead_share(fires)
    assert dead == (~fires.any(axis=0)).mean()
    each = np.array([(~np.delete(fires, i, axis=0).any(axis=0)).mean() for i in range(40)])
    error = np.sqrt(39 / 40 * ((each - each.mean()) ** 2).sum())
    assert high - dead == pytest.approx(2.0227 * error, rel=1e-4) and low == pytest.approx(2 * dead - high)
    assert all(np.isnan(dead_share(fires[:4])[1:]))


def test_held_out_texts_are_taken_once_and_few_are_refused(loaded, tmp_path):
    model = loaded("llama")
    path = json_lines(tmp_path / "t.jsonl", [{"text": t} for t in numbered(400)])
    rows = held_out_tokens(model, open_corpus(path, "held_out"), 1000)
    assert 8 < len(rows) < 40 and len({r.ids.tobytes() for r in rows}) == len(rows)
    assert len(held_out_tokens(model, open_corpus(path, "held_out"), 6)) == 6
    assert held_out_tokens(model, fixed(numbered(9)), 5, longest=10)[0].ids.shape == (10,)
    with pytest.raises(LabError, match="at least 5 held-out texts, got 3"):
        held_out_tokens(model, fixed(numbered(3)), 9)
