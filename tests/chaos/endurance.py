"""Endurance: many retrains and many data checks in one process, and whether anything grows.

Run as `python -m tests.chaos.endurance --retrains 100 --checks 1000`, or by `make endurance`. Each
retrain has a row that no earlier one had, so that every stage is computed; outputs are removed by
age and size, and weights in the registry by `keep_rejected`. It prints a table and a JSON line; the
exit code is 1 if anything grows. The processes of training and reload are forked from one that has
imported what they need: what is measured is the process of the flow.

The first half is a warm-up. Over the second half a line is fitted to each quantity (Theil-Sen, which
single jumps do not move), and the line may rise by no more than `LIMITS` allow.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from scipy.stats import theilslopes

from flows.cli.console import echo
from tests.chaos.campaign import N_ROWS, write_config
from tests.chaos.world import ROOT, World
from tests.support.toy import ordinary_rows, toy_rows, write_jsonl
from tests.support.warm import WarmProcesses

AGE_SECONDS = 120
"""Outputs, journals and results that were not used for longer are removed."""
SIZE_GIGABYTES = 0.003
"""About three retrains of the toy."""
DAY_SECONDS = 86_400
OUTPUTS = ("stages/", "checkpoints/", "rejected/", "results/", "runs/")
"""What is removed by age and size."""
REGISTRY = ("artifacts/", "history/", "mlflow.db")
"""Metrics, lineage and report of each version, which stay however old they are."""
PREFECT = "prefect/prefect.db"
"""States, logs and events of each run; Prefect removes events after a week."""
WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class Sample:
    """What a process and its work directory take at a moment."""

    memory_bytes: int
    """Resident memory of this process, without what its allocator has free."""
    open_files: int
    threads: int
    processes: int
    """Processes that it started and that still run."""
    output_bytes: int
    output_files: int
    other_bytes: int
    """In the work directory, e.g. of logs."""
    other_files: int
    """In the work directory, e.g. locks."""
    weight_bytes: int
    """In the registry."""
    temporary_files: int
    registry_bytes: int
    """Without weights."""
    prefect_bytes: int
    """Of the database of the temporary server."""


@dataclass(frozen=True)
class Limit:
    """How much a quantity may rise over the second half."""

    each_run: float = 0.0
    """In its unit, for each run."""
    times_first: float = 0.0
    """It may come and go below so many times the first value."""


@dataclass(frozen=True)
class Growth:
    """How a quantity changed over the second half."""

    quantity: str
    first: int
    middle: int
    last: int
    each_run: float
    """Slope of the line."""
    limit: float
    """Largest slope that is allowed."""

    @property
    def is_too_large(self) -> bool:
        """Return whether it grows."""
        return self.each_run > self.limit


LIMITS = {
    "memory_bytes": Limit(each_run=100e3),
    "open_files": Limit(),
    "threads": Limit(),
    "processes": Limit(),
    "output_bytes": Limit(times_first=8),
    "output_files": Limit(times_first=8),
    "other_bytes": Limit(),
    "other_files": Limit(),
    "weight_bytes": Limit(times_first=5),
    "temporary_files": Limit(),
    "registry_bytes": Limit(each_run=400e3),
    "prefect_bytes": Limit(each_run=1e6),
}
"""Of retrains. Outputs come and go with the speed of the machine: there are those of the last three or four retrains, by size,
and of three versions with an alias; weights are those of these, of one refused version and of the run's own."""
CHECK_LIMITS = {name: Limit() for name in LIMITS} | {"memory_bytes": Limit(each_run=5e3)}


def take_sample(home: Path, temporary: Path) -> Sample:
    """Measure this process and the folders it writes to."""
    gc.collect()
    with suppress(AttributeError, OSError):  # glibc: what is free is no growth
        ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    outputs: list[int] = []
    registry: list[int] = []
    prefect: list[int] = []
    weights: list[int] = []
    others: list[int] = []
    for path, n_bytes in present_files(home):
        name = path.relative_to(home).as_posix()
        if name.startswith(OUTPUTS):
            outputs.append(n_bytes)
        elif name.startswith(REGISTRY):
            (weights if path.match(WEIGHTS) else registry).append(n_bytes)
        elif name.startswith(PREFECT):
            prefect.append(n_bytes)
        else:
            others.append(n_bytes)
    return Sample(
        memory_bytes=process.memory_info().rss,
        open_files=process.num_fds(),
        threads=process.num_threads(),
        processes=len(process.children(recursive=True)),
        output_bytes=sum(outputs),
        output_files=len(outputs),
        other_bytes=sum(others),
        other_files=len(others),
        weight_bytes=sum(weights),
        temporary_files=sum(1 for _ in present_files(temporary)),
        registry_bytes=sum(registry),
        prefect_bytes=sum(prefect),
    )


def present_files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files in a folder with their bytes, also while some of them are removed."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            with suppress(FileNotFoundError):
                yield path, path.stat().st_size


