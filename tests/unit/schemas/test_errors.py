from __future__ import annotations

import pickle

import pytest

from schemas import errors
from schemas.errors import (
    ConfigError,
    DataRejected,
    ServiceUnreachable,
    SftFlowError,
    TrainingInterrupted,
    interruption_of,
    is_retryable,
    restored_interruption,
)

TREE = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, SftFlowError)
]


@pytest.mark.parametrize("kind", TREE)
def test_pickle_keeps_every_part(kind: type[SftFlowError]) -> None:
    error = kind("it broke", where="a:1", expected="b", got="c", fix="d")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


@pytest.mark.parametrize("kind", [kind for kind in TREE if kind is not SftFlowError])
def test_each_is_also_a_stdlib_error_and_has_a_known_exit_code(kind: type[SftFlowError]) -> None:
    assert any(base.__module__ == "builtins" and base is not Exception for base in kind.__mro__[2:])
    assert kind.exit_code in (1, 2, 3)


def test_text_lays_the_parts_out() -> None:
    error = ConfigError("wrong", where="a.yaml:3", expected="> 0", got="-1", fix="fix it")
    assert str(error) == (
        "ConfigError: wrong\n  Where: a.yaml:3\n  Expected: > 0   Got: -1\n  Fix: fix it"
    )


def test_text_leaves_out_what_is_not_known() -> None:
    assert str(ConfigError("wrong")) == "ConfigError: wrong"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ServiceUnreachable("x"), True),
        (ConfigError("x"), False),
        (DataRejected("x"), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(5, "I/O error"), True),
        (OSError(28, "No space left on device"), False),
        (OSError(122, "Disk quota exceeded"), False),
        (OSError("[Errno 28] No space left on device: 'a' -> 'b'"), False),  # of shutil.copytree
        (EOFError(), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (NotADirectoryError(), False),
        (ValueError(), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_is_retryable(error: BaseException, expected: bool) -> None:
    assert is_retryable(error) is expected


def raised_after(first: BaseException, error: Exception, *, is_cause: bool) -> Exception:
    """Raise an error while another is handled, as a library does that rolls back."""
    try:
        try:
            raise first
        except BaseException as met:
            if is_cause:
                raise error from met
            raise error  # noqa: B904 - the case of a failing roll-back
    except Exception as found:
        return found


class Stopped(KeyboardInterrupt):
    """As flows.services.signals.Terminated."""


@pytest.mark.parametrize("is_cause", [True, False])
@pytest.mark.parametrize("kind", [OSError, ServiceUnreachable])
def test_interruption_that_a_library_turned_into_an_error_is_raised_again(
    kind: type[Exception], is_cause: bool
) -> None:
    error = raised_after(Stopped("15"), kind("commit failed"), is_cause=is_cause)
    outer = raised_after(error, kind("the store cannot be reached"), is_cause=True)
    assert interruption_of(outer) is not None
    assert not is_retryable(outer)
    with pytest.raises(Stopped, match="15") as found, restored_interruption():
        raise outer
    assert found.value.__cause__ is outer


@pytest.mark.parametrize("first", [ValueError("other"), None])
def test_other_errors_are_raised_as_they_are(first: Exception | None) -> None:
    error = raised_after(first, OSError("x"), is_cause=True) if first else OSError("x")
    with pytest.raises(OSError, match="x") as found, restored_interruption():
        raise error
    assert found.value is error
    assert is_retryable(error)


def test_interrupted_training_keeps_its_message() -> None:
    error = raised_after(KeyboardInterrupt(), TrainingInterrupted("at step 4"), is_cause=True)
    with pytest.raises(TrainingInterrupted, match="at step 4"), restored_interruption():
        raise error
