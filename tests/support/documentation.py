"""The commands that the pages show, for the tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """Find the fenced blocks of a page.

    Args:
        page: Its text.
        language: Named after the fence.

    Returns:
        Their texts.
    """
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def documented(page: str, *commands: str) -> list[str]:
    """Find the lines of a page that call some of our commands.

    Args:
        page: Its path in the repository.
        commands: Their names, such as status.

    Returns:
        The lines without comments, each once, in their order.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = "\n".join(blocks(text, "sh")).splitlines()
    found = [line.split("  #")[0].strip() for line in lines if line.startswith("sft-flow ")]
    return list(dict.fromkeys(line for line in found if line.split()[1] in commands))
