"""The page Continuity, without a browser: scores, changes, tells, items of one run or two, and the form."""

import pytest
from fake_continuity import CONDITIONS, EACH, asked, fake_continuity
from pages import assert_no_torch, chart, charts, click, page, query, role

from lab.pipelines import continuity as job
from lab.pipelines.continuity import save_continuity
from lab.records import LabError
from lab.records.continuity import FAMILIES

A = fake_continuity()
B = fake_continuity("continuity-b", "hearth-b", rng=1)


@pytest.fixture
def runs(store):
    """Two saved runs of the same items."""
    for found in (A, B):
        save_continuity(store, found)
    return store


TABLES = ("scores", "changes", "tells", "elsewhere")


def table(at, key):
    assert len(at.dataframe) == len(TABLES)
    return at.dataframe[TABLES.index(key)].value


def texts(at):
    return [t.value for t in at.text]


def heads(at):
    return [h.proto.body for h in at.get("html")]


def choose(at, **choices):
    for key, value in choices.items():
        at.selectbox(key=key).set_value(value)
    at.run()
    assert not at.exception, at.exception
    return at


def test_two_runs_stand_side_by_side(runs):
    at = page("continuity", battery_run=B.run)
    assert query(at)["battery_beside"] == A.run, "another model's run of the same items, to begin with"
    (found,) = charts(at)
    assert len(role(found, "passed")) == 2 * len(CONDITIONS)
    assert [t["meta"]["run"] for t in role(found, "passed")] == [A.run] * 3 + [B.run] * 3, "hearth-a is blue"
    assert len(table(at, "scores")) == 2 * len(A.scores)
    changes = table(at, "changes")
    assert list(changes["family"][:2]) == ["all items"] * 2 and len(changes) == 2 * (len(FAMILIES) + 1)
    planted = {c.family.replace("_", " "): c for c in A.changes if c.against == "none"}
    mine = changes[(changes["model"] == "hearth-a") & (changes["family"] != "all items")]
    assert [planted[f].change for f in mine["family"]] == list(mine["change of share passed"])
    assert [planted[f].q for f in mine["family"]] == list(mine["q"])
    choose(at, battery_change="full Caring nurse")
    assert not table(at, "changes").equals(changes)
    assert list(table(at, "tells")["model"]) == ["hearth-a"] * 3 + ["hearth-b"] * 3
    assert any("measures of replies" in c.value for c in at.caption)
    choose(at, battery_beside="none")
    assert len(role(charts(at)[0], "passed")) == len(CONDITIONS)


def test_an_item_is_shown_with_chat_replies_and_checks(runs):
    item = next(i for i in asked() if i.family == "true_memory_used")
    at = page("continuity", battery_run=A.run, battery_family=item.family, battery_item=item.id)
    said = texts(at)
    assert item.chat[-1].content in said and item.scaffold.text in said
    assert f"hearth-a under full: {item.id} <i>" in said and f"hearth-b under full: {item.id} <i>" in said
    assert any(t.startswith("• it says") for t in said)
    assert any("hearth-a: passed" in h for h in heads(at)) and any("System prompt" in h for h in heads(at))
    assert len(table(at, "elsewhere")) == 2 * len(CONDITIONS)
    choose(at, battery_condition="none")
    assert item.scaffold.text not in texts(at) and item.chat[-1].content in texts(at)
    assert any("hearth-a: failed" in h for h in heads(at))
    assert any("does not say" in c.value for c in at.caption), "why it failed"
    choose(at, battery_condition="Caring nurse")
    shown = next(t for t in texts(at) if "night ward" in t)
    assert item.scaffold.segments[0].text not in shown, "the nurse stands in for the item's identity"


def test_items_are_sought_by_family_variant_and_outcome(runs):
    at = page("continuity", battery_run=A.run, battery_family="untrusted_import")
    items = at.selectbox(key="battery_item").options
    assert len(items) == EACH and items[0].endswith("failed, tone +0.65"), "the best tone first, true or not"
    choose(at, battery_outcome="failed")
    assert len(at.selectbox(key="battery_item").options) == 1
    choose(at, battery_condition="Caring nurse")
    assert len(at.selectbox(key="battery_item").options) == EACH - EACH // 2
    variant = at.selectbox(key="battery_variant").options[1]
    choose(at, battery_variant=variant, battery_outcome="any")
    known = {i.id for i in asked() if i.variant == variant and i.family == "untrusted_import"}
    assert {o.split(",")[0] for o in at.selectbox(key="battery_item").options} == known
    choose(at, battery_outcome="models differ")
    assert any("No item is so" in i.value for i in at.info)


