"""Corpora piece by piece, which tokens count, states that end at the site, a shuffled stream of bounded memory."""

import json
import sys
import tracemalloc
from collections import Counter
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import residuals

from lab.features import corpora
from lab.features.corpora import START, Corpus, Sample, open_corpus, samples
from lab.features.stream import ActivationStream, StreamPlace, Tokens, states, tokens_of, tokens_of_reply
from lab.models import hook_name
from lab.prompts.chat import render
from lab.records import LabError, Message, Site

FAMILIES = ("llama", "gemma2", "mixtral")
CHAT = (
    Message("system", "You are Ada, a teacher."),
    Message("user", "Who are you?"),
    Message("assistant", "I am Ada."),
    Message("user", "Is that so?"),
    Message("assistant", "Yes, it is so."),
)


def json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def numbered(n, words=8):
    """Texts that differ."""
    rng = np.random.default_rng(1)
    return [
        f"text {i}: " + " ".join(rng.choice(["tea", "rain", "Paris", "sun"], size=words)) for i in range(n)
    ]


def one_pass(corpus, seed=0):
    """The texts of the first pass, in order."""
    return [s.text or s.messages[0].content for s in corpus_pass(corpus, seed)]


def corpus_pass(corpus, seed=0):
    """The samples of the first pass, without a list of them."""
    for sample, place in samples(corpus, seed):
        if place.epoch:
            return
        yield sample


def fixed(texts):
    """A corpus of given texts in chunks of three."""
    chunks = [texts[i : i + 3] for i in range(0, len(texts), 3)]
    return Corpus("fixed", len(chunks), lambda c: map(Sample, chunks[c]))


# ------------------------------------------------------------------ corpora


@pytest.mark.parametrize("size", [40, 1000, 10**6], ids=["shorter than a line", "some", "all in one"])
def test_every_line_is_read_once_wherever_chunks_end(tmp_path, monkeypatch, size):
    monkeypatch.setattr(corpora, "CHUNK_BYTES", size)
    texts = numbered(300)
    path = json_lines(tmp_path / "texts.jsonl", [{"text": t} for t in texts])
    parts = [open_corpus(path, part) for part in ("train", "held_out")]
    found = [[s.text for c in range(p.chunks) for s in p.read(c)] for p in parts]
    assert sorted(found[0] + found[1]) == sorted(texts), "disjoint and complete"
    assert 5 <= len(found[1]) <= 30, "about 1 in 20"


def test_a_corpus_begins_anew_in_another_order_and_goes_on_from_any_place():
    texts = numbered(20)
    corpus = fixed(texts)
    found = list(islice(samples(corpus, 4), 60))
    passes = [[s.text for s, _ in found[k : k + 20]] for k in (0, 20, 40)]
    assert all(sorted(p) == sorted(texts) for p in passes)
    assert passes[0] != passes[1] != passes[2] and passes[0] != texts
    assert [s.text for s, _ in islice(samples(corpus, 4), 20)] == passes[0], "the same seed"
    assert [s.text for s, _ in islice(samples(corpus, 5), 20)] != passes[0], "another seed"
    for k in (0, 1, 2, 3, 19, 20, 33):
        rest = [s.text for s, _ in islice(samples(corpus, 4, found[k][1]), 10)]
        assert rest == [s.text for s, _ in islice(samples(corpus, 4), k + 11)][k + 1 :]


def test_parts_go_by_content_not_by_order(tmp_path):
    texts = numbered(200)
    paths = [json_lines(tmp_path / f"{k}.jsonl", [{"text": t} for t in texts[::k]]) for k in (1, -1)]
    one, other = (set(one_pass(open_corpus(path, "held_out"))) for path in paths)
    assert one == other and one


