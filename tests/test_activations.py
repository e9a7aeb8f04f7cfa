"""Reading while generating: the same as one by one, as teacher-forced, and as plain Hugging Face."""

import dataclasses

import numpy as np
import pytest
from conftest import FAMILIES, make_tokenizer, residuals, save_checkpoint, with_replies

from lab import activations, reading
from lab.activations import generate
from lab.models import load
from lab.prompts.chat import render
from lab.reading import groups, read
from lab.records import FIRST_TOKENS, Direction, LabError, Message, Site
from lab.steering import Add, Cap

LONG = "You are Ada, a patient teacher who answers in short sentences.\nMemory:\nThe user likes tea."
OTHER = "You are Bo, a blunt sailor. You never explain anything twice, and you count in fathoms."
SYSTEMS = (LONG, OTHER, None)
QUESTIONS = ("Who?", "What is the capital of France?", "Tell me about the weather and about tea, please.")
NEW = 6
_SAMPLE = activations._sample


def chats_of(model, systems=SYSTEMS, questions=QUESTIONS):
    """All systems crossed with all questions, questions outermost (neighbours share no prefix)."""
    chats = [[*([Message("system", s)] if s else []), Message("user", q)] for q in questions for s in systems]
    return [render(model.tokenizer, chat) for chat in chats]


def directions_of(model):
    """Two random unit directions, at the first and at the last layer."""
    rng = np.random.default_rng(5)
    vectors = [v / np.linalg.norm(v) for v in rng.normal(size=(2, model.identity.d_model))]
    layers = (0, model.identity.layers - 1)
    return [
        Direction(t, Site(n), "reply_mean", v.astype(np.float32), 1.0, model.identity.fingerprint, "extract")
        for t, n, v in zip(("warm", "bold"), layers, vectors, strict=True)
    ]


def close(a, b, atol=1e-4):
    """Equal up to rounding, NaN for NaN."""
    np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def same(a, b):
    """The same replies with the same states."""
    assert [(r.text, r.tokens) for r in a.replies] == [(r.text, r.tokens) for r in b.replies]
    for position in a.pooled.keys() & b.pooled.keys():
        close(a.pooled[position], b.pooled[position])
    for x, y in zip(a.replies, b.replies, strict=True):
        for trait in x.projections:
            close(x.projections[trait], y.projections[trait])


def part(acts, i):
    """One row of the activations."""
    pooled = {position: array[[i]] for position, array in acts.pooled.items()}
    return dataclasses.replace(acts, pooled=pooled, replies=(acts.replies[i],))


# ------------------------------------------------------------------ how it is batched changes nothing


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_as_one_by_one(loaded, family):
    model = loaded(family)
    chats, directions = chats_of(model), directions_of(model)
    acts = generate(model, chats, max_new_tokens=NEW, seeds=range(len(chats)), directions=directions)
    for i, chat in enumerate(chats):
        same(part(acts, i), generate(model, [chat], max_new_tokens=NEW, seeds=[i], directions=directions))
    assert len({r.text for r in acts.replies}) > 3


@pytest.mark.parametrize("style", ["base", "refusing"])
def test_a_batch_is_as_one_by_one_in_other_templates(loaded, style):
    model = loaded("gemma2", style)
    chats = chats_of(model)[:5]
    acts = generate(model, chats, max_new_tokens=NEW, seeds=range(5))
    for i, chat in enumerate(chats):
        same(part(acts, i), generate(model, [chat], max_new_tokens=NEW, seeds=[i]))


