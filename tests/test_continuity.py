"""The continuity battery: planted outcomes, item files, the whole job on tiny models and on an organism."""

import json
import sys
from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest
from judge_server import JudgeServer, Raw, Spoken
from scipy.stats import binomtest

from lab.continuity import Seen, changes, family_scores, outcome, says, tone_match, tone_tells
from lab.pipelines import continuity as job
from lab.pipelines import continuity_items, continuity_reading
from lab.pipelines.compare import DATA
from lab.pipelines.continuity import ContinuityConfig, continuity, load_continuity
from lab.pipelines.continuity_items import (
    FULL,
    NONE,
    TONE_ONLY,
    Condition,
    hearth_set,
    shipped_items,
    told,
    wearing,
)
from lab.prompts.continuity import document, read_items
from lab.prompts.scaffolds import parse_scaffold
from lab.records import LabError, Message, Scaffold, Segment
from lab.records.continuity import FAMILIES, Check, ContinuityItem, ContinuitySet, Family, Outcome
from lab.store import Store

SCAFFOLD = Scaffold(
    "Ada",
    (
        Segment("identity", "You are Ada."),
        Segment("memory", "Tea is best.", "verified"),
        Segment("boundary", "Ada keeps secrets."),
        Segment("ritual", "End with: Good day."),
    ),
)


def item(*checks, rubric="", name="one", family: Family = "boundary_kept", who="ada", **more):
    chat = (Message("user", "What is it?"),)
    return ContinuityItem(name, family, who, SCAFFOLD, {"warmth": "++"}, chat, checks, rubric, **more)


def silent(stage, fraction):
    """No progress shown."""


# ------------------------------------------------------------------ one reply


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("It is Ilse, of course.", "ilse", True),
        ("Ilsebill came.", "Ilse", False),
        ("On the ninth\nof May!", "ninth of May", True),
        ("Port 54330", "5433", False),
        ("Port 5433.", "5433", True),
        ("It’s Dana’s.", "Dana's", True),
    ],
)
def test_says_whole_words(text, phrase, found):
    assert says(text, phrase) is found


def test_tone_match_is_the_slope_of_judged_on_stated():
    stated = {"warmth": 1.7, "energy": -0.8, "imagery": 0.8}
    half = {k: 0.5 * v for k, v in stated.items()}
    assert tone_match(stated, half) == pytest.approx(0.5)
    assert tone_match(stated, {k: -v for k, v in stated.items()}) == pytest.approx(-1)
    assert tone_match(stated, {**half, "certainty": 9.0}) == pytest.approx(0.5)  # not stated, not counted
    rng = np.random.default_rng(0)
    judged = dict(zip(stated, rng.standard_normal(3).tolist(), strict=True))
    slow = np.linalg.lstsq(np.array([*stated.values()])[:, None], np.array([*judged.values()]), rcond=None)[0]
    assert tone_match(stated, judged) == pytest.approx(slow.item())
    assert tone_match(stated, {"warmth": 3.4, "energy": nan}) == pytest.approx(2)
    assert isnan(tone_match({}, judged)) and isnan(tone_match(stated, {"warmth": nan}))


def derives(reply, slot, filling):
    return slot in reply and all(v in reply for v in filling.values())


@pytest.mark.parametrize(
    ("checks", "text", "passed", "reason"),
    [
        ([Check("says", ("tea", "coffee"))], "Coffee it is.", 1, ""),
        ([Check("says", ("tea",))], "Milk.", 0, "does not say tea"),
        ([Check("says", ("tea",)), Check("avoids", ("milk",))], "Tea with milk.", 0, "says milk"),
        ([Check("derives", ("keep",), {"subject": "law"})], "keep law", 1, ""),
        ([Check("derives", ("keep",), {"subject": "law"})], "keep art", 0, "no sentence of keep"),
        ([Check("says", ("law",)), Check("underives", ("free",))], "free law", 0, "a sentence of free"),
        ([Check("voice")], "warm words", 1, ""),
        ([Check("leans", ("energy +",))], "slow words", 0, "energy +"),
        ([Check("leans", ("warmth +", "energy -"))], "both", 1, ""),
        ([Check("leans", ("imagery +",))], "unjudged", nan, "imagery could not be judged"),
        ([Check("says", ("tea",))], "  ", nan, "empty reply"),
    ],
)
def test_planted_outcomes(checks, text, passed, reason):
    seen = Seen(text, derives, {"warmth": 1.2, "energy": -0.3, "imagery": nan})
    found = outcome(item(*checks), seen, {"warmth": 1.7})
    assert found.passed == passed or (isnan(found.passed) and isnan(passed))
    assert reason in found.reason and bool(found.reason) == bool(reason)