def test_files_of_every_kind_hold_the_same(tmp_path):
    texts = numbered(60)
    chats = [[{"role": "user", "content": t}, {"role": "assistant", "content": "Yes."}] for t in texts]
    (tmp_path / "tables").mkdir()
    for name, part in (("a", texts[:25]), ("b", texts[25:])):
        pd.DataFrame({"text": part, "n": 1}).to_parquet(
            tmp_path / "tables" / f"{name}.parquet", row_group_size=7
        )
    pd.DataFrame({"messages": chats}).to_parquet(tmp_path / "chats.parquet", row_group_size=9)
    (tmp_path / "plain").mkdir()
    for i, text in enumerate(texts):
        (tmp_path / "plain" / f"{i}.txt").write_text(text, encoding="utf-8")
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_dict({"text": texts})
    saved.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": saved}).save_to_disk(tmp_path / "split")
    expected = sorted(one_pass(open_corpus(json_lines(tmp_path / "t.jsonl", [{"text": t} for t in texts]))))
    for name in ("tables", "tables/a.parquet", "plain", "saved", "split"):
        found = sorted(one_pass(open_corpus(str(tmp_path / name))))
        assert found == ([t for t in expected if t in texts[:25]] if "/" in name else expected), name
    path = json_lines(tmp_path / "chats.jsonl", [{"messages": c} for c in chats])
    said = [sorted(one_pass(open_corpus(p))) for p in (str(tmp_path / "chats.parquet"), path)]
    assert said[0] == said[1] and len(said[0]) > 50


def test_long_files_are_cut_where_paragraphs_end(tmp_path):
    text = "\n\n".join(f"Paragraph {i}. " + "word " * 100 for i in range(40))
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    parts = [s.text for p in ("train", "held_out") for s in open_corpus(str(tmp_path), p).read(0) if s.text]
    assert "".join("".join(sorted(parts, key=text.find)).split()) == "".join(text.split())
    assert max(map(len, parts)) < 3 * corpora.PARAGRAPHS
    assert all(part.startswith("Paragraph") for part in parts)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{broken", "not JSON"),
        ('{"words": "x"}', 'expected a "text" that is a string, or "messages"'),
        ('"a text"', 'expected a "text"'),
        ('{"text": 3}', 'expected a "text"'),
        ('{"messages": []}', 'expected a "text"'),
        ('{"messages": [{"role": "tool", "content": "x"}]}', "expected messages of"),
        ('{"messages": [{"role": "user", "content": null}]}', "expected messages of"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "ends with a user message"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_line(tmp_path, monkeypatch, line, said):
    monkeypatch.setattr(corpora, "CHUNK_BYTES", 64)
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "good"}\n' * 30 + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(LabError, match=rf"bad\.jsonl, line 32: .*{said}"):
        list(islice(samples(open_corpus(str(path)), 0), 100))


def test_what_is_no_corpus_is_refused(tmp_path, monkeypatch):
    with pytest.raises(LabError, match="expected a corpus"):
        open_corpus(str(tmp_path / "missing.jsonl"))
    pd.DataFrame({"words": ["x"]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(LabError, match='column "text" or "messages", got words'):
        open_corpus(str(tmp_path / "x.parquet"))
    (tmp_path / "y.parquet").write_text("no table", encoding="utf-8")
    with pytest.raises(LabError, match=r"y\.parquet: not a Parquet file"):
        open_corpus(str(tmp_path / "y.parquet"))
    pd.DataFrame({"text": ["good", None]}).to_parquet(tmp_path / "z.parquet")
    with pytest.raises(LabError, match=r"z\.parquet, row 2"):
        list(open_corpus(str(tmp_path / "z.parquet")).read(0))
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabError, match=r"x\.txt: expected UTF-8"):
        list(open_corpus(str(tmp_path / "t")).read(0))
    path = json_lines(tmp_path / "one.jsonl", [{"text": "alone"}])
    alone = [len(list(open_corpus(path, part).read(0))) for part in ("train", "held_out")]
    assert sorted(alone) == [0, 1]
    with pytest.raises(LabError, match="no text in this part"):
        next(samples(open_corpus(path, ("train", "held_out")[alone.index(0)]), 0))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "state.json").write_text("{}", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LabError, match="pip install datasets"):
        open_corpus(str(tmp_path / "d"))


def test_hearth_has_no_end_and_its_parts_and_seeds_share_no_conversation():
    found = {
        key: [s.messages for s, _ in islice(samples(open_corpus("hearth", *key), 0), 40)]
        for key in (("train", 0), ("held_out", 0), ("train", 1))
    }
    assert len({m for rows in found.values() for m in rows}) == 120
    again = [s.messages for s, _ in islice(samples(open_corpus("hearth", "train", 0), 0), 40)]
    assert again == found["train", 0]
    roles = Counter(m.role for m in again[0] + again[1] + again[2])
    assert roles["user"] == roles["assistant"] > 0
    assert all(rows[-1].role == "assistant" for rows in again)


def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "CHUNK_BYTES", 2**14)
    monkeypatch.setattr(corpora, "WINDOW", 64)
    peaks = {}
    for n in (2_000, 20_000):
        rows = [{"text": f"text {i} " + "word " * 10} for i in range(n)]
        lines = json_lines(tmp_path / f"{n}.jsonl", rows)
        pd.DataFrame(rows).to_parquet(tmp_path / f"{n}.parquet")
        for path in (lines, str(tmp_path / f"{n}.parquet")):
            corpus = open_corpus(path)
            tracemalloc.start()
            assert sum(1 for _ in corpus_pass(corpus)) > 0.9 * n
            peaks[path] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    small, large = (
        [peaks[p] for p in peaks if p.endswith((f"{n}.jsonl", f"{n}.parquet"))] for n in (2_000, 20_000)
    )
    assert all(b < 1.3 * a + 200_000 for a, b in zip(small, large, strict=True)), peaks


