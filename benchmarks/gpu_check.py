"""Check training, evaluation and the memory estimate on a GPU; the last line is one JSON document.

Usage: python -m benchmarks.gpu_check [--wheels FOLDER] [--minutes N] [--tiny].

Needs Python 3.12 with torch and transformers; the packages of requirements/gpu-check.txt come from
a folder of wheels, so that no network is needed; that file has the `pip download` that fills the
folder. Models are random Llamas of about 135 million and 1 billion parameters, rows are made up.
Each part runs in a process of its own; a part that would begin after the time is over is left out.
`--tiny` proves the script on a CPU in two minutes.
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

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "build" / "gpu-check" / "site-packages"
"""By this name dill, with which `datasets` hashes functions, knows that these are libraries; it tries
to pickle modules of other folders, and fails at pyarrow's."""
PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense bf16 of NVIDIA's data sheets; other cards are compared with the measured product alone."""
GOALS = {"share_1b": 0.45, "ratio_to_stock": 1.5, "estimate_error": 0.15}
GPU_STEPS = {"ours": "24", "stock": "24"}
TINY_STEPS = {"ours": "12", "stock": "3"}


def install(wheels: Path) -> None:
    """Unpack wheels into a folder that only the parts import from."""
    names = [str(path) for path in sorted(wheels.glob("*.whl"))]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--upgrade", "--target", str(PACKAGES), *names], check=True)


class Check:
    """Runs parts until the time is over, and keeps what they measure."""

    def __init__(self, seconds: float) -> None:
        """Begin now."""
        self.ends = time.monotonic() + seconds
        self.results: dict[str, Any] = {}
        self.failed: dict[str, str] = {}

    def run(self, name: str, kind: str, folder: Path, *words: str) -> dict[str, Any]:
        """Run a part.

        Args:
            name: Of its results.
            kind: Which part of `_gpu_parts`.
            folder: What `prepare` filled.
            *words: Its arguments.

        Returns:
            What it measured; empty where it failed or had no time.
        """
        left = self.ends - time.monotonic()
        if left <= 0:
            self.failed[name] = "left out: the time is over"
            return {}
        began = time.monotonic()
        command = [sys.executable, "-m", "benchmarks._gpu_parts", kind, str(folder), *words]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                cwd=ROOT,
                env=environment(),
                timeout=left,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self.failed[name] = f"stopped after {left:.0f} s: the time is over"
            return {}
        if done.returncode:
            self.failed[name] = done.stderr[-3000:]
            return {}
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        self.results[name] = found | {"part_seconds": round(time.monotonic() - began, 1)}
        sys.stderr.write(f"{name}: {json.dumps(self.results[name])}\n")
        return found


def environment() -> dict[str, str]:
    """Return the environment of a part: the unpacked packages first, no network."""
    paths = [str(PACKAGES), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


def check(scratch: Path, seconds: float, *, is_tiny: bool) -> Check:
    """Run all parts, the most important first.

    Args:
        scratch: For models and outputs.
        seconds: When to stop.
        is_tiny: Use models and rows for a CPU.

    Returns:
        What was measured.
    """
    found = Check(seconds)
    work, sizes = ("tiny", ("tiny",)) if is_tiny else ("gpu", ("135m", "1b"))
    steps = TINY_STEPS if is_tiny else GPU_STEPS
    found.run("peak", "peak", scratch)
    for size in sizes:
        folder = scratch / size
        folder.mkdir()
        found.run(f"prepare {size}", "prepare", folder, size, work)
        found.run(f"full {size}", "train", folder, "full", work, steps["ours"])
        found.run(f"lora {size}", "train", folder, "lora", work, steps["ours"])
        found.run(f"stock {size}", "stock", folder, steps["stock"])
    small = scratch / sizes[0]
    found.run("isolation", "isolation", small)
    found.run("resume", "resume", small, work)
    found.run("generation", "generation", small)
    return found


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Compute shares, ratios and goals.

    Useful operations are 6 N for each token of a row where every weight is trained; with an
    adapter 4 N and 6 for each of its weights, since frozen weights have no gradient.

    Args:
        results: What the parts measured, by name.

    Returns:
        For each training `share_of_peak` (of the data sheet, else of the measured product) and
        `ratio_to_stock`; and each goal as met or missed where it was measured.
    """
    device, measured = results["peak"]["device"], results["peak"]["flop_per_second"]
    peak = next((flop for name, flop in PEAKS.items() if name in device), measured)
    trainings: dict[str, Any] = {}
    for name, run in results.items():
        method, _, size = name.partition(" ")
        if method not in ("full", "lora"):
            continue
        n_weights, n_trained = (
            results[f"prepare {size}"]["n_parameters"],
            run["n_trainable_parameters"],
        )
        flop = 6 * n_weights if method == "full" else 4 * n_weights + 6 * n_trained
        speed = run["tokens_per_second"]
        stock = results.get(f"stock {size}", {}).get("tokens_per_second")
        trainings[name] = {
            "tokens_per_second": speed,
            "share_of_peak": speed * flop / peak,
            "share_of_product": speed * flop / measured,
            "ratio_to_stock": speed / stock if stock else None,
            "estimate_error": run["estimate_error"],
        }
    return {"peak_flop_per_second": peak, "trainings": trainings, "goals": goals(trainings)}


def goals(trainings: dict[str, Any]) -> dict[str, bool]:
    """Return which goals are met, of those that were measured."""
    large = trainings.get("full 1b")
    met = {"share_1b": large["share_of_peak"] >= GOALS["share_1b"]} if large else {}
    for name, run in trainings.items():
        if name.endswith("tiny"):
            continue  # it proves the script, and measures nothing
        if name.startswith("full") and run["ratio_to_stock"]:
            met[f"ratio_to_stock {name}"] = run["ratio_to_stock"] >= GOALS["ratio_to_stock"]
        met[f"estimate {name}"] = abs(run["estimate_error"]) <= GOALS["estimate_error"]
    return met


def table(summary: dict[str, Any]) -> str:
    """Format the trainings and goals."""
    lines = [f"{'':10} {'tokens/s':>10} {'of peak':>8} {'x stock':>8} {'estimate':>9}"]
    for name, run in summary["trainings"].items():
        ratio = f"{run['ratio_to_stock']:8.2f}" if run["ratio_to_stock"] else f"{'':8}"
        lines.append(
            f"{name:10} {run['tokens_per_second']:10,.0f} {run['share_of_peak']:8.1%} {ratio} "
            f"{run['estimate_error']:+9.0%}"
        )
    lines += [f"{name}: {'met' if met else 'MISSED'}" for name, met in summary["goals"].items()]
    return "\n".join(lines) + "\n"


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        words: Its words; None takes the process's own.

    Returns:
        The options.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--wheels", type=Path, help="filled by the pip download in requirements/gpu-check.txt"
    )
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args(words)


def main() -> int:
    """Check and print; 1 where a part failed."""
    arguments = parse_arguments()
    if arguments.wheels:
        install(arguments.wheels)
    with tempfile.TemporaryDirectory(prefix="sft-flow-gpu-") as scratch:
        found = check(Path(scratch), 60 * arguments.minutes, is_tiny=arguments.tiny)
    summary = summarise(found.results) if "peak" in found.results else {}
    for name, reason in found.failed.items():
        sys.stderr.write(f"FAILED {name}: {reason}\n")
    if summary:
        sys.stdout.write(table(summary))
    document = {**summary, "parts": found.results, "failed": found.failed}
    sys.stdout.write(json.dumps(document) + "\n")
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
