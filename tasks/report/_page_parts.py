"""What the three pages share: rendering, harmless texts, bars and token rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import redaction
from tasks.engine import wording

PAGES = Path(__file__).parent / "pages"
MOST_CHARACTERS = 500
"""Of a text of the data on the page: a role's name may be megabytes long."""
MOST_TOKENS = 1500
MOST_ROW_CHARACTERS = 50_000
"""Of a rendered row on the page."""


@dataclass(frozen=True)
class Bar:
    """One line of a histogram."""

    label: str
    count: int
    percent: float
    """Of the longest bar."""


def visible(text: Any, most: int | None = MOST_CHARACTERS) -> str:
    r"""Make a text of the data harmless: cut, and with invisible characters written out.

    Args:
        text: Any value.
        most: Characters to show; None: all.

    Returns:
        The text with control, format and private characters as `\u202e`, except tab, line feed and
        joiners.
    """
    whole = str(text)
    shown = redaction.visible(whole[:most])
    return f"{shown}…" if most is not None and len(whole) > most else shown


def _finished(value: Any) -> Any:
    """Write out invisible characters of every text on a page that is not markup of its template."""
    return redaction.visible(value) if type(value) is str else value


def render(template: str, **values: Any) -> str:
    """Render a template of `pages`; everything that is not a template is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finished,
    )
    names = ("duration", "interval", "number", "optional_share", "share")
    signed = ("signed_interval", "signed_number")
    environment.filters.update({name: getattr(wording, name) for name in (*names, *signed)})
    environment.filters["visible"] = visible
    return environment.get_template(template).render(**values)


def histogram_bars(counts: Sequence[int]) -> list[Bar]:
    """Turn counts of bins 0, 1, 2-3, 4-7, 8-15 and so on into bars, from the first above 0."""
    bars: list[Bar] = []
    most = max(counts, default=0)
    for bit, count in enumerate(counts):
        if bars or count:
            low, high = (1 << bit) >> 1, max(0, (1 << bit) - 1)
            label = f"{low:,}" if low >= high else f"{low:,} to {high:,}"
            bars.append(Bar(label, count, 100 * count / most))
    return bars


def named_bars(counts: Mapping[str, int]) -> list[Bar]:
    """Turn counts by name, at least one, into bars in the same order."""
    most = max(counts.values())
    return [Bar(name, count, 100 * count / max(1, most)) for name, count in counts.items()]


@dataclass(frozen=True)
class RenderedRow:
    """A row as the model sees it, or its beginning."""

    parts: list[tuple[str, bool]]
    """Text of each token, and whether it is trained."""
    is_cut: bool


def cut_row(row: Sequence[tuple[str, bool]]) -> RenderedRow:
    """Keep the beginning of a row: text of each token, and whether it is trained."""
    parts: list[tuple[str, bool]] = []
    n_left = MOST_ROW_CHARACTERS
    for text, is_trained in row[:MOST_TOKENS]:
        parts.append((text[:n_left], is_trained))
        n_left -= len(text)
        if n_left <= 0:
            break
    return RenderedRow(parts, n_left < 0 or len(parts) < len(row))


@dataclass(frozen=True)
class TokenParts:
    """The token section of the page."""

    numbers: dict[str, str]
    tables: dict[str, dict[str, str]]
    histograms: dict[str, list[Bar]]


def token_parts(tokens: Mapping[str, Any]) -> TokenParts:
    """Sort what the token rules measured by how it is shown, without missing values.

    Args:
        tokens: Numbers, groups of numbers, and histograms with bins that double in width, by name.

    Returns:
        The same as text, by title.
    """
    parts = TokenParts({}, {}, {})
    for name, value in tokens.items():
        title = name.replace("_", " ").removeprefix("n ").capitalize()
        if isinstance(value, Mapping):
            parts.tables[title] = {
                str(key).replace("_", " "): _amount(f"{name}_{key}", item)
                for key, item in value.items()
                if isinstance(item, (int, float, str))
            }
        elif isinstance(value, (list, tuple)):
            if value and all(type(count) is int for count in value):
                parts.histograms[title] = histogram_bars(value)
        elif value is not None:
            parts.numbers[title] = _amount(name, value)
    return parts


def _amount(name: str, value: float | str) -> str:
    """Format a value in the unit that its name ends in."""
    if isinstance(value, (bool, str)):
        return str(value)
    is_share = name.endswith(("_fraction", "_share"))
    return wording.share(value) if is_share else wording.number(value)
