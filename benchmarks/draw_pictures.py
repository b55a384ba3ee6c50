"""Draw the pictures of the README: the flow from its stages, the report and history by Chromium.

Usage: python -m benchmarks.draw_pictures docs/pictures --history HOME. The report is the newest of
the work directory, the history the newest of HOME, where `benchmarks.make_history` made one.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from schemas.records.stages import Stage

PER_LINE = 5
BOX_WIDTH, BOX_HEIGHT, GAP = 168, 44, 26
WIDTH, MOST_HEIGHT = 1200, 1500
N_COLOURS = 256
"""Of a picture: a third of the bytes of a full one."""
STYLE = (
    "text { font: 15px system-ui, sans-serif; fill: #1c2024; } "
    "rect { fill: #eef3fa; stroke: #2f6db5; } path { fill: none; stroke: #565d66; } "
    "@media (prefers-color-scheme: dark) { text { fill: #e7e9ec; } "
    "rect { fill: #1d2a3a; stroke: #7fb0ea; } path { stroke: #a9b0b8; } }"
)


def draw_flow(stages: list[str]) -> str:
    """Draw the stages in their order, line by line, as SVG for light and dark mode."""
    n_lines = -(-len(stages) // PER_LINE)
    width = PER_LINE * (BOX_WIDTH + GAP) + GAP
    height = n_lines * (BOX_HEIGHT + GAP) + GAP
    places = [
        (
            GAP + (place % PER_LINE) * (BOX_WIDTH + GAP),
            GAP + place // PER_LINE * (BOX_HEIGHT + GAP),
        )
        for place in range(len(stages))
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>The flow: {escape(', '.join(stages))}</title><style>{STYLE}</style>",
    ]
    for stage, (x, y) in zip(stages, places, strict=True):
        parts.append(
            f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>'
            f'<text x="{x + BOX_WIDTH / 2}" y="{y + BOX_HEIGHT / 2 + 5}" text-anchor="middle">'
            f"{escape(stage)}</text>"
        )
    for (x, y), (after_x, after_y) in itertools.pairwise(places):
        if y == after_y:
            parts.append(f'<path d="M{x + BOX_WIDTH} {y + BOX_HEIGHT / 2}H{after_x}"/>')
        else:
            middle = after_y - GAP / 2
            parts.append(
                f'<path d="M{x + BOX_WIDTH / 2} {y + BOX_HEIGHT}V{middle}'
                f'H{after_x + BOX_WIDTH / 2}V{after_y}"/>'
            )
    return "\n".join([*parts, "</svg>\n"])


def photograph(page: Path, picture: Path) -> None:
    """Take a picture (PNG) of the top of a page (HTML)."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers:
        program = shutil.which("chromium")
        browser = browsers.chromium.launch(executable_path=program, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": WIDTH, "height": MOST_HEIGHT})
        opened.goto(page.absolute().as_uri())
        height = opened.evaluate("Math.ceil(document.querySelector('main').scrollHeight)")
        opened.set_viewport_size({"width": WIDTH, "height": min(height, MOST_HEIGHT)})
        opened.screenshot(path=picture)
        browser.close()
    Image.open(picture).convert("RGB").quantize(N_COLOURS).save(picture, optimize=True)


def newest(home: Path, pattern: str) -> Path:
    """Find the newest page.

    Args:
        home: The work directory.
        pattern: Path pattern of the pages.

    Returns:
        Path of the page.

    Raises:
        SystemExit: There is none.
    """
    found = sorted(home.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit(
            f"no {pattern} in {home}: run `make demo` and benchmarks.make_history first"
        )
    return found[-1]


def main() -> None:
    """Draw all three."""
    from tasks.engine.home import work_directory

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--history", type=Path, help="work directory of the history")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    home = work_directory()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flow.svg").write_text(draw_flow(list(Stage)), encoding="utf-8")
    photograph(newest(home, "stages/publish_report/*/report.html"), folder / "report.png")
    photograph(newest(arguments.history or home, "history/*.html"), folder / "history.png")
    sys.stdout.write(f"wrote flow.svg, report.png and history.png to {folder}\n")


if __name__ == "__main__":
    main()
