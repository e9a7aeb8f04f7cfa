"""Known truth: choices are read back with their places, a feature that stands for one is found, chance is not."""

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from test_feature_readout import save_sae

from lab.features.corpora import Sample
from lab.features.load import load_sae
from lab.features.stream import tokens_of
from lab.geometry.words import words_of
from lab.pipelines.feature_labels import hearth_texts
from lab.pipelines.feature_places import _elsewhere, options, places, places_of
from lab.pipelines.feature_truth import GOOD, choice_scores, feature_choices
from lab.records import LabError
from lab.records.feature_cards import Activity, FeatureSummary
from lab.world.choices import choices_in
from lab.world.judge import open_filling, read_evidence
from lab.world.latent import TRAITS
from lab.world.library import as_words, library


@pytest.fixture(scope="module")
def texts():
    """What is said in conversations of Hearth: (words, whether a reply) per message."""
    found = hearth_texts(130, 0, 0)
    return [[(m.content, m.role == "assistant") for m in s.messages] for s in found.samples]


@pytest.fixture(scope="module")
def replies(texts):
    return [said for messages in texts for said, reply in messages if reply]


def words_as_tokens(texts, features):
    """Every word and mark a token, all features off, messages apart as `lab.features.activity` has them."""
    columns = ([], [], [], [], [])
    for i, messages in enumerate(texts):
        at = position = 0
        for said, reply in messages:
            for word in words_of(said):
                for column, value in zip(
                    columns, (i, position, reply, at + word.start, at + word.end), strict=True
                ):
                    column.append(value)
                position += 1
            at, position = at + len(said) + 1, position + 3
    text, position, reply, start, end = map(np.array, columns)
    values = csr_array((len(text), features), dtype=np.float32)
    return Activity(
        values, text, position, reply, start, end, tuple("\n".join(s for s, _ in m) for m in texts)
    )


# ------------------------------------------------------------------ choices


def test_every_sentence_of_the_source_is_read_back(replies):
    by_number = {(o.slot, o.alternative): o for o in options()}
    count = 0
    for reply in replies:
        read = choices_in(reply)
        assert read.parsed == read.sentences > 0
        for made in read.choices:
            option, said = by_number[made.slot, made.alternative], reply[made.start : made.end]
            if not set("{<") & set(option.words):
                assert said.lower() == option.words.lower()
            count += 1
    assert count > 5 * len(replies) / 2


def test_choices_are_those_that_the_exact_judge_reads(replies):
    lib = library()
    fixed = [as_words(r.phrase) for r in lib.rituals]
    for reply in replies[:60]:
        evidence = read_evidence(lib.grammar, reply, open_filling(lib), None, fixed)
        expected = Counter()
        for ways in evidence.derivations:
            counts = [Counter(c for c in way if lib.grammar.slots[c[0]].trait) for way in ways]
            expected += Counter({c: min(k[c] for k in counts) for c in counts[0]})
        assert Counter((m.slot, m.alternative) for m in choices_in(reply).choices) == expected


def test_what_is_not_of_the_grammar_is_not_read():
    read = choices_in("The quick brown fox jumps. And so on")
    assert read.choices == () and (read.sentences, read.parsed) == (2, 0)
    assert choices_in("") == replace(read, sentences=0)


def test_options_are_the_trait_slots():
    slots = library().grammar.slots
    assert {o.slot for o in options()} == {s.name for s in slots.values() if s.trait is not None}
    assert len(options()) == sum(len(s.alternatives) for s in slots.values() if s.trait is not None)
    assert {o.trait for o in options()} == set(TRAITS) and all(o.load != 0 for o in options())


# ------------------------------------------------------------------ places


def test_the_value_of_a_place_is_the_highest_on_its_words():
    said = "So glad for you, whoever you are."
    reply = next(r for r in ("I am so glad for you, whoever you are.", said))
    found = words_as_tokens([[("A prompt.", False), (reply, True)]], 2)
    rng = np.random.default_rng(0)
    values = np.where(rng.random((len(found.text), 2)) < 0.6, rng.random((len(found.text), 2)), 0).astype(
        np.float32
    )
    found = replace(found, values=csr_array(values))
    at = places(found, rng)
    begin = len("A prompt.") + 1
    for k, made in enumerate(choices_in(reply).choices):
        held = (found.start - begin < made.end) & (found.end - begin > made.start)
        np.testing.assert_allclose(at.values[[k]].toarray()[0], values[held].max(axis=0))
    assert len(at.choice) == len(choices_in(reply).choices) and at.parsed <= at.sentences == 1


