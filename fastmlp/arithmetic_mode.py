"""Which arithmetic the operations use: `portable` (default) or `numpy`."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, cast, get_args

from .choices import Arithmetic

ARITHMETICS = get_args(Arithmetic)


def _checked(name: Any, origin: str) -> Arithmetic:
    if not isinstance(name, str) or name not in ARITHMETICS:
        raise ValueError(
            f"{origin}: expected 'portable' or 'numpy', got {name!r}; "
            "pass 'portable' for the same bits on every machine, 'numpy' for NumPy's own bits"
        )
    return cast(Arithmetic, name)


_process_wide: Arithmetic | None = None  # until set_arithmetic, what the environment says
_in_context: ContextVar[Arithmetic | None] = ContextVar("fastmlp_arithmetic", default=None)


def get_arithmetic() -> Arithmetic:
    """Return the arithmetic in force here: 'portable' or 'numpy'."""
    return _in_context.get() or _process_wide or _from_environment()


def _from_environment() -> Arithmetic:
    return _checked(os.environ.get("FASTMLP_ARITHMETIC") or "portable", "FASTMLP_ARITHMETIC")


def set_arithmetic(name: Arithmetic) -> None:
    """Choose the arithmetic of the whole process: 'portable' or 'numpy'.

    An enclosing `with fastmlp.arithmetic(...)` block keeps its own choice until it ends.
    Raises ValueError for another name.
    """
    global _process_wide
    _process_wide = _checked(name, "set_arithmetic")


def arithmetic(name: Arithmetic) -> AbstractContextManager[None]:
    """Use the arithmetic `name` inside the block, in this thread and its contexts only.

    >>> with fastmlp.arithmetic("numpy"):
    ...     y = fastmlp.Matmul().forward(x, W)  # the bits of np.matmul(x, W)

    Raises ValueError for another name.
    """
    return _use(_checked(name, "arithmetic"))


@contextmanager
def _use(name: Arithmetic) -> Iterator[None]:
    token = _in_context.set(name)
    try:
        yield
    finally:
        _in_context.reset(token)


def is_numpy() -> bool:
    """Tell whether NumPy's own arithmetic is in force here."""
    global _process_wide
    if _process_wide is None:
        _process_wide = _from_environment()
    return (_in_context.get() or _process_wide) == "numpy"
