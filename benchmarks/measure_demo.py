"""Run the demo twice in a fresh work directory and measure time and memory from outside.

Usage: python benchmarks/measure_demo.py [-c demo.yaml]. The last line is one JSON document.
Memory is the proportional set size of the run's whole process tree, so that pages shared by
two processes count once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.5


def tree_memory_bytes(process: psutil.Process) -> int:
    """Add up the memory of a process and all its descendants."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def measure(command: list[str], environment: dict[str, str], log: Path) -> dict[str, float]:
    """Run a command, sampling the memory of its process tree."""
    started = time.monotonic()
    peak = 0
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        while process.poll() is None:
            peak = max(peak, tree_memory_bytes(psutil.Process(process.pid)))
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}:\n{log.read_text()}")
    return {
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_gib": round(peak / 2**30, 2),
    }


def main() -> None:
    """Measure a first and a second run, and print what the report says of the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-c", "--config", default="demo.yaml")
    arguments = parser.parse_args()
    tool = str(Path(sys.executable).with_name("sft-flow"))
    command = [tool, "run", "-c", arguments.config, "--json"]
    with tempfile.TemporaryDirectory(prefix="sft-flow-demo-") as folder:
        root = Path(folder)
        environment = {**os.environ, "SFT_HOME": str(root / "home")}
        if "PREFECT_API_URL" not in environment:
            environment["PREFECT_HOME"] = str(root / "prefect")
        first = measure(command, environment, root / "first.log")
        second = measure(command, environment, root / "second.log")
        report_path = next((root / "home" / "stages" / "publish_report").glob("*/report.json"))
        report: dict[str, Any] = json.loads(report_path.read_text(encoding="utf-8"))
    gate = next(gate for gate in report["gates"] if gate["id"] == "loss_below_base")
    figures = {
        "first_run": first,
        "second_run": second,
        "decision": report["decision"],
        "base_loss": gate["base"],
        "tuned_loss": gate["tuned"],
        "gain": gate["gain"],
        "interval": [gate["interval_low"], gate["interval_high"]],
        "training_tokens_per_second": report["training"]["tokens_per_second"],
        "n_tokens_seen": report["training"]["n_tokens_seen"],
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
