"""Texts of data and models within Markdown: shown as they are, with no link, image or HTML of theirs."""

from __future__ import annotations

import html
import re

from schemas.redaction import visible

MARKUP = re.compile(r"(?<=\])\(|://|(?<=www)\.|[`|*~]")
"""Begins a link, an address that becomes one by itself, code, a cell, or emphasis."""


def inline(text: str) -> str:
    """Write a text within a paragraph or a cell of a table, on one line."""
    one_line = " ".join(text.replace("\\", "\\\\").split())
    safe = html.escape(visible(one_line), quote=False)
    return MARKUP.sub(r"\\\g<0>", safe)


def code(text: str) -> str:
    """Write a text as code within a line, without its backticks."""
    return f"`{' '.join(visible(text).replace('`', ' ').split()) or '-'}`"


def code_block(text: str) -> str:
    """Write a text of any lines as a block of code that nothing in it can end."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    return f"{fence}\n{visible(text)}\n{fence}"
