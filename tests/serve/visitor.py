"""A visitor: a browser without a window, which reaches nothing but this machine."""

import base64
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WIDE, PHONE = (1280, 900), (390, 844)

_FLAGS = [
    "--no-sandbox",  # as root in a container
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=document-user-activation-required",
]
_PLAYS = """name => {
    const video = document.querySelector('video');
    return video.getAttribute('aria-label')?.startsWith(name) && video.currentTime > 0.1;
}"""
_HAND_OVER = """async ([kind, selector, files]) => {
    const data = new DataTransfer();
    for (const [name, type, content] of files) {
        const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
        data.items.add(new File([bytes], name, {type}));
    }
    const init = {bubbles: true, cancelable: true};
    document.querySelector(selector).dispatchEvent(kind === 'paste'
        ? new ClipboardEvent('paste', {...init, clipboardData: data})
        : new DragEvent('drop', {...init, dataTransfer: data}));
}"""


class Visitor:
    """One who has just opened the page.

    Attributes:
        page: of Playwright.
        complaints: what the browser's console says, but for answers that refuse an order.
        strangers: addresses elsewhere that were asked for.
    """

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        page.set_default_timeout(30_000)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._see(request.url, url))
        page.goto(f"{url}/")
        page.get_by_label("Prompt").wait_for()

    def choose(self, example: str) -> None:
        """Click on an example, and wait until it is there."""
        self.page.get_by_role("button", name=example).click()
        self.page.wait_for_function(
            "e => document.querySelector('#prompt').value === e", arg=example
        )

    def make(self) -> None:
        """Click on the button."""
        self.page.get_by_role("button", name="Make the clip").click()

    def sees(self, name: str) -> None:
        """Wait until the clip of that name plays."""
        self.page.wait_for_function(_PLAYS, arg=name)

    def hands_over(self, kind: str, where: str, *files: Path) -> None:
        """Drop or paste files onto what a selector finds."""
        types = {".png": "image/png", ".wav": "audio/wav"}
        content = [
            (file.name, types.get(file.suffix, ""), base64.b64encode(file.read_bytes()).decode())
            for file in files
        ]
        self.page.evaluate(_HAND_OVER, [kind, where, content])

    def setting(self, name: str) -> Any:
        """The field of that name, among those that are shown when asked for."""
        if not self.page.locator("#more[open]").count():
            self.page.get_by_text("All settings").click()
        return self.page.locator(f"#{name}")

    def reads(self, text: str) -> None:
        """Wait until an error that holds `text` can be seen."""
        found = self.page.locator(".error").filter(has_text=text)
        found.first.wait_for()

    def _hear(self, message: Any) -> None:
        refused = r"Failed to load resource: the server responded with a status of 4\d\d"
        if message.type in ("error", "warning") and not re.match(refused, message.text):
            self.complaints.append(message.text)

    def _see(self, asked: str, url: str) -> None:
        if not asked.startswith((f"{url}/", "blob:", "data:")):
            self.strangers.append(asked)


@contextmanager
def browsing() -> Iterator[Any]:
    """A browser within the block."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()
