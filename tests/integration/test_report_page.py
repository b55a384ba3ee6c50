"""The report's page in a real Chromium, without network."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks.report.run_page import embed_curve, render_page
from tests.support.browser import keep_screenshots, open_page, open_tab
from tests.support.reports import gate, toy_report

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.integration

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 40"><path d="M0 0L90 40"/></svg>'
MOST_BYTES = 2_000_000
LEAST_CONTRAST = 4.5
CONTRASTS = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (parts) => {
    const [r, g, b] = parts.slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const parts = rgb(getComputedStyle(node).backgroundColor);
      if (parts.length === 3 || parts[3] > 0) return parts;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("main *")) {
    const isText = [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!isText || node.closest("svg")) continue;
    const [one, other] = [light(rgb(getComputedStyle(node).color)), light(behind(node))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([contrast, node.tagName + "." + node.className]);
  }
  return found;
}"""
"""Contrast of each text with what is behind it (WCAG 2.2, 1.4.3)."""


def full_report(n_answers: int) -> dict[str, Any]:
    roles = ("base", "champion", "challenger")
    answers = [
        {
            "prompt": f"Question {number} <b>",
            "reference": "the cat sat on the mat " * 60,
            "base": "a dog sat under the mat " * 60,
            "champion": "the cat sat " * 90,
            "challenger": "the cat sat on the mat " * 60,
        }
        for number in range(n_answers)
    ]
    slices = [
        {
            "by": "length",
            "value": value,
            "n_rows": n_rows,
            "is_small": False,
            "metrics": {"loss": 1},
        }
        for value, n_rows in (("short", 30), ("middle", 4), ("long", 110))
    ]
    rules: list[dict[str, Any]] = [
        {
            "id": f"rule_{verdict}",
            "severity": "block",
            "verdict": verdict,
            "n_rows": 0,
            "fraction": 0.0,
            "limit": None,
            "observed": None,
            "examples": [],
            "fix": "drop these rows",
            "detail": "",
        }
        for verdict in ("passed", "failed", "warned", "skipped")
    ]
    report = toy_report(
        answers=answers,
        gates=[gate(), gate(against="champion", verdict="failed", interval_low=-0.5)],
        metrics={role: {"loss": 1.5, "chrf": 0.5} for role in roles},
        slices=dict.fromkeys(roles, slices),
        retrain={"detail": "214 rows are new"},
        judge={"base": {"rows": 4, "won": 3, "flips": 1}},
        training_rows=[[("<|im_start|>user\nHi", False), ("Hello", True)]],
        timings={
            "flow_run_id": "run-1",
            "flow_run_url": None,
            "stages": [
                {"stage": "decide", "event": "MISS", "detail": "first run", "seconds": 2.0},
                {"stage": "load_dataset", "event": "HIT", "detail": "verified", "seconds": None},
            ],
        },
    )
    report["data"]["rules"] = rules
    return report


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "curve.svg").write_text(SVG, encoding="utf-8")
    curve = embed_curve(folder / "curve.svg", [{"step": 1, "loss": 2.0}])
    path = folder / "report.html"
    path.write_text(render_page(full_report(200), curve), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(page_path: Path) -> Iterator[Page]:
    with open_page(page_path) as opened:
        yield opened


def test_page_with_many_answers_stays_small(page_path: Path) -> None:
    assert page_path.stat().st_size < MOST_BYTES


def test_page_draws_its_charts(page: Page) -> None:
    for selector in ("img.curve", ".gate-chart", ".gate-chart .dot"):
        found = page.locator(selector)
        assert found.count() > 0
        for place in range(found.count()):
            box = found.nth(place).bounding_box()
            assert box
            assert box["width"] > 0
            assert box["height"] > 0
    assert page.evaluate("document.querySelector('img.curve').naturalWidth") > 0


def test_page_sorts_a_table_by_mouse_and_keyboard(page: Page) -> None:
    rows = page.locator("#slice-table tbody tr td:nth-child(3)")
    header = page.locator("#slice-table thead th").nth(2)
    header.locator("button").click()
    assert rows.all_inner_texts() == ["4", "30", "110"]
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert rows.all_inner_texts() == ["110", "30", "4"]
    assert header.get_attribute("aria-sort") == "descending"


def test_page_has_ordered_headings_and_named_tables(page: Page) -> None:
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((one) => Number(one.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("img:not([alt])").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_reads_in_light_and_dark(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    contrasts = page.evaluate(CONTRASTS)
    assert contrasts
    assert [one for one in contrasts if one[0] < LEAST_CONTRAST] == []


def test_page_fits_a_telephone_and_prints(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.emulate_media(media="print", color_scheme="dark")
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(255, 255, 255)"


def test_pictures_of_the_page_are_kept(page: Page) -> None:
    assert all(path.stat().st_size > 10_000 for path in keep_screenshots(page, "report"))


HARM = (
    "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    '<svg onload="document.title = \'taken\'">"><iframe src="javascript:alert(1)"></iframe>'
    "</style></textarea><a href=\"javascript:document.title = 'taken'\" autofocus "
    "onfocus=\"document.title = 'taken'\">a</a>{{ 7 * 7 }}\x1b[2J\u202e"
)


def harmed(value: Any) -> Any:
    """Put what harms a page into every text of a report."""
    if isinstance(value, str):
        return f"{value}{HARM}" if value not in KEPT else value
    if isinstance(value, dict):
        return {name: harmed(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [harmed(item) for item in value]
    return value


KEPT = {
    "base",
    "champion",
    "challenger",
    "passed",
    "failed",
    "warned",
    "absolute",
    "promote",
    "refuse",
}
"""Words that the page looks up."""


def test_no_text_of_a_report_is_run_or_shown_as_markup(page: Page, tmp_path: Path) -> None:
    report = harmed(full_report(20))
    path = tmp_path / "report.html"
    path.write_text(render_page(report, {"source": "data:,", "text": HARM}), encoding="utf-8")
    with open_tab(page.context, path) as opened:
        opened.evaluate(
            "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
        )
        for button in opened.locator("th button").all():
            button.click()
        assert opened.evaluate("document.title") != "taken"
        assert (
            opened.locator("iframe, svg[onload], img:not(.curve), [onerror], [onfocus]").count()
            == 0
        )
        assert opened.locator("script").count() == 1
        assert opened.locator("a[href^='javascript:']").count() == 0
        assert "49" not in opened.locator(".answer h3").first.inner_text()
        text = opened.evaluate("document.body.innerText")
        assert "<script>document.title" in text
        assert not set("\x1b\u202e") & set(text)
