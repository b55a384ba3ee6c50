"""A real headless Chromium (Debian's package) that opens pages from disk, without network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.parts import CHROMIUM, PLAYWRIGHT

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

OUTPUT = Path(
    os.environ.get("SFT_TEST_OUTPUT", Path(__file__).parents[2] / "build" / "screenshots")
)
"""Where pictures of the pages are kept for people to look at."""
WIDTHS = {"wide": 1280, "narrow": 390}
HEIGHT = 3000
"""Of a picture: what lies further down is left out."""


@contextmanager
def open_page(path: Path) -> Iterator[Page]:
    """Open a page, and fail when it complains or asks the network for anything.

    Args:
        path: The HTML file.

    Yields:
        The page.
    """
    PLAYWRIGHT.require()
    CHROMIUM.require()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        with open_tab(browser.new_context(offline=True), path) as opened:
            yield opened
        browser.close()


@contextmanager
def open_tab(context: BrowserContext, path: Path) -> Iterator[Page]:
    """Open a page in a browser that runs, and fail as `open_page` does.

    Args:
        context: Of the browser, e.g. that of another page.
        path: The HTML file.

    Yields:
        The page.
    """
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on(
        "request",
        lambda request: (
            problems.append(request.url[:99]) if request.url.startswith("http") else None
        ),
    )
    opened.goto(path.as_uri())
    yield opened
    opened.close()
    assert problems == []


def keep_screenshots(page: Page, name: str) -> list[Path]:
    """Keep pictures of a page: wide in light and dark, and narrow.

    Args:
        page: The page.
        name: Beginning of the files' names.

    Returns:
        The pictures.
    """
    OUTPUT.mkdir(parents=True, exist_ok=True)
    kept = []
    for width, scheme in (("wide", "light"), ("wide", "dark"), ("narrow", "light")):
        page.emulate_media(media="screen", color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": WIDTHS[width], "height": HEIGHT})
        path = OUTPUT / f"{name}-{width}-{scheme}.png"
        page.screenshot(path=path)
        kept.append(path)
    return kept
