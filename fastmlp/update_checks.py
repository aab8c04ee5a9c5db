"""What the updates check before they write, for the compiled ones and the reference."""

from collections.abc import Iterable
from numbers import Real
from typing import NamedTuple

import numpy as np

from .checks import FLOATS, Array, dtype_error, integer, overlaps_itself, plain_array, shape_error

GRADS = 1  # the place of grads in the lists params, grads, states: the one that is only read


class Checked(NamedTuple):
    """Lists of arrays that fit; plain: all of params' dtype, contiguous, aligned and writable."""

    arrays: list[list[Array]]
    plain: bool


def real_number(name: str, value: object) -> float:
    """Return `value` as a float; TypeError for anything but a real number."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{name}: expected a real number, got {type(value).__name__}; pass float({name})"
        )
    return float(value)


def decay_rate(name: str, value: object) -> float:
    """Return `value` as a float; ValueError outside 0 <= value < 1."""
    rate = real_number(name, value)
    if not 0 <= rate < 1:
        raise shape_error(name, "0 <= value < 1", rate, f"lower it, {name}=0.9 is usual")
    return rate


def step_number(step: object) -> int:
    """Return `step` as an int; TypeError for a non-integer, ValueError below 1."""
    number = integer("step", step)
    if number < 1:
        raise shape_error("step", "1 or more", number, "count the steps from 1")
    return number


def updatable(params: object, grads: object, **states: object) -> Checked:
    """Return the lists params, grads and states if their arrays fit, or raise.

    Each grad and state has its param's shape and dtype (a grad may be float32 beside a float64
    param), params and states are writable and visit no element twice. See `refuse_overlap` for
    the rest.
    """
    named = {"params": params, "grads": grads, **states}
    lists = [_array_list(name, arrays) for name, arrays in named.items()]
    plain = _all_plain(lists)
    if not plain:
        for name, arrays in zip(named, lists, strict=True):
            _refuse_misfits(name, lists[0], arrays)
    return Checked(lists, plain)


def _all_plain(lists: list[list[Array]]) -> bool:
    """Tell quickly whether everything fits and is plain: the usual case."""
    params, *others = lists
    shapes = [array.shape for array in params]
    dtypes = [array.dtype for array in params]
    for arrays in others:
        if [array.shape for array in arrays] != shapes:
            return False
        if [array.dtype for array in arrays] != dtypes:
            return False
    flags = [array.flags.carray for arrays in lists for array in arrays]
    return all(flags) and all([dtype in FLOATS for dtype in dtypes])


def refuse_overlap(params: list[Array], grads: list[Array], *states: list[Array]) -> None:
    """Raise ValueError if an array that is to be written shares memory with another array."""
    places = []
    for kind, arrays in enumerate((params, grads, *states)):
        name = ("params", "grads", "states", "states")[kind]
        for i, array in enumerate(arrays):
            low, high = np.lib.array_utils.byte_bounds(array)
            if array.size:
                places.append((low, high, f"{name}[{i}]", kind != GRADS, array))
    places.sort(key=lambda place: place[:2])
    for i, (_, high, name, written, array) in enumerate(places):
        for other_low, _, other_name, other_written, other in places[i + 1 :]:
            if other_low >= high:
                break
            if (written or other_written) and np.shares_memory(array, other):
                raise ValueError(
                    f"{name}, {other_name}: expected memory of their own for arrays that are "
                    f"updated, got two that overlap; pass a copy of one, or name it once"
                )


def _array_list(name: str, arrays: object) -> list[Array]:
    if isinstance(arrays, np.ndarray):
        raise TypeError(f"{name}: expected a list of arrays, got a single array; pass [{name}]")
    if not isinstance(arrays, Iterable):
        raise TypeError(
            f"{name}: expected a list of arrays, got {type(arrays).__name__}; pass a list"
        )
    arrays = list(arrays)
    if set(map(type, arrays)) == {np.ndarray}:
        return arrays
    for i, array in enumerate(arrays):
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"{name}[{i}]: expected a NumPy array, got {type(array).__name__}; "
                "pass np.asarray(...)"
            )
    return [plain_array(f"{name}[{i}]", array) for i, array in enumerate(arrays)]


def _refuse_misfits(name: str, params: list[Array], arrays: list[Array]) -> None:
    if len(arrays) != len(params):
        raise shape_error(
            name, f"{len(params)} arrays, one for each of params", len(arrays), "pass them all"
        )
    for i, (param, array) in enumerate(zip(params, arrays, strict=True)):
        what = f"{name}[{i}]"
        if param.dtype not in FLOATS:
            raise dtype_error(
                what, "float32 or float64", param.dtype, "convert with .astype(np.float32)"
            )
        if array.dtype != param.dtype and not (name == "grads" and array.dtype == np.float32):
            raise dtype_error(
                what,
                f"{param.dtype}, as params[{i}]",
                array.dtype,
                f"convert with .astype(np.{param.dtype})",
            )
        if array.shape != param.shape:
            raise shape_error(
                what,
                f"shape {param.shape}, that of params[{i}]",
                f"shape {array.shape}",
                "pass the arrays in the same order in each list",
            )
        if name != "grads":
            _refuse_unwritable(what, array)


def _refuse_unwritable(what: str, array: Array) -> None:
    if not array.flags.writeable:
        raise ValueError(f"{what}: expected a writable array, got a read-only one; pass a copy")
    if overlaps_itself(array):
        raise ValueError(
            f"{what}: expected one place in memory for each element, got elements that overlap "
            f"(shape {array.shape}, strides {array.strides}); pass a copy"
        )
