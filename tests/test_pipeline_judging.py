"""Judges over real models: local log-probs against plain forwards, and the whole job on an organism."""

import dataclasses
import json
import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_config, make_tokenizer
from judge_server import JudgeServer, Spoken
from scipy import stats as scipy_stats

from lab.judging.judges import Item, expected_score, rubric_prompt
from lab.judging.likelihood_ratio import LEAST_REFERENCE, ContrastJudge
from lab.models import load
from lab.pipelines import judge_answers, judging, model_as_judge
from lab.pipelines.compare import CompareConfig, Runner, resolve_trait_set
from lab.pipelines.judging import JudgeConfig, judge_extraction, parse_judge, pole_replies
from lab.pipelines.model_as_judge import chat_log_probs, next_logprobs, one_token
from lab.prompts.chat import render
from lab.records import LabError, Message, Trait
from lab.store import Store
from lab.world.exact import readings

RUBRIC = "How warm is it?\nQ: {question}\nA: {answer}\nA number from 0 to 100."


def silent(stage: str, fraction: float) -> None:
    """No progress shown."""


@pytest.fixture(scope="module", autouse=True)
def few_references():
    """The fewest unsteered replies that a limit can be told from: the tests are about the wiring."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "REFERENCE", LEAST_REFERENCE)
        yield


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    """A tiny chat model whose tokenizer has every number as a token, and that likes to say numbers."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("counting")
    tokenizer = make_tokenizer("chatml")
    tokenizer.add_tokens([str(n) for n in range(101)])
    torch.manual_seed(3)
    config = make_config("llama", len(tokenizer), tie_word_embeddings=False, max_position_embeddings=1024)
    network = AutoModelForCausalLM.from_config(config)
    numbers = tokenizer.convert_tokens_to_ids([str(n) for n in range(101)])
    others = [i for i in range(len(tokenizer)) if i not in set(numbers)]
    with torch.no_grad():
        network.lm_head.weight[others] *= 0.1
        network.lm_head.weight[numbers] *= 6
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chats_of(texts):
    return [[Message("user", text)] for text in texts]


# ------------------------------------------------------------------ a loaded model


def test_next_logprobs_are_those_of_a_plain_forward_one_chat_at_a_time(counting):
    model = load(str(counting))
    chats = chats_of(["hi", "a much longer question about the weather, and the sea?", "85 or 12"])
    found = next_logprobs(model, top=30)(chats)
    for chat, answer in zip(chats, found, strict=True):
        ids = torch.from_numpy(render(model.tokenizer, chat).ids)[None]
        with torch.inference_mode():
            logits = model.network(input_ids=ids).logits[0, -1].double().log_softmax(-1)
        best = logits.argsort(descending=True)[:30].tolist()
        expected: dict[str, float] = {}
        for i in best:
            text = model.tokenizer.decode([i])
            expected[text] = math.log(math.exp(expected.get(text, -math.inf)) + math.exp(logits[i]))
        assert set(answer) == set(expected)
        for text, value in expected.items():
            assert answer[text] == pytest.approx(value, abs=1e-4)


def test_probabilities_of_tokens_that_read_the_same_are_added(loaded):
    model = loaded("llama")

    class Twins:
        def decode(self, ids):
            return "ab"[ids[0] % 2]

    twins = dataclasses.replace(model, tokenizer=Twins())
    found = model_as_judge._by_text(twins, [0, 1, 2, 3], [math.log(p) for p in (0.4, 0.3, 0.2, 0.1)])
    assert {k: math.exp(v) for k, v in found.items()} == pytest.approx({"a": 0.6, "b": 0.4})


def test_a_local_judge_gives_the_expected_value_of_a_plain_forward_and_keeps_its_answers(counting, tmp_path):
    model, store = load(str(counting)), Store(tmp_path)
    items = [Item(f"question {i}", "worth it " * i, RUBRIC) for i in range(5)]
    found = judge_answers.local_judge(str(counting), store=store).score(items)
    assert found.unit == "0-100" and found.counts == {"scored": 5}
    for item, row in zip(items, found.rows, strict=True):
        ids = torch.from_numpy(render(model.tokenizer, chats_of([rubric_prompt(item)])[0]).ids)[None]
        with torch.inference_mode():
            logits = model.network(input_ids=ids).logits[0, -1].double().log_softmax(-1)
        plain = expected_score([(model.tokenizer.decode([i]), float(v)) for i, v in enumerate(logits)])
        assert row.value == pytest.approx(plain.value, abs=1e-2)
    assert len({round(v, 3) for v in found.values}) == 5
    again = judge_answers._kept(
        lambda chats: pytest.fail("asked again"), model.identity.fingerprint, store, print
    )
    assert len(again(chats_of([rubric_prompt(i) for i in items]))) == 5