def test_a_click_on_a_mark_leads_to_its_replies(runs, monkeypatch):
    at = page("continuity", battery_run=A.run)
    mark = role(chart(at, "battery"), "passed")[1]["customdata"][3]
    into = {"battery_family": 0, "battery_condition": 1}
    assert click(monkeypatch, mark, into) == {
        "battery_family": "true_memory_used", "battery_condition": "none",
    }  # fmt: skip


def test_a_click_on_a_row_makes_its_choices(monkeypatch):
    from dashboards import panels

    rows = [{"battery_item": "one"}, {"battery_item": "two", "battery_condition": "none"}]
    for chosen, wanted in (([1], rows[1]), ([], {}), ([7], {})):
        state = {"list": {"selection": {"rows": chosen}}}
        with monkeypatch.context() as patched:
            patched.setattr(panels.st, "session_state", state)
            panels.take_row("list", rows)
        assert {k: v for k, v in state.items() if k != "list"} == wanted


def test_items_of_a_file_that_is_not_here_are_asked_for(store):
    own = fake_continuity(items="hearth")
    save_continuity(store, type(own)(**{**vars(own), "set_name": "mine"}))
    at = page("continuity")
    assert any("keeps replies, not chats" in i.value for i in at.info)
    assert any(t.startswith("hearth-a under full") for t in texts(at)), "the reply is there all the same"
    at.text_input(key="battery_items").set_value("/no/such.json").run()
    assert any("/no/such" in e.value.replace("\\", "") for e in at.error)
    at.text_input(key="battery_items").set_value("hearth").run()
    assert any(t.startswith("• it") for t in texts(at))


@pytest.fixture
def asked_for(store, monkeypatch):
    """Stands in for the job that loads models; no model of a name that begins with "no"."""
    found = []

    def fake(config, where, progress):
        found.append(config)
        if config.model.startswith("no"):
            raise LabError("expected a model, got [no](http://example.org)")
        progress("replies: full", 0.5)
        save_continuity(where, made := fake_continuity(model=config.model))
        return made

    monkeypatch.setattr(job, "continuity", fake)
    return found


def press(at):
    from dashboards import loaders

    next(b for b in at.button if b.label == "Ask it").click().run()
    loaders.runner().job.outcome.exception(timeout=30)
    at.run()
    assert not at.exception, at.exception


def test_a_model_is_asked_in_the_background_and_the_result_opens(asked_for):
    at = page("continuity")
    assert [c.value for c in at.code] == ["lab continuity hearth-a"], (
        "nothing is saved: the form, and the command"
    )
    at.multiselect(key="battery_conditions").set_value(["full", "none", "Caring nurse"]).run()
    (told,) = [c.value for c in at.code]
    assert (
        told.startswith("lab continuity hearth-a --scaffold full --scaffold none --scaffold ")
        and ".md" in told
    )
    press(at)
    (config,) = asked_for
    assert (config.model, config.judge, config.items) == ("hearth-a", "auto", None)
    assert [c.name for c in config.conditions] == list(CONDITIONS)
    assert config.conditions[0].levels is None and config.conditions[2].levels
    assert any("was asked" in s.value for s in at.success)
    next(b for b in at.button if b.label == "Open the result").click().run()
    assert not at.exception and len(charts(at)) == 1 and query(at)["battery_run"] == A.run


def test_a_mistake_is_told(asked_for):
    at = page("continuity", battery_model="nobody")
    choose(at, battery_set="chat")
    press(at)
    assert asked_for[0].items.name == "chat"
    assert any("expected a model" in e.value and "[no](http" not in e.value for e in at.error)


def test_the_download_names_both_runs(runs, monkeypatch):
    from dashboards import panels

    made = []
    monkeypatch.setattr(panels.st, "download_button", lambda label, data, name, *a, **k: made.append(data))
    monkeypatch.setattr(panels, "figure_zip", lambda stem, figure, rows, origin: (stem, rows, origin))
    panels.give_runs([A, B], "continuity", lambda: "figure", lambda: "table")
    stem, rows, origin = made[0]()
    assert (stem, rows) == ("continuity", "table")
    assert [r["run"] for r in origin["runs"]] == [A.run, B.run]
    assert all(r["model"]["fingerprint"] and r["settings"] for r in origin["runs"])


def test_viewing_loads_no_torch(runs):
    assert_no_torch("continuity", 1, battery_run=A.run)