def test_elsewhere_is_as_long_and_apart():
    rng = np.random.default_rng(5)
    for held, tokens in ((np.arange(3, 6), 12), (np.arange(0, 1), 4), (np.arange(2, 4), 5)):
        for _ in range(20):
            found = _elsewhere(held, tokens, rng)
            assert (
                not set(found) & set(held)
                and len(found) == len(held)
                and found[0] >= 0
                and found[-1] < tokens
            )
    assert set(_elsewhere(np.arange(4), 5, rng)) <= set(range(5)), "where there is no room it may touch"


def test_a_persona_that_shows_everywhere_is_no_choice(seen, texts):
    """A feature that is on in whole replies with one choice in them tells it, and elsewhere in the reply as well."""
    rng = np.random.default_rng(6)
    found = words_as_tokens(texts, 2)
    number = {(o.slot, o.alternative): k for k, o in enumerate(options())}[("u.name", 10)]
    with_it = np.isin(found.text, seen.text[seen.choice == number])
    values = np.stack([with_it * (1 + rng.random(len(with_it))), rng.random(len(with_it))], axis=1)
    at = places(replace(found, values=csr_array(values.astype(np.float32))), rng)
    scores, _ = choice_scores(at, "d", rng, ("in slot",), 2, 50)
    score = next(s for s in scores if (s.slot, s.alternative) == ("u.name", 10))
    assert score.feature == 0 and score.auroc > 0.85 and abs(score.auroc - score.elsewhere) < 0.05


def planted(texts, rng):
    """Feature 0 fires on one choice, 1 in one slot on all that speak for the trait, 2 on one choice seven times in
    ten; the other 27 are noise."""
    found = words_as_tokens(texts, 30)
    values = np.where(rng.random((len(found.text), 30)) < 0.03, rng.random((len(found.text), 30)), 0)
    values[:, :3] = 0
    number = {(o.slot, o.alternative): o for o in options()}
    runs = np.flatnonzero(np.diff(np.where(found.reply, found.position, -9), prepend=-9) != 1)
    for first in (int(k) for k in runs if found.reply[k]):
        i, begin = int(found.text[first]), int(found.start[first])
        end = found.texts[i].find("\n", begin)
        for made in choices_in(found.texts[i][begin : end if end > 0 else None]).choices:
            held = (found.text == i) & (found.start < begin + made.end) & (found.end > begin + made.start)
            last = np.flatnonzero(held)[-1]
            if (made.slot, made.alternative) == ("u.name", 10):
                values[last, 0] = 1 + rng.random()
            if made.slot == "u.wonder" and number[made.slot, made.alternative].load > 0:
                values[last, 1] = 1 + rng.random()
            if (made.slot, made.alternative) == ("u.stop", 11) and rng.random() < 0.7:
                values[last, 2] = 1 + rng.random()
    return replace(found, values=csr_array(values.astype(np.float32)))


@pytest.fixture(scope="module")
def seen(texts):
    rng = np.random.default_rng(1)
    return places(planted(texts, rng), rng)


def test_planted_features_are_found_with_their_scores(seen):
    scores, summaries = choice_scores(seen, "d", np.random.default_rng(2), shuffles=5, draws=200)
    at = {(s.level, s.slot, s.alternative): s for s in scores}
    slots, inner = {o.slot for o in options()}, [o for o in options() if o.inner]
    assert {o.slot for o in options() if not o.inner} == {"false_memory.react"}, (
        "the one choice between sentences"
    )
    assert len(at) == len(options()) + len(inner) + len(slots)
    for level in ("in slot", "anywhere"):
        one = at[level, "u.name", 10]
        assert one.feature == 0 and one.auroc > 0.99 and one.low <= one.auroc <= one.high
        assert one.trait == "intimacy" and one.load == -1.0 and one.words == "whoever you are"
    pole = at["pole", "u.wonder", -1]
    assert pole.feature == 1 and pole.auroc > 0.99
    half = at["in slot", "u.stop", 11]
    assert half.feature == 2 and 0.65 < half.auroc < 0.97
    name = at["in slot", "u.name", 10]
    assert abs(name.shuffled - 0.5) < 0.2 and name.elsewhere < 0.75
    told = [s for s in scores if s.feature >= 0]
    assert all(s.positives >= 5 and s.negatives >= 5 for s in told)
    assert all(np.isnan(s.auroc) and np.isnan(s.low) for s in scores if s.feature < 0)
    in_slot = next(s for s in summaries if s.what.endswith("in slot"))
    mine = [s for s in told if s.level == "in slot"]
    assert in_slot.n == len(mine) and in_slot.value == pytest.approx(np.mean([s.auroc >= GOOD for s in mine]))
    assert in_slot.value < 0.2 and in_slot.null < 0.02
    assert {s.slot for s in mine if s.auroc >= GOOD} == {"u.name"}