def growths(samples: Sequence[Sample], limits: dict[str, Limit]) -> list[Growth]:
    """Fit a line to the second half of each quantity."""
    middle = len(samples) // 2
    found = []
    for name, limit in limits.items():
        values = [getattr(sample, name) for sample in samples]
        late = values[middle:]
        slope = float(theilslopes(late).slope)
        is_bounded = max(late) <= limit.times_first * values[0]
        allowed = max(limit.each_run, slope) if is_bounded else limit.each_run
        found.append(Growth(name, values[0], values[middle], values[-1], slope, allowed))
    return found


def repeat(n_runs: int, world: World, run: Callable[[int], object]) -> list[Sample]:
    """Do something many times, and measure after each."""
    samples = []
    for number in range(n_runs):
        run(number)
        samples.append(take_sample(world.home, world.temporary))
        if number % max(1, n_runs // 20) == 0:
            echo(f"{number}: {samples[-1]}", err=True)
    return samples


def retrain_often(n_runs: int, world: World) -> list[Sample]:
    """Retrain on data that change each time."""
    from flows.services.temporary_server import prefect_api
    from schemas.config.file import load_config

    config = load_config(
        world.config,
        [
            f"storage.max_age_days={AGE_SECONDS / DAY_SECONDS}",
            f"storage.max_size_gb={SIZE_GIGABYTES}",
            "registry.keep_rejected=1",
        ],
    )

    def retrain(number: int) -> None:
        rows = toy_rows(N_ROWS)
        new = {"prompt": f"Item {number}: who is it from?", "completion": f"From {number}."}
        rows[number % N_ROWS] |= new
        write_jsonl(Path(config.data.source.source), rows)
        train_sft(config)

    with prefect_api():
        from flows.train_sft import train_sft
        from tasks.release.reload import check
        from tasks.training import launch

        warm = WarmProcesses(world.folder)
        vars(launch)["subprocess"] = vars(check)["subprocess"] = warm
        try:
            return repeat(n_runs, world, retrain)
        finally:
            warm.stop()


def check_often(n_runs: int, world: World) -> list[Sample]:
    """Check data that change each time, as `sft-flow check` does."""
    from flows.cli.check import run_check

    path = world.folder / "checked.jsonl"
    rows = ordinary_rows(N_ROWS)

    def check(number: int) -> None:
        new = {"prompt": f"Which is the newest part, after {number} others?"}
        write_jsonl(path, [*rows, rows[number % N_ROWS] | new])
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            run_check(
                None,
                (),
                source=str(path),
                only=None,
                has_tokens=False,
                repaired=None,
                output=None,
                is_json=True,
            )

    return repeat(n_runs, world, check)


def print_growths(title: str, found: Sequence[Growth]) -> None:
    """Print a table."""
    echo(
        f"\n{title}\n\n| | first | middle | last | slope | limit | |\n|---|---:|---:|---:|---:|---:|---|"
    )
    for one in found:
        state = "GROWS" if one.is_too_large else ""
        numbers = f"{one.first:,} | {one.middle:,} | {one.last:,}"
        slopes = f"{one.each_run:,.1f} | {one.limit:,.1f}"
        echo(f"| {one.quantity.replace('_', ' ')} | {numbers} | {slopes} | {state} |")


def measure(folder: Path, n_retrains: int, n_checks: int) -> int:
    """Do both in this process, and return the number of quantities that grow."""
    world = World(folder, folder / "toy.yaml")
    kinds = {
        "checks": (check_often, n_checks, CHECK_LIMITS),
        "retrains": (retrain_often, n_retrains, LIMITS),
    }
    result: dict[str, object] = {}
    n_growing = 0
    for name, (run, n_runs, limits) in kinds.items():
        if not n_runs:
            continue
        started = time.monotonic()
        found = growths(run(n_runs, world), limits)
        print_growths(f"{n_runs:,} {name} in {time.monotonic() - started:.0f} s", found)
        n_growing += sum(one.is_too_large for one in found)
        result[name] = {one.quantity: asdict(one) for one in found}
    echo(json.dumps(result | {"growing": n_growing}))
    return n_growing


def main() -> None:
    """Prepare a folder, and measure in a process that has nothing else in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--retrains", type=int, default=100)
    parser.add_argument("--checks", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="of a process that measures")
    options = parser.parse_args()
    if options.folder:
        sys.exit(bool(measure(options.folder, options.retrains, options.checks)))
    folder = Path(tempfile.mkdtemp(prefix="sft-flow-endurance-"))
    world = World(folder, write_config(folder))
    for path in (world.home, world.temporary):
        path.mkdir()
    numbers = ["--retrains", str(options.retrains), "--checks", str(options.checks)]
    command = [sys.executable, "-m", "tests.chaos.endurance", *numbers, "--folder", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=world.environment(), check=False)
    if done.returncode:
        echo(f"kept in {folder}", err=True)
        sys.exit(done.returncode)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
