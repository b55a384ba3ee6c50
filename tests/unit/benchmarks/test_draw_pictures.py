from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from benchmarks.draw_pictures import PER_LINE, draw_flow
from schemas.records.stages import Stage

PICTURE = Path(__file__).parents[3] / "docs" / "pictures" / "flow.svg"


def test_flow_is_drawn_stage_by_stage_with_an_arrow_between() -> None:
    names = [f"stage_{number}" for number in range(PER_LINE + 2)]
    root = ElementTree.fromstring(draw_flow(names))  # noqa: S314 - our own text
    space = "{http://www.w3.org/2000/svg}"
    assert [text.text for text in root.iter(f"{space}text")] == names
    assert len(list(root.iter(f"{space}path"))) == len(names) - 1


def test_picture_in_the_docs_shows_the_stages_there_are() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw_flow(list(Stage))