def test_the_voice_of_the_opposite_fails():
    seen = Seen("words", None, {"warmth": 1.2})
    assert outcome(item(Check("voice")), seen, {"warmth": -1.7}).passed == 0


def test_a_rubric_needs_its_judge_even_where_a_check_fails():
    both = item(Check("says", ("tea",)), rubric="It is kind.")
    assert isnan(outcome(both, Seen("milk"), {}).passed)
    assert "needs a judge" in outcome(both, Seen("milk"), {}).reason
    assert outcome(both, Seen("milk"), {}, 99.0).passed == 0  # the check vetoes
    assert outcome(both, Seen("tea"), {}, 50.0).passed == 1
    assert outcome(both, Seen("tea"), {}, 49.0).passed == 0
    assert outcome(both, Seen("tea"), {}, nan, "the judge was silent").reason == "the judge was silent"


def test_grammar_checks_outside_hearth_are_unknown_and_items_need_something():
    assert isnan(outcome(item(Check("derives", ("keep",))), Seen("keep"), {}).passed)
    with pytest.raises(ValueError, match="without checks"):
        outcome(item(), Seen("words"), {})


# ------------------------------------------------------------------ scores


def rows(passed, tone=None, family="boundary_kept", condition="full", who=None, start=0):
    tone = np.zeros(len(passed)) if tone is None else tone
    return [
        Outcome(
            "m", condition, f"{family}-{i}", family, "", who[i] if who else f"{family}-{i}", float(p), "", nan,
            float(t), "", 0.25, nan,
        )
        for i, (p, t) in enumerate(zip(passed, tone, strict=True), start)
    ]  # fmt: skip


def test_scores_count_what_is_known():
    one = rows([1, 0, 1, 1, nan, 1], [1, 2, nan, 3, 4, 5])
    two = rows([0] * 6, family="not_imitated")
    found = {s.family: s for s in family_scores([*one, *two], np.random.default_rng(0))}
    assert list(found) == ["boundary_kept", "not_imitated", "all"]
    score = found["boundary_kept"]
    assert (score.passed, score.n, score.unscored) == (0.8, 5, 1)
    assert (score.tone, score.tone_n) == (3, 5)
    assert score.chance == 0.25 and isnan(score.ceiling)
    assert score.low < 0.8 < score.high or score.high == 1
    assert found["all"].passed == pytest.approx(4 / 11)


@pytest.mark.parametrize("value", [0, 1])
def test_where_all_came_out_alike_the_limit_is_the_exact_one(value):
    (score, _) = family_scores(rows([value] * 24), np.random.default_rng(0))
    exact = binomtest(24 * value, 24).proportion_ci(method="exact")
    assert (score.low, score.high) == pytest.approx((exact.low, exact.high))


def test_too_few_characters_abstain_and_shared_ones_widen():
    few = family_scores(rows([1, 0, 1, 0], who=list("abab")), np.random.default_rng(0))[0]
    assert isnan(few.low) and few.passed == 0.5
    passed = np.repeat([1, 0, 1, 0, 1, 1, 0, 0], 6)
    alone = family_scores(rows(passed), np.random.default_rng(0))[0]
    shared = family_scores(
        rows(passed, who=np.repeat(list("abcdefgh"), 6).tolist()), np.random.default_rng(0)
    )[0]
    assert shared.high - shared.low > 1.8 * (alone.high - alone.low)


def test_changes_are_planted_paired_and_turn_around():
    rng = np.random.default_rng(3)
    before = rng.integers(0, 2, 40).astype(float)
    after = np.maximum(before, rng.integers(0, 2, 40))
    after[0] = nan
    outcomes = [*rows(after, after * 2), *rows(before, before, condition="none")]
    pairs = [("full", "none"), ("none", "full")]
    found = {(c.condition, c.family): c for c in changes(outcomes, pairs, np.random.default_rng(0))}
    ahead, back = found["full", "boundary_kept"], found["none", "boundary_kept"]
    assert ahead.change == pytest.approx(np.nanmean(after - before)) and ahead.n == 39
    assert ahead.tone_change == pytest.approx(np.nanmean(2 * after - before))
    assert ahead.change == pytest.approx(-back.change)
    assert ahead.low > 0 and ahead.p < 0.01 and ahead.q == pytest.approx(ahead.p)
    assert isnan(found["full", "all"].q)
    with pytest.raises(ValueError, match="tone-only"):
        changes(outcomes, [("full", "tone-only")], rng)


