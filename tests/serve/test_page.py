"""The page in a real browser: keyboard, streams, what-if, faults, widths, colours, accessibility."""

import importlib.util
import os
import re
import shutil
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from serve.conftest import served_thinker
from serve.test_live import listening, slowly
from thinkrank.cascade import Cascade, CascadeConfig
from thinkrank.rerank import EGLR, EGLRConfig, ReasoningOptions
from thinkrank.retrieve import ItemKNN
from thinkrank.serve import ServeOptions, auth, create_app
from thinkrank.serve.page import render_page
from thinkrank.serve.served import Served
from thinkrank.testing import random_lists

CHROMIUM = os.environ.get("THINKRANK_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(os.environ.get("THINKRANK_AXE", "axe.min.js"))
PICTURES = os.environ.get("THINKRANK_PICTURES")
"""Folder for pictures of the page, to look at; none are made without it."""

browsing = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="no chromium, or no playwright to drive it: apt-get install chromium; pip install playwright",
)


def axe_source():
    """The script of axe-core: from the package axe-playwright-python, or the file that THINKRANK_AXE names."""
    if importlib.util.find_spec("axe_playwright_python") is not None:
        return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    return AXE.read_text(encoding="utf-8") if AXE.is_file() else None


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def server(thinker, dataset):
    served, options = served_thinker(thinker, dataset)
    slowly(served.engines[0], 0.03)
    with listening(create_app(served, options)) as address:
        yield address


@pytest.fixture
def page(browser, server):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda said: page.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(server)
    yield page
    context.close()


def picture(page, name):
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


def asked(page):
    page.get_by_role("button", name="Recommend").click()
    page.locator("#status", has_text="Answered").wait_for()


def test_the_page_has_no_script_of_others_and_none_inside(client):
    shown = client.get("/")
    assert shown.status_code == 200
    assert not re.search(r"https?://|<style|style=|\son\w+=|<script(?![^>]* src=)", shown.text)
    for name in re.findall(r'(?:href|src)="(static/[\w.]+)"', shown.text):
        assert client.get(f"/{name}").status_code == 200
    assert client.get("/static/..%2fpage.py").status_code == 404
    assert client.get("/static/page.py").status_code == 404


def test_what_a_run_is_called_is_no_markup(dataset):
    served = Served("<script>alert(1)</script>\u202e", "v", {}, None, dataset)
    served.stages = {"rank": type("Stage", (), {"catalogue": dataset.catalogue, "kind": "<b>"})()}
    text = render_page(served)
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert "\u202e" not in text


def test_a_locked_server_names_nobody_to_whoever_has_no_key(thinker, dataset):
    served, options = served_thinker(thinker, dataset, key_hashes=(auth.hash_of("k"),))
    with TestClient(create_app(served, options)) as client:
        text = client.get("/").text
    assert 'id="pick"' in text
    assert "people known" not in text
    assert not any(user in text for user in dataset.users)


def test_a_run_that_writes_nothing_shows_no_thought(counting):
    text = counting.get("/").text
    assert 'id="thinking"' not in text
    assert 'id="temperature"' not in text


