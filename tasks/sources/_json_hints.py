"""What people mean where JSON has an error: comments, trailing commas, Python's notation."""

from __future__ import annotations

import re

TRAILING_COMMA = "a comma before the closing bracket; take it out"
PYTHON_WORDS = re.compile(r"(True|False|None|nan|inf|undefined)\b")
LOOSE_NAME = re.compile(r"[A-Za-z_$][\w$]*\s*:")


def find_hint(text: str, position: int) -> str:
    """Explain an error of JSON by what is there.

    Args:
        text: The text around the error.
        position: Where the parser stopped.

    Returns:
        What it is and how to write it; empty where nothing is known.
    """
    here = text[position : position + 200].lstrip()
    before = text[max(0, position - 200) : position].rstrip()
    if here.startswith(("//", "/*", "#")):
        return "a comment; JSON has none, so take it out"
    if here.startswith(("]", "}")) and before.endswith(","):
        return TRAILING_COMMA
    if here.startswith(",") and here[1:].lstrip().startswith(("]", "}")):
        return TRAILING_COMMA
    if here.startswith("'"):
        return "a text in single quotes, as Python prints it; write it with json.dumps"
    if found := PYTHON_WORDS.match(here):
        return f"{found.group()} is no JSON value; write true, false or null, as json.dumps does"
    if LOOSE_NAME.match(here):
        return "a name without quotes; write it in double quotes"
    return ""
