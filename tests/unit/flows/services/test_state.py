from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from flows.services.state import (
    Service,
    ServiceName,
    local_prefect_api,
    lock_services,
    read_services,
    state_path,
    write_services,
)
from schemas.errors import WorkDirectoryError
from tasks.engine.processes import identify


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))


def service_of(pid: int, identity: str) -> Service:
    return Service(
        name=ServiceName.PREFECT,
        pid=pid,
        identity=identity,
        address="http://127.0.0.1:4200",
        log="prefect.log",
    )


def test_service_that_runs_is_found_again() -> None:
    service = service_of(os.getpid(), identify(os.getpid()))
    write_services({service.name: service})
    assert read_services() == {ServiceName.PREFECT: service}
    assert local_prefect_api() == "http://127.0.0.1:4200/api"


def test_process_that_took_over_the_id_is_not_ours() -> None:
    pid, _, start = identify(os.getpid()).partition(":")
    service = service_of(os.getpid(), f"{pid}:{float(start) - 3600}")
    write_services({service.name: service})
    assert service.process() is None
    assert read_services() == {}
    assert local_prefect_api() is None


def test_service_that_has_ended_is_left_out_even_before_it_is_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    service = service_of(process.pid, identify(process.pid))
    assert service.process() is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
    assert service.process() is None
    process.communicate()
    assert service.process() is None


def test_no_services_leave_no_file() -> None:
    service = service_of(os.getpid(), identify(os.getpid()))
    write_services({service.name: service})
    assert state_path().is_file()
    write_services({})
    assert not state_path().exists()
    assert read_services() == {}


@pytest.mark.parametrize("text", ['[{"name": "prefect", "pid"', '[{"name": "prefect"}]', "1"])
def test_damaged_file_is_named_with_the_way_out(text: str) -> None:
    state_path().parent.mkdir()
    state_path().write_text(text)
    with pytest.raises(WorkDirectoryError) as caught:
        read_services()
    assert caught.value.where == str(state_path())
    assert "delete the file" in caught.value.fix


def test_one_command_at_a_time_works_on_the_services() -> None:
    other = FileLock(state_path().with_suffix(".lock"))
    told: list[str] = []
    with lock_services(told.append), pytest.raises(Timeout):
        other.acquire(timeout=0)
    other.acquire(timeout=0)

    def end_other(sentence: str) -> None:
        told.append(sentence)
        other.release()

    with lock_services(end_other):
        assert told == ["waiting for another `sft-flow up` or `down` to end"]
