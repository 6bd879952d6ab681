"""A real browser for the tests of the page: Debian's Chromium (or CHROMIUM), driven by Playwright.

Every page that a test opens is watched: an error or warning on the console, an exception in a
script, or a request to anything but the file itself fails the test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from tests.browser import examples

SCREENSHOTS = Path("build/browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert executable, "these tests need Chromium: apt-get install chromium, or CHROMIUM=/path/to/it"
    # Playwright gives every launch a user data folder of its own.
    launched = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
    yield launched
    launched.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of `examples`, by name."""
    folder = tmp_path_factory.mktemp("pages")
    return {name: make(folder / f"{name}.html") for name, make in examples.PAGES.items()}


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, pages: dict[str, Path]) -> Iterator[Open]:
    """Opens a page by name: `open_page("mlp", width=390, dark=True)`."""
    contexts: list[Any] = []
    troubles: list[str] = []

    def open_(name: str | Path, *, width: int = 1280, height: int = 800, dark: bool = False, **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", **options
        )
        contexts.append(context)
        page = context.new_page()
        address = name if str(name).startswith("http") else (pages.get(str(name)) or Path(name)).as_uri()
        page.on("console", lambda m: troubles.append(f"console {m.type}: {m.text}") if m.type != "log" else None)
        page.on("pageerror", lambda error: troubles.append(f"exception: {error}"))
        page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda r: troubles.append(f"request: {r.url[:100]}") if _outside(r.url, address) else None)
        page.goto(address)
        page.wait_for_selector("html[data-ready]", timeout=20_000) if not options else None
        return page

    yield open_
    for context in contexts:
        context.close()
    assert troubles == []


def _outside(url: str, address: str) -> bool:
    return url not in (address, "about:srcdoc") and not url.startswith("data:")


@pytest.fixture
def screenshot() -> Callable[[Page, str], None]:
    """Keeps a picture of a page under build/browser, for people to look at."""

    def take(page: Page, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(150)
        page.screenshot(path=SCREENSHOTS / f"{name}.png")

    return take
