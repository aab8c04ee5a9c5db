"""Modules of kernels that are imported when somebody first asks for one of their names.

They import Numba, which takes half of a program's start. No Numba here. `one_compiles` is the lock
of all that is imported, compiled or loaded; a fork waits for it, as a child would for ever.
"""

import importlib
import os
import sys
import threading
from typing import Any

from fastmlp_kernels.notices import progress

one_compiles = threading.RLock()


class Late:
    """A module of this package by its name; what it has had once is an attribute of this."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        with one_compiles:
            value = getattr(importlib.import_module(f"fastmlp_kernels.{self._module}"), name)
        setattr(self, name, value)
        return value


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
