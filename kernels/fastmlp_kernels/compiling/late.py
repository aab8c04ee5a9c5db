"""Modules of kernels that are imported when somebody first asks for one of their names.

They import Numba, which takes half of a program's start. No Numba here. `one_compiles` is the lock
of all that is imported, compiled or loaded; a fork waits for it, as a child would for ever.
"""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastmlp_kernels.compiling.notices import progress

one_compiles = threading.RLock()


class Late:
    """A module of this package by its name; what it has had once is an attribute of this."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        with one_compiles, _uninterrupted():
            _import_numba()
            value = getattr(importlib.import_module(f"fastmlp_kernels.{self._module}"), name)
        setattr(self, name, value)
        return value


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block: what it has half imported, Python keeps like that.

    Each later import of Numba would then fail, in a notebook for good.
    """
    before, met = signal.getsignal(signal.SIGINT), []
    try:
        if callable(before):
            signal.signal(signal.SIGINT, lambda *given: met.append(given))
    except ValueError:  # in another thread, where none comes
        before = None
    try:
        yield
    finally:
        if callable(before):
            signal.signal(signal.SIGINT, before)
        for given in met[:1]:
            before(*given)


SETTINGS = (
    *("OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "CPU_NAME", "CPU_FEATURES"),
    *("ENABLE_AVX", "DISABLE_JIT"),
)
# Variables of Numba's that no code depends on: where it is kept, and who runs it.
ELSEWHERE = ("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER")
_imported: Any = None  # what Numba's settings were when this module imported it


def variables() -> tuple[tuple[str, str], ...]:
    """The environment variables that compiled code may depend on."""
    return tuple(
        (name, value)
        for name, value in sorted(os.environ.items())
        if name.startswith(("NUMBA_", "FASTMLP_VECTOR")) and not name.startswith(ELSEWHERE)
    )


VARIABLES = variables()


def is_set_up_elsewhere() -> bool:
    """Whether Numba reads settings that weren't there at the start, or from a file."""
    return variables() != VARIABLES or os.path.exists(".numba_config.yaml")


def _settings() -> tuple[Any, ...]:
    config = sys.modules["numba"].config
    return tuple(getattr(config, name, None) for name in SETTINGS)


def _import_numba() -> None:
    global _imported
    if "numba" not in sys.modules:
        elsewhere = is_set_up_elsewhere()
        importlib.import_module("numba")
        _imported = None if elsewhere else _settings()


def is_as_the_environment_says() -> bool:
    """Whether nothing but the variables above has set up the Numba that is loaded."""
    return _imported is not None and _imported == _settings()


_taken: list[Any] = []


def _wait_for_compilers() -> None:
    """Before a fork: a child would wait for ever for a lock that another thread had."""
    one_compiles.acquire()
    numbas = sys.modules.get("numba.core.compiler_lock")
    _taken.extend([numbas.global_compiler_lock] if numbas else [])
    _taken.append(progress.lock)
    for lock in _taken:
        lock.acquire()


def _go_on() -> None:
    while _taken:
        _taken.pop().release()
    one_compiles.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_wait_for_compilers, after_in_parent=_go_on, after_in_child=_go_on
    )
