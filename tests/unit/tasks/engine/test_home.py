from __future__ import annotations

import getpass
import os
import pwd
from pathlib import Path

import httpx
import pytest

from schemas.config.registry import RegistryConfig
from tasks.engine.home import (
    absolute_tracking_uri,
    bypass_proxy,
    has_store,
    prepare_environment,
    take_credentials,
    tracking_uri,
    use_writable_homes,
    work_directory,
)
from tasks.registry.champion import find_champion_data


@pytest.mark.parametrize(
    ("uri", "absolute"),
    [
        ("sqlite:///runs/mlflow.db", "sqlite:///{here}/runs/mlflow.db"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("mlruns", "{here}/mlruns"),
        ("file:///data/mlruns", "file:///data/mlruns"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://mlflow@host/mlflow", "postgresql://mlflow@host/mlflow"),
        ("databricks", "databricks"),
    ],
)
def test_absolute_tracking_uri_names_the_same_store_from_every_folder(
    uri: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert absolute_tracking_uri() == absolute.format(here=tmp_path)


def test_store_is_there_unless_its_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert not has_store()
    (tmp_path / "mlflow.db").touch()
    assert has_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert has_store()


def test_asking_for_a_champion_makes_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert find_champion_data(RegistryConfig(name="toy"), "sha256") is None
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("users_own", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000", "DO_NOT_TRACK": "1"}),
        (
            {"GOMP_SPINCOUNT": "7", "DO_NOT_TRACK": "0"},
            {"GOMP_SPINCOUNT": "7", "DO_NOT_TRACK": "0"},
        ),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_what_the_user_has_set_for_libraries_stays(
    monkeypatch: pytest.MonkeyPatch, users_own: dict[str, str], expected: dict[str, str | None]
) -> None:
    monkeypatch.setattr(os, "environ", dict(users_own))
    prepare_environment()
    assert {name: os.environ.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("uri", "clean", "user", "password"),
    [
        ("http://ada:p%40ss@[::1]:5000/x", "http://[::1]:5000/x", "ada", "p@ss"),
        ("https://ada@mlflow", "https://mlflow", "ada", None),
        ("https://ada:@mlflow", "https://mlflow", "ada", ""),
        ("http://mlflow:5000", "http://mlflow:5000", None, None),
        ("postgresql://ada:p@db/mlflow", "postgresql://ada:p@db/mlflow", None, None),
        ("http://[ada:p@host", "http://[ada:p@host", None, None),
    ],
)
def test_credentials_of_the_mlflow_server_move_to_their_variables(
    uri: str,
    clean: str,
    user: str | None,
    password: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    take_credentials()
    assert tracking_uri() == clean
    assert os.environ.get("MLFLOW_TRACKING_USERNAME") == user
    assert os.environ.get("MLFLOW_TRACKING_PASSWORD") == password


def test_password_in_its_variable_stays_if_the_address_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada@host")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "its-own")
    take_credentials()
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "ada"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "its-own"


@pytest.mark.parametrize(
    ("users_own", "expected"),
    [
        ({"HTTP_PROXY": "http://p"}, "127.0.0.1,localhost,::1"),
        ({"all_proxy": "http://p", "NO_PROXY": "a, b"}, "a,b,127.0.0.1,localhost,::1"),
        ({"https_proxy": "http://p", "no_proxy": "::1,c"}, "::1,c,127.0.0.1,localhost"),
        ({"http_proxy": "http://p", "no_proxy": "*"}, "*"),
        (
            {
                "http_proxy": "http://p",
                "NO_PROXY": "10.0.0.0/8,[fd00::1],fd00::/8,[fd00::2]:80,a:5000",
            },
            "10.0.0.0/8,fd00::1,a:5000,127.0.0.1,localhost,::1",
        ),
        ({"http_proxy": ""}, None),
        ({}, None),
    ],
)
def test_no_proxy_comes_between_servers_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, users_own: dict[str, str], expected: str | None
) -> None:
    monkeypatch.setattr(os, "environ", dict(users_own))
    bypass_proxy()
    assert os.environ.get("no_proxy") == os.environ.get("NO_PROXY") == expected
    httpx.Client().close()  # which reads all of them


def test_prefect_gets_a_home_in_the_work_directory_if_its_own_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    known = {"SFT_HOME": str(tmp_path / "sft")}
    for more in ({"PREFECT_HOME": str(tmp_path / "file" / "p")}, {"HOME": str(tmp_path / "file")}):
        monkeypatch.setattr(os, "environ", known | more)
        use_writable_homes()
        assert os.environ["PREFECT_HOME"] == str(tmp_path / "sft" / "prefect")
        assert "PREFECT_PROFILES_PATH" not in os.environ
        assert (tmp_path / "sft" / "prefect").is_dir()  # Prefect warns if it cannot create it


@pytest.mark.parametrize("is_readable", [True, False])
def test_prefects_profiles_are_those_of_the_users_home_if_they_can_be_read(
    is_readable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = tmp_path / ".prefect" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.touch()

    def can(path: Path, mode: int) -> bool:
        """Answer as for the home of another user, or for one that is only for reading."""
        return mode == os.R_OK and is_readable and path == profiles

    monkeypatch.setattr(os, "environ", {"SFT_HOME": str(tmp_path / "s"), "HOME": str(tmp_path)})
    monkeypatch.setattr(os, "access", can)
    use_writable_homes()
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "s" / "prefect")
    assert os.environ.get("PREFECT_PROFILES_PATH") == (str(profiles) if is_readable else None)


@pytest.mark.parametrize("given", [None, "", ".sft", "./.sft/"])
def test_work_directory_is_below_the_current_folder_unless_named(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SFT_HOME", raising=False)
    if given is not None:
        monkeypatch.setenv("SFT_HOME", given)
    assert work_directory() == tmp_path / ".sft"


def test_work_directory_of_a_user_who_is_not_there_is_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFT_HOME", "~no-such-user/sft")
    assert work_directory() == tmp_path / "~no-such-user" / "sft"


def test_home_that_can_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"SFT_HOME": str(tmp_path / "sft"), "HOME": str(tmp_path)}
    for more in ({}, {"PREFECT_HOME": str(tmp_path / "deep" / "prefect")}):
        monkeypatch.setattr(os, "environ", known | more)
        use_writable_homes()
        assert os.environ == known | more


@pytest.mark.parametrize("home", [None, "/dev/null/home"])
def test_libraries_keep_their_files_in_the_work_directory_without_a_home_to_write(
    home: str | None, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = work_folder / "home"
    monkeypatch.setattr(os, "environ", {"SFT_HOME": str(work_folder)})
    if home:
        os.environ["HOME"] = home
    else:
        monkeypatch.setattr(Path, "home", no_home)
    use_writable_homes()
    assert os.environ["HOME"] == (home or str(own))
    made = {name: os.environ.get(name) for name in ("HF_HOME", "PREFECT_HOME")}
    in_own = {"HF_HOME": str(own / "huggingface"), "PREFECT_HOME": str(work_folder / "prefect")}
    assert made == (in_own if home else dict.fromkeys(in_own))


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_homes_that_are_there_or_chosen_stay(
    tmp_path: Path, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"HOME": str(tmp_path), "HF_HOME": "/dev/null/mine", "SFT_HOME": str(work_folder)}
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    monkeypatch.setattr(os, "environ", dict(chosen))
    use_writable_homes()
    assert os.environ == chosen


def test_a_user_id_without_a_name_gets_one(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(os, "environ", {"HOME": "/", "SFT_HOME": str(work_folder)})
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    use_writable_homes()
    assert getpass.getuser() == f"uid_{os.getuid()}"
