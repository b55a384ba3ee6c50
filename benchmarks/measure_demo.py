"""Run the demo twice in a fresh work directory and measure time and memory from outside.

Usage: python -m benchmarks.measure_demo [-c demo.yaml]. The last line is one JSON document.
Memory is the proportional set size of the run's whole process tree, so that pages shared by
two processes count once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._process import measure

SAMPLE_SECONDS = 0.5


def measure_run(command: list[str], environment: dict[str, str], log: Path) -> dict[str, float]:
    """Measure a command, and round the results."""
    found = measure(command, environment, log, SAMPLE_SECONDS)
    return {
        "seconds": round(found.seconds, 1),
        "peak_memory_gib": round(found.peak_memory_bytes / 2**30, 2),
    }


def main() -> None:
    """Measure a first and a second run, and print the decision of the report."""
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
        first = measure_run(command, environment, root / "first.log")
        second = measure_run(command, environment, root / "second.log")
        report_path = next((root / "home" / "stages" / "publish_report").glob("*/report.json"))
        report: dict[str, Any] = json.loads(report_path.read_text(encoding="utf-8"))
    gate = next(gate for gate in report["gates"] if gate["id"] == "loss_below_base")
    results = {
        "first_run": first,
        "second_run": second,
        "decision": report["decision"],
        "base_loss": gate["opponent"],
        "challenger_loss": gate["challenger"],
        "gain": gate["gain"],
        "interval": [gate["interval_low"], gate["interval_high"]],
        "training_tokens_per_second": report["training"]["tokens_per_second"],
        "n_tokens_seen": report["training"]["n_tokens_seen"],
    }
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