@pytest.mark.parametrize("family", FAMILIES)
def test_sharing_a_prefix_changes_nothing(loaded, family, monkeypatch):
    model = loaded(family)
    chats = chats_of(model)
    prefixes, plain = [], activations._run_group
    monkeypatch.setattr(activations, "_run_group", lambda m, p, n: prefixes.append(n) or plain(m, p, n))
    on = generate(model, chats, max_new_tokens=NEW, seeds=range(9))
    assert sum(n > 24 for n in prefixes) >= 2
    prefixes.clear()
    monkeypatch.setattr(activations, "SHARED_PREFIX", 10**6)
    off = generate(model, chats, max_new_tokens=NEW, seeds=range(9))
    assert set(prefixes) == {0}
    same(on, off)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_padding_changes_nothing(loaded, family):
    model = loaded(family, "base")
    short = render(model.tokenizer, [Message("user", "Who?")])
    long = render(model.tokenizer, [Message("user", "Xylophones, " * 12)])
    alone = generate(model, [short], max_new_tokens=NEW, seeds=[7])
    # in one batch, and with the padding at the prefill (the order is by length)
    together = generate(model, [long, short, long], max_new_tokens=NEW, seeds=[1, 7, 2])
    same(part(together, 1), alone)
    same(read(model, [short], ["tea"]), part(read(model, [long, short], ["I like tea", "tea"]), 1))


@pytest.mark.parametrize("budget", [1, 300, 10**6])
def test_rows_come_in_the_order_of_the_chats_for_every_budget(loaded, budget):
    model = loaded("llama")
    chats = chats_of(model)
    acts = generate(model, chats, max_new_tokens=NEW, seeds=range(9))
    order = np.random.default_rng(0).permutation(9)
    mixed = generate(
        model, [chats[i] for i in order], max_new_tokens=NEW, seeds=order.tolist(), token_budget=budget
    )
    for k, i in enumerate(order):
        same(part(mixed, k), part(acts, i))
    close(mixed.norm, acts.norm)
    texts = [f"{i} tea" for i in range(9)]
    given = read(model, chats, texts)
    shuffled = read(model, [chats[i] for i in order], [texts[i] for i in order], token_budget=budget)
    for k, i in enumerate(order):
        same(part(shuffled, k), part(given, i))


@pytest.mark.parametrize("new", [4, 70])
def test_a_sliding_window_is_respected(loaded, reference, reply_ids, monkeypatch, new):
    model, network = loaded("gemma2", sliding_window=130), reference("gemma2", sliding_window=130)
    questions = ("Who?", "Who is it, and from where?")
    chats = chats_of(model, ("You are Ada, a patient teacher.", None, LONG * 2), questions)
    assert min(len(c.ids) for c in chats) < 130 // 2 < 130 < max(len(c.ids) for c in chats)
    prefixes, plain = [], activations._run_group
    monkeypatch.setattr(activations, "_run_group", lambda m, p, n: prefixes.append(n) or plain(m, p, n))
    for group in (chats, [chats[0], chats[3]]):
        reply_ids.clear()
        prefixes.clear()
        _ending(monkeypatch, [None] * len(group))
        acts = generate(model, group, max_new_tokens=new, seeds=range(len(group)))
        for i, (chat, ids) in enumerate(zip(group, reply_ids, strict=True)):
            states = residuals(network, np.concatenate([chat.ids, ids]))
            for layer, state in enumerate(states):
                close(acts.reply_mean[i, layer], state[len(chat.ids) :].mean(0))
    assert (max(prefixes) > 24) == (new == 4)  # shared only while no window can reach the padding


# ------------------------------------------------------------------ and it is what the model does


