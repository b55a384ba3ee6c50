"""A work directory of its own, the runs in it, and what a run leaves."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import psutil

from flows.cli.project_files import CONFIGURATION, PROJECT, PROJECT_TEXT
from tasks.engine.local_server import free_port, local_url, loopback
from tasks.engine.scratch import PREFIX
from tests.support.processes import clean_environment

ROOT = Path(__file__).parents[2]
RUN_SECONDS = 600
"""Longest time of a run; one that takes longer hangs."""
LINGER_SECONDS = 30
"""Longest time that a process may outlive the flow that started it."""
POLL_SECONDS = 0.05
POOL = "sft-local"
EARLY_FRACTION = 0.2
"""Of the faults, those that strike before the first stage."""
START_SECONDS = 20.0
OTHERS_FILES = re.compile(
    r"db_init_lock-.*|torchinductor_\w+|prefect-workspace-attempt-\w+|tmp\w+prefect"
)
"""Names of what is not ours: empty files of MLflow and torch, and what a killed worker leaves."""
STAGES = (
    "load_dataset",
    "prepare_template",
    "check_schema",
    "split_dataset",
    "check_quality",
    "generate_baseline",
    "train_model",
    "evaluate_model",
    "decide",
    "register_model",
    "promote_model",
    "publish_report",
)


@dataclass(frozen=True)
class Outcome:
    """What a run is for: equal for two runs of one configuration."""

    decision: str
    metrics: str
    """Of all models, as JSON."""
    champion_sha256: str
    n_versions: int


@dataclass
class Server:
    """A server that can be killed, paused and started again at its address."""

    command: list[str]
    """Arguments of the interpreter."""
    log: Path
    health: str
    """Address that answers when it is up."""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = clean_environment() | {
            "PREFECT_HOME": str(self.log.parent / "prefect"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + RUN_SECONDS
        while not is_up(self.health) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.signal(signal.SIGKILL)
        if self.process:
            self.process.wait()


def is_up(address: str) -> bool:
    """Return whether a server answers."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


