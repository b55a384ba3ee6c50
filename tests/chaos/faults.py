"""Faults that a run can meet. Each starts a run, strikes at a random moment and waits for its end.

To add one, write a function with the decorator `fault`.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from tests.chaos.world import RUN_SECONDS, World, mount, wait_for_end, wait_for_stage

Fault = Callable[[World, random.Random], str]
FAULTS: dict[str, Fault] = {}
TRAINING = "tasks.training.process.run"
RELOAD = "tasks.release.reload.run"
SERVER = "prefect.server.api.server"
PAUSE_SECONDS = (1.0, 20.0)
OWN_SERVER = (
    "disk_full",
    "flow_killed",
    "folder_read_only",
    "power_lost",
    "temporary_server_killed",
)
"""Faults of runs that start a Prefect server themselves; it has its database in the work directory."""
FULL_KIBIBYTES = 8192
"""What a finished run takes; a smaller disk is full during the run."""
ROOMY_KIBIBYTES = 400 * 1024


def is_root() -> bool:
    """Return whether this process may mount file systems."""
    return sys.platform == "linux" and os.geteuid() == 0


NEEDED: dict[str, tuple[str, Callable[[], bool]]] = {
    "disk_full": ("root on Linux", is_root),
    "folder_read_only": ("root on Linux", is_root),
    "write_failed": ("strace", lambda: shutil.which("strace") is not None),
    "clock_stepped": ("a C compiler", lambda: shutil.which("cc") is not None),
}
"""What some faults need besides Python, and whether it is here."""


def fault(function: Fault) -> Fault:
    """Add a fault under the name of its function.

    Args:
        function: Starts a run in a world, does harm to it and waits for its end; returns what it
            did in words.

    Returns:
        The function.
    """
    FAULTS[function.__name__] = function
    return function


def strike(world: World, generator: random.Random, harm: Callable[[psutil.Process], None]) -> str:
    """Start a run, do harm to its process at a random moment, and wait for its end."""
    run = world.start()
    moment = wait_for_stage(world, run, generator)
    with suppress(psutil.Error):
        harm(psutil.Process(run.pid))
    return f"{moment}, exit code {wait_for_end(run)}"


def kill_child(world: World, generator: random.Random, words: str, seconds: float) -> str:
    """Start a run, and kill the process with these words in its command line soon after its start."""
    run = world.start()
    while run.poll() is None and world.child(words) is None:
        time.sleep(0.1)
    delay = generator.uniform(0, seconds)
    with suppress(subprocess.TimeoutExpired):
        run.wait(delay)
    child = world.child(words)
    with suppress(psutil.Error):
        if child:
            child.kill()
    return f"after {delay:.1f} s, exit code {wait_for_end(run)}"


def harm_file(world: World, generator: random.Random, harm: Callable[[Path], None]) -> str:
    """Kill a run at a random moment or let it end, then harm one of the files that it wrote."""
    done = strike(world, generator, generator.choice((psutil.Process.kill, lambda _: None)))
    files = [
        path
        for name in ("stages", "checkpoints")
        for path in sorted((world.home / name).rglob("*"))
        if path.is_file() and path.stat().st_size
    ]
    if not files:
        return f"{done}, no file yet"
    victim = generator.choice(files)
    harm(victim)
    return f"{done}, {victim.relative_to(world.home)}"


# Processes


@fault
def flow_killed(world: World, generator: random.Random) -> str:
    """The flow is killed, kill -9."""
    return strike(world, generator, psutil.Process.kill)


@fault
def flow_terminated(world: World, generator: random.Random) -> str:
    """The flow gets SIGTERM, as from a container that stops."""
    return strike(world, generator, psutil.Process.terminate)


@fault
def flow_interrupted(world: World, generator: random.Random) -> str:
    """Ctrl-C."""
    return strike(world, generator, lambda run: run.send_signal(signal.SIGINT))


@fault
def training_killed(world: World, generator: random.Random) -> str:
    """The training process is killed, as by the system when memory runs out."""
    return kill_child(world, generator, TRAINING, 12)


@fault
def reload_killed(world: World, generator: random.Random) -> str:
    """The process that loads the registered model again is killed."""
    return kill_child(world, generator, RELOAD, 8)


@fault
def temporary_server_killed(world: World, generator: random.Random) -> str:
    """The temporary Prefect server is killed."""
    return kill_child(world, generator, SERVER, 30)


@fault
def power_lost(world: World, generator: random.Random) -> str:
    """All processes end at once."""

    def kill_all(_: psutil.Process) -> None:
        for process in world.processes():
            with suppress(psutil.Error):
                process.kill()

    return strike(world, generator, kill_all)


@fault
def machine_paused(world: World, generator: random.Random) -> str:
    """All processes stand still for a while, as on a machine that sleeps."""

    def pause(_: psutil.Process) -> None:
        stopped = world.processes()
        for process in stopped:
            with suppress(psutil.Error):
                process.suspend()
        time.sleep(generator.uniform(*PAUSE_SECONDS))
        for process in stopped:
            with suppress(psutil.Error):
                process.resume()

    return strike(world, generator, pause)


@fault
def worker_killed(world: World, generator: random.Random) -> str:
    """The worker of a deployment is killed, alone or with the flow that it runs.

    A flow that is left ends at its next log line: Prefect's console exits when nobody reads it.
    """
    world.use_prefect()
    world.deploy()
    worker = world.start_worker()
    moment = wait_for_stage(world, worker, generator)
    is_alone = generator.random() < 0.5
    flows = [] if is_alone else psutil.Process(worker.pid).children()
    worker.kill()
    worker.wait()
    for flow in flows:
        with suppress(psutil.Error):
            flow.kill()
    n_left = len(world.processes())
    deadline = time.monotonic() + RUN_SECONDS
    while world.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    how = "alone" if is_alone else f"with {len(flows)} flows"
    return f"{moment}, {how}, {n_left} processes went on"


# Files


@fault
def output_truncated(world: World, generator: random.Random) -> str:
    """A file of an output loses its end."""

    def cut(path: Path) -> None:
        with path.open("r+b") as file:
            file.truncate(generator.randrange(path.stat().st_size))

    return harm_file(world, generator, cut)


@fault
def output_bit_flipped(world: World, generator: random.Random) -> str:
    """A bit of an output changes."""

    def flip(path: Path) -> None:
        place = generator.randrange(path.stat().st_size)
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ (1 << generator.randrange(8))]))

    return harm_file(world, generator, flip)


@fault
def output_deleted(world: World, generator: random.Random) -> str:
    """A file of an output, or the whole output, is deleted."""

    def delete(path: Path) -> None:
        if generator.random() < 0.5:
            path.unlink()
        else:
            shutil.rmtree(path.parent)

    return harm_file(world, generator, delete)


@fault
def journal_torn(world: World, generator: random.Random) -> str:
    """Half a line is all that was written of a journal when power was lost."""
    done = power_lost(world, generator)
    for journal in (world.home / "runs").glob("*.jsonl"):
        with journal.open("r+b") as file:
            file.truncate(max(0, journal.stat().st_size - generator.randrange(1, 40)))
    return done


@fault
def disk_full(world: World, generator: random.Random) -> str:
    """The disk of the work directory is full, and later it has room again."""
    world.use_small_disk(generator.randrange(256, FULL_KIBIBYTES))
    code = wait_for_end(world.start())
    mount("-o", f"remount,size={ROOMY_KIBIBYTES}k", str(world.home))
    return f"exit code {code}"


@fault
def folder_read_only(world: World, generator: random.Random) -> str:
    """The work directory cannot be written from some moment on, and later it can."""
    world.use_small_disk(ROOMY_KIBIBYTES)

    def forbid(_: psutil.Process) -> None:
        # Refused while a file is open for writing: then some moments later.
        for _ in range(200):
            if not subprocess.run(
                ["mount", "-o", "remount,ro", str(world.home)], check=False, capture_output=True
            ).returncode:
                return
            time.sleep(0.05)

    done = strike(world, generator, forbid)
    mount("-o", "remount,rw", str(world.home))
    return done


@fault
def write_failed(world: World, generator: random.Random) -> str:
    """A write to any file fails with EIO, once in each thread; strace does it."""
    number = int(10 ** generator.uniform(0, 3.5))
    name = generator.choice(("write", "pwrite64", "fsync", "openat"))
    inject = f"inject={name}:error=EIO:when={number}"
    trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", inject]
    return f"{name} {number}, exit code {wait_for_end(world.start(*trace))}"


# Time


@fault
def clock_stepped(world: World, generator: random.Random) -> str:
    """The clock is set: seconds to a day forward or back; the Prefect server keeps its own."""
    library, offset = world.folder / "clock.so", world.folder / "offset"
    source = str(Path(__file__).with_name("clock.c"))
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    offset.write_bytes(bytes(8))
    world.settings |= {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(offset)}
    step = generator.choice((-1, 1)) * generator.choice((30, 600, 7200, 86400))

    def set_clock(_: psutil.Process) -> None:
        with offset.open("r+b") as file:
            file.write(step.to_bytes(8, sys.byteorder, signed=True))

    return f"{strike(world, generator, set_clock)}, {step:+} s"


# Stores and servers


@fault
def store_locked(world: World, generator: random.Random) -> str:
    """Another process locks MLflow's database for a while."""

    def lock(_: psutil.Process) -> None:
        with sqlite3.connect(world.home / "mlflow.db", timeout=30, isolation_level=None) as store:
            store.execute("BEGIN EXCLUSIVE")
            time.sleep(generator.uniform(*PAUSE_SECONDS))
            store.execute("ROLLBACK")
        store.close()

    return strike(world, generator, lock)


