"""The page of all settings is what `RunConfig` says."""

from __future__ import annotations

from pathlib import Path

from schemas.tables.settings import setting_table

PAGE = Path(__file__).parents[4] / "docs" / "configuration.md"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == setting_table(), "run make docs"


def test_every_setting_says_what_it_means() -> None:
    rows = [line for line in setting_table().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [line for line in rows if line.endswith("|  |")] == []


def test_types_and_defaults_read_as_in_a_file() -> None:
    page = setting_table()
    assert "| `kind` | `auto` or `chatml` or `file` or `clone` | `auto` |" in page
    assert "| `trust_remote_code` | true or false | `false` |" in page
    assert "| `lm_eval` | section or null | null |" in page
    assert "## data.sources.<name>\n" in page
    assert "| `tasks` | list of text | required |" in page
