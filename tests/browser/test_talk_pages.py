"""The pages Steer and Drift in a real browser: a click on a mark leads to its words, a file that grows is followed."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from browser_fixtures import click

pytestmark = pytest.mark.browser
Error = pytest.importorskip("playwright.sync_api").Error
TALK = [
    {"role": r, "content": f"{r} says {'x' * (k + 1)} <b>"} for k in range(5) for r in ("user", "assistant")
]
OUTLINED = """() => {
  const t = [...document.querySelectorAll('[data-token]')].find(t => t.style.outline);
  if (!t) return null;
  const box = t.getBoundingClientRect();
  return {reply: t.dataset.reply, token: Number(t.dataset.token), scrolled: document.scrollingElement.scrollTop,
          seen: box.top >= 0 && box.bottom <= window.innerHeight};
}"""


@pytest.fixture(scope="module")
def url(serve, tmp_path_factory):
    with serve(Path(__file__).with_name("talk_app.py"), tmp_path_factory.mktemp("runs")) as found:
        yield found


def strip(page):
    """The frame with the tokens, once a token is outlined in it, and what is known of that token."""
    for _ in range(100):
        for frame in page.frames[1:]:
            with suppress(Error):  # the frame is being drawn anew
                if found := frame.evaluate(OUTLINED):
                    return found
        page.wait_for_timeout(200)
    raise AssertionError("no token was outlined")


def test_a_click_on_a_trace_scrolls_to_its_token(open_page, url):
    outside = []
    page = open_page(url, outside)
    page.goto(f"{url}/?steer_a=hearth-a&push+warmth=0.25")
    box = page.get_by_placeholder("Say something to all of them")
    box.wait_for(timeout=60_000)
    box.fill("Hello there")
    box.press("Enter")
    click(page, "points-hearth-a", 1, 201)
    found = strip(page)
    assert (found["reply"], found["token"], found["seen"]) == ("pushed", 201, True)
    assert found["scrolled"] > 0
    assert not page.locator('[data-testid="stException"]').count()
    assert outside == []
    page.close()


def test_a_click_on_a_turn_shows_its_words_and_a_click_on_a_token_finds_it(open_page, url):
    page = open_page(url, [])
    page.goto(f"{url}/drift")
    field = page.get_by_label("or paste it")
    field.wait_for(timeout=60_000)
    field.fill(json.dumps(TALK))
    field.press("Control+Enter")
    page.get_by_role("button", name="Follow it").click()
    shown = page.get_by_test_id("stChatMessage")
    shown.get_by_text(TALK[1]["content"]).wait_for(timeout=60_000)
    click(page, "course", 0, 3)
    shown.get_by_text(TALK[7]["content"]).wait_for(timeout=30_000)
    assert shown.count() == 1
    click(page, "drift_tokens", 0, 2)
    assert strip(page) == {"reply": "turn 4", "token": 2, "scrolled": 0, "seen": True}
    page.close()


def test_new_turns_of_a_file_come_by_themselves(open_page, url, tmp_path):
    path = tmp_path / "talk.jsonl"
    lines = [json.dumps(x) + "\n" for x in TALK]
    path.write_text("".join(lines[:4]), encoding="utf-8")
    page = open_page(url, [])
    page.goto(f"{url}/drift?drift_source=A+file+that+grows")
    field = page.get_by_placeholder("talk.json or talk.jsonl")
    field.wait_for(timeout=60_000)
    field.fill(str(path))
    field.press("Enter")
    page.get_by_role("button", name="Follow this file").click()
    shown = page.get_by_test_id("stChatMessage")
    shown.get_by_text(TALK[3]["content"]).wait_for(timeout=60_000)
    path.write_text("".join(lines), encoding="utf-8")
    shown.get_by_text(TALK[9]["content"]).wait_for(timeout=30_000)
    page.close()
