"""The dashboard, without a browser: what is on the page, what the charts hold, what the URL keeps."""

import ast
import json
import shlex
import sys
import types
from dataclasses import replace
from pathlib import Path

import fake_geometry as geometry
import pytest
from fake_comparison import LABELS, SCAFFOLDS, fake_comparison
from fake_persona_map import MODELS, fake_persona_map
from fake_steering import fake_steering
from fake_traits import fake_traits
from pages import ROOT, assert_no_torch, chart, charts, click, page, query, role, roles, values

from lab.figures import landing, lookup, tables
from lab.pipelines.geometry_runs import save_geometry
from lab.records import LabError

SCAFFOLD = "# {0}\n> what {0} is\n\nYou are {0}.\n"


@pytest.fixture
def saved(store):
    comparison = fake_comparison(5, run="run-a")
    store.save_comparison(comparison, "a vs b")
    store.save_comparison(fake_comparison(6, run="run-b"), "c vs d")
    return comparison


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """Stands in for the job that loads models."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class CompareConfig:
        models: tuple[str, ...]
        scaffolds: tuple
        trait_set: str = "auto"
        dtype: str = "float32"
        seed: int = 0
        max_new_tokens: int = 40

    (tmp_path / "data" / "scaffolds").mkdir(parents=True)
    for name in ("Warm host", "Cold clerk"):
        path = tmp_path / "data" / "scaffolds" / f"{name}.md"
        path.write_text(SCAFFOLD.format(name), encoding="utf-8")
    module = types.ModuleType("lab.pipelines.compare")
    module.asked = []

    def compare(config, store, progress):
        module.asked.append(config)
        if config.seed == 13:
            raise LabError("seed 13 is [unlucky](http://example.org); take another")
        progress("replies of a", 0.5)
        result = fake_comparison(7, run="fresh")
        store.save_comparison(result, "a vs b")
        return result

    module.CompareConfig, module.compare, module.DATA = CompareConfig, compare, tmp_path / "data"
    module.shipped_models = lambda: [{"name": "hearth-a"}, {"name": "hearth-b"}]
    module.unseen_words = lambda model, text: [w for w in ("robot",) if w in text] if "a" in model else None
    monkeypatch.setitem(sys.modules, "lab.pipelines.compare", module)
    return module


def test_forest_shows_the_stored_numbers_with_their_null(saved):
    at = page(run="run-a", trait="intimacy", view="Saved run")
    forest = charts(at)[0]
    for label, mark in zip(LABELS, role(forest, "landing"), strict=True):
        stored = [lookup.landing(saved, label, s, "intimacy", "reply_mean")[0].L for s in SCAFFOLDS]
        assert values(mark["x"]) == pytest.approx(stored)
        assert [c[0] for c in mark["customdata"]] == list(SCAFFOLDS)
    assert len(role(forest, "null")) == 2
    assert [len(role(charts(at)[2], r)) for r in ("score", "null")] == [2, 2]


def test_choices_stand_in_the_url(saved):
    at = page()
    assert query(at)["run"] in ("run-a", "run-b")
    assert query(at)["position"] == "reply_mean"
    at.selectbox(key="trait").set_value("warmth").run()
    at.selectbox(key="position").set_value("spawn").run()
    assert query(at)["trait"] == "warmth"
    again = page(**query(at))
    assert again.selectbox(key="trait").value == "warmth"
    assert again.selectbox(key="position").value == "spawn"
    assert "last prompt token" in str(charts(again)[0]["layout"]["annotations"])


def test_a_link_to_a_missing_run_says_so(saved):
    at = page(run="gone", view="Saved run")
    assert "There is no run gone" in at.warning[0].value


def test_scaffold_choice_moves_the_profile_and_the_replies(saved):
    at = page(run="run-a", scaffold="old-friend", question="q-list")
    assert "<b>old-friend</b>" in charts(at)[1]["layout"]["title"]["text"]
    row = lookup.replies(saved, "old-friend", 0, "q-list")[0]
    assert row.reply.text in [x.value for x in at.text]


def test_hostile_words_reach_no_markup(store):
    bad = '<script>alert("x")</script>'
    store.save_comparison(fake_comparison(1, scaffolds=(bad, *SCAFFOLDS[1:]), run="bad"), bad)
    at = page(run="bad", scaffold=bad)
    assert not any("<script" in x.proto.body for x in at.get("html"))


def test_without_runs_the_page_offers_a_new_one(store, pipeline):
    at = page()
    assert at.segmented_control(key="view").value == "New run"
    assert at.selectbox(key="a").value == "hearth-a"
    assert at.selectbox(key="b").value == "hearth-b"


def finish(at):
    from dashboards import loaders

    job = loaders.runner().job
    job.outcome.exception(timeout=30)
    at.run()
    return at


def test_a_run_starts_ends_and_opens(store, pipeline):
    at = page(view="New run")
    at.text_area[0].set_value("# Mine\n\nYou are a robot.").run()
    assert "hearth\\-a never saw 1 word of “Mine” in training: robot" in at.warning[0].value
    next(b for b in at.button if b.label == "Run the comparison").click().run()
    finish(at)
    assert [s.name for s in pipeline.asked[0].scaffolds] == ["Cold clerk", "Warm host", "Mine"]
    assert pipeline.asked[0].models == ("hearth-a", "hearth-b")
    next(b for b in at.button if b.label == "Open the result").click().run()
    assert not at.exception
    assert query(at)["run"] == "fresh"
    assert len(charts(at)) == 3


def test_a_mistake_of_the_job_is_told_as_text(store, pipeline):
    at = page(view="New run")
    at.number_input[0].set_value(13).run()
    next(b for b in at.button if b.label == "Run the comparison").click().run()
    finish(at)
    assert at.error[0].value.startswith("seed 13 is \\[unlucky\\]"), "no link out of an error message"


def test_a_malformed_scaffold_is_told_and_cannot_run(store, pipeline):
    at = page(view="New run")
    at.text_area[0].set_value("# Mine\n\n## Dreams\n- none").run()
    assert "unknown heading" in at.error[0].value
    assert next(b for b in at.button if b.label == "Run the comparison").disabled


def test_downloads_hold_figure_numbers_and_report(saved, monkeypatch):
    import io
    import zipfile

    from dashboards import panels

    monkeypatch.setenv("BROWSER_PATH", "/nowhere")
    figure = landing.depth_profile(saved, "warmth", "reply_mean")
    origin = panels.manifest(saved, "depth", trait="warmth")
    made = panels.figure_zip("depth", figure, tables.depth(saved), origin)
    archive = zipfile.ZipFile(io.BytesIO(made))
    assert {"depth.html", "depth.csv", "depth.json", "NOTE.txt"} == set(archive.namelist())
    origin = json.loads(archive.read("depth.json"))["manifest"]
    assert (origin["run"], origin["figure"], origin["trait"]) == (saved.run, "depth", "warmth")
    rows = [x for x in saved.replies if x.question == saved.replies[0].question]
    strips = zipfile.ZipFile(io.BytesIO(panels.strip_zip(saved, rows, "warmth")))
    assert {"tokens.html", "tokens.csv", "tokens.json"} == set(strips.namelist())
    assert strips.read("tokens.csv").count(b"\n") == 1 + sum(len(x.reply.tokens) for x in rows)
    assert panels.report_bytes(saved).startswith(b"<!doctype html>")


# ------------------------------------------------------------------ the geometry below a comparison


def together(run="whole", traits=geometry.TRAITS, scaffolds=geometry.SCAFFOLDS):
    """A comparison and a geometry of one design: the made-up comparison on the traits of the made-up geometry."""
    book, comparison = geometry.fake_geometry(), fake_comparison(3, scaffolds=scaffolds, run=run)
    named = dict(zip(("warmth", "intimacy"), traits, strict=True))
    tables = {
        name: tuple(replace(x, trait=named[x.trait]) for x in getattr(comparison, name) if x.trait in named)
        for name in ("landings", "interactions", "noise_floor", "anchors", "depth")
    }
    settings = {"trait_set": "hearth", "traits": list(traits), "scaffolds": list(scaffolds), "seed": 3}
    sampling = {"dtype": "float32", "max_new_tokens": 48}
    return (
        replace(comparison, models=book.models, **tables),
        replace(book, settings={**settings, **sampling}),
    )


BELOW = ("shared_shares", "shared_agreement", "shared_shared_map", "shared_multiverse")


def test_the_geometry_of_the_same_design_stands_below_a_comparison(store):
    comparison, book = together()
    store.save_comparison(comparison, "a vs b")
    save_geometry(store, book, {})
    at = page(run="whole", trait=geometry.TRAITS[0], scaffold="poet")
    found = {key: chart(at, key) for key in BELOW}
    assert {t["meta"]["source"] for t in role(found["shared_shares"], "share")} == set(geometry.SOURCES)
    assert {c[0] for t in role(found["shared_shares"], "share") for c in t["customdata"]} == {
        geometry.TRAITS[0]
    }
    assert geometry.TRAITS[0] in found["shared_agreement"]["layout"]["title"]["text"]
    assert "ceiling" in str(found["shared_agreement"]["layout"]["annotations"])
    assert roles(found["shared_shared_map"]) == {"landing", "ellipse", "link"}
    (link,) = [x.proto for x in at.get("page_link") if "Geometry" in x.proto.label]
    assert f"geometry_run={book.run}" in link.query_string and "geometry_trait=warmth" in link.query_string
    assert any("differ by up to" in x.value for x in at.warning), (
        "both made up, so they did not read the same"
    )
    at.selectbox(key="shared_source").set_value(geometry.LABELS[1]).run()
    assert not at.exception, at.exception
    (abstains,) = [
        a["text"] for a in chart(at, BELOW[2])["layout"]["annotations"] if a.get("name") == "abstention"
    ]
    assert "held-out R² is &lt;b&gt;low" in abstains, "a map that does not beat its null is a sentence"


def test_below_a_comparison_too_few_scaffolds_are_sentences(store):
    comparison, book = together()
    store.save_comparison(comparison, "a vs b")
    save_geometry(store, book, {})
    at = page(run="whole", position="spawn")
    for spec in (chart(at, key) for key in BELOW):
        assert not spec["data"]
        said = [a["text"] for a in spec["layout"]["annotations"] if a.get("name") == "abstention"]
        assert len(said) == 1 and "Cannot tell" in said[0]
    assert "4 scaffolds &lt;b&gt;and&lt;/b&gt; 5 are needed" in str(chart(at, BELOW[0]))


@pytest.mark.parametrize(
    "other", [{"scaffolds": ["poet"]}, {"seed": 4}, {"trait_set": "chat"}, {"traits": ["x"]}]
)
def test_a_geometry_of_another_design_does_not_stand_there(store, other):
    comparison, book = together()
    store.save_comparison(comparison, "a vs b")
    save_geometry(store, replace(book, settings={**book.settings, **other}), {})
    assert len(charts(page(run="whole"))) == 3


def test_without_a_geometry_the_command_is_told_and_a_button_makes_it(store, pipeline, monkeypatch):
    from dashboards import loaders, related

    own = ("Mine", "and", "three", "more")
    comparison = fake_comparison(3, scaffolds=("Cold clerk", *own), run="bare")
    store.save_comparison(comparison, "a vs b")
    asked = []
    module = types.ModuleType("lab.pipelines.geometry")
    module.GeometryConfig = lambda *parts: parts
    module.geometry = lambda config, store, report: asked.append(config)
    monkeypatch.setitem(sys.modules, "lab.pipelines.geometry", module)
    at = page(run="bare")
    words = shlex.split(next(c.value for c in at.code if c.value.startswith("lab geometry")))
    assert words[:4] == ["lab", "geometry", "hearth-a", "hearth-b"]
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert words.count("--scaffold") == 5
    assert options["--traits"] == "hearth:assistant,warmth,intimacy" and options["--max-new-tokens"] == "48"
    assert options["--seed"] == "3" and options["--runs"] == str(store.root)
    files = [Path(w).name for w in words if w.endswith(".md")]
    assert files == [f"{name}.md" for name in ("Cold clerk", *own)]
    assert any("Mine" in c.value and "in no file" in c.value for c in at.caption)
    at.button(key="make_geometry").click().run()
    loaders.runner().job.outcome.result(timeout=30)
    assert loaders.runner().job.about == "geometry of bare"
    models, scaffolds, traits, *sampling = asked[0]
    assert (models, traits, sampling) == (("hearth-a", "hearth-b"), options["--traits"], ["float32", 3, 48])
    assert scaffolds == comparison.scaffolds
    assert related.model_name(replace(comparison.models[0], name="foreign")) == comparison.models[0].path


def test_too_few_scaffolds_for_a_geometry_are_told(store):
    store.save_comparison(fake_comparison(3, scaffolds=("one", "two", "three"), run="few"), "a vs b")
    at = page(run="few")
    assert any("5 scaffolds are needed, 3 given" in x.value for x in at.info)
    assert not [c for c in at.code if "lab geometry" in c.value] and "make_geometry" not in [
        b.key for b in at.button
    ]


def test_all_shipped_scaffolds_need_no_option(store):
    from dashboards import loaders, related

    comparison = fake_comparison(3, scaffolds=tuple(loaders.scaffolds()), run="all")
    assert "--scaffold" not in related.geometry_command(comparison)
    some = fake_comparison(3, scaffolds=tuple(loaders.scaffolds())[:2], run="some")
    assert related.geometry_command(some).count("--scaffold data/scaffolds/") == 2


def test_the_depth_profile_leads_to_the_replies_at_the_poles(store):
    comparison = fake_comparison(3, run="deep")
    store.save_comparison(comparison, "a vs b")
    found = fake_traits()
    same = replace(found, model=replace(found.model, fingerprint=comparison.models[1].fingerprint))
    store.save_traits(same, lambda folder: None)
    at = page(run="deep", trait="warmth")
    (link,) = [x.proto for x in at.get("page_link")]
    assert "hearth-b" in link.label.replace("\\", "") and f"traits_run={same.run}" in link.query_string
    assert any("lab extract" in c.value and "hearth" in c.value for c in at.caption)


def test_a_click_on_a_trait_of_the_profile_chooses_it(saved, monkeypatch):
    profile = charts(page(run="run-a"))[1]
    marks = [m for name in ("landing", "interaction", "null") for m in role(profile, name)[0]["customdata"]]
    assert {click(monkeypatch, m, {"trait": 2})["trait"] for m in marks} == {
        "assistant",
        "warmth",
        "intimacy",
    }


def test_reading_a_saved_run_loads_no_torch(saved):
    assert_no_torch("compare", 3, run="run-a")


def test_only_figures_import_plotly_and_only_dashboards_streamlit():
    for path in (ROOT / "lab").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import streamlit" not in text, path
        if path.parent.name != "figures":
            assert "import plotly" not in text, path
            assert "from plotly" not in text, path
    for path in (ROOT / "dashboards").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import plotly" not in text, path
        assert "unsafe_allow" not in text, path
        assert path.name == "loaders.py" or "@st.cache" not in text, path
        if path.parent.name == "views":
            assert text.count("\n") <= 100, path
            alone = [
                n
                for n in ast.parse(text).body[1:]
                if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)
            ]
            assert not alone, f"{path}: streamlit shows a string that stands alone"


def test_persona_map_page(store):
    at = page("personas")
    assert not at.exception
    assert "No persona map is saved here yet" in at.info[0].value
    found = fake_persona_map()
    store.save_persona_map(found, lambda folder: None)
    store.save_comparison(fake_comparison(5, run="run-a"), "a vs b")
    at = page("personas")
    assert not at.exception
    assert len(at.selectbox(key="persona_run").options) == 1  # the comparison is no persona map
    assert len(at.get("plotly_chart")) == 2
    assert len(at.dataframe[1].value) == len(found.landings)
    at.selectbox(key="persona_role").set_value("no scaffold").run()
    assert at.dataframe[0].value.text.tolist() == [f"no scaffold of {MODELS[0]} to {q}" for q in (1, 0)]
    assert at.expander[0].label == "System prompts (1)"
    assert at.expander[0].text[0].value == "Be no scaffold."
    at.selectbox(key="persona_model").set_value(MODELS[1]).run()
    assert not at.exception
    assert query(at)["persona_model"] == MODELS[1]
    assert f"no scaffold of {MODELS[1]} to 0" in at.dataframe[0].value.text.tolist()
    store.save_persona_map(replace(found, run="axis-old", replies=()), lambda folder: None)
    at = page("personas", persona_run="axis-old")
    assert "kept no replies" in at.info[0].value


def test_traits_page(store):
    assert "No extraction is saved here yet" in page("traits").info[0].value
    found = fake_traits()
    store.save_traits(found, lambda folder: None)
    at = page("traits")
    assert len(at.get("plotly_chart")) == 3
    assert len(at.dataframe[0].value) == 4  # two traits, two elicitations
    assert at.dataframe[1].value["read_on"].tolist() == ["scenario"]
    assert at.dataframe[2].value["reasons"].tolist() == ["coherence 12.0"]
    assert any("was not steered here yet" in x.value for x in at.info)
    at.selectbox(key="card_which").set_value("lowest").run()
    shown = at.dataframe[3].value
    assert shown["place"].tolist() == sorted(r.place for r in found.replies if r.trait == "warmth")[:5]
    store.save_steering(fake_steering())
    assert len(page("traits").get("plotly_chart")) == 4


def test_saved_steering_curves(store):
    assert "No steering curves are saved here yet" in page("steer", steer_view="Saved curves").info[0].value
    found = fake_steering()
    store.save_steering(found)
    at = page("steer", steer_view="Saved curves")
    assert len(at.get("plotly_chart")) == 3
    assert [len(t.value) for t in at.dataframe] == [2, len(found.caps)]
    at.selectbox(key="steer_trait").set_value(found.summaries[1].trait).run()
    assert not at.exception
    assert query(at)["steer_trait"] == found.summaries[1].trait


class Parrot:
    """Stands in for a loaded model: says what it was pushed by."""

    def __init__(self):
        self.gauges = {"warmth": None, "intimacy": None}
        self.watchers = {}
        self.asked = []

    def say(self, messages, pushes, *, max_new_tokens, seed):
        from lab.pipelines.live import Spoken

        self.asked.append((list(messages), dict(pushes), seed))
        text = f"warmth {pushes.get('warmth', 0):+.2f}"
        return Spoken(text, ("warmth", " x"), dict.fromkeys(self.gauges, (0.1, 0.9)))


def test_talking_shows_the_unpushed_beside_the_pushed(store, tmp_path):
    from dashboards import loaders

    parrot = Parrot()
    loaders.speakers()[str(tmp_path), "hearth-a", "auto"] = parrot
    at = page("steer")
    assert at.segmented_control(key="steer_view").value == "Talk"
    at.slider(key="push warmth").set_value(0.25).run()
    at.text_area(key="steer_system").set_value("You are kind.").run()
    at.chat_input[0].set_value("Hello *there*").run()
    assert not at.exception, at.exception
    texts = [x.value for x in at.text]
    assert texts == ["Hello *there*", "warmth +0.00", "warmth +0.25"]
    assert [m.role for m in parrot.asked[0][0]] == ["system", "user"]
    assert parrot.asked[0][1] == {}
    assert parrot.asked[1][1]["warmth"] == 0.25
    assert len(at.get("plotly_chart")) == 2  # the course over turns, the trace of the last replies
    at.chat_input[0].set_value("And now?").run()
    assert [m.content for m in parrot.asked[-1][0]][1:] == ["Hello *there*", "warmth +0.25", "And now?"]
    next(b for b in at.button if b.label == "Begin anew").click().run()
    assert not at.text


def test_a_model_is_made_ready_in_the_background(store, tmp_path, monkeypatch):
    from dashboards import loaders
    from lab.pipelines import live

    made = []
    monkeypatch.setattr(live, "prepare", lambda model, store, report, traits: made.append(model) or Parrot())
    at = page("steer")
    assert not at.chat_input
    next(b for b in at.button if b.label == "Make ready").click().run()
    loaders.runner().job.outcome.result(timeout=30)
    at.run()
    assert made == ["hearth-a"]
    assert len(at.chat_input) == 1


def test_a_finished_job_of_another_page_is_not_taken_for_ones_own(store):
    """A comparison that has ended does not make the Steer page run in circles."""
    from dashboards import loaders

    loaders.runner().start(lambda report: None).outcome.result(timeout=30)
    at = page("steer")
    assert [b.label for b in at.button] == ["Make ready"]


def test_drift_page_follows_a_pasted_conversation(store, monkeypatch):
    import numpy as np

    from dashboards import loaders
    from lab.monitoring import follow, learn
    from lab.pipelines import watch as job
    from lab.records import Reply

    rng = np.random.default_rng(0)
    ordinary = learn([rng.normal(size=6) for _ in range(20)])
    series = np.array([0.0, 0.2, -0.1, 4.0, 5.0, 6.0])
    expected, sd = ordinary.expected(series)
    watched = job.Watched(
        "warmth", 2, series, expected, ordinary.reach * sd, follow(series, ordinary, 3.0), ordinary, 3.0
    )
    replies = tuple(Reply(f"reply <b>{t}</b>", (), {}) for t in range(6))
    asked = []

    def fake(config, store, progress):
        asked.append(config)
        return job.Watch(config.model, (watched,), (watched,), replies, 40, config.promised)

    monkeypatch.setattr(job, "watch", fake)
    at = page("drift")
    assert next(b for b in at.button if b.label == "Follow it").disabled
    next(b for b in at.button if b.label == "Put in an example").click().run()
    assert not next(b for b in at.button if b.label == "Follow it").disabled
    assert len(json.loads(at.text_area(key="drift_text").value)["conversation"]) == 41
    at.text_area(key="drift_text").set_value('[{"role": "nobody", "content": "x"}]').run()
    assert "pasted text" in at.error[0].value
    talk = [{"role": r, "content": f"{r} {k}"} for k in range(6) for r in ("user", "assistant")]
    at.text_area(key="drift_text").set_value(json.dumps(talk)).run()
    next(b for b in at.button if b.label == "Follow it").click().run()
    loaders.runner().job.outcome.result(timeout=30)
    at.run()
    assert not at.exception, at.exception
    assert len(asked[0].conversation) == 12
    (chart,) = charts(at)
    (line,) = role(chart, "value")
    assert values(line["y"]) == pytest.approx(series)
    alarms = [c[0] for c in line["customdata"] if c[2]]
    assert alarms == list(watched.course.alarms)
    assert alarms
    turns = ", ".join(str(t + 1) for t in alarms)
    assert f"Alarms: **{watched.trait}** in turn {turns}." in [m.value for m in at.markdown]
    assert "&lt;b&gt;" in line["customdata"][0][1]
    assert [t.value for t in at.text] == ["reply <b>0</b>"]
    assert at.dataframe[0].value["alarm"].sum() == len(alarms)