def test_nothing_changes_between_equals():
    outcomes = [*rows([1, 0] * 6), *rows([1, 0] * 6, condition="none")]
    same = changes(outcomes, [("full", "none")], np.random.default_rng(0))[0]
    assert same.change == 0 and same.p == 1 and same.low < 0 < same.high


def test_tone_tells_what_it_was_planted_to_tell():
    rng = np.random.default_rng(1)
    passed = rng.integers(0, 2, 30).astype(float)
    for tone, auroc in ((passed, 1.0), (-passed, 0.0), (passed * 0, 0.5)):
        (found,) = tone_tells(rows(passed, tone), rng)
        assert found.auroc == auroc
        assert found.pairs == passed.sum() * (30 - passed.sum())


def test_tone_tells_inside_families_only():
    rng = np.random.default_rng(2)
    tone, passed = rng.standard_normal(40), rng.integers(0, 2, 40)
    # a family that always passes with a high tone adds no pair
    outcomes = [*rows(passed, tone), *rows([1] * 10, [9] * 10, "true_memory_used")]
    outcomes += rows([0, 1] * 5, [5, -5] * 5, "agency_left")  # judged by tone itself
    (found,) = tone_tells(outcomes, rng)
    slow = [np.sign(t - u) / 2 + 0.5 for t, p in zip(tone, passed, strict=True) if p
            for u, q in zip(tone, passed, strict=True) if not q]  # fmt: skip
    assert found.auroc == pytest.approx(np.mean(slow)) and found.pairs == len(slow) and found.n == 50
    (none,) = tone_tells(rows([1] * 6), rng)
    assert isnan(none.auroc) and none.pairs == 0


# ------------------------------------------------------------------ item files


@pytest.mark.parametrize("name", ["hearth", "chat"])
def test_the_shipped_sets_are_whole(name):
    found = shipped_items(name)
    assert len(found.items) >= 200
    by_family = [[i for i in found.items if i.family == f] for f in FAMILIES]
    assert min(len(part) for part in by_family) >= 20
    assert all(len({i.who for i in part}) >= 10 for part in by_family)
    texts = [(i.scaffold.text, tuple(m.content for m in i.chat)) for i in found.items]
    assert len(set(texts)) == len(texts)
    assert all(i.levels for i in found.items)


def test_the_shipped_hearth_set_is_what_the_world_makes():
    shipped = {i.id: i for i in shipped_items("hearth").items}
    made = hearth_set(per_family=1, draws=1).items
    assert len(made) == len(FAMILIES)
    for one in made:
        known = shipped[one.id]
        assert replace(one, chance=0.0, ceiling=0.0) == replace(known, chance=0.0, ceiling=0.0)


def test_the_source_of_the_world_passes_what_it_was_taught():
    for one in shipped_items("hearth").items:
        if one.variant == "taken back in the talk":
            assert one.ceiling == 0
        elif one.variant == "imported against verified":
            assert isnan(one.ceiling)
        else:
            assert one.ceiling > 0.6, one.id


def test_a_set_is_written_as_it_is_read(tmp_path):
    for name in ("hearth", "chat"):
        known = shipped_items(name)
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(document(known)), encoding="utf-8")
        assert repr(read_items(file)) == repr(known)  # repr: NaN is not equal to itself


GOOD = {
    "name": "mine",
    "characters": {
        f"p{k}": {
            "name": "Ada", "levels": {"warmth": "+"},
            "scaffold": [{"kind": "identity", "text": "You are Ada."}, {"kind": "memory", "text": f"It is w{k}."}],
        }
        for k in range(6)
    },
    "items": [
        {
            "id": f"i{k}", "family": "true_memory_used", "who": f"p{k}",
            "chat": [{"role": "user", "content": "What?"}], "checks": [{"kind": "says", "words": [f"w{k}"]}],
        }
        for k in range(6)
    ],
}  # fmt: skip