@browsing
def test_a_history_is_built_with_the_keyboard_and_changed(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the answer"
    search = page.get_by_role("combobox", name="Or search titles, and add them")
    for words in ("space", "space film 3", "cook"):
        search.focus()
        page.keyboard.type(words)
        if words == "space":
            page.locator("#found[data-query=space]").wait_for()
            page.keyboard.press("ArrowDown")
            assert page.locator("#found [aria-selected=true]").inner_text() == "Space film 1"
        page.keyboard.press("Enter")  # at once, before anything may be found
        page.locator("#history bdi", has_text=re.compile(words, re.IGNORECASE)).last.wait_for()
    taken = page.locator("#history bdi").all_inner_texts()
    assert taken == ["Space film 1", "Space film 3", "Cook book 0"]
    page.keyboard.type("cook")
    page.locator("#found li").first.wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#found").is_hidden()
    page.locator("#k").focus()
    page.keyboard.press("Enter")
    page.locator("#status", has_text="Answered").wait_for()
    assert page.locator("#now > li").count() == 8
    page.get_by_role("button", name="Take out Cook book 0").press("Enter")
    page.locator("#beside").wait_for()
    assert page.locator("#history li").count() == 2
    assert "of 9 items" in page.locator("#moved").inner_text().lower()
    assert page.locator("#now .move.up").count() >= 1
    page.get_by_role("button", name="Start again").click()
    assert page.locator("#unasked").is_visible()
    assert page.locator("#now > li, #before > li, #history li, #costs tr").count() == 0
    assert page.complaints == []


@browsing
def test_a_thought_is_seen_while_it_is_written_and_may_be_changed(page):
    page.get_by_role("button", name="u000").click()
    page.locator("#history li").nth(3).wait_for()
    page.get_by_role("button", name="Recommend").click()
    page.locator("#thought", has_text=re.compile("....")).wait_for()
    assert page.locator("#thought.writing").count() == 1
    picture(page, "writing-1280")
    page.locator("#status", has_text="Answered").wait_for()
    before = page.locator("#now bdi").all_inner_texts()
    assert page.locator("#now .more li").count() >= 1
    assert page.locator("#now .claims .true").count() >= 1
    page.get_by_text("Change the thought").click()
    page.get_by_role("textbox", name="The thought to answer from").fill("Space film 1 and nothing else.")
    page.get_by_role("button", name="Answer from it").click()
    page.locator("#beside").wait_for()
    assert page.locator("#thought").inner_text() == "Space film 1 and nothing else."
    assert page.locator("#thought-claims .false").count() >= 1  # it is not in the history
    assert page.locator("#before bdi").all_inner_texts() == before
    assert page.locator("#costs tbody tr").count() == 1
    assert page.complaints == []


@browsing
def test_faults_are_told_and_go_away(page):
    page.get_by_label("A person of the data").fill("nobody")
    page.get_by_role("button", name="Take the history").click()
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "no user has the id 'nobody'" in alert.inner_text()
    picture(page, "fault-1280")
    asked(page)
    assert not alert.is_visible()


@browsing
def test_writing_can_be_stopped(page):
    page.get_by_label("Temperature").fill("1.5")
    page.get_by_role("button", name="Recommend").click()
    page.get_by_role("button", name="Stop").click()
    assert "Stopped" in page.get_by_role("alert").inner_text()


@browsing
def test_programs_ask_what_the_page_asks(page):
    page.get_by_role("button", name="u000").click()
    page.locator("#history li").nth(3).wait_for()
    page.locator("#think").select_option("false")
    asked(page)
    assert "/v1/recommend" in page.locator("#curl").inner_text()
    assert "history" not in page.locator("#curl").inner_text()  # the known one, with all that is known of it
    printed = []
    exec(page.locator("#python").inner_text(), {"print": lambda *words: printed.append(words)})
    assert [title for _, title in printed] == page.locator("#now bdi").all_inner_texts()
    page.get_by_role("button", name=re.compile("Take out")).last.click()
    page.locator("#curl", has_text="history").wait_for()
    assert "u000" in page.locator("#curl").inner_text()  # who is left out of counts


@browsing
def test_a_locked_server_asks_for_its_key(browser, thinker, dataset):
    served, options = served_thinker(thinker, dataset, key_hashes=(auth.hash_of("k"),))
    with listening(create_app(served, options)) as address:
        page = browser.new_page()
        page.goto(address)
        page.get_by_role("button", name="Recommend").click()
        page.get_by_label("This server asks for a key").fill("k")
        page.get_by_role("button", name="Use it").click()
        asked(page)
        assert page.locator("#now > li").count() == 10
        page.close()


@browsing
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_phones_and_passes_axe_in_both_colours(browser, server, width, scheme):
    if (source := axe_source()) is None:
        pytest.skip("no axe-core: pip install axe-playwright-python, or name axe.min.js in THINKRANK_AXE")
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(server)

    def check(name):
        picture(page, f"{name}-{scheme}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(source)
        found = page.evaluate("axe.run()")["violations"]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []

    check("empty")
    page.get_by_role("button", name="u000").click()
    page.locator("#history li").nth(3).wait_for()
    page.get_by_label("Or search titles, and add them").fill("film")
    page.locator("#found li").first.wait_for()
    check("search")
    page.keyboard.press("Escape")
    asked(page)
    page.get_by_role("button", name=re.compile("Take out")).last.click()
    page.locator("#beside").wait_for()
    page.get_by_text("Change the thought").click()
    check("answer")
    context.close()


@browsing
def test_a_written_list_shows_its_doubt_and_its_latent_steps(browser, dataset):
    lists = random_lists(0, num_lists=30)
    train = replace(
        lists,
        numeric_LNF=lists.numeric_LNF[:, :, :1],
        numeric_names=("retriever.score",),
        categorical_LNC=lists.categorical_LNC[:, :, :0],
        categorical_names=(),
        categorical_values=(),
        context_LF=lists.context_LF[:, :0],
        context_names=(),
    )
    writer = EGLR.create(EGLRConfig(reasoning=ReasoningOptions(mode="fixed")), train, device="cpu")
    model = Cascade(ItemKNN().fit(dataset), reranker=writer, config=CascadeConfig(slate=4))
    with listening(create_app(Served.of(model, dataset=dataset), ServeOptions())) as address:
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.goto(address)
        page.get_by_role("button", name="u000").click()
        asked(page)
        answer = httpx.post(f"{address}/v1/recommend", json={"user": "u000", "k": 10}).json()
        told = page.locator("#now > li .entropy").all_inner_texts()
        bars = [float(bar.get_attribute("value")) for bar in page.locator("#now > li meter").all()]
        page.close()
    assert bars == pytest.approx([item["entropy_before"] for item in answer["items"][:4]], abs=1e-4)
    assert {item["entropy_before"] for item in answer["items"][4:]} == {None}
    assert [words.split(" · ")[1] for words in told] == ["1 latent step"] * 3 + ["no latent step"]


def test_the_page_can_be_asked_for_without_starting(thinker, dataset):
    served, _ = served_thinker(thinker, dataset)
    assert TestClient(create_app(served, ServeOptions(hosts=("testserver",)))).get("/").status_code == 200
