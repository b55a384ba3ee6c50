from __future__ import annotations

import pickle

import pytest

from schemas import errors
from schemas.errors import ConfigError, DataRejected, ServiceUnreachable, SftFlowError, is_retryable

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