@pytest.mark.parametrize("style", ["chatml", "base"])
def test_a_tokenizer_that_writes_numbers_in_pieces_cannot_judge(loaded, style):
    check = one_token(loaded("llama", style))
    assert check("7") == (style == "chatml")  # the base model's " 7" is two tokens here
    assert not check("85")
    if style == "chatml":
        with pytest.raises(LabError, match="91 numbers are written in pieces \\(10 is the first\\)"):
            judge_answers.local_judge(loaded("llama").identity.path)


def test_a_tokenizer_with_all_numbers_can(counting):
    check = one_token(load(str(counting)))
    assert all(check(str(n)) for n in range(101)) and not check("101")


def test_the_contrast_of_a_real_model_equals_the_slow_formula(loaded):
    model = loaded("llama")
    trait = Trait("warmth", ("You are kind.", "Be warm, please."), ("You are cold.", "Be icy."))
    items = [Item("How are you?", "I am well, my friend.", ""), Item("And the sea?", "Wet.", "")]
    found = ContrastJudge("self", trait, chat_log_probs(model)).score(items).values

    def mean_log_prob(system, item):
        chat = render(model.tokenizer, [Message("system", system), Message("user", item.question)]).ids
        reply = model.tokenizer(item.answer, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            ids = torch.tensor([[*chat.tolist(), *reply]])
            logits = model.network(input_ids=ids).logits[0].log_softmax(-1)
        return np.mean([float(logits[len(chat) + k - 1, t]) for k, t in enumerate(reply)])

    for item, value in zip(items, found, strict=True):
        pairs = zip(trait.positive, trait.negative, strict=True)
        slow = np.mean([mean_log_prob(up, item) - mean_log_prob(down, item) for up, down in pairs])
        assert value == pytest.approx(slow, abs=1e-4)


def test_a_chat_beyond_the_context_is_refused(loaded):
    model = loaded("llama")
    long = [Message("user", "a word and " * 300)]
    with pytest.raises(LabError, match="context"):
        chat_log_probs(model)([long], ["yes"])
    with pytest.raises(LabError, match="context"):
        next_logprobs(model)([[Message("user", "yes")], long])


# ------------------------------------------------------------------ the whole job


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    """Warmth of the shipped Hearth set with 2 / 2 / 6 questions, as a file."""
    from lab.pipelines.compare import DATA

    whole = json.loads((DATA / "traits" / "hearth.json").read_text(encoding="utf-8"))
    counts = {"extract": 2, "select": 2, "test": 6}
    whole["questions"] = {s: whole["questions"][s][:n] for s, n in counts.items()}
    whole["traits"] = {"warmth": whole["traits"]["warmth"]}
    path = tmp_path_factory.mktemp("traits") / "small.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


def answer_by_posterior(prompt: str, nth: int) -> Spoken:
    """A server that reads warmth exactly, as percentile; the second time it wavers."""
    text = prompt.split("Reply:\n")[1].split("\n\nAnswer")[0]
    if "how coherent" in prompt:
        return Spoken("100")
    z = readings([text]).of("warmth")[0]
    if math.isnan(z):
        return Spoken("REFUSAL")
    wobble = nth * (len(text) % 7 - 3)
    return Spoken(str(int(np.clip(round(100 * scipy_stats.norm.cdf(z)) + wobble, 0, 100))))


@pytest.fixture(scope="module")
def judged(small_set, tmp_path_factory):
    """A finished job with three judges: (config, runs, result)."""
    runs = tmp_path_factory.mktemp("runs")
    with JudgeServer(answer_by_posterior, key="sesame-1234", digits=True) as server, \
            pytest.MonkeyPatch.context() as patch:  # fmt: skip
        patch.setenv("LAB_TEST_KEY", "sesame-1234")
        config = JudgeConfig(
            "hearth-a", ("exact", "contrast", f"api:{server.url}@warm/one"), str(small_set), "LAB_TEST_KEY",
            retest=True, coherence=True, screened=True, max_new_tokens=30, draws=200,
        )  # fmt: skip
        return config, runs, judge_extraction(config, Store(runs), silent)


def by_judge(result):
    return {v.separation.judge: v for v in result.verdicts}


def test_the_judges_tell_the_poles_apart_and_a_planted_server_agrees(judged):
    _, _, result = judged
    exact, contrast, api = result.verdicts
    assert (exact.separation.judge, contrast.separation.judge) == ("exact", "contrast")
    for verdict in result.verdicts:
        assert verdict.separation.auroc > 0.8, verdict.separation
        assert verdict.separation.low <= verdict.separation.auroc <= verdict.separation.high
        assert verdict.separation.questions == 10
    assert exact.agreement is None
    # The server says the exact judge's percentile, rounded.
    assert api.agreement.spearman > 0.99 and api.within.spearman > 0.98
    assert api.agreement.n == exact.separation.n
    assert api.separation.counts.get("refused", 0) == exact.separation.counts.get("refused", 0)
    assert 0.5 < api.retest.spearman < 1 and contrast.retest is None
    assert contrast.agreement.spearman > 0.5
    assert contrast.calibration.target == "exact"
    assert api.calibration.error < 0.5 * api.calibration.null_error


def test_the_filter_is_on_record_and_the_percentile_of_the_exact_judge_filters_as_the_server_does(judged):
    _, runs, result = judged
    exact, contrast, api = result.verdicts
    assert contrast.screened is None  # nats have no 50
    np.testing.assert_array_equal(exact.screened.kept, api.screened.kept)
    positive = result.replies[0].positive
    z = result.said[0][0].trait.values
    coherent = result.said[0][0].coherence.values >= 50
    np.testing.assert_array_equal(exact.screened.kept, (np.where(positive, z >= 0, z < 0)) & coherent)
    removed = pd.read_parquet(runs / result.run / "removed.parquet")
    assert len(removed) == 2 * len(exact.screened.removed)
    scores = pd.read_parquet(runs / result.run / "scores.parquet")
    assert len(scores) == 3 * 20
    assert len(pd.read_parquet(runs / result.run / "verdicts.parquet")) == 3
    assert [i.kind for i in Store(runs).runs()] == ["judge"]


def test_the_replies_are_those_of_the_extraction_in_order(judged, small_set):
    config, runs, result = judged
    model = load("data/organisms/hearth-a")
    traits = resolve_trait_set(str(small_set), [model])
    settings = CompareConfig(("hearth-a",), (), max_new_tokens=config.max_new_tokens)
    keys = []
    runner = Runner(model, settings, Store(runs), 0, keys.append)
    (again,) = pole_replies(traits, runner)
    assert [i.answer for i in again.items] == [i.answer for i in result.replies[0].items]
    assert keys == [20]  # all from the cache
    assert again.pairs.tolist() == [k % 5 for k in range(10)] * 2
    trait = traits.traits[0]
    for i, item in enumerate(again.items):
        pole = trait.positive if again.positive[i] else trait.negative
        assert item.question == traits.questions[i % 10].text and pole[again.pairs[i]]


def test_the_contrast_leaves_out_the_pair_that_made_the_reply(judged, small_set):
    _, _, result = judged
    model = load("data/organisms/hearth-a")
    trait = resolve_trait_set(str(small_set), [model]).traits[0]
    replies = result.replies[0]
    for i in (0, 3, 17):
        kept = [k for k in range(5) if k != replies.pairs[i]]
        other = Trait("warmth", *[tuple(side[k] for k in kept) for side in (trait.positive, trait.negative)])
        slow = ContrastJudge("self", other, chat_log_probs(model)).score([replies.items[i]]).values[0]
        assert result.said[0][1].trait.values[i] == pytest.approx(slow, abs=1e-4)


def test_a_second_run_asks_nobody_anything(judged, monkeypatch):
    config, runs, result = judged
    for name in ("readings", "likelihoods"):
        monkeypatch.setattr(judge_answers, name, lambda *_: pytest.fail("computed again"))
    monkeypatch.delenv("LAB_TEST_KEY", raising=False)  # nor is the server up any more
    again = judge_extraction(config, Store(runs), silent)
    assert again.run == result.run
    for a, b in zip(again.said[0], result.said[0], strict=True):
        np.testing.assert_array_equal(a.trait.values, b.trait.values)
    assert [str(judging.document(v)) for v in again.verdicts] == [
        str(judging.document(v)) for v in result.verdicts
    ]


def test_a_killed_run_goes_on_where_it_was(judged, small_set, tmp_path, monkeypatch):
    """Judged 8 replies at a time and killed after the second eight: four are left."""
    _, _, result = judged
    monkeypatch.setattr(judge_answers, "CHUNK", 8)
    config = JudgeConfig("hearth-a", ("contrast",), str(small_set), max_new_tokens=30, draws=50)
    asked: list[int] = []
    plain = judge_answers.likelihoods

    def killed(log_probs, trait, items):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(items))
        return plain(log_probs, trait, items)

    monkeypatch.setattr(judge_answers, "likelihoods", killed)
    with pytest.raises(KeyboardInterrupt):
        judge_extraction(config, Store(tmp_path), silent)
    assert asked == [8, 8] and Store(tmp_path).runs() == []
    left: list[int] = []
    monkeypatch.setattr(judge_answers, "likelihoods", lambda f, t, i: left.append(len(i)) or plain(f, t, i))
    found = judge_extraction(config, Store(tmp_path), silent)
    assert left == [4]
    whole = result.said[0][1].trait.values
    np.testing.assert_allclose(found.said[0][0].trait.values, whole, atol=1e-4)