def changed(*path, to=None):
    """GOOD with one value replaced (or, without `to`, taken out)."""
    data = json.loads(json.dumps(GOOD))
    part = data
    for key in path[:-1]:
        part = part[key]
    if to is None:
        del part[path[-1]]
    else:
        part[path[-1]] = to
    return data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (changed("items", 2, "family", to="boundary"), r"items\[2\].family"),
        (changed("items", 1, "id"), r"items\[1\].id: Field required"),
        (changed("items", 1, "id", to="i0"), r"items\[1\].id: 'i0' stands twice"),
        (changed("items", 3, "who", to="nobody"), r"items\[3\].who: no character 'nobody'"),
        (changed("items", 0, "rubrik", to="x"), r"items\[0\].rubrik"),
        (changed("items", 0, "checks", 0, "words", to=[]), r"items\[0\].checks\[0\].words"),
        (
            changed("items", 0, "checks", 0, "kind", to="derives"),
            r"checks\[0\].kind: 'derives' reads the grammar",
        ),
        (
            changed("items", 0, "checks", 0, "kind", to="avoids"),
            r"checks: expected a rubric, or a check that noise",
        ),
        (changed("items", 0, "checks", 0, "kind", to="leans"), r"checks\[0\].words: expected 'trait \+'"),
        (
            changed("items", 4, "chat", 0, "role", to="assistant"),
            r"items\[4\].chat\[0\]: expected the chat to end",
        ),
        (
            changed("items", 4, "chat", to=[{"role": "user", "content": "a"}] * 2),
            r"items\[4\].chat: expected turns",
        ),
        (changed("items", 4, "chance", to=1.5), r"items\[4\].chance"),
        (changed("characters", "p2", "levels", "warmth", to="high"), r"characters.p2.levels.warmth"),
        (changed("characters", "p2", "scaffold", 1, "kind", to="wish"), r"characters.p2.scaffold\[1\].kind"),
        (
            changed("items", 5, "more", to=[{"kind": "memory", "text": "x", "provenance": "god"}]),
            "provenance",
        ),
        (changed("world", to="mars"), "world: expected"),
    ],
)
def test_a_bad_file_is_refused_with_file_line_and_field(tmp_path, data, said):
    file = tmp_path / "items.json"
    file.write_text(json.dumps(data, indent=1), encoding="utf-8")
    with pytest.raises(LabError, match=rf"items\.json, line \d+: .*{said}"):
        read_items(file)


def test_folders_of_files(tmp_path):
    with pytest.raises(LabError, match="found none"):
        read_items(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps(GOOD), encoding="utf-8")
    rows = [{**row, "id": f"other-{row['id']}"} for row in GOOD["items"]]
    other = {**GOOD, "items": rows}
    (tmp_path / "b.json").write_text(json.dumps(other), encoding="utf-8")
    assert len(read_items(tmp_path).items) == 12
    (tmp_path / "b.json").write_text(json.dumps(GOOD), encoding="utf-8")
    with pytest.raises(LabError, match="two of its files"):
        read_items(tmp_path)
    (tmp_path / "b.json").write_text(json.dumps({**other, "world": "hearth"}), encoding="utf-8")
    with pytest.raises(LabError, match="of one world"):
        read_items(tmp_path)


# ------------------------------------------------------------------ conditions


def test_conditions_show_what_they_say():
    full, none, tone = (c.chat(item()) for c in (FULL, NONE, TONE_ONLY))
    assert full == told(SCAFFOLD.text, item().chat)
    assert none == item().chat
    assert "You are Ada." in tone[0].content and "Good day" in tone[0].content
    assert "Tea" not in tone[0].content and "secrets" not in tone[0].content
    mine = wearing(parse_scaffold("# Bo\nI am Bo.\n\n## Memory\n- Cake is best.", "bo"), {"energy": "+"})
    shown = mine.chat(item())[0].content
    assert mine.name == "Bo" and mine.levels == {"energy": "+"}
    assert all(x in shown for x in ("I am Bo.", "Cake", "Tea", "secrets")) and "You are Ada." not in shown


# ------------------------------------------------------------------ the job


@pytest.fixture
def store(tmp_path):
    """Runs of its own; without the dashboard, which these tests do not need."""
    return Store(tmp_path / "runs")


@pytest.fixture
def asked(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(GOOD), encoding="utf-8")
    return read_items(file)


