"""Check on SmolLM2-135M that a worse model is refused and a better one promoted.

Usage: python -m benchmarks.measure_promotion. Three runs of the flow under one registered name, evaluated on
the same held-out rows of the construction FAQ: the demo, the first of its name; one epoch on the true answers;
one epoch on the same questions with shuffled answers, which gains in loss but must fail the gate
`prompt_dependence_kept`, against the base. The last line is one JSON document with the decision, the
gates and the aliases after each run; a wrong decision ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NAME = "planted"
SEED = 42


def write_shuffled(train: Path, target: Path) -> None:
    """Replace the answer of every conversation by that of another one.

    Args:
        train: `train.jsonl` of the first run.
        target: The file to write, as prompts and completions, which the FAQ's rows are too.
    """
    rows = [json.loads(line) for line in train.read_text(encoding="utf-8").splitlines()]
    answers = [row["messages"][-1]["content"] for row in rows]
    random.Random(SEED).shuffle(answers)  # noqa: S311 - a fixed order, no secret
    with target.open("w", encoding="utf-8") as stream:
        for row, answer in zip(rows, answers, strict=True):
            prompt = row["messages"][-2]["content"]
            stream.write(json.dumps({"prompt": prompt, "completion": answer}) + "\n")


def run_flow(environment: dict[str, str], *settings: str) -> dict[str, Any]:
    """Run the flow once.

    Args:
        environment: Of the process; names the work directory.
        settings: Overrides of the demo's configuration.

    Returns:
        The run's report.

    Raises:
        SystemExit: The run failed, which is neither a promotion nor a refusal.
    """
    tool = str(Path(sys.executable).with_name("sft-flow"))
    overrides = [part for setting in settings for part in ("--set", setting)]
    command = [tool, "run", "-c", "demo.yaml", "--json", "--set", f"registry.name={NAME}"]
    done = subprocess.run(
        [*command, *overrides], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise SystemExit(f"the run ended with exit code {done.returncode} and no report")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """Extract the decision from a report.

    Args:
        report: Report of one run.

    Returns:
        Decision, reason, gates, losses of every role, and the version promoted or refused.
    """
    keys = ("id", "verdict", "opponent", "challenger", "gain", "interval_low", "interval_high")
    return {
        "decision": report["decision"],
        "reason": report["reason"],
        "version": report["registry"]["version"],
        "is_champion": report["registry"]["is_promoted"],
        "losses": {role: scores["loss"] for role, scores in report["metrics"].items()},
        "gates": [{key: gate[key] for key in keys} for gate in report["gates"]],
        "n_steps": report["training"]["n_steps"],
    }


def find_fault(found: dict[str, dict[str, Any]]) -> str:
    """Describe a wrong decision about the better or the worse model; empty if both are right."""
    faults = []
    if not found["better"]["is_champion"]:
        faults.append(f"the better model was not promoted: {found['better']['reason']}")
    if found["worse"]["is_champion"]:
        faults.append(f"the worse model was promoted: {found['worse']['reason']}")
    return "; ".join(faults)


def main() -> None:
    """Run the three trainings and print what was decided of each.

    Raises:
        SystemExit: The worse model was promoted, or the better one was not.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="work directory; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sft-flow-promotion-") as temporary:
        root = arguments.folder or Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "SFT_HOME": str(root / "home")}
        first = run_flow(environment)
        split = max((root / "home" / "stages" / "split_dataset").glob("*/train.jsonl"))
        write_shuffled(split, root / "shuffled.jsonl")
        pinned = f"split.pinned={{source: {split.with_name('eval.jsonl')}}}"
        shuffled = f"data.source.source={root / 'shuffled.jsonl'}"
        epoch = "training.max_steps=null"
        better = run_flow(environment, epoch)
        worse = run_flow(environment, shuffled, pinned, epoch)
    found = {"first": figures(first), "better": figures(better), "worse": figures(worse)}
    sys.stdout.write(json.dumps(found) + "\n")
    if fault := find_fault(found):
        raise SystemExit(fault)


if __name__ == "__main__":
    main()
