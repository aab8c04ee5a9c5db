"""What the updates check before they write, for the compiled ones and the reference."""

import math
from collections.abc import Iterable
from numbers import Real
from typing import NamedTuple

import numpy as np

from ..checks import FLOATS, Array, dtype_error, integer, overlaps_itself, plain_array, shape_error
from ..mends import converted_by, numbers_mend, usual

GRADS = 1  # the place of grads in the lists params, grads, states: the one that is only read


class Checked(NamedTuple):
    """Lists of arrays that fit; plain: all of params' dtype, contiguous, aligned and writable."""

    names: tuple[str, ...]
    arrays: list[list[Array]]
    plain: bool


def real_number(name: str, value: object) -> float:
    """Return `value` as a float; TypeError for anything but a real number."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        mend = converted_by(float, name, value, usual(name))
        raise TypeError(f"{name}: expected a real number, got {type(value).__name__}; {mend}")
    return float(value)


def decay_rate(name: str, value: object) -> float:
    """Return `value` as a float; ValueError outside 0 <= value < 1."""
    rate = real_number(name, value)
    if not 0 <= rate < 1:
        raise shape_error(name, "0 <= value < 1", rate, usual(name))
    return rate


def weight_decay_number(value: object) -> float:
    """Return `value` as a float; ValueError unless it is 0 or more, and finite."""
    decay = real_number("weight_decay", value)
    if not 0 <= decay < math.inf:
        raise shape_error("weight_decay", "0 or more", decay, usual("weight_decay"))
    return decay


def step_number(step: object) -> int:
    """Return `step` as an int; TypeError for a non-integer, ValueError below 1."""
    number = integer("step", step, "pass step=1 for the first")
    if number < 1:
        raise shape_error("step", "1 or more", number, "pass step=1 for the first")
    return number


def updatable(params: object, grads: object, **states: object) -> Checked:
    """Return the lists params, grads and states if their arrays fit, or raise.

    Each grad and state has its param's shape and dtype (a grad may be float32 beside a float64
    param), params and states are writable and visit no element twice. See `refuse_overlap` for
    the rest.
    """
    named = {"params": params, "grads": grads, **states}
    lists = [_array_list(name, arrays, params) for name, arrays in named.items()]
    plain = _all_plain(lists)
    if not plain:
        for name, arrays in zip(named, lists, strict=True):
            _refuse_misfits(name, lists[0], arrays)
    return Checked(tuple(named), lists, plain)


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


def refuse_overlap(lists: Checked) -> None:
    """Raise ValueError if an array that is to be written shares memory with another array."""
    places = []
    for kind, (name, arrays) in enumerate(zip(lists.names, lists.arrays, strict=True)):
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
                    f"updated, got two that overlap; pass {name}.copy(), or name it once"
                )


def _array_list(name: str, arrays: object, params: object) -> list[Array]:
    if isinstance(arrays, np.ndarray):
        raise TypeError(f"{name}: expected a list of arrays, got a single array; pass [{name}]")
    if not isinstance(arrays, Iterable):
        raise TypeError(
            f"{name}: expected a list of arrays, got {type(arrays).__name__}; give it a list"
        )
    arrays = list(arrays)
    if set(map(type, arrays)) == {np.ndarray}:
        return arrays
    for i, array in enumerate(arrays):
        if not isinstance(array, np.ndarray):
            like = params[i] if isinstance(params, list | tuple) and i < len(params) else None
            dtype = like.dtype if isinstance(like, np.ndarray) else "float32"
            raise TypeError(
                f"{name}[{i}]: expected a NumPy array, got {type(array).__name__}; "
                f"pass np.array({name}[{i}], np.{dtype})"
            )
    return [plain_array(f"{name}[{i}]", array) for i, array in enumerate(arrays)]


def _refuse_misfits(name: str, params: list[Array], arrays: list[Array]) -> None:
    if len(arrays) != len(params):
        raise shape_error(
            name, f"{len(params)} arrays, one for each of params", len(arrays), "give them all"
        )
    for i, (param, array) in enumerate(zip(params, arrays, strict=True)):
        what = f"{name}[{i}]"
        if param.dtype not in FLOATS:
            mend = numbers_mend(f"params[{i}]", param, param)
            raise dtype_error(f"params[{i}]", "float32 or float64", param.dtype, mend)
        if array.dtype != param.dtype and not (name == "grads" and array.dtype == np.float32):
            raise dtype_error(
                what,
                f"{param.dtype}, as params[{i}]",
                array.dtype,
                numbers_mend(what, array, array, param.dtype),
            )
        if array.shape != param.shape:
            raise shape_error(
                what,
                f"shape {param.shape}, that of params[{i}]",
                f"shape {array.shape}",
                "give the arrays in the same order in each list",
            )
        if name != "grads":
            _refuse_unwritable(what, array)


def _refuse_unwritable(what: str, array: Array) -> None:
    if not array.flags.writeable:
        raise ValueError(
            f"{what}: expected a writable array, got a read-only one; pass {what}.copy()"
        )
    if overlaps_itself(array):
        raise ValueError(
            f"{what}: expected one place in memory for each element, got elements that overlap "
            f"(shape {array.shape}, strides {array.strides}); pass {what}.copy()"
        )