def disturb(
    world: World,
    generator: random.Random,
    begin: Callable[[], None],
    end: Callable[[], None],
) -> str:
    """Start a run, and disturb what it uses from a random moment on, for a while."""

    def harm(_: psutil.Process) -> None:
        begin()
        time.sleep(generator.uniform(*PAUSE_SECONDS))
        end()

    return strike(world, generator, harm)


@fault
def mlflow_restarted(world: World, generator: random.Random) -> str:
    """The MLflow server is killed, and starts again after a while."""
    server = world.use_mlflow()
    return disturb(world, generator, server.kill, server.start)


@fault
def mlflow_hangs(world: World, generator: random.Random) -> str:
    """The MLflow server does not answer for a while."""
    server = world.use_mlflow()
    pause, resume = (partial(server.signal, one) for one in (signal.SIGSTOP, signal.SIGCONT))
    return disturb(world, generator, pause, resume)


@fault
def prefect_restarted(world: World, generator: random.Random) -> str:
    """The Prefect server is killed, and starts again after a while."""
    server = world.use_prefect()
    return disturb(world, generator, server.kill, server.start)


@fault
def run_cancelled(world: World, generator: random.Random) -> str:
    """A person cancels the run in Prefect's page."""

    def cancel(_: psutil.Process) -> None:
        runs = [path.stem for path in (world.home / "runs").glob("*.jsonl")]
        for run_id in runs:
            world.ask_prefect("flow-run", "cancel", run_id, is_tried=True)

    return strike(world, generator, cancel)
