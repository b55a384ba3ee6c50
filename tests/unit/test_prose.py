"""Plain English where users and readers look: pages, help, messages, docstrings and comments."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from flows.cli.main import main

ROOT = Path(__file__).parents[2]
NOT_PROSE = ("benchmarks/_conversations.py",)
"""Files whose texts are data: the words of made-up conversations."""
DIALECT = {
    r"mend(s|ed|ing)?": "fix",
    r"anew|afresh": "again",
    r"asunder|parted": "split",
    r"beside": "next to, besides, in addition to",
    r"for want of": "without",
    r"nobody|somebody": "no one, another process, or the thing itself",
    r"the former(?! (is|was))": "the previous",
    r"stands? (in|on|at|under|before|still|beside)": "is in, is on",
    r"(lie|lies|lay) (in|on|at|under|below|above|there|elsewhere)": "is in, is stored in",
    r"sa(id|ys) (no|so|yes)": "refused, rejects, reports",
    r"has no news": "sends no events",
    r"(is|are|was|were|be|being|been|gets) told": "is notified, is sent",
    r"(?<![</])figures?(?!:)": "metric, value, number, result",
    r"judged": "evaluated",
    r"of ours|of the user's own": "our, the user's",
    r"held to": "checked against",
    r"amiss|hinders": "wrong, prevents",
    r"for ever and|goes? forth": "say it directly",
}
"""Words to avoid, as regular expressions, and what to write instead."""
PATTERNS = {re.compile(rf"\b(?:{word})\b", re.IGNORECASE): DIALECT[word] for word in DIALECT}
OPENINGS = re.compile(r"(Say|Tell|Give|Name|Hold|Lay|Put)\b")
"""First words of docstrings that hide the verb: Return, Format, Report, List, Check, Write, Find."""
PAGES = (
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("*.yaml"),
    *ROOT.glob("deploy/**/*.yaml"),
    *ROOT.glob("tasks/report/pages/*.jinja"),
    *ROOT.glob("requirements/*.txt"),
    ROOT / "Makefile",
    ROOT / "deploy" / "Dockerfile",
)
SOURCES = [
    path
    for room in ("benchmarks", "flows", "schemas", "tasks")
    for path in (ROOT / room).rglob("*.py")
]


def is_exempt(path: Path) -> bool:
    name = path.relative_to(ROOT)
    return any(name.is_relative_to(each) for each in NOT_PROSE)


def faults_of(text: str) -> list[str]:
    return [
        f"{found.group()!r}: {better}"
        for pattern, better in PATTERNS.items()
        for found in pattern.finditer(text)
    ]


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """Find docstrings, comments and texts of more than one word, each with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths if not is_exempt(path)]


@pytest.mark.parametrize("name", names(sorted(PAGES)))
def test_pages_are_in_plain_english(name: str) -> None:
    assert faults_of((ROOT / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", names(sorted(SOURCES)))
def test_texts_in_code_are_in_plain_english(name: str) -> None:
    source = (ROOT / name).read_text(encoding="utf-8")
    faults = [f"line {line}: {each}" for line, text in prose_of(source) for each in faults_of(text)]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and OPENINGS.match(ast.get_docstring(node) or ""):
            faults.append(f"docstring opens with: {(ast.get_docstring(node) or '')[:60]}")
    assert faults == []


@pytest.mark.parametrize("name", sorted(main.commands))
def test_help_is_in_plain_english(name: str) -> None:
    command = main.commands[name]
    text = command.get_help(click.Context(command, info_name=name, parent=click.Context(main)))
    assert faults_of(text) == []


@pytest.mark.parametrize(
    ("text", "n_faults"),
    [
        ("how to mend it", 1),
        ("besides, recommend the mending", 1),
        ("rows stand in a file, which\nlies in SFT_HOME", 2),
        ("the figures: judged anew", 2),
        ("the app stands for itself", 0),
    ],
)
def test_faults_are_found(text: str, n_faults: int) -> None:
    assert len(faults_of(text)) == n_faults