def test_the_key_is_nowhere_on_disk(judged):
    _, runs, _ = judged
    files = [p for p in runs.rglob("*") if p.is_file()]
    assert len(files) > 40
    assert not any(b"sesame" in p.read_bytes() for p in files)


# ------------------------------------------------------------------ what cannot be judged


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"judges": ("oracle",)},
            "expected a judge exact, contrast, model:NAME or api:URL@MODEL, got 'oracle'",
        ),
        ({"judges": ("model:",)}, "expected a judge"),
        ({"judges": ("api:http://u:secret",)}, "got an api judge without URL@MODEL"),
        ({"judges": ()}, "at least one judge"),
        ({"judges": ("contrast", "contrast")}, "each once"),
        ({"judges": ("contrast",), "screened": True}, "cuts at 50"),
        ({"judges": ("contrast", "exact"), "model": "TINY"}, "does not speak it"),
        ({"judges": ("exact",), "trait_set": "persona:warmth,agency"}, "got traits agency"),
        ({"judges": ("contrast",), "trait_set": "auto:charm"}, "has no charm"),
    ],
)
def test_what_cannot_be_judged_is_refused(changes, message, tmp_path, loaded):
    if changes.get("model") == "TINY":
        changes = {**changes, "model": loaded("llama").identity.path, "trait_set": "hearth"}
    with pytest.raises(LabError, match=message) as error:
        judge_extraction(JudgeConfig(**{"model": "hearth-a", **changes}), Store(tmp_path), silent)
    assert "secret" not in str(error.value)


