"""Task `check_environment`: find in the first second what would otherwise fail after an hour."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from schemas.config.evaluation import ServerConfig
from schemas.errors import WorkDirectoryError
from tasks.engine.home import tracking_uri, work_directory
from tasks.engine.stage import BACKOFF_SECONDS, PLAN, RETRIES, should_retry
from tasks.engine.wording import gibibytes
from tasks.evaluation.server import require_server
from tasks.registry.store import ping

MIN_FREE_BYTES = 2 * 2**30
"""The demo's outputs take about 1.8 GB: base, tuned, registered copy and checkpoints."""
MIN_FREE_VARIABLE = "SFT_MIN_FREE_BYTES"


def check_work_directory(folder: Path) -> None:
    """Create the work directory; WorkDirectoryError if it is not writable or its disk is full."""
    probe = folder / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("ok", encoding="utf-8")
        probe.unlink()
    except OSError as error:
        raise WorkDirectoryError(
            "the work directory cannot be written",
            where=str(folder),
            expected="a folder with write permission",
            got=error.strerror or str(error),
            fix="set SFT_HOME to another folder, or fix its permissions",
        ) from error
    free = shutil.disk_usage(folder).free
    needed = int(os.environ.get(MIN_FREE_VARIABLE, MIN_FREE_BYTES))
    if free < needed:
        raise WorkDirectoryError(
            "the disk of the work directory is nearly full",
            where=str(folder),
            expected=f"at least {gibibytes(needed)} free",
            got=gibibytes(free),
            fix=f"free space, set SFT_HOME to another disk, or set {MIN_FREE_VARIABLE}",
        )


def _check_environment(server: ServerConfig | None = None) -> None:
    """Check work directory, registry and evaluation server before any work is done."""
    check_work_directory(work_directory())
    require_server(server)
    ping(tracking_uri())


class _EnvironmentTask(Task[[ServerConfig | None], None]):
    """A task that `plan` skips, since a plan must not contact servers."""

    def __call__(self, server: ServerConfig | None = None) -> None:  # type: ignore[override]
        """Check, unless planning."""
        if PLAN.get() is None:
            super().__call__(server)


check_environment = _EnvironmentTask(
    _check_environment,
    name="check_environment",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(BACKOFF_SECONDS),
    retry_jitter_factor=0.2,
    retry_condition_fn=should_retry,
    timeout_seconds=300,
)
