"""What all tests share: equality of bits, and arrays with the values that break arithmetic."""

import ctypes
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import llvmlite
import numpy as np
import pytest
from fastmlp_kernels.plans import record

import fastmlp
from fastmlp import threads
from fastmlp.model import epochs
from fastmlp.operations import update
from fastmlp.operations.product import Product
from fastmlp.operations.rowwise import Rowwise
from fastmlp.plan.ways import FEWEST_STEPS, Training, count_by_columns

DTYPES = [np.float32, np.float64]
# Rows of few and of many classes, around the lanes of a row sum and the leaves of a product.
ROW_SHAPES = [(7, classes) for classes in range(1, 41)]
ROW_SHAPES += [(0, 10), (1, 10), (8, 10), (64, 10), (65, 10), (300, 10), (130, 16), (130, 17)]
ROW_SHAPES += [(70, 100), (1, 1300)]
ROW_SHAPES += [(5, 255), (5, 256), (5, 257), (3, 512), (3, 513), (3, 769), (2, 1000)]

# LLVM's pointers have types in older ones; there each start imports Numba.
needs_plain_pointers = pytest.mark.skipif(
    tuple(map(int, llvmlite.__version__.split(".")[:2])) < (0, 45),
    reason="code that needs nothing of Numba's is made from llvmlite 0.45 on",
)

VECTORS = Path(__file__).parent / "vectors" / "portable-v1.npz"


def oracle(operation):
    """The names of the exact oracle's cases for an operation, without their last part."""
    with np.load(VECTORS) as vectors:
        names = {name.rpartition("_")[0] for name in vectors if name.startswith(operation + "_")}
    return sorted(names)


def oracle_array(name):
    """One array of the exact oracle (rational arithmetic, rounded once where the page says so)."""
    with np.load(VECTORS) as vectors:
        return vectors[name]


@contextmanager
def all_checked():
    """No array goes straight to a kernel: all are checked before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Product, "forward_of_usual", lambda *_: None)
        patch.setattr(Product, "backward_of_usual", lambda *_: None)
        patch.setattr(Rowwise, "of_usual", lambda *_: (None, None))
        patch.setattr(update, "_updated_usual", lambda *_: False)
        yield


@contextmanager
def with_threads(num_threads):
    """Every call in the block, however small, uses `num_threads` threads."""
    before = fastmlp.get_num_threads(), threads.SMALLEST_PARALLEL_WORK
    fastmlp.set_num_threads(num_threads)
    threads.SMALLEST_PARALLEL_WORK = 0
    try:
        with all_checked():  # else small arrays go to one thread
            yield
    finally:
        fastmlp.set_num_threads(before[0])
        threads.SMALLEST_PARALLEL_WORK = before[1]


def bits(array):
    """The raw bits of `array`, every NaN written as one NaN."""
    array = np.ascontiguousarray(array)
    raw = array.view(np.dtype(f"u{array.itemsize}")).copy()
    if array.dtype.kind == "f":
        raw[np.isnan(array)] = np.array(np.nan, array.dtype).view(raw.dtype)
    return raw


def assert_same_bits(actual, expected):
    """Fail unless dtype, shape and raw bits agree (-0 is not +0, any NaN equals any NaN)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, (actual.dtype, expected.dtype)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    wrong = np.argwhere(bits(actual) != bits(expected))
    if len(wrong):
        first = tuple(wrong[0])[: actual.ndim]
        raise AssertionError(
            f"{len(wrong)} of {actual.size} elements differ, the first at {first}: "
            f"{actual[first]!r} instead of {expected[first]!r}"
        )


def floats(seed, shape, dtype, lowest=-6, highest=3):
    """Random signs and mantissas, exponents in [lowest, highest), from PCG64's raw draws."""
    dtype = np.dtype(dtype)
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape, dtype=int))).reshape(shape)
    mantissa_bits, bias = (23, 127) if dtype == np.float32 else (52, 1023)
    unsigned = np.dtype(f"u{dtype.itemsize}").type
    exponent = (raw >> np.uint64(53)) % np.uint64(highest - lowest) + np.uint64(bias + lowest)
    mantissa = (raw >> np.uint64(1)) & np.uint64(2**mantissa_bits - 1)
    sign = (raw & np.uint64(1)) << np.uint64(dtype.itemsize * 8 - 1)
    return (sign | exponent << np.uint64(mantissa_bits) | mantissa).astype(unsigned).view(dtype)


def specials(dtype):
    """Zeros, infinities, NaN, ones, and the ends of the normal and subnormal ranges."""
    limits = np.finfo(dtype)
    ends = [limits.tiny, limits.max, limits.smallest_subnormal, 1, np.inf]
    negative = [-end for end in ends]
    return np.array([0, -0.0, *ends, *negative, np.nan, 1 + limits.eps], dtype)


def layouts(array):
    """The values of `array` in every layout NumPy can give them: name, array."""
    yield "contiguous", array.copy()
    yield "Fortran order", np.asfortranarray(array)
    backwards = (slice(None, None, -1),) * array.ndim
    yield "reversed", np.ascontiguousarray(array[backwards])[backwards]
    wide, every_third = np.zeros([3 * n for n in array.shape], array.dtype), slice(1, None, 3)
    sliced = wide[(every_third,) * array.ndim]
    sliced[...] = array
    yield "sliced", sliced
    memory = np.zeros(array.nbytes + 1, np.uint8)
    misaligned = np.ndarray(array.shape, array.dtype, memory, offset=1)
    misaligned[...] = array
    yield "misaligned", misaligned
    read_only = array.copy()
    read_only.flags.writeable = False
    yield "read-only", read_only


def layers_by_columns(model, steps, num_threads):
    """How many of a model's layers go by columns in an epoch of so many steps."""
    training = Training(
        model.sizes, model.bias, model.dtype.itemsize, 1, 0, num_threads, "sgd", rides=True,
        ordered=False, is_long=steps >= FEWEST_STEPS, skips=False, skips_x=False, groups=(),
    )  # fmt: skip
    return count_by_columns(training, epochs.this_machine())


def run_operation(kernel, kind, rows=1, **fields):
    """Run one operation of a plan for so many rows by its kernel's address; arrays are operands."""
    shared, own = np.zeros(record.SHARED_WORDS, np.int64), np.zeros(record.OWN_WORDS, np.int64)
    row = np.zeros(record.OPERATION_WORDS, np.int64)
    own[record.OWN_FIELDS.index("rows")] = own[record.OWN_FIELDS.index("batch")] = rows
    bases = iter(range(record.X, record.OWN))
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            base = next(bases)
            shared[base], value = value.ctypes.data, base << record.OFFSET_BITS
        row[record.FIELDS[kind].index(name)] = value
    address = ctypes.c_int64
    function = ctypes.CFUNCTYPE(None, address, address, address)(kernel)
    function(row.ctypes.data, shared.ctypes.data, own.ctypes.data)
    return shared


def state_of(model):
    """The weights of a model and its optimizer's state, bit for bit."""
    state = model.optimizer_state
    kept = (None,) if state is None else (state.optimizer, state.step, state.arrays.tobytes())
    return model.flat_parameters.tobytes(), *kept


def figures(history):
    """All that a history has but the seconds."""
    return {name: value for name, value in asdict(history).items() if name != "seconds"}