@dataclass
class World:
    """A work directory, with its registry, temporary folder and processes."""

    folder: Path
    config: Path
    settings: dict[str, str] = field(default_factory=dict)
    """Environment variables that differ from those of other worlds."""
    name: str = "run"
    """Of the run, whose report is in `<name>.json` and whose log is in `<name>.log`."""

    stack: ExitStack = field(default_factory=ExitStack)
    """What ends with the world: servers and mounted disks."""

    @property
    def home(self) -> Path:
        """Return SFT_HOME."""
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        """Return TMPDIR."""
        return self.folder / "tmp"

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes."""
        return clean_environment() | {
            "SFT_HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PREFECT_HOME": str(self.folder / "prefect"),
            "OMP_NUM_THREADS": "1",
            "SFT_MIN_FREE_BYTES": "0",
            **self.settings,
        }

    def start(self, *prefix: str) -> subprocess.Popen[bytes]:
        """Start `sft-flow run`.

        Args:
            prefix: Words before the command, e.g. of strace.

        Returns:
            The process.
        """
        program = Path(sys.executable).with_name("sft-flow")
        command = [*prefix, str(program), "run", "-c", str(self.config), "--json"]
        return self._start(command, self.folder / f"{self.name}.json")

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker for what `deploy` scheduled."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL]
        return self._start(command, self.folder / "worker.txt")

    def _start(self, command: list[str], out: Path) -> subprocess.Popen[bytes]:
        self.home.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        log = self.folder / f"{self.name}.log"
        with out.open("wb") as output, log.open("ab") as errors:
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    def deploy(self) -> None:
        """Deploy the flow as `sft-flow init` describes it, and schedule a run for a worker."""
        project, path = self.folder / PROJECT, self.folder / CONFIGURATION
        path.write_text(self.config.read_text(encoding="utf-8"), encoding="utf-8")
        names = {"title": "toy", "configuration": path.name, "project": project.name}
        names |= {"train": "train-sft/toy", "train_name": "toy", "weekly_name": "toy-weekly"}
        project.write_text(Template(PROJECT_TEXT).substitute(names), encoding="utf-8")
        self.ask_prefect("work-pool", "create", "--type", "process", POOL)
        self.ask_prefect("--no-prompt", "deploy", "--all")
        self.ask_prefect("deployment", "run", names["train"])

    def ask_prefect(self, *words: str, is_tried: bool = False) -> None:
        """Run a command of Prefect; one that fails raises CalledProcessError unless it is only tried."""
        subprocess.run(
            [sys.executable, "-m", "prefect", *words],
            cwd=self.folder,
            env=self.environment() | {"PWD": str(self.folder)},
            check=not is_tried,
            capture_output=True,
            timeout=RUN_SECONDS,
        )

    def use_small_disk(self, n_kibibytes: int) -> None:
        """Give the work directory a file system of its own, which only root can."""
        self.home.mkdir(parents=True, exist_ok=True)
        mount("-t", "tmpfs", "-o", f"size={n_kibibytes}k", "tmpfs", str(self.home))
        self.stack.callback(subprocess.run, ["umount", "-l", str(self.home)], check=False)

    def use_prefect(self) -> Server:
        """Start a Prefect server for the runs."""
        address = f"{local_url(free_port())}/api"
        self.settings["PREFECT_API_URL"] = address
        port = address.rsplit(":", 1)[1].removesuffix("/api")
        command = ["-m", "prefect", "server", "start", "--port", port]
        return self._serve(Server(command, self.folder / "prefect.log", f"{address}/health"))

    def use_mlflow(self) -> Server:
        """Start an MLflow server for the runs, with the store that a world without it has."""
        self.folder.joinpath("served").mkdir()
        port = str(free_port())
        address = local_url(int(port))
        self.settings["MLFLOW_TRACKING_URI"] = address
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/served/mlflow.db"]
        files = ["--artifacts-destination", str(self.folder / "served" / "artifacts")]
        where = ["--host", loopback(), "--port", port, "--workers", "1"]
        command = ["-m", "mlflow", "server", *where, *store, *files]
        return self._serve(Server(command, self.folder / "mlflow.log", f"{address}/health"))

    def _serve(self, server: Server) -> Server:
        server.start()
        self.stack.callback(server.kill)
        return server

    def begun(self) -> list[str]:
        """Return the stages that a run has begun to compute, in order."""
        lines: list[str] = []
        for journal in (self.home / "runs").glob("*.jsonl"):
            lines += journal.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if '"event":"MISS"' in line]

    def processes(self) -> list[psutil.Process]:
        """Return all processes of this world, whoever started them."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("SFT_HOME") == str(self.home):
                    found.append(process)
        return found

    def child(self, words: str) -> psutil.Process | None:
        """Return the process whose command line contains these words."""
        for process in self.processes():
            with suppress(psutil.Error):
                if words in " ".join(process.cmdline()):
                    return process
        return None

    def log(self) -> str:
        """Return what the run has logged."""
        return (self.folder / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")

    def report(self) -> dict[str, Any]:
        """Return what the last run printed."""
        text = (self.folder / f"{self.name}.json").read_text(encoding="utf-8")
        report: dict[str, Any] = json.loads(text)
        return report

    def outcome(self, versions: list[dict[str, Any]]) -> Outcome:
        """Return what the last run printed and what `versions()` found."""
        report = self.report()
        champions = [one for one in versions if "champion" in one["aliases"]]
        return Outcome(
            report["decision"],
            json.dumps(report["metrics"], sort_keys=True),
            champions[0]["tags"].get("sft.model_sha256", "") if champions else "",
            len(versions),
        )

    def versions(self, name: str = "toy") -> list[dict[str, Any]]:
        """Return versions, aliases and whether the files are there, read by a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos.read_registry", name],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=RUN_SECONDS,
        )
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found


def wait_for_stage(world: World, run: subprocess.Popen[bytes], generator: random.Random) -> str:
    """Wait until a random stage has begun, and for a random part of it.

    Args:
        world: Where the run is.
        run: The run.
        generator: Chooses stage and moment.

    Returns:
        Stage and moment in words.
    """
    if generator.random() < EARLY_FRACTION:
        delay = generator.uniform(0, START_SECONDS)
        with suppress(subprocess.TimeoutExpired):
            run.wait(delay)
        return f"start + {delay:.1f} s"
    stage = generator.choice(STAGES)
    deadline = time.monotonic() + RUN_SECONDS
    while run.poll() is None and time.monotonic() < deadline:
        if any(f'"{stage}"' in line for line in world.begun()):
            break
        time.sleep(POLL_SECONDS)
    delay = generator.choice((0.0, generator.uniform(0, 1), generator.uniform(0, 10)))
    with suppress(subprocess.TimeoutExpired):
        run.wait(delay)
    return f"{stage} + {delay:.1f} s"


def wait_for_end(run: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a run; TimeoutExpired if it hangs."""
    return run.wait(RUN_SECONDS)


def leftovers(world: World, *, is_cleaned: bool) -> list[str]:
    """Wait for the processes of a world to end, and return those that do not, and temporary files.

    Scratch folders of a killed process count only after the next run, which removes them.
    """
    deadline = time.monotonic() + LINGER_SECONDS
    while (alive := world.processes()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    found: list[str] = []
    for process in alive:
        with suppress(psutil.Error):
            found.append("process " + " ".join(process.cmdline())[:120])
            process.kill()
    names = sorted(path.name for path in world.temporary.glob("*"))
    kept = [name for name in names if not OTHERS_FILES.fullmatch(name)]
    if not is_cleaned:
        kept = [name for name in kept if not name.startswith(PREFIX)]
    return found + [f"temporary file {name}" for name in kept]


def mount(*words: str) -> None:
    """Run mount; CalledProcessError where it is not allowed."""
    subprocess.run(["mount", *words], check=True, capture_output=True)
