"""Run the checks of `sft-flow doctor`: is everything available that a run needs?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable
from typing import ParamSpec

from packaging.requirements import InvalidRequirement, Requirement

from flows.doctor._run_needs import (
    check_aliases,
    check_artifacts,
    check_disk,
    check_evaluation_server,
)
from flows.doctor._servers import check_deployments, check_pools, check_prefect, check_store
from flows.doctor.finding import Finding, Health
from schemas.config.registry import RegistryConfig
from schemas.config.run import RunConfig
from schemas.errors import SftFlowError
from tasks.engine.home import work_directory
from tasks.engine.wording import gibibytes

P = ParamSpec("P")

DISTRIBUTION = "sft-flow"
HUB_SECONDS = 5.0
MEND_INSTALL = "run `make install`, or pip install -c constraints.txt -e '.[demo,dev]'"


def examine(config: RunConfig) -> list[Finding]:
    """Check everything that a run of a configuration needs; one finding per topic."""
    examinations: tuple[Callable[[], Finding], ...] = (
        check_python,
        check_packages,
        check_home,
        check_bundled_model,
        check_bundled_data,
        check_prefect,
        check_pools,
        check_deployments,
        check_store,
        check_hub,
        check_device,
    )
    of_name: tuple[Callable[[RegistryConfig], Finding], ...] = (check_artifacts, check_aliases)
    return [
        *(_guarded(examination) for examination in examinations),
        *(_guarded(examination, config.registry) for examination in of_name),
        _guarded(check_disk, config),
        _guarded(check_evaluation_server, config),
    ]


def _guarded(examination: Callable[P, Finding], *args: P.args, **kwargs: P.kwargs) -> Finding:
    """Turn an error of a check into a finding, so that the other checks still run."""
    try:
        return examination(*args, **kwargs)
    except SftFlowError as error:
        detail, mend = error.what, error.fix
    except Exception as error:
        detail, mend = f"{type(error).__name__}: {error}".splitlines()[0], MEND_INSTALL
    topic = examination.__name__.removeprefix("check_").replace("_", " ")
    return Finding(topic=topic, health=Health.PROBLEM, detail=detail, mend=mend)


def check_python() -> Finding:
    """Check that Python is the tested version, 3.11."""
    is_tested = sys.version_info[:2] == (3, 11)
    return Finding(
        topic="python",
        health=Health.OK if is_tested else Health.PROBLEM,
        detail=f"{platform.python_version()} at {sys.executable}",
        mend="" if is_tested else "use Python 3.11, the tested version: make PYTHON=python3.11",
    )


def check_packages() -> Finding:
    """Check that installed packages meet the requirements, except those of extras."""
    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            topic="packages",
            health=Health.PROBLEM,
            detail=f"{DISTRIBUTION} itself is not installed",
            mend=MEND_INSTALL,
        )
    wrong = [problem for line in lines if (problem := requirement_problem(line))]
    return Finding(
        topic="packages",
        health=Health.PROBLEM if wrong else Health.OK,
        detail="; ".join(wrong) if wrong else f"{len(lines)} requirements met",
        mend=MEND_INSTALL if wrong else "",
    )


def requirement_problem(line: str) -> str:
    """Check one requirement of the package's metadata; empty if it is met or belongs to an extra."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return f"unreadable requirement {line!r}"
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        return ""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} {version} is outside {requirement.specifier}"


def check_home() -> Finding:
    """Check that the work directory is writable, and report its free space."""
    import shutil

    from tasks.check_environment import check_work_directory

    folder = work_directory()
    try:
        check_work_directory(folder)
    except SftFlowError as error:
        detail = f"{error.where}: {error.what}, got {error.got}"
        return Finding(topic="work directory", health=Health.PROBLEM, detail=detail, mend=error.fix)
    free = shutil.disk_usage(folder).free
    return Finding(
        topic="work directory", health=Health.OK, detail=f"{folder}, {gibibytes(free)} free"
    )


def check_hub() -> Finding:
    """Check that the Hub answers; only a note, because bundled and local sources do not need it."""
    import urllib.error
    import urllib.request

    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return Finding(topic="hub", health=Health.NOTE, detail="offline (HF_HUB_OFFLINE is set)")
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(address, timeout=HUB_SECONDS).close()  # noqa: S310 - user's address
    except urllib.error.HTTPError as error:
        return Finding(topic="hub", health=Health.OK, detail=f"{address} answers {error.code}")
    except (OSError, ValueError) as error:
        return Finding(
            topic="hub",
            health=Health.NOTE,
            detail=f"{address} cannot be reached ({error})",
            mend="bundled and local sources work; set HF_HUB_OFFLINE=1 to use the Hub's cache",
        )
    return Finding(topic="hub", health=Health.OK, detail=address)


def check_device() -> Finding:
    """Report the device of a training, with memory, cores and bf16 support."""
    from schemas.config.training import Device
    from tasks.training.plan.machine import examine_machine

    machine = examine_machine(Device.AUTO)
    count = f"{machine.n_devices} x {machine.name}" if machine.name else "no GPU"
    units = "bf16 units" if machine.has_bf16_units else "no bf16 units"
    detail = (
        f"{machine.device}: {count}, {machine.physical_cores} physical cores, "
        f"{gibibytes(machine.free_memory_bytes)} free, {units}"
    )
    return Finding(topic="device", health=Health.OK, detail=detail)


def check_bundled_model() -> Finding:
    """Check that the demo's model is installed; only a note, because other models do not need it."""
    from tasks.models.bundled import BUNDLED_COMMAND, BUNDLED_NAME, bundled_file

    try:
        path = bundled_file()
    except SftFlowError:
        return Finding(
            topic="bundled model",
            health=Health.NOTE,
            detail=f"{BUNDLED_NAME} is not installed: only the demo needs it",
            mend=f"run `make install`, or {BUNDLED_COMMAND}",
        )
    return Finding(topic="bundled model", health=Health.OK, detail=str(path))


def check_bundled_data() -> Finding:
    """Check that the demo's data is installed; only a note, because other data does not need it."""
    name = "zaragoza-construction-faq"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            topic="bundled data",
            health=Health.NOTE,
            detail=f"{name} is not installed: only the demo needs it",
            mend=MEND_INSTALL,
        )
    return Finding(topic="bundled data", health=Health.OK, detail=f"{name} {version}")