# ------------------------------------------------------------------ which tokens count


@pytest.mark.parametrize("style", ["chatml", "refusing", "base"])
def test_what_counts_is_what_was_said_and_nothing_else(loaded, style):
    tokenizer = loaded("llama", style).tokenizer
    (row,) = tokens_of(tokenizer, Sample(messages=CHAT), 512)
    said = tokenizer.decode(row.ids[row.counts])
    for message in CHAT:
        assert "".join(message.content.split()) in "".join(said.split())
    assert "im_start" not in said and "Assistant:" not in said
    assert tokenizer.bos_token_id in row.ids[~row.counts]
    replied = tokenizer.decode(row.ids[row.reply])
    assert "".join(replied.split()) == "IamAda.Yes,itisso."
    assert (row.reply <= row.counts).all()
    known = tokens_of_reply(tokenizer, render(tokenizer, CHAT[:-1]), CHAT[-1].content)
    assert known.ids.tolist() == row.ids.tolist() and known.counts.tolist() == row.counts.tolist()


def test_a_chat_that_waits_for_a_reply_ends_with_the_last_token_that_counts(loaded):
    tokenizer = loaded("llama").tokenizer
    (row,) = tokens_of(tokenizer, Sample(messages=CHAT[:2]), 512)
    assert row.counts[-1] and not row.reply.any()
    (cut,) = tokens_of(tokenizer, Sample(messages=CHAT), 20)
    assert len(cut.ids) == len(cut.counts) == len(cut.reply) == 20


def test_a_long_text_is_read_in_windows_that_begin_with_a_bos(loaded):
    tokenizer = loaded("llama").tokenizer
    text = " ".join(numbered(120))
    rows = tokens_of(tokenizer, Sample(text), 50)
    assert max(len(r.ids) for r in rows) == 50
    assert all(r.ids[0] == tokenizer.bos_token_id and not r.counts[0] and r.counts[1:].all() for r in rows)
    assert "".join(tokenizer.decode(r.ids[1:]) for r in rows) == text
    (special,) = tokens_of(tokenizer, Sample("tea<|im_end|> rain"), 50)
    assert special.ids[~special.counts].tolist() == [1, 4]


