"""Measure the data gate: time against a bare `json.loads` loop, memory, tokens, start-up, peers.

Usage: python -m benchmarks.measure_check [--rows 200000] [--skip-4m] [--skip-tokens] [--skip-peers].
The last line is one JSON document, before it stands a table.

Everything is measured in one run on one generated file (see `_conversations.py`), each time in a
fresh process. Other work disturbs times, and only ever makes them longer: what is compared takes
turns, and of each the least of its repeats counts (the median is given too); commands on 1,000 rows
are given by their median. Times of the gate and of the loop are taken inside the process, imports
included, the start of Python left out; times of `sft-flow check` are those of the whole command.

Memory is the largest sum, sampled every 50 ms, of the proportional set sizes of all processes of a
run of `sft-flow check`. With four times the rows it may grow by a fifth at most. Looking at the
memory of a process holds it up, so the times of these runs (`sampled_seconds`) are not compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._conversations import CHUNK_ROWS, copy_lines, write_conversations
from benchmarks._process import Measured, measure
from benchmarks._results import compare_peers, rounded, table
from schemas.rule_ids import RowRule

ROOT = Path(__file__).parents[1]
GIB = 2**30
SAMPLE_SECONDS = 0.05
N_ROWS = 1_000_000
LARGE_FACTOR = 4
REPEATS = 3
LONG_REPEATS = 2
"""Of the checks of the whole file."""
PEER_ROWS = 50_000
PANDERA_ROWS = 300
TOKEN_ROWS = 20_000
SMALL_ROWS = 1_000
WITHOUT_NEAR = ("--set", "quality.rules.near_duplicate_fraction.severity=off")


@dataclass
class Bench:
    """Where the measurements run, and what they have found so far."""

    folder: Path
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of processes, with their own work directory."""
        quiet = {"DO_NOT_TRACK": "1", "GX_ANALYTICS_ENABLED": "false"}
        return {**os.environ, **quiet, "SFT_HOME": str(self.folder / "home")}

    def timed(self, kind: str, path: Path, *arguments: str) -> dict[str, Any]:
        """Run one measurement of `_timed.py` in a process of its own.

        Args:
            kind: Name of the measurement.
            path: File it works on.
            arguments: What else it takes.

        Returns:
            What it prints.

        Raises:
            SystemExit: It failed.
        """
        command = [sys.executable, "-m", "benchmarks._timed", kind, str(path), *arguments]
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        say(f"{kind} {' '.join(arguments)}: {found['seconds']:.2f} s")
        return found

    def command(self, path: Path, *options: str) -> Measured:
        """Run `sft-flow check` and sample the memory of its processes."""
        found = measure(check_command(path, *options), self.environment, self.log, SAMPLE_SECONDS)
        gib = found.peak_memory_bytes / GIB
        say(f"sft-flow check {' '.join(options)}: {found.seconds:.2f} s, {gib:.2f} GiB")
        return found

    def wall_seconds(self, path: Path, *options: str) -> float:
        """Run `sft-flow check` and look at nothing but the clock."""
        started = time.monotonic()
        command = check_command(path, *options)
        done = subprocess.run(command, env=self.environment, capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr.decode()}")
        seconds = time.monotonic() - started
        say(f"{' '.join(command[1:])}: {seconds:.2f} s")
        return seconds

    @property
    def log(self) -> Path:
        """Path of the file for the output of commands."""
        return self.folder / "command.log"


def check_command(path: Path, *options: str) -> list[str]:
    """Write the command that people type.

    Args:
        path: File to check.
        options: Of `sft-flow check`.

    Returns:
        Program and arguments.
    """
    return [str(Path(sys.executable).with_name("sft-flow")), "check", str(path), *options]


def say(text: str) -> None:
    """Report progress on standard error."""
    sys.stderr.write(f"{text}\n")


def write_rows(path: Path, first_row: int, last_row: int) -> None:
    """Append made-up conversations to a file.

    Args:
        path: The file.
        first_row: Rows it has.
        last_row: Rows it shall have.
    """
    started = time.monotonic()
    first, last = first_row // CHUNK_ROWS, last_row // CHUNK_ROWS
    write_conversations(path, first, last - first, os.cpu_count() or 1)
    megabytes, seconds = path.stat().st_size / 1e6, time.monotonic() - started
    say(f"{last_row:,} rows, {megabytes:,.0f} MB, written in {seconds:.0f} s")


def measure_speed(bench: Bench, path: Path) -> None:
    """Time the loop and the gate, with and without near duplicates, in turn."""
    kinds = {"json_loads": ("json_loads",), "check": ("check", "set"), "near": ("check", "near")}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in kinds}
    for repeat in range(REPEATS):
        for name, (kind, *arguments) in kinds.items():
            if name == "json_loads" or repeat < LONG_REPEATS:
                runs[name].append(bench.timed(kind, path, *arguments))
    accepted = {found["verdict"] for found in (*runs["check"], *runs["near"])}
    if accepted != {"accepted"}:
        raise SystemExit(f"the gate was to accept the generated rows, and said {accepted}")
    seconds = {name: [each["seconds"] for each in found] for name, found in runs.items()}
    best = {name: min(found) for name, found in seconds.items()}
    bench.figures |= {
        "ratio_to_json_loads": best["check"] / best["json_loads"],
        "ratio_with_near_duplicates": best["near"] / best["json_loads"],
        "n_broken": {rule: n for rule, n in runs["near"][0]["n_broken"].items() if n},
    }
    for name, found in seconds.items():
        bench.figures[f"{name}_seconds"] = best[name]
        bench.figures[f"{name}_median_seconds"] = statistics.median(found)