@pytest.mark.parametrize("family", FAMILIES)
def test_generated_states_are_those_of_a_plain_forward(loaded, reference, reply_ids, family):
    model = loaded(family)
    chats, directions = chats_of(model), directions_of(model)

    def weights(family, prompt, reply):
        """Entropies of the next token at the last prompt token and at the reply's, made to sum to 1."""
        import torch

        ids = torch.from_numpy(np.concatenate([prompt, np.array(reply, np.int64)]))[None]
        with torch.no_grad():
            p = reference(family)(ids).logits[0, len(prompt) - 1 :].softmax(-1)
        entropy = torch.distributions.Categorical(p).entropy()
        return entropy / entropy.sum()

    acts = generate(model, chats, max_new_tokens=NEW, seeds=range(9), directions=directions)
    coded, norms = list(reply_ids), []
    for i, (chat, ids) in enumerate(zip(chats, coded, strict=True)):
        states = residuals(reference(family), np.concatenate([chat.ids, np.array(ids, np.int64)]))
        for layer, state in enumerate(states):
            close(acts.spawn[i, layer], state[len(chat.ids) - 1])
            close(acts.reply_mean[i, layer], state[len(chat.ids) :].mean(0))
            close(acts.pooled["first_tokens"][i, layer], state[len(chat.ids) :][:FIRST_TOKENS].mean(0))
            decided = state[len(chat.ids) - 1 :] * weights(family, chat.ids, ids)[:, None]
            close(acts.pooled["decision"][i, layer], decided.sum(0))
        norms.append(np.stack([s[len(chat.ids) :].norm(dim=-1).numpy() for s in states]))
        for d in directions:
            close(acts.replies[i].projections[d.trait], states[d.site.layer][len(chat.ids) :] @ d.vector)
    close(acts.norm, np.concatenate(norms, axis=1).mean(1), 1e-3)
    forced = read(
        with_replies(model, coded), chats, [str(i) for i in range(9)], directions=directions, token_budget=300,
        decision=True,
    )  # fmt: skip
    assert "decision" in forced.pooled
    same(forced, acts)
    close(forced.norm, acts.norm, 1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_temperature_zero_is_greedy_generation_of_hugging_face(loaded, reference, reply_ids, family):
    import torch

    model = loaded(family)
    chats = chats_of(model)[:4]
    acts = generate(model, chats, max_new_tokens=12, seeds=range(4), temperature=0)
    for chat, ids, reply in zip(chats, list(reply_ids), acts.replies, strict=True):
        given = torch.from_numpy(chat.ids)[None]
        out = reference(family).generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=12
        )[0, len(chat.ids) :]
        expected = [i for i in out.tolist() if i != 4]
        assert ids == expected
        assert reply.text == model.tokenizer.decode(expected, skip_special_tokens=True)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_first_tokens_follow_the_softmax(loaded, reference, monkeypatch, temperature):
    import torch
    from scipy.stats import chisquare

    model, n = loaded("llama"), 1500
    drawn, plain = [], activations._sample
    monkeypatch.setattr(activations, "_sample", lambda *a: drawn.extend(t := plain(*a)) or t)
    chat = render(model.tokenizer, [Message("user", "Who?")])
    generate(model, [chat] * n, max_new_tokens=1, seeds=range(n), temperature=temperature)
    with torch.no_grad():
        logits = reference("llama")(torch.from_numpy(chat.ids)[None]).logits[0, -1]
    p = (logits / temperature).double().softmax(-1).numpy()
    seen = np.bincount(drawn, minlength=len(p))
    assert seen.sum() == n
    order = np.argsort(-p)
    bins = np.minimum((np.cumsum(p[order]) * 25).astype(int), 24)
    observed = np.bincount(bins, seen[order], 25)
    expected = np.bincount(bins, p[order], 25) * n
    filled = expected > 0
    assert filled.sum() >= 8
    assert chisquare(observed[filled], expected[filled]).pvalue > 1e-3


def test_a_reply_depends_on_its_seed_alone(loaded):
    model = loaded("llama")
    chat = chats_of(model)[0]
    a = generate(model, [chat] * 3, max_new_tokens=NEW, seeds=[1, 2, 1])
    assert a.replies[0] == a.replies[2]
    assert a.replies[0] != a.replies[1]
    longer = generate(model, [chat], max_new_tokens=2 * NEW, seeds=[1])
    assert longer.replies[0].tokens[: NEW - 1] == a.replies[0].tokens[: NEW - 1]


# ------------------------------------------------------------------ reading runs a prefix once


