"""Write what the gate found: `report.json`, `profile.json` and a page a person can read."""

from __future__ import annotations

from pathlib import Path

from schemas.profile import HISTOGRAMS, DataProfile
from schemas.rules import RowRule
from tasks._page_parts import Bar, cut_row, histogram_bars, named_bars, token_parts, visible
from tasks._rule_lines import rule_line, verdict_reasons
from tasks.dataset.check_file import CheckReport, written
from tasks.engine.wording import share

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "data_report.html.jinja"
TITLES = {
    "prompt_characters": "Characters of the prompt",
    "answer_characters": "Characters of the answers",
    "n_messages": "Messages",
}


def write_gate_report(report: CheckReport, folder: Path) -> Path:
    """Write the report of a check.

    Args:
        report: What the gate found.
        folder: Gets `report.json`, `report.html` and, where the set was looked at, `profile.json`.

    Returns:
        The page.
    """
    with written(folder / "report.json") as stream:
        stream.write(report.model_dump_json(indent=1).encode("utf-8"))
    if report.profile is not None:
        with written(folder / "profile.json") as stream:
            stream.write(report.profile.model_dump_json(indent=1).encode("utf-8"))
    with written(folder / "report.html") as stream:
        stream.write(render_gate_page(report).encode("utf-8"))
    return folder / "report.html"


def render_gate_page(report: CheckReport) -> str:
    """Render the page: one HTML file without script or any outside resource.

    Args:
        report: What the gate found.

    Returns:
        HTML; everything from the data is escaped, cut and made visible.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    environment.filters.update(visible=visible, share=share)
    lines = [rule_line(result) for result in report.rules]
    broken = {result.id for result in report.rules}
    tokens = report.tokens or {}
    return environment.get_template(PAGE).render(
        report=report,
        reasons=verdict_reasons(report),
        lines=lines,
        unbroken=[rule for rule in RowRule if rule not in broken],
        is_set_checked=report.profile is not None,
        repairs={name: n for name, n in report.conversions.items() if _is_repair(name)},
        conversions={name: n for name, n in report.conversions.items() if not _is_repair(name)},
        histograms=_histograms(report.profile),
        mixes=_mixes(report.profile),
        tokens=token_parts(tokens),
        rendered_rows=[cut_row(row) for row in tokens.get("rendered_rows") or ()],
    )


def _is_repair(name: str) -> bool:
    return name.startswith("repaired_")


def _histograms(profile: DataProfile | None) -> dict[str, list[Bar]]:
    if profile is None:
        return {}
    found = {TITLES[name]: histogram_bars(getattr(profile, name)) for name in HISTOGRAMS}
    return {title: bars for title, bars in found.items() if bars}


def _mixes(profile: DataProfile | None) -> dict[str, list[Bar]]:
    if profile is None:
        return {}
    mixes = {
        "Messages by role": profile.roles,
        "Answers by language (sample)": profile.languages,
    }
    return {title: named_bars(counts) for title, counts in mixes.items() if counts}
