"""Where the product keeps its files, and the environment variables it sets for libraries."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import tasks
from tasks.engine.clean_logs import install_clean_logs
from tasks.engine.redaction import without_secrets

QUIET_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
}
"""No usage events from our processes, no thread warnings, few server logs."""
SPIN_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SPIN_COUNT = "1000"
"""How often a thread of torch looks for the others before it sleeps; libgomp's default is 300,000.

Spinning costs nothing while each thread has a core. Next to another process, it takes from the
thread that all wait for the time in which that one could finish.
"""
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
ARTIFACTS = "artifacts"
"""Folder of the default store in the work directory."""
DEFAULT_STORE = f"{SQLITE}mlflow.db"
"""Name of the default store in records, wherever the work directory is."""
OWN_HOSTS = ("127.0.0.1", "localhost", "::1")
"""Servers on this machine, which no proxy can reach for us."""
PREFECT_HOME_VARIABLE = "PREFECT_HOME"
PROFILES_VARIABLE = "PREFECT_PROFILES_PATH"


def prepare_environment() -> None:
    """Set what libraries read when they are loaded, and keep secrets out of logs and addresses.

    A variable that the user has set stays. libgomp reads its variables as torch loads it, so that this
    has to come first in every process that computes; processes that it starts inherit them.
    """
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not any(name in os.environ for name in SPIN_VARIABLES):
        os.environ[SPIN_VARIABLES[0]] = SPIN_COUNT
    bypass_proxy()
    use_writable_homes()
    install_clean_logs()
    take_credentials()


def bypass_proxy() -> None:
    """Let no proxy of the environment come between this process, or those it starts, and `OWN_HOSTS`.

    Without a proxy nothing is set: macOS and Windows use theirs only if the environment names none.
    """
    names = [name.lower() for name, value in os.environ.items() if value]
    if not any(name.endswith("_proxy") and name != "no_proxy" for name in names):
        return
    # Libraries read one of the two names, or prefer the lower case.
    known = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    hosts = [_host_for_httpx(host.strip()) for host in known.split(",") if host.strip()]
    if "*" not in hosts:
        known = ",".join(dict.fromkeys((*filter(None, hosts), *OWN_HOSTS)))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = known


def _host_for_httpx(host: str) -> str:
    """Return a host of NO_PROXY; empty for networks and ports of IPv6, at which httpx fails."""
    if host.count(":") < 2 or "://" in host:
        return host
    try:
        return str(ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        return ""


def use_writable_homes() -> None:
    """Let libraries keep files in the work directory where they cannot in the home folder of the user.

    A container that runs as any user id may have no home, or one that cannot be written, and no user
    name. What is there, such as a token, a profile or a cache that is only for reading, is still read.
    """
    own = work_directory() / "home"
    try:
        home = Path.home()
    except RuntimeError:  # HOME is not set, and the user id is not in the list of users
        home = own
        os.environ["HOME"] = str(own)
    hub = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface"
    if "HF_HOME" not in os.environ and not (os.path.exists(hub) or _can_write(hub)):
        os.environ["HF_HOME"] = str(own / hub.name)
    prefect = Path(os.path.expanduser(os.environ.get(PREFECT_HOME_VARIABLE) or home / ".prefect"))
    if not _can_write(prefect):
        os.environ[PREFECT_HOME_VARIABLE] = str(prefect_home())
        profiles = prefect / "profiles.toml"
        if os.access(profiles, os.R_OK):  # Prefect fails at one in a folder of another user
            os.environ.setdefault(PROFILES_VARIABLE, str(profiles))
        with suppress(OSError):  # `check_environment` reports it
            prefect_home().mkdir(parents=True, exist_ok=True)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # which MLflow does not expect
        os.environ["LOGNAME"] = f"uid_{os.getuid()}"


def _can_write(folder: Path) -> bool:
    """Return whether a folder can be written, or created."""
    found = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    return os.path.isdir(found) and os.access(found, os.W_OK | os.X_OK)


def prefect_home() -> Path:
    """Return the home of the Prefect servers that are started here, with their database."""
    return work_directory() / "prefect"


def take_credentials() -> None:
    """Move user and password of the MLflow server from its address to the variables for them.

    MLflow prints the address, and stores it in messages and files.
    """
    try:
        address = urlsplit(os.environ.get(TRACKING_VARIABLE, ""))
    except ValueError:
        return  # `ping` reports it
    if address.scheme not in ("http", "https") or not address.username:
        return
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(address.username)
    if address.password is not None:
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(address.password)
    host = address.netloc.rpartition("@")[2]
    os.environ[TRACKING_VARIABLE] = urlunsplit(address._replace(netloc=host))


def work_directory() -> Path:
    """Return `SFT_HOME`, or `.sft` in the current folder if it is not set or empty; it need not exist yet."""
    # Unlike `Path.expanduser`, this keeps the ~ of a user id without a home.
    return Path(os.path.expanduser(os.environ.get("SFT_HOME") or ".sft")).absolute()


def source_folder() -> Path:
    """Return the folder of this product's packages: the clone, or site-packages."""
    return Path(tasks.__file__).resolve().parent.parent


def python_path(environment: Mapping[str, str]) -> str:
    """Return the `PYTHONPATH` for a process that is started: this product's folder first."""
    known = environment.get("PYTHONPATH")
    return os.pathsep.join(part for part in (str(source_folder()), known) if part)


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, or SQLite in the work directory.

    A relative path in it starts from the current folder.
    """
    return os.environ.get(TRACKING_VARIABLE) or f"{SQLITE}{default_store()}"


def default_store() -> Path:
    """Return the SQLite file of the store that is used unless `MLFLOW_TRACKING_URI` names another."""
    return work_directory() / "mlflow.db"


def is_default_store() -> bool:
    """Return whether the store is the one in the work directory, also if the variable names it."""
    file = sqlite_file(tracking_uri())
    return file is not None and file.absolute() == default_store()


def store_name() -> str:
    """Identify the store in keys and records; the default one moves with the work directory."""
    return DEFAULT_STORE if is_default_store() else without_secrets(absolute_tracking_uri())


def store_address(name: str) -> str:
    """Return where a store with such a name is now."""
    return f"{SQLITE}{default_store()}" if name == DEFAULT_STORE else name


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, as the URI has it; None for any other store."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def absolute_tracking_uri() -> str:
    """Return `tracking_uri` with an absolute path, for a process in another folder."""
    uri = tracking_uri()
    if file := sqlite_file(uri):
        return f"{SQLITE}{file.absolute()}"
    is_folder = "://" not in uri and not uri.startswith(("file:", "databricks"))
    return str(Path(uri).absolute()) if is_folder else uri


def artifact_location() -> str | None:
    """Return where a new experiment of the default store keeps artifacts; else the store decides."""
    return (work_directory() / ARTIFACTS).as_uri() if is_default_store() else None


def has_store() -> bool:
    """Return whether there is a store, without making one: False if its SQLite file is missing."""
    file = sqlite_file(tracking_uri())
    return file is None or file.is_file()