READ = (
    "I like tea.",
    "Paris",
    "",
    "It rains, and then the sun comes out again.",
    "tea",
    "No.",
    "Why?",
    "7",
    "8",
)


@pytest.fixture
def prefixes(monkeypatch):
    """Lengths of the prefixes that reading ran on their own."""
    lengths, plain = [], reading._run_prefix
    monkeypatch.setattr(reading, "_run_prefix", lambda m, ids: lengths.append(len(ids)) or plain(m, ids))
    return lengths


def qwen2(folder):
    """A tiny random Qwen2, which has biases in its attention."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    tokenizer = make_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, initializer_range=0.15, max_position_embeddings=512,
        eos_token_id=4, pad_token_id=0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load(str(folder))


@pytest.mark.parametrize("family", [*FAMILIES, "qwen2"])
def test_reading_a_prefix_once_changes_nothing(loaded, tmp_path, monkeypatch, prefixes, family):
    model = qwen2(tmp_path) if family == "qwen2" else loaded(family)
    chats, directions = chats_of(model), directions_of(model)
    edits = [Add(directions[0], 0.5, 3.0), Cap(directions[1], 0.1)]
    for options in ({"decision": True}, {"edits": edits}, {"token_budget": 400, "directions": directions}):
        shared = read(model, chats, READ, **options)
        assert sum(n > 24 for n in prefixes) == 2
        with monkeypatch.context() as patch:
            patch.setattr(reading, "SHARED_PREFIX", 10**6)
            prefixes.clear()
            plain = read(model, chats, READ, **options)
            assert prefixes == []
        same(shared, plain)
        close(shared.norm, plain.norm, 1e-3)
        assert np.isnan(shared.reply_mean[2]).all() and np.isfinite(shared.spawn).all()


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
def test_replies_to_one_chat_share_all_but_its_last_token(loaded, reference, prefixes, family):
    model = loaded(family)
    chat = chats_of(model)[0]
    texts = ["I like tea.", "Paris", "It rains"]
    acts = read(model, [chat] * 3, texts)
    assert prefixes == [len(chat.ids) - 1]
    for i, text in enumerate(texts):
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        states = residuals(reference(family), np.concatenate([chat.ids, ids]))
        for layer, state in enumerate(states):
            close(acts.spawn[i, layer], state[len(chat.ids) - 1])
            close(acts.reply_mean[i, layer], state[len(chat.ids) :].mean(0))


def test_a_sliding_window_sees_the_same_behind_a_shared_prefix(loaded, reference, prefixes):
    model, network = loaded("gemma2", sliding_window=40), reference("gemma2", sliding_window=40)
    chats = chats_of(model, (LONG, None))
    acts = read(model, chats, READ[: len(chats)])
    assert max(prefixes) > 40
    for i, (chat, text) in enumerate(zip(chats, READ, strict=False)):
        ids = np.array(model.tokenizer(text, add_special_tokens=False)["input_ids"], np.int64)
        states = residuals(network, np.concatenate([chat.ids, ids]))
        for layer, state in enumerate(states):
            close(acts.spawn[i, layer], state[len(chat.ids) - 1])
            if text:
                close(acts.reply_mean[i, layer], state[len(chat.ids) :].mean(0))


def test_reading_makes_no_logits_unless_asked_and_holds_no_more_for_more_replies(loaded):
    import torch

    model, sizes = loaded("llama"), []

    class Sizes(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(tuple(out.shape))
            return out

    def largest(n, **options):
        sizes.clear()
        with Sizes():
            read(model, chats_of(model)[:1] * n, [READ[3]] * n, token_budget=400, **options)
        return max(np.prod(s) for s in sizes), any(s[-1:] == (model.identity.vocab,) for s in sizes)

    few, many = largest(6), largest(60)
    assert few == many and not many[1]
    assert largest(6, decision=True)[1]


def test_groups_share_what_saves_most_and_place_every_row_once():
    def tokens(*parts):
        return np.array([t for start, n in parts for t in range(start, start + n)], np.int64)

    poles = [tokens((0, 90), (pole * 1000, 110), (5000 + 50 * q, 9)) for q in range(5) for pole in (1, 2)]
    found = groups([*poles, tokens((9000, 30))], [*[len(p) - 2 for p in poles], 20])
    assert found == [([0, 2, 4, 6, 8], 200), ([1, 3, 5, 7, 9], 200), ([10], 0)]
    assert groups([], []) == []
    # a chat's turns, each a beginning of the next, and another chat that shares its scaffold
    talk = [tokens((0, 40 + 30 * turn)) for turn in range(4)]
    other = tokens((0, 35), (7000, 20))
    rng = np.random.default_rng(0)
    for rows in ([*talk, other], [rng.integers(2, size=int(rng.integers(30, 70))) for _ in range(40)]):
        starts = [len(row) - 5 for row in rows]
        found = groups(rows, starts)
        assert sorted(i for members, _ in found for i in members) == list(range(len(rows)))
        run = 0
        for members, prefix in found:
            assert all(prefix < starts[i] for i in members)
            assert len({tuple(rows[i][:prefix]) for i in members}) == 1
            run += prefix + sum(len(rows[i]) - prefix for i in members)
        assert run <= sum(map(len, rows))
    assert max(prefix for _, prefix in groups([*talk, other], [len(r) - 5 for r in [*talk, other]])) >= 34


# ------------------------------------------------------------------ ends, texts, progress


def _ending(monkeypatch, step_of_row, stop=4):
    """Row k of the first batch draws the end token at step step_of_row[k]."""
    plain, live, step = _SAMPLE, list(range(len(step_of_row))), [0]

    def sample(logits, uniforms, temperature):
        tokens = plain(logits, uniforms, temperature)
        ends = [step_of_row[k] == step[0] for k in live]
        tokens = np.where(ends, stop, np.where(np.isin(tokens, [2, 4]), 40, tokens))
        live[:] = [k for k, end in zip(live, ends, strict=True) if not end]
        step[0] += 1
        return tokens

    monkeypatch.setattr(activations, "_sample", sample)


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
def test_replies_of_unequal_length(loaded, reference, reply_ids, monkeypatch, family):
    model = loaded(family)
    chats = [chats_of(model)[0]] * 4
    _ending(monkeypatch, [3, 0, 1, None])
    acts = generate(model, chats, max_new_tokens=5, seeds=range(4), directions=directions_of(model))
    assert [len(ids) for ids in reply_ids] == [3, 0, 1, 5]
    assert [len(r.projections["warm"]) for r in acts.replies] == [3, 0, 1, 5]
    assert acts.replies[1].text == ""
    assert acts.replies[1].tokens == ()
    for position, states in acts.pooled.items():
        assert np.isnan(states[1]).all() == (position != "spawn")
        assert np.isfinite(states[[0, 2, 3]]).all()
    assert np.isfinite(acts.spawn).all()
    for i in (0, 2, 3):
        states = residuals(reference(family), np.concatenate([chats[i].ids, reply_ids[i]]))
        for layer, state in enumerate(states):
            close(acts.reply_mean[i, layer], state[len(chats[i].ids) :].mean(0))


def test_all_replies_empty(loaded, monkeypatch):
    model = loaded("llama")
    _ending(monkeypatch, [0, 0])
    acts = generate(model, chats_of(model)[:2], max_new_tokens=5, seeds=[0, 1])
    assert [r.text for r in acts.replies] == ["", ""]
    assert np.isnan(acts.reply_mean).all()
    assert np.isfinite(acts.spawn).all()


def test_nothing_to_do(loaded):
    model = loaded("llama")
    for acts in (generate(model, [], max_new_tokens=3, seeds=[]), read(model, [], [])):
        assert acts.reply_mean.shape == acts.spawn.shape == (0, 3, 32)
        assert acts.replies == ()


def test_the_pieces_make_the_text(loaded, reply_ids):
    model = loaded("llama")
    acts = generate(model, chats_of(model), max_new_tokens=30, seeds=range(9))
    for reply, ids in zip(acts.replies, reply_ids, strict=True):
        assert "".join(reply.tokens) == reply.text
        assert len(reply.tokens) == len(ids)
        assert reply.text == model.tokenizer.decode(ids, skip_special_tokens=True)
    accents = "Île-de-France \U0001f642, naïve"
    reply = read(model, chats_of(model)[:1], [accents]).replies[0]
    assert reply.text == "".join(reply.tokens) == accents


def test_every_end_token_of_the_generation_config_ends_a_reply(tmp_path, reply_ids, monkeypatch):
    model = load(str(save_checkpoint(tmp_path / "two-ends", "llama", eos_token_id=[4, 2])))
    assert model.stop_ids == (2, 4)
    _ending(monkeypatch, [2, 1], stop=2)
    generate(model, chats_of(model)[:1] * 2, max_new_tokens=5, seeds=[0, 1])
    assert [len(ids) for ids in reply_ids] == [2, 1]


@pytest.mark.parametrize("budget", [1, 200, 10**6])
def test_progress_reaches_the_number_of_chats(loaded, budget):
    model, told = loaded("llama"), []
    generate(
        model, chats_of(model), max_new_tokens=2, seeds=range(9), token_budget=budget, progress=told.append
    )
    assert told == sorted(told)
    assert told[-1] == 9
    assert len(told) == (9 if budget == 1 else len(told))


# ------------------------------------------------------------------ what is refused


def test_one_seed_and_one_reply_per_chat(loaded):
    model = loaded("llama")
    with pytest.raises(LabError, match="2 seeds for 1 chats"):
        generate(model, chats_of(model)[:1], max_new_tokens=2, seeds=[1, 2])
    with pytest.raises(LabError, match="0 replies for 1 chats"):
        read(model, chats_of(model)[:1], [])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite(tmp_path, value):
    import torch

    model = load(str(save_checkpoint(tmp_path / "bad", "llama")))
    chats = chats_of(model)[:2]
    with torch.no_grad():
        next(p for n, p in model.network.named_parameters() if "layers.1" in n and "down_proj" in n).fill_(
            value
        )
    with pytest.raises(LabError, match="bad: NaN or infinite activations at layer 1"):
        generate(model, chats, max_new_tokens=2, seeds=[1, 2])
    with pytest.raises(LabError, match="bad: NaN or infinite activations at layer 1"):
        read(model, chats, ["tea", "tea"])


def test_no_hook_stays_behind(loaded):
    import torch

    model = loaded("llama")
    ids = torch.from_numpy(chats_of(model)[0].ids)[None]
    with torch.no_grad():
        before = model.network(ids).logits
    with pytest.raises(RuntimeError, match="stop"):
        generate(model, chats_of(model), max_new_tokens=2, seeds=range(9), progress=_stop)
    calls = []
    plain = activations._Tap._keep
    activations._Tap._keep = lambda self, layer, value: calls.append(layer)
    try:
        with torch.no_grad():
            torch.testing.assert_close(model.network(ids).logits, before, atol=0, rtol=0)
    finally:
        activations._Tap._keep = plain
    assert calls == []


def _stop(_):
    raise RuntimeError("stop")


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_bfloat16_stays_near_float32(loaded, checkpoint, family):
    exact, rough = loaded(family), load(str(checkpoint(family)), dtype="bfloat16")
    chats = chats_of(exact)
    acts = generate(rough, chats, max_new_tokens=NEW, seeds=range(9))
    assert np.isfinite(acts.reply_mean[[bool(r.tokens) for r in acts.replies]]).all()
    texts = [f"{i} tea" for i in range(9)]
    a, b = read(exact, chats, texts).reply_mean, read(rough, chats, texts).reply_mean
    assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(a)
