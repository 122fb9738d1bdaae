"""The page, in a browser without a window."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.server import Server, running

pytest.importorskip("gradio", reason="the page needs gradio")
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
]

WIDE, PHONE = (1280, 900), (390, 844)
PATIENCE_MS = 180_000
PLAYED = "() => document.querySelector('#result video')?.currentTime > 0.1"

Open = Callable[[tuple[int, int]], Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    with running(folder / "log", folder / "temporary", "--threads", "1") as server:
        yield server


@pytest.fixture
def open_page(server: Server) -> Iterator[Open]:
    """`open_page((width, height))`: the page in such a window; it fetches nothing elsewhere."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        asked: list[str] = []

        def open_it(size: tuple[int, int]) -> Any:
            page = browser.new_page(viewport={"width": size[0], "height": size[1]})
            page.set_default_timeout(PATIENCE_MS)
            page.on("request", lambda request: asked.append(request.url))
            page.goto(server.url)
            page.get_by_role("button", name="Make the clip").wait_for()
            return page

        yield open_it
        browser.close()
    assert not [url for url in asked if not url.startswith((server.url, "data:", "blob:"))]


def test_an_example_plays_and_is_made_again(open_page: Open) -> None:
    page = open_page(WIDE)
    page.locator("button.gallery-item").nth(3).click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('textarea, input')].some("
        "field => field.value === 'hammer')"
    )
    page.get_by_text("Settings").click()
    page.get_by_label("Steps").fill("1")
    page.get_by_role("button", name="Make the clip").click()
    page.wait_for_function(PLAYED)
    field = page.get_by_label("Keyframes")
    assert len(field.input_value().split(",")) == 12
    with page.expect_download() as download:
        page.get_by_text("Download the clip").click()
    assert Path(download.value.path()).read_bytes()[4:8] == b"ftyp"
    first = page.locator("#result video").get_attribute("src")

    field.fill("0,5,9,13,17,21,25,29,33,37,41,45")
    page.get_by_role("button", name="again").click()
    page.wait_for_function(f"() => !document.querySelector('#result video[src=\"{first}\"]')")
    page.wait_for_function(PLAYED)
    assert field.input_value().startswith("0,5,9")


def test_mistakes_are_told_in_words_on_a_phone(open_page: Open) -> None:
    page = open_page(PHONE)
    page.get_by_role("button", name="Make the clip").click()
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "there is no picture and no sound" in alert.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0], "nothing sticks out"


def test_a_setting_that_is_refused(open_page: Open) -> None:
    page = open_page(WIDE)
    page.locator("button.gallery-item").first.click()
    page.get_by_text("Settings").click()
    page.get_by_label("Length").fill("99")
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Make the clip").click()
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "this server makes clips of 60 s at most" in alert.inner_text()