def measure_memory(bench: Bench, path: Path, ending: str) -> None:
    """Run the whole command with and without near duplicates."""
    for name, options in (("", ()), ("_without_near_duplicates", WITHOUT_NEAR)):
        found = bench.command(path, *options)
        bench.figures |= {
            f"peak_gib{name}_{ending}": found.peak_memory_bytes / GIB,
            f"largest_process_gib{name}_{ending}": found.largest_process_bytes / GIB,
            f"sampled_seconds{name}_{ending}": found.seconds,
        }


def measure_command(bench: Bench, path: Path) -> None:
    """Time the complete command, without sampling its memory."""
    for name, options in (("", ()), ("_without_near_duplicates", WITHOUT_NEAR)):
        bench.figures[f"command_seconds{name}"] = bench.wall_seconds(path, *options)


def measure_growth(bench: Bench, path: Path, n_rows: int) -> None:
    """Make the file four times as long and measure memory again."""
    write_rows(path, n_rows, n_rows * LARGE_FACTOR)
    measure_memory(bench, path, "4m")
    for name in ("", "_without_near_duplicates"):
        ratio = bench.figures[f"peak_gib{name}_4m"] / bench.figures[f"peak_gib{name}_1m"]
        bench.figures[f"peak_growth{name}_4m"] = ratio - 1


def measure_small(bench: Bench, path: Path) -> None:
    """Time the command on few rows, which is mostly its start."""
    small = bench.folder / "small.jsonl"
    copy_lines(path, small, SMALL_ROWS)
    kinds = {"check_1000_rows_only_seconds": ("--only", "rows"), "check_1000_rows_seconds": ()}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(REPEATS):
        for name, options in kinds.items():
            seconds[name].append(bench.wall_seconds(small, *options))
    bench.figures |= {name: statistics.median(found) for name, found in seconds.items()}


def measure_tokens(bench: Bench, path: Path) -> None:
    """Compare the speed of the token rules with that of the tokenizer alone."""
    rows = bench.folder / "tokens.jsonl"
    copy_lines(path, rows, TOKEN_ROWS)
    prepared = bench.folder / "prepared"
    bench.timed("prepare", prepared)
    found = bench.timed("tokens", rows, str(prepared))
    bench.figures["token_ratio"] = found["encoding_seconds"] / found["seconds"]
    bench.figures["tokens"] = found


def measure_peers(bench: Bench, path: Path) -> None:
    """Time what people use now, and the row rules of the gate, on the same rows."""
    rows = bench.folder / "peers.jsonl"
    copy_lines(path, rows, PEER_ROWS)
    ours = min(
        (bench.timed("check", rows, "rows") for _ in range(REPEATS)),
        key=lambda found: float(found["seconds"]),
    )
    loop = bench.timed("peer", rows, "python_loop")
    row_rules = {rule: n for rule, n in ours["n_broken"].items() if rule in set(RowRule)}
    if loop["n_broken"] != row_rules:
        raise SystemExit(f"the loop found {loop['n_broken']}, the gate {row_rules}")
    found = {
        "gate_row_rules": ours,
        "python_loop": loop,
        "pandera_row_by_row": bench.timed("peer", rows, "pandera_row_by_row", str(PANDERA_ROWS)),
        "great_expectations": bench.timed("peer", rows, "great_expectations"),
    }
    bench.figures["peers"] = compare_peers(found)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: Without the program; None: the process's own.

    Returns:
        `rows`, a multiple of `CHUNK_ROWS`, and the parts to skip.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=N_ROWS, help="rows of the smaller file")
    for part in ("4m", "tokens", "peers"):
        parser.add_argument(f"--skip-{part}", action="store_true")
    found = parser.parse_args(arguments)
    found.rows = max(1, round(found.rows / CHUNK_ROWS)) * CHUNK_ROWS
    return found


def main() -> None:
    """Measure everything that was not left out, and print it."""
    asked = parse_arguments()
    scratch = ROOT / "build"
    scratch.mkdir(exist_ok=True)
    parts: list[tuple[Callable[[Bench, Path], None], bool]] = [
        (measure_small, True),
        (measure_speed, True),
        (measure_command, True),
        (lambda bench, path: measure_memory(bench, path, "1m"), True),
        (measure_tokens, not asked.skip_tokens),
        (measure_peers, not asked.skip_peers),
        (lambda bench, path: measure_growth(bench, path, asked.rows), not asked.skip_4m),
    ]
    with tempfile.TemporaryDirectory(prefix="bench-check-", dir=scratch) as folder:
        bench = Bench(Path(folder))
        path = bench.folder / "conversations.jsonl"
        write_rows(path, 0, asked.rows)
        megabytes = path.stat().st_size / 1e6
        bench.figures = {"rows": asked.rows, "megabytes": megabytes, "processors": os.cpu_count()}
        for part, is_asked in parts:
            if is_asked:
                part(bench, path)
    sys.stdout.write(table(bench.figures) + json.dumps(rounded(bench.figures)) + "\n")


if __name__ == "__main__":
    main()