def test_a_judge_that_reads_rubrics_needs_them(small_set, tmp_path, counting):
    data = json.loads(small_set.read_text(encoding="utf-8"))
    del data["traits"]["warmth"]["eval_prompt"]
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(LabError, match=r"rubric.*warmth has none"):
        judge_extraction(
            JudgeConfig("hearth-a", (f"model:{counting}",), str(bare)), Store(tmp_path / "runs"), silent
        )


def test_names_of_servers_and_models_may_hold_signs():
    assert parse_judge("api:http://127.0.0.1:1/v1@@cf/meta/llama") == (
        "api", "@cf/meta/llama", "http://127.0.0.1:1/v1",
    )  # fmt: skip
    assert parse_judge("model:org/name") == ("model", "org/name", "")


# ------------------------------------------------------------------ the command


def lab(monkeypatch, capsys, *arguments):
    """(exit status, stdout, stderr) of a command line."""
    from lab.cli import judging as registered  # noqa: F401
    from lab.cli import main

    monkeypatch.setattr(sys, "argv", ["lab", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_the_command_prints_what_the_job_found(judged, small_set, counting, monkeypatch, capsys):
    _, runs, result = judged
    line = [
        "judge",
        "hearth-a",
        "--judge",
        "exact",
        "--judge",
        f"model:{counting}",
        "--traits",
        str(small_set),
    ]
    line += ["--max-new-tokens", "30", "--runs", str(runs), "--screen"]
    status, out, err = lab(monkeypatch, capsys, *line, "--json")
    assert status == 0, err
    rows = {r["judge"]: r for r in json.loads(out)["rows"]}
    exact = by_judge(result)["exact"]
    assert rows["exact"]["auroc"] == pytest.approx(exact.separation.auroc)
    assert rows["exact"]["spearman"] is None
    assert [r["item"] for r in rows["exact"]["removed"]] == [r.item for r in exact.screened.removed]
    other = rows[counting.name]
    assert other["first"] == "exact" and other["unit"] == "0-100" and other["n"] + other["unscored"] == 20
    status, out, err = lab(monkeypatch, capsys, *line)
    assert status == 0, err
    assert "warmth: replies to 10 questions at both poles" in out
    assert f"{exact.separation.auroc:.2f} [" in out and "unscored" in out
    assert f"exact: the literature's filter keeps {int(exact.screened.kept.sum())} of 20" in out
    runs_made = {i.id for i in Store(runs).runs() if i.kind == "judge"}
    assert len(runs_made) == 2 and any(name in out for name in runs_made)


def test_the_command_ends_with_a_message_and_status_2(monkeypatch, capsys):
    status, _, err = lab(monkeypatch, capsys, "judge", "hearth-a", "--judge", "oracle")
    assert status == 2 and "lab: expected a judge exact" in err
