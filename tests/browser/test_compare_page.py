"""The compare page in a real browser: what is painted is what is stored."""

import pytest
from browser_fixtures import click
from fake_comparison import LABELS, SCAFFOLDS, fake_comparison
from fake_persona_map import MODELS, ROLES, fake_persona_map

from lab.figures import lookup
from lab.store import Store

pytestmark = pytest.mark.browser
READ = """key => {
  const div = document.querySelector(`.st-key-${key} .js-plotly-plot`);
  return div.data.map(t => ({role: t.meta.role, model: t.meta.model, x: Array.from(t.x || []),
                             ids: (t.customdata || []).map(c => Array.from(c))}));
}"""


@pytest.fixture(scope="module")
def server(serve, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    comparison = fake_comparison(11, run="shown")
    Store(runs).save_comparison(comparison, "a vs b")
    Store(runs).save_persona_map(fake_persona_map(), lambda folder: None)
    with serve("dashboards/app.py", runs) as url:
        yield url, comparison


def test_a_link_to_another_page_works_as_the_first_visit(open_page, server):
    """Streamlit runs a file of a folder named `pages` by itself when its address comes first."""
    url, _ = server
    outside = []
    page = open_page(url, outside)
    page.goto(f"{url}/personas")
    page.get_by_role("heading", name="Persona map").wait_for(timeout=60_000)
    page.locator(".st-key-persona_map .js-plotly-plot").wait_for(timeout=60_000)
    drawn = page.evaluate(READ, "persona_map")
    (roles,) = [t for t in drawn if t["role"] == "roles"]
    stored = {r.role: r.loading for r in fake_persona_map().landings if r.model == MODELS[0]}
    assert {name: x for (name, _), x in zip(roles["ids"], roles["x"], strict=True)} == {
        name: pytest.approx(stored[name]) for name in ROLES
    }
    click(page, "persona_map", 0, ROLES.index("role 7"))
    page.wait_for_url("**persona_role=role+7**", timeout=30_000)
    assert not page.locator('[data-testid="stException"]').count()
    assert outside == []
    page.close()


def test_a_link_paints_the_stored_numbers_and_asks_nobody_else(open_page, server):
    url, comparison = server
    outside: list[str] = []
    page = open_page(url, outside)
    page.goto(f"{url}/?run=shown&trait=warmth&scaffold=old-friend")
    page.wait_for_selector(".st-key-depth .js-plotly-plot .main-svg", timeout=60_000)
    drawn = page.evaluate(READ, "forest")
    for label in LABELS:
        (mark,) = [t for t in drawn if t["role"] == "landing" and t["model"] == label]
        stored = [lookup.landing(comparison, label, s, "warmth", "reply_mean")[0].L for s in SCAFFOLDS]
        assert mark["x"] == pytest.approx(stored)
        assert [i[:3] for i in mark["ids"]] == [[s, label, "warmth"] for s in SCAFFOLDS]
    assert len([t for t in drawn if t["role"] == "null"]) == len(LABELS)
    assert {i[0] for t in page.evaluate(READ, "profile") for i in t["ids"]} == {"old-friend"}
    assert page.locator(".token-strip span[data-token]").count() > 20
    page.wait_for_timeout(500)
    assert outside == [], "the page asked another host"
    page.close()


def test_the_url_names_the_run_from_the_start(open_page, server):
    url, _ = server
    page = open_page(url, [])
    page.goto(url)
    page.wait_for_selector(".st-key-depth .js-plotly-plot .main-svg", timeout=60_000)
    page.wait_for_timeout(500)
    assert "run=shown" in page.url
    assert "position=reply_mean" in page.url
    page.close()


def test_a_click_on_a_mark_chooses_its_scaffold(open_page, server):
    url, _ = server
    page = open_page(url, [])
    page.goto(f"{url}/?run=shown&trait=warmth&scaffold=old-friend")
    click(page, "forest", 1, 2)  # the third mark of model A
    page.wait_for_url(f"**scaffold={SCAFFOLDS[2]}**", timeout=20_000)
    assert "run=shown" in page.url
    page.close()