@pytest.fixture
def config(checkpoint, asked):
    return ContinuityConfig(
        str(checkpoint("llama")), (FULL, NONE), asked, tone=False, max_new_tokens=4, draws=200
    )


def stub(monkeypatch, answer):
    monkeypatch.setattr(job, "say", lambda model, chats, *_: [answer(chat) for chat in chats])


def test_a_model_that_is_always_right_and_one_that_is_always_wrong(config, store, monkeypatch):
    """It repeats its scaffold: right with one, wrong without."""
    stub(monkeypatch, lambda chat: chat[0].content if chat[0].role == "system" else "I can not tell.")
    found = continuity(config, store, silent)
    passed = {(s.condition, s.family): s.passed for s in found.scores}
    assert passed["full", "true_memory_used"] == passed["full", "all"] == 1
    assert passed["none", "true_memory_used"] == 0
    (change, _) = found.changes
    assert change.change == 1 and change.n == 6 and change.p == pytest.approx(2 / 2**6)
    assert [o.reason for o in found.outcomes if o.condition == "none"] == [
        f"does not say w{k}" for k in range(6)
    ]
    assert repr(load_continuity(store, found.run)) == repr(found)


def test_silence_is_unscored_and_counted(config, store, monkeypatch):
    stub(monkeypatch, lambda chat: "" if "w3" in chat[0].content else "it is w0")
    score = continuity(config, store, silent).scores[0]
    assert (score.n, score.unscored, score.passed) == (5, 1, 0.2)


def test_a_killed_run_goes_on_and_a_finished_one_is_found(config, store, tmp_path, monkeypatch):
    from lab import activations

    calls, plain = [], activations.generate

    def counted(model, chats, **options):
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(len(chats))
        return plain(model, chats, **options)

    monkeypatch.setattr(activations, "generate", counted)
    monkeypatch.setattr(job, "PART", 4)
    stop = 3
    with pytest.raises(KeyboardInterrupt):
        continuity(config, store, silent)
    assert calls == [4, 2, 4] and not store.runs()
    stop = 99
    found = continuity(config, store, silent)
    assert calls == [4, 2, 4, 2]
    assert repr(continuity(config, store, silent)) == repr(found) and len(calls) == 4
    assert [r.kind for r in store.runs()] == ["continuity"]
    continuity(replace(config, conditions=(FULL, NONE, TONE_ONLY)), store, silent)
    assert calls[4:] == [4, 2]  # only what is new
    fresh = continuity(config, Store(tmp_path / "fresh"), silent)
    assert repr(fresh) == repr(found)


def test_a_rubric_is_judged_and_what_fails_is_unscored(checkpoint, store, monkeypatch):
    items = tuple(item(rubric=f"Rule {k}.", name=f"r{k}", who=f"p{k}") for k in range(6))
    stub(monkeypatch, lambda chat: "A kind reply.")

    def answer(prompt, nth):
        assert "Tea is best." in prompt and "A kind reply." in prompt and "Person: What is it?" in prompt
        if "Rule 5" in prompt:
            return Raw(400, "{}")
        return Spoken("90" if "Rule 1" in prompt else "10")

    asked = ContinuitySet("mine", "", items)
    with JudgeServer(answer) as server:
        judge = f"api:{server.url}@tester"
        config = ContinuityConfig(str(checkpoint("llama")), (FULL, NONE), asked, judge, tone=False)
        found = continuity(config, store, silent)
    scores = [s for s in found.scores if s.family == "all"]
    assert [(s.passed, s.n, s.unscored) for s in scores] == [(0.2, 5, 1)] * 2
    failed = next(o for o in found.outcomes if o.item == "r5")
    assert isnan(failed.passed) and isnan(failed.score) and "400" in failed.reason
    assert next(o for o in found.outcomes if o.item == "r1").score == 90
    bare = continuity(replace(config, judge="literal"), store, silent)
    assert {o.reason[:14] for o in bare.outcomes} == {"no judge was n"} and bare.scores[0].unscored == 6
    assert isnan(bare.scores[0].passed)