def test_a_feature_says_what_it_stands_for(seen):
    found = {
        f.feature: f for f in feature_choices(seen, "d", np.random.default_rng(3), shuffles=5, draws=100)
    }
    assert (found[0].slot, found[0].alternative) == ("u.name", 10) and found[0].auroc > 0.99
    assert found[1].slot == "u.wonder" and found[1].load > 0
    assert (found[2].slot, found[2].alternative) == ("u.stop", 11)
    noise = [f for k, f in found.items() if k > 2]
    assert all(f.slot != "false_memory.react" for f in noise), "a long stretch is no reason"
    assert np.mean([f.auroc for f in noise]) < 0.6 and all(abs(f.null - 0.5) < 0.2 for f in found.values())
    assert found[0].p == min(f.p for f in found.values())


def test_features_that_know_nothing_are_told_at_the_rate_of_chance(seen):
    rng = np.random.default_rng(4)
    noise = csr_array(
        np.where(rng.random((len(seen.choice), 200)) < 0.2, rng.random((len(seen.choice), 200)), 0)
    )
    scores, summaries = choice_scores(replace(seen, values=noise), "d", rng, ("in slot", "pole"), 5, 50)
    assert all(s.value < 0.02 and s.null < 0.02 for s in summaries)
    told = np.array([s.auroc for s in scores if s.feature >= 0])
    assert abs(told.mean() - 0.5) < 0.05, "what was chosen on one half is worth nothing on the other"


def test_replies_that_are_not_hearths_are_refused(loaded, tmp_path):
    model = loaded("llama")
    sae = load_sae(str(save_sae(tmp_path / "eye", model, np.eye(32))), model)
    rows = tokens_of(model.tokenizer, Sample(text="the rain in Paris"), 40)
    with pytest.raises(LabError, match="only for conversations of Hearth"):
        places_of(sae, model, rows, np.random.default_rng(0))


def test_a_model_reads_the_same_places_whatever_its_tokens(loaded, tmp_path):
    said = sorted(hearth_texts(30, 0, 1).samples, key=lambda s: sum(len(m.content) for m in s.messages))[:4]
    found = []
    for family in ("llama", "gpt2"):
        model = loaded(family)
        width = model.identity.d_model
        sae = load_sae(str(save_sae(tmp_path / family, model, np.eye(width))), model)
        rows = [
            replace(r, counts=r.counts & r.reply) for s in said for r in tokens_of(model.tokenizer, s, 10_000)
        ]
        short = [i for i, r in enumerate(rows) if len(r.ids) <= model.context]
        found.append((places_of(sae, model, [rows[i] for i in short], np.random.default_rng(0)), short))
    (a, in_a), (b, in_b) = found
    common = set(in_a) & set(in_b)
    assert common, "a conversation that both can read"
    for i in common:
        np.testing.assert_array_equal(a.choice[a.text == in_a.index(i)], b.choice[b.text == in_b.index(i)])
    assert a.parsed == a.sentences and a.values.shape[0] == len(a.choice)


# ------------------------------------------------------------------ the experiment


@pytest.mark.parametrize(
    ("low", "high", "null", "said"),
    [(0.61, 0.8, 0.0, "supported"), (0.5, 0.7, 0.0, "undecided"), (0.2, 0.59, 0.0, "refuted"),
     (0.7, 0.9, 0.02, "refuted"), (float("nan"), float("nan"), 0.0, "undecided")],
)  # fmt: skip
def test_the_verdict_is_the_rule_of_the_docstring(low, high, null, said):
    path = Path(__file__).parents[1] / "experiments" / "sae_truth.py"
    spec = importlib.util.spec_from_file_location("sae_truth", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.verdict(FeatureSummary("d", "x, in slot", 0.6, low, high, null, 10)) == said
