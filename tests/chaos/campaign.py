"""The campaign: many toy runs, each with a fault, and whether the next plain run makes up for it.

Run as `python -m tests.chaos.campaign --runs 200 --seed 1`, or by `make chaos`. It prints a table, and
a JSON line with faults, recovered, lost and wrong_champion; the exit code is 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from flows.cli.console import echo
from tests.chaos.faults import FAULTS, NEEDED, OWN_SERVER
from tests.chaos.world import Outcome, World, leftovers, wait_for_end
from tests.support.prefect_server import running_server
from tests.support.toy import TOY_SETTINGS, make_toy_model, toy_rows, write_jsonl

N_ROWS = 160


@dataclass(frozen=True)
class Trial:
    """A fault, and what came of it."""

    number: int
    fault: str
    done: str
    """What was done, in words."""
    problems: tuple[str, ...]
    """Why the result of a run without faults was not reached; empty if it was."""
    is_wrong_champion: bool = False


def write_config(folder: Path) -> Path:
    """Write model, rows and configuration of all runs, and return the configuration."""
    model = make_toy_model(folder / "model")
    rows = write_jsonl(folder / "rows.jsonl", toy_rows(N_ROWS))
    sources = {"data": {"source": {"source": str(rows)}}, "model": {"source": str(model)}}
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(TOY_SETTINGS | sources), encoding="utf-8")
    return path


def smooth_run(folder: Path, config: Path) -> Outcome:
    """Run without a fault."""
    world = World(folder, config)
    code = wait_for_end(world.start())
    if code:
        raise RuntimeError(f"the run without faults ended with {code}: {tail(world)}")
    return world.outcome(world.versions())


def try_fault(number: int, seed: int, world: World, expected: Outcome) -> Trial:
    """Let a run meet a fault, run again, and compare the result with that of a run without faults.

    Args:
        number: Of the trial; chooses the fault.
        seed: Of the campaign; with the number it chooses moment and place.
        world: A new one; its folder is removed if nothing was lost.
        expected: Result of a run without faults.

    Returns:
        What came of it.
    """
    names = sorted(FAULTS)
    name = names[number % len(names)]
    world.folder.mkdir(parents=True)
    if name in OWN_SERVER:
        world.settings.clear()
    done, problems, is_wrong = "", [], False
    with world.stack:
        try:
            done = FAULTS[name](world, random.Random(f"{seed}-{number}"))
            problems += leftovers(world, is_cleaned=False)
            is_wrong = any(map(is_bad_champion, world.versions()))
            code = wait_for_end(world.start())
            if code:
                problems.append(f"the next run ended with {code}: {tail(world)}")
            else:
                versions = world.versions()
                problems += compare(world.outcome(versions), expected)
                is_wrong |= any(map(is_bad_champion, versions))
            problems += leftovers(world, is_cleaned=True)
        except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            problems.append(f"{type(error).__name__}: {error} {traceback.format_exc()[-400:]}")
            leftovers(world, is_cleaned=False)
    if not problems and not is_wrong:
        shutil.rmtree(world.folder)
    return Trial(number, name, done, tuple(problems), is_wrong)


def is_bad_champion(version: dict[str, object]) -> bool:
    """Return whether a champion has no files, or is one that was not promoted by its gates."""
    aliases, tags = version["aliases"], version["tags"]
    assert isinstance(aliases, list)
    assert isinstance(tags, dict)
    is_good = version["has_files"] and tags.get("sft.decision") == "promote"
    return "champion" in aliases and not is_good


def compare(found: Outcome, expected: Outcome) -> list[str]:
    """Name what differs from a run without faults."""
    return [
        f"{name} {getattr(found, name)} instead of {getattr(expected, name)}"
        for name in Outcome.__dataclass_fields__
        if getattr(found, name) != getattr(expected, name)
    ]


def tail(world: World) -> str:
    """Return the end of a world's log."""
    return world.log()[-600:]


def print_table(trials: Iterable[Trial]) -> dict[str, int]:
    """Print fault, runs, recovered and lost, and return the sums."""
    trials = list(trials)
    echo("| fault | runs | recovered | lost |\n|---|---:|---:|---:|")
    for name in sorted({trial.fault for trial in trials}):
        own = [trial for trial in trials if trial.fault == name]
        n_lost = sum(bool(trial.problems) for trial in own)
        echo(f"| {name.replace('_', ' ')} | {len(own)} | {len(own) - n_lost} | {n_lost} |")
    n_lost = sum(bool(trial.problems) for trial in trials)
    return {
        "faults": len(trials),
        "recovered": len(trials) - n_lost,
        "lost": n_lost,
        "wrong_champion": sum(trial.is_wrong_champion for trial in trials),
    }


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--start", type=int, default=0, help="number of the first trial")
    parser.add_argument("--minutes", type=float, help="start no more trials after this time")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="this fault alone")
    options = parser.parse_args()
    if options.fault:
        for name in set(FAULTS) - {options.fault}:
            del FAULTS[name]
    for name, (part, is_here) in NEEDED.items():
        if name in FAULTS and not is_here():
            echo(f"left out: {name}, which needs {part}")
            del FAULTS[name]
    folder = Path(tempfile.mkdtemp(prefix="sft-flow-chaos-"))
    config = write_config(folder)
    expected = smooth_run(folder / "smooth", config)
    echo(f"without faults: {expected}")

    end = time.monotonic() + 60 * (options.minutes or math.inf)

    def attempt(number: int) -> Trial | None:
        if time.monotonic() > end:
            return None
        world = World(folder / f"{number:04}", config, {"PREFECT_API_URL": server.address})
        trial = try_fault(number, options.seed, world, expected)
        state = "recovered" if not trial.problems else "LOST " + "; ".join(trial.problems)
        echo(f"{number:4} {trial.fault}: {trial.done}: {state}")
        return trial

    numbers = range(options.start, options.start + options.runs)
    (folder / "server").mkdir()
    with running_server(folder / "server") as server, ThreadPoolExecutor(options.jobs) as pool:
        trials = [trial for trial in pool.map(attempt, numbers) if trial]
    sums = print_table(trials)
    echo(json.dumps(sums))
    if sums["lost"] or sums["wrong_champion"]:
        echo(f"kept in {folder}", err=True)
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