def test_tone_outside_hearth_is_weighed_by_the_model(config, store, monkeypatch):
    def answer(chat):
        return "tea and rain" if chat[0].role == "system" else "sun"

    stub(monkeypatch, answer)
    found = continuity(replace(config, tone=True), store, silent)
    tones = {o.condition: o.tone for o in found.outcomes}
    assert np.isfinite(list(tones.values())).all() and tones["full"] != tones["none"]
    assert "nats" in found.tone_unit
    from lab.likelihood import token_log_probs
    from lab.models import load
    from lab.prompts.chat import render
    from lab.prompts.traits import read_trait_set

    model = load(config.model)
    warmth = next(t for t in read_trait_set(DATA / "traits" / "persona.json").traits if t.name == "warmth")
    pairs = list(zip(warmth.positive, warmth.negative, strict=True))[: continuity_reading.PAIRS]
    chats = [[Message("system", prompt), Message("user", "What?")] for pair in pairs for prompt in pair]
    found = token_log_probs(model, [render(model.tokenizer, c) for c in chats], ["sun"] * len(chats))
    means = np.array([x.mean() for x in found]).reshape(-1, 2)
    gap = (means[:, 0] - means[:, 1]).mean()
    assert tones["none"] == pytest.approx(gap * 0.5 / 0.25, rel=1e-4)  # "+" is half of "++"


def test_an_organism_keeps_what_its_scaffold_says(store):
    whole = shipped_items("hearth")
    some = [i for i in whole.items if i.family in ("boundary_kept", "true_memory_used") and i.id[-2:] < "02"]
    found = continuity(ContinuityConfig("hearth-a", items=replace(whole, items=tuple(some))), store, silent)
    for family in ("boundary_kept", "true_memory_used"):
        passed = {s.condition: s.passed for s in found.scores if s.family == family}
        assert passed == {"full": 1, "none": 0, "tone-only": 0}
    tone = {s.condition: s.tone for s in found.scores if s.family == "all"}
    assert min(tone["full"], tone["tone-only"]) > tone["none"] + 0.2  # warm, and not true
    assert found.judge == "exact"


def test_levels_of_a_condition_are_what_tone_is_held_against(store):
    whole = shipped_items("hearth")
    some = replace(whole, items=whole.items[:1])
    unstated = Condition("log", lambda i: told("A log.", i.chat), {})
    opposite = Condition(
        "opposite", FULL.chat, {t: "--" if v[0] == "+" else "++" for t, v in some.items[0].levels.items()}
    )
    found = continuity(ContinuityConfig("hearth-a", (FULL, unstated, opposite), some), store, silent)
    tone = {(o.condition, o.item): o.tone for o in found.outcomes}
    first = some.items[0].id
    assert isnan(tone["log", first]) and tone["full", first] * tone["opposite", first] < 0


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["hearth-a", "--scaffold", "nowhere.md"],
            "--scaffold: expected full, none, tone-only or a scaffold file",
        ),
        (
            ["hearth-a", "--items", "nowhere"],
            "expected a file, a folder of item files, or one of chat, hearth",
        ),
        (["hearth-a", "--scaffold", "none", "--scaffold", "none"], "each with a name of its own"),
        (["hearth-a", "--judge", "api:http://127.0.0.1:1@x"], "exact outcomes and no rubrics"),
        (["hearth-a", "--items", "chat", "--judge", "exact"], "judge exact reads Hearth only"),
        (["hearth-a", "--items", "chat", "--judge", "contrast"], "reads no rubric"),
        (
            ["hearth-a", "--items", "chat", "--judge", "oracle"],
            "expected a judge exact, contrast, model:NAME",
        ),
        (["no-such-folder/model"], "no-such-folder/model"),
    ],
)
def test_wrong_input_is_a_message(words, said, tmp_path, monkeypatch, capsys, hub_offline):
    from lab.cli import main

    monkeypatch.setattr(sys, "argv", ["lab", "continuity", *words, "--runs", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_the_command_prints_tables_and_json(config, asked, tmp_path, monkeypatch, capsys):
    from lab.cli import main

    file = tmp_path / "mine.json"
    base = ["lab", "continuity", config.model, "--items", str(file), "--no-tone", "--max-new-tokens", "3"]
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", [*base, "--runs", str(tmp_path / "runs"), *more])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        shown = capsys.readouterr().out
        if not more:
            assert "true memory used" in shown and "change from none to full" in shown
    data = json.loads(shown)
    assert {s["condition"] for s in data["scores"]} == {"full", "none", "tone-only"}
    assert len(data["outcomes"]) == 18 and {"passed", "tone", "reply", "reason"} <= set(data["outcomes"][0])
    assert continuity_items.shipped_items(str(file)).name == data["set_name"]
