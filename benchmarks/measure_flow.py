"""Measure the time that the flow adds to its stages: imports, servers, keys, hashing, records, lease.

Usage: python -m benchmarks.measure_flow. The last line is one JSON document. Overhead is the wall time
of the `sft-flow run` process minus the time of its stages, from the journal. A short training of the
bundled model runs in a fresh work directory with a temporary Prefect server, and in another one with a
running server; each is then repeated, fully cached. The libraries are imported once before, so
that no run reads them from a cold disk.

Seconds differ by a half between machines, so the overhead is also given as a ratio to the wall time of
`trivial_flow.py`: as many tasks as there are stages, which do nothing, in a process of its own. It
is started in the same way: before ours without a server, in a fresh Prefect home with a new
database, where Prefect starts its own temporary server; before and after ours with the running one.
Usage events are turned off for both. Everything runs in rounds, and each value is the best of
them: other work on the machine only adds time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.services.prefect_api import is_up
from schemas.records.stages import Stage
from tasks.engine.local_server import free_port

START_SECONDS = 180.0
N_ROUNDS = 2
TRIVIAL_FLOW = Path(__file__).with_name("trivial_flow.py")
SETTINGS_OF_BOTH = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Prefect gives up on its own temporary server after 20 s, which a busy machine exceeds.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": f"{START_SECONDS:.0f}",
}
LIBRARIES = (
    "flows.train_sft",
    "mlflow",
    "prefect.server.api.server",
    "torch",
    "transformers",
    "trl",
)
SETTINGS = (
    "training.max_steps=2",
    "split.max_eval_rows=20",
    "gates.min_eval_rows=10",
    "evaluation.n_generation_rows=10",
    "evaluation.max_new_tokens=8",
)
"""Short stages; the overhead does not depend on them."""


def stage_seconds(home: Path) -> float:
    """Add up what the stages of the newest run computed.

    Args:
        home: The work directory.

    Returns:
        Seconds.
    """
    journal = max((home / "runs").glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return sum(line["seconds"] or 0.0 for line in lines)


def wall_seconds(command: Sequence[str], environment: Mapping[str, str], log: Path) -> float:
    """Time a command. Its memory is not sampled: reading the maps of a process stops it each time.

    Args:
        command: Program and arguments.
        environment: Of the process.
        log: Gets what it prints.

    Returns:
        Seconds.

    Raises:
        SystemExit: The command failed.
    """
    started = time.monotonic()
    with log.open("wb") as stream:
        done = subprocess.run(command, env=environment, stdout=stream, stderr=stream, check=False)
    if done.returncode:
        raise SystemExit(f"the run ended with {done.returncode}:\n{log.read_text()}")
    return time.monotonic() - started


def run_twice(folder: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Run the flow in a fresh work directory, and again.

    Args:
        folder: Gets the work directory and the logs.
        environment: Of the runs.

    Returns:
        Overhead of the first run, and wall time of the second, which computes nothing; seconds.
    """
    home = folder / "home"
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    command = [str(Path(sys.executable).with_name("sft-flow")), "run", *settings, "--json"]
    command += ["--set", "gates.mode=dry_run"]  # two steps may well be refused
    at_home = {**environment, "SFT_HOME": str(home)}
    first = wall_seconds(command, at_home, folder / "first.log")
    overhead = first - stage_seconds(home)
    second = wall_seconds(command, at_home, folder / "second.log")
    if stage_seconds(home):
        raise SystemExit("the second run computed something: its time is no cached rerun's")
    return overhead, second


def trivial_seconds(folder: Path, environment: Mapping[str, str]) -> float:
    """Time a flow of as many tasks as we have stages, which do nothing.

    Args:
        folder: Gets the log.
        environment: Of the process.

    Returns:
        Seconds.
    """
    command = [sys.executable, str(TRIVIAL_FLOW), str(len(Stage))]
    return wall_seconds(command, environment, folder / "trivial.log")


def measure_round(folder: Path, kept: Mapping[str, str]) -> dict[str, float]:
    """Measure everything once, with a temporary server and with a running one.

    Args:
        folder: Gets work directories, Prefect homes and logs.
        kept: Environment of the processes, without Prefect's address and home.

    Returns:
        Seconds of each part.
    """
    places = {name: folder / name for name in ("trivial", "temporary", "running")}
    homes = {}
    for name, place in places.items():
        place.mkdir(parents=True)
        homes[name] = {**kept, "PREFECT_HOME": str(place / "prefect")}
    found = {"trivial_temporary_seconds": trivial_seconds(places["trivial"], homes["trivial"])}
    first, cached = run_twice(places["temporary"], homes["temporary"])
    found |= {"overhead_temporary_server_seconds": first, "cached_rerun_temporary_seconds": cached}
    with running_server(places["running"], homes["running"]) as address:
        environment = homes["running"] | {"PREFECT_API_URL": address}
        before = trivial_seconds(places["running"], environment)
        first, cached = run_twice(places["running"], environment)
        # The server answers its first requests more slowly.
        after = trivial_seconds(places["running"], environment)
        found["trivial_running_seconds"] = min(before, after)
    return found | {
        "overhead_running_server_seconds": first,
        "cached_rerun_running_seconds": cached,
    }


def summarise(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Take the best of each part, and compare our overhead with the trivial flow.

    Args:
        rounds: Seconds of each part, by round.

    Returns:
        The best seconds of each part, and the two ratios.
    """
    best = {name: min(found[name] for found in rounds) for name in rounds[0]}
    ratios = {
        f"overhead_ratio_{kind}": best[f"overhead_{kind}_server_seconds"]
        / best[f"trivial_{kind}_seconds"]
        for kind in ("temporary", "running")
    }
    return {name: round(value, 2) for name, value in (best | ratios).items()}


@contextmanager
def running_server(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a Prefect server until the block ends.

    Args:
        folder: Gets its log.
        environment: Of the server.

    Yields:
        Address of its API.

    Raises:
        SystemExit: It did not start.
    """
    port = free_port()
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_up(f"http://127.0.0.1:{port}/api"):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit((folder / "server.log").read_text(encoding="utf-8"))
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait()


def warm_up(environment: Mapping[str, str]) -> None:
    """Import the libraries of servers and flow, so that they are in the disk cache.

    Args:
        environment: Of the process.
    """
    program = f"import {', '.join(LIBRARIES)}"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def main() -> None:
    """Measure in rounds and print the best of each part, and the ratios."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    kept = kept | SETTINGS_OF_BOTH
    kept.pop("MLFLOW_TRACKING_URI", None)
    rounds = []
    with tempfile.TemporaryDirectory(prefix="sft-flow-overhead-") as scratch:
        warm_up(kept)
        for number in range(N_ROUNDS):
            rounds.append(measure_round(Path(scratch) / str(number), kept))
            sys.stdout.write(f"round {number + 1}: {json.dumps(rounds[-1])}\n")
            sys.stdout.flush()
    sys.stdout.write(json.dumps(summarise(rounds)) + "\n")


if __name__ == "__main__":
    main()
