"""Eight `sft-flow run` at once in one work directory and one registry; one is killed, and another takes over.

Each is a process of its own; they share a Prefect server. Four have the same configuration.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import psutil
import pytest
import yaml
from filelock import FileLock

from schemas.records.stages import Stage
from tasks.engine.cache import MANIFEST
from tasks.engine.keys import file_sha256
from tests.chaos.campaign import is_bad_champion, write_config
from tests.chaos.faults import TRAINING
from tests.chaos.world import World, leftovers

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EQUAL = tuple(f"equal-{number}" for number in range(4))
OTHERS: dict[str, dict[str, dict[str, Any]]] = {
    "seed": {"training": {"seed": 7}},
    "steps": {"training": {"max_steps": 25}},
    "gates": {"gates": {"min_eval_rows": 12}},
    "name": {"registry": {"name": "toy-other"}},
}
"""What differs from the configuration of the four; all share the stages of the data."""
N_VERSIONS = {"toy": 3, "toy-other": 1}
"""Three trainings, of which one is also registered under the other name; gates make no version."""
RUN_SECONDS = 1800
"""Longest time of all eight together, also next to other work."""
COMPUTED_ONCE = (
    Stage.LOAD_DATASET,
    Stage.PREPARE_TEMPLATE,
    Stage.CHECK_SCHEMA,
    Stage.SPLIT_DATASET,
    Stage.CHECK_QUALITY,
    Stage.GENERATE_BASELINE,
    Stage.TRAIN_MODEL,
    Stage.EVALUATE_MODEL,
    Stage.EVALUATE_CHAMPION,
    Stage.DECIDE,
    Stage.PUBLISH_REPORT,
)
"""A version has one decision at a time, so that registering and promoting it may have to be repeated."""
REFUSED = 1


@dataclass
class Flows:
    """The eight, by name."""

    worlds: dict[str, World]
    processes: dict[str, subprocess.Popen[bytes]]

    def victim(self) -> str:
        """Wait until a flow trains and another waits for its result, and return the first."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            assert all(run.poll() is None for run in self.processes.values()), self.tails()
            waits = any("the same train_model" in world.log() for world in self.worlds.values())
            training = [name for name in EQUAL if trains(self.processes[name])]
            if waits and training:
                return training[0]
            time.sleep(0.1)
        raise TimeoutError(self.tails())

    def tails(self) -> str:
        """Return the ends of the logs."""
        return "\n\n".join(f"{name}: {one.log()[-1500:]}" for name, one in self.worlds.items())


def trains(run: subprocess.Popen[bytes]) -> bool:
    """Return whether a flow has a training process."""
    try:
        children = psutil.Process(run.pid).children(recursive=True)
        return any(TRAINING in " ".join(child.cmdline()) for child in children)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flows]:
    """Start eight flows, kill one, and wait for the others."""
    folder = tmp_path_factory.mktemp("eight")
    plain = World(folder, write_config(folder))
    settings = yaml.safe_load(plain.config.read_text(encoding="utf-8"))
    worlds = {name: replace(plain, name=name) for name in EQUAL}
    for name, other in OTHERS.items():
        path = folder / f"{name}.yaml"
        sections = {section: settings[section] | part for section, part in other.items()}
        path.write_text(yaml.safe_dump(settings | sections), encoding="utf-8")
        worlds[name] = replace(plain, config=path, name=name)
    with plain.stack as stack:
        plain.use_prefect()
        found = Flows(worlds, {name: world.start() for name, world in worlds.items()})
        for run in found.processes.values():
            stack.callback(run.kill)
        victim = found.victim()
        killed = found.processes.pop(victim)
        killed.kill()
        killed.wait()
        del found.worlds[victim]
        deadline = time.monotonic() + RUN_SECONDS
        for run in found.processes.values():
            run.wait(max(0, deadline - time.monotonic()))
        yield found


def test_all_but_the_killed_one_end_with_a_decision(flows: Flows) -> None:
    assert len(flows.processes) == len(EQUAL) + len(OTHERS) - 1
    codes = {name: run.returncode for name, run in flows.processes.items()}
    assert set(codes.values()) <= {0, REFUSED}, (codes, flows.tails())
    reports = {name: world.report() for name, world in flows.worlds.items()}
    expected = {
        name: REFUSED if one["decision"] == "refuse" else 0 for name, one in reports.items()
    }
    assert codes == expected
    for world in flows.worlds.values():
        for words in ("locked", "already exists", "Traceback", "Retry"):
            assert words not in world.log(), world.log()


def test_equal_work_is_done_once(flows: Flows) -> None:
    home = next(iter(flows.worlds.values())).home
    done = Counter(
        entry["stage"]
        for journal in (home / "runs").glob("*.jsonl")
        for entry in map(json.loads, journal.read_text(encoding="utf-8").splitlines())
        if entry["event"] == "DONE"
    )
    stored = Counter(path.parent.parent.name for path in (home / "stages").rglob(MANIFEST))
    assert {stage: done[stage] for stage in COMPUTED_ONCE} == {
        stage: stored[stage] for stage in COMPUTED_ONCE
    }
    assert stored[Stage.SPLIT_DATASET] == 1
    assert stored[Stage.CHECK_QUALITY] == len(N_VERSIONS)  # compared with earlier data of the name
    assert stored[Stage.TRAIN_MODEL] == sum(N_VERSIONS.values()) - 1


def test_outputs_are_whole_and_nothing_else_is_left(flows: Flows) -> None:
    world = next(iter(flows.worlds.values()))
    assert leftovers(world, is_cleaned=True) == []
    manifests = list((world.home / "stages").rglob(MANIFEST))
    assert {path.parent.parent.name for path in manifests} >= set(Stage)
    for path in manifests:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        assert {name: file_sha256(path.parent / name) for name in files} == files
    assert [str(path) for path in (world.home / "stages").rglob(".tmp-*")] == []
    assert [str(path) for path in world.home.rglob("*.partial")] == []
    assert list((world.home / "checkpoints").iterdir()) == []
    assert list((world.home / "active").iterdir()) == []


def test_no_lock_remains_held(flows: Flows) -> None:
    locks = list(next(iter(flows.worlds.values())).home.rglob("*.lock"))
    assert locks
    for path in locks:
        with FileLock(path, timeout=0):
            pass


def test_each_result_is_one_version_and_the_champions_were_promoted(flows: Flows) -> None:
    world = next(iter(flows.worlds.values()))
    for name, n_versions in N_VERSIONS.items():
        versions = world.versions(name)
        assert len(versions) == n_versions
        models = {version["tags"]["sft.model_sha256"] for version in versions}
        assert len(models) == n_versions
        champions = [one for one in versions if "champion" in one["aliases"]]
        assert len(champions) == 1
        assert not is_bad_champion(champions[0])
        reports = [one.report()["registry"] for one in flows.worlds.values()]
        promoted = {one["version"] for one in reports if one["name"] == name and one["is_promoted"]}
        assert champions[0]["version"] in promoted
