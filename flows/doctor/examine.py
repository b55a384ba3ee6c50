"""Run the checks of `sft-flow doctor`: is everything available that a run needs?"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flows.doctor._run_needs import (
    check_aliases,
    check_artifacts,
    check_disk,
    check_evaluation_server,
    check_hub,
)
from flows.doctor._servers import (
    check_deployments,
    check_pools,
    check_prefect,
    check_runs,
    check_store,
)
from flows.doctor.finding import Finding, Health
from flows.services.own_packages import hidden_message, hiding_packages
from flows.services.prefect_api import known_api
from flows.services.prefect_settings import settings_error
from schemas.config.registry import RegistryConfig
from schemas.config.run import RunConfig
from schemas.errors import ConfigError, SftFlowError
from schemas.rules.check_set import require_docstrings
from tasks.engine.extras import (
    BASE,
    DISTRIBUTION,
    FLOW,
    FOR_DEVELOPERS,
    missing_extra,
    requirements,
)
from tasks.engine.home import work_directory
from tasks.engine.wording import gibibytes

P = ParamSpec("P")

MISSING = "is missing"
FIX_INSTALL = f"pip install '{DISTRIBUTION}[{FLOW}]', or `make install` in a clone"


def examine(config: RunConfig) -> list[Finding]:
    """Check everything that a run of a configuration needs; one finding per topic."""
    of_machine: tuple[Callable[[], Finding], ...] = (
        check_python,
        check_packages,
        check_folder,
        check_home,
        check_temporary_files,
        check_bundled_model,
        check_bundled_data,
    )
    of_others: tuple[Callable[[], Finding], ...] = (check_store, check_device)
    of_name: tuple[Callable[[RegistryConfig], Finding], ...] = (check_artifacts, check_aliases)
    return [
        *(_guarded(examination) for examination in of_machine),
        *_examine_server(),
        *(_guarded(examination) for examination in of_others),
        *(_guarded(examination, config.registry) for examination in of_name),
        _guarded(check_hub, config),
        _guarded(check_disk, config),
        _guarded(check_evaluation_server, config),
    ]


def _examine_server() -> list[Finding]:
    """Check the Prefect server, and ask it about the rest only if it answers."""
    found = _guarded(check_prefect)
    api = None if found.health is Health.PROBLEM else known_api()
    return [
        found,
        *(_guarded(check, api) for check in (check_pools, check_deployments, check_runs)),
    ]


def _guarded(examination: Callable[P, Finding], *args: P.args, **kwargs: P.kwargs) -> Finding:
    """Turn an error of a check into a finding, so that the other checks still run."""
    try:
        return examination(*args, **kwargs)
    except SftFlowError as error:
        detail, fix = error.what, error.fix
    except ModuleNotFoundError as error:
        absent = missing_extra(error.name or "", "this check")
        detail, fix = (absent.what, absent.fix) if absent else (str(error), FIX_INSTALL)
    except Exception as error:
        named = settings_error(error)
        detail, fix = f"{type(error).__name__}: {error}".splitlines()[0], FIX_INSTALL
        if named:
            detail, fix = f"{named.what}: {named.where}={named.got}", named.fix
    topic = examination.__name__.removeprefix("check_").replace("_", " ")
    return Finding(topic=topic, health=Health.PROBLEM, detail=detail, fix=fix)


def check_python() -> Finding:
    """Check that this Python is one that the package allows."""
    allowed = SpecifierSet(importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"])
    fix = ""
    if platform.python_version() not in allowed:
        fix = f"use a Python that meets {allowed}"
    detail = f"{platform.python_version()} at {sys.executable}"
    try:
        require_docstrings()
    except ConfigError as error:
        detail, fix = f"{detail}: {error.what}", fix or error.fix
    health = Health.PROBLEM if fix else Health.OK
    return Finding(topic="python", health=health, detail=detail, fix=fix)


def check_packages() -> Finding:
    """Check the installed packages against the requirements of sft-flow and of its extras.

    Those of the data gate and of the flow must be installed; those of another extra may be missing,
    and those for developers do not matter.
    """
    topic = "packages"
    try:
        found = list(requirements())
    except importlib.metadata.PackageNotFoundError:
        detail = f"{DISTRIBUTION} itself is not installed"
        return Finding(topic=topic, health=Health.PROBLEM, detail=detail, fix=FIX_INSTALL)
    of_extra: dict[str, list[str]] = {}
    for extra, requirement in found:
        if extra not in FOR_DEVELOPERS and (problem := requirement_problem(requirement)):
            of_extra.setdefault(extra, []).append(problem)
    n_flow = sum(extra == FLOW for extra, _ in found)
    missing = {extra for extra, texts in of_extra.items() if all(MISSING in text for text in texts)}
    if FLOW in missing and len(of_extra[FLOW]) > n_flow // 2:
        of_extra[FLOW] = [f"the extra {FLOW} is not installed: this is the data gate alone"]
    wrong = {
        extra: texts
        for extra, texts in of_extra.items()
        if extra in (BASE, FLOW) or extra not in missing
    }
    if not wrong:
        detail = f"{len(found)} requirements met"
        return Finding(topic=topic, health=Health.OK, detail=detail)
    needed = wrong.keys() & {BASE, FLOW}
    extras = ",".join(sorted({FLOW, *wrong.keys()} - {BASE}))
    return Finding(
        topic=topic,
        health=Health.PROBLEM if needed else Health.NOTE,
        detail="; ".join(text for texts in wrong.values() for text in texts),
        fix=FIX_INSTALL.replace(f"[{FLOW}]", f"[{extras}]"),
    )


def requirement_problem(requirement: Requirement) -> str:
    """Compare a requirement with what is installed; empty if it is met."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} {MISSING}"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} {version} is outside {requirement.specifier}"


def check_folder() -> Finding:
    """Check that no package of the current folder hides one of sft-flow from deployments."""
    topic, folder = "folder", Path.cwd()
    if hiding := hiding_packages(folder):
        detail, _, fix = hidden_message(hiding[0]).partition(": ")
        return Finding(topic=topic, health=Health.PROBLEM, detail=detail, fix=fix)
    return Finding(topic=topic, health=Health.OK, detail=str(folder))


def check_home() -> Finding:
    """Check that the work directory is writable, and report its free space."""
    import shutil

    from tasks.check_environment import check_work_directory

    folder = work_directory()
    try:
        check_work_directory(folder)
    except SftFlowError as error:
        detail = f"{error.where}: {error.what}, got {error.got}"
        return Finding(topic="work directory", health=Health.PROBLEM, detail=detail, fix=error.fix)
    free = shutil.disk_usage(folder).free
    return Finding(
        topic="work directory", health=Health.OK, detail=f"{folder}, {gibibytes(free)} free"
    )


def check_temporary_files() -> Finding:
    """Check the folder for temporary files, as a run does."""
    import shutil

    from tasks.check_environment import check_temporary_folder

    folder = check_temporary_folder()
    free = gibibytes(shutil.disk_usage(folder).free)
    return Finding(topic="temporary files", health=Health.OK, detail=f"{folder}, {free} free")


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
            fix=f"run `make install`, or {BUNDLED_COMMAND}",
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
            fix=FIX_INSTALL,
        )
    return Finding(topic="bundled data", health=Health.OK, detail=f"{name} {version}")