# ------------------------------------------------------------------ states


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_the_plain_model_in_batches_of_any_size(loaded, reference, family):
    model, plain = loaded(family), reference(family)
    rows = [r for t in numbered(7) for r in tokens_of(model.tokenizer, Sample(t), 30)]
    layer = model.identity.layers - 2
    for budget in (1, 64, 4096):
        found = dict(states(model, Site(layer), rows, budget))
        assert sorted(found) == list(range(len(rows)))
        for i, row in enumerate(rows):
            np.testing.assert_allclose(found[i], residuals(plain, row.ids)[layer], atol=2e-5)


def test_the_pass_ends_at_the_site_and_leaves_nothing_behind(loaded):
    model = loaded("llama")
    rows = tokens_of(model.tokenizer, Sample("tea and rain"), 30)
    ran = []
    hooks = [
        (hook_name(Site(k)), lambda value, hook, k=k: ran.append(k)) for k in range(model.identity.layers)
    ]
    with model.bridge.hooks(fwd_hooks=hooks):
        list(states(model, Site(1), rows))
    assert ran == [0, 1]
    whole = model.network(input_ids=torch.from_numpy(rows[0].ids[None])).logits
    assert torch.isfinite(whole).all(), "the next pass runs to its end"
    with pytest.raises(LabError, match="layers 0 to 2, got layer 3"):
        list(states(model, Site(3), rows))


# ------------------------------------------------------------------ the stream


def stream(model, corpus, seed=0, **options):
    sizes = {"batch": 32, "buffer": 256, "longest": 40}
    return ActivationStream(model, Site(1), corpus, seed=seed, **{**sizes, **options})


def test_the_same_seed_gives_the_same_batches_and_a_place_goes_on_bit_for_bit(loaded):
    model, corpus = loaded("llama"), fixed(numbered(40))
    one, other, apart = stream(model, corpus), stream(model, corpus), stream(model, corpus, seed=1)
    found, places = [], []
    for _ in range(30):
        found.append(next(one))
        places.append(one.place)
    assert all(torch.equal(next(other), x) for x in found)
    assert not torch.equal(next(apart), found[0])
    assert found[0].shape == (32, 32) and found[0].dtype == torch.float32
    assert one.seen == 30 * 32
    assert places[-1].block >= 3, "several blocks"
    for k in (0, 6, 7, 8, 20):
        again = stream(model, corpus, place=StreamPlace.of(json.loads(json.dumps(places[k].to_dict()))))
        assert all(torch.equal(next(again), x) for x in found[k + 1 : k + 9]), k


def test_a_block_hands_out_every_counted_state_at_most_once_shuffled(loaded):
    model, texts = loaded("llama"), numbered(30)
    found = stream(model, fixed(texts))
    block = found.block.copy()
    handed = torch.cat([next(found) for _ in range(len(block) // 32)]).numpy()
    rows = [r for s, _ in islice(samples(fixed(texts), 0), 30) for r in tokens_of(model.tokenizer, s, 40)]
    expected = [v.numpy()[rows[i].counts] for i, v in states(model, Site(1), rows)]
    there, handed_out, read = (
        Counter(map(tuple, np.round(x, 4))) for x in (block, handed, np.concatenate(expected))
    )
    assert 256 - 72 < len(block) <= 256
    assert not there - read, "no more often than it is in the texts"
    assert not handed_out - there and (there - handed_out).total() == len(block) % 32
    assert not np.array_equal(handed[:32], block[:32])


def test_a_buffer_that_cannot_hold_a_text_is_refused(loaded):
    model = loaded("llama")
    with pytest.raises(LabError, match="twice a batch and a text, 144 activations, got 100"):
        stream(model, fixed(numbered(3)), buffer=100)
    with pytest.raises(LabError, match="without a token that counts"):
        next(stream(model, fixed([""])))
    assert START == StreamPlace().start


def test_a_stream_over_a_corpus_smaller_than_its_buffer_repeats_it(loaded):
    model = loaded("llama")
    found = stream(model, fixed(["tea and rain"]))
    assert len(found.block) > 150
    assert len({tuple(np.round(x, 4)) for x in found.block}) < 20
    assert isinstance(tokens_of(model.tokenizer, Sample("tea"), 9)[0], Tokens)
