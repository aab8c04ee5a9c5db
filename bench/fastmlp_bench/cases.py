"""What is measured: each operation with its arrays, its counts, and what its result must be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

import fastmlp

from .providers import PROVIDERS, Array, numpy_lean, plain, split
from .results import case_name

Error = Callable[[Any], float]

CHECKED_ROWS = 8  # of a large result: the reference is slow
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
# Of an epoch's change of the parameters, for each layer. Two right programs differ where a rounding
# turns a relu off in one of them: 0.5 % of the change was seen with 2 layers, 3.2 % with 8.
TRAINING_TOLERANCE = 1e-2
# Arrays that an update reads and writes: p, g, and its states.
UPDATES = {"sgd": 3, "momentum": 5, "nesterov": 5, "adam": 7, "adamw": 7}
UPDATED = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10


@dataclass(frozen=True)
class Case:
    """One row of the table, before it is measured.

    `make()` returns the arguments of the providers' functions and a function that tells the error
    of a first result. flops, bytes: the operations, and the bytes of all inputs and results, each
    moved once. `zeros`: those of the operations that multiply a zero of x, which may be passed
    over. `series`, `value`: the curve it is a point of. `providers`: None for all.
    """

    operation: str
    shape: str
    dtype: str
    flops: int
    bytes: int
    make: Callable[[], tuple[tuple[Any, ...], Error]]
    tolerance: float
    series: str = ""
    value: int = 0
    providers: Sequence[str] | None = None
    threads: int | None = None
    zeros: int = 0

    @property
    def name(self) -> str:
        """Operation, shape and dtype in one line."""
        return case_name(self.operation, self.shape, self.dtype)

    @property
    def work(self) -> int:
        """Operations and bytes, which tell what is too much for a slow provider."""
        return self.flops + self.bytes


def _by_dimensions(*shape: int) -> str:
    return "x".join(map(str, shape))


def _random(shape: Sequence[int], dtype: str) -> Array:
    return np.random.default_rng(0).standard_normal(shape, np.dtype(dtype).type)


def relative_error(actual: Any, expected: Any) -> float:
    """Return the largest |actual - expected| / |expected| of the arrays, in their 2-norms."""
    if not isinstance(expected, tuple | list):
        actual, expected = [actual], [expected]
    errors = [0.0]
    for one, other in zip(actual, expected, strict=True):
        wanted = np.asarray(other, np.float64)
        got = np.asarray(one).astype(np.float64)
        if got.shape != wanted.shape:
            return float("inf")
        scale = np.linalg.norm(wanted.ravel()) or 1.0
        errors.append(float(np.linalg.norm((got - wanted).ravel()) / scale))
    return max(errors) if not np.isnan(errors).any() else float("inf")


def _some_rows(samples: int) -> Array:
    return np.unique(np.linspace(0, samples - 1, CHECKED_ROWS).astype(int))


def _checked_by_rows(operation: str, *arrays: Any, per_row: int = 1) -> Error:
    """Compare some rows with the reference's; the first `per_row` arrays are taken row by row."""
    rows = _some_rows(len(arrays[0]))
    some = [np.ascontiguousarray(array[rows]) for array in arrays[:per_row]]
    expected = getattr(plain, operation)(*some, *arrays[per_row:])()

    def error(result: Any) -> float:
        parts = result if isinstance(result, tuple) else (result,)
        wanted = expected if isinstance(expected, tuple) else (expected,)
        return relative_error([np.asarray(part)[rows] for part in parts], list(wanted))

    return error


def layer(dtype: str, M: int, K: int, N: int, **fields: Any) -> Case:
    """relu(x @ W + b)."""

    def make() -> tuple[tuple[Array, ...], Error]:
        x, W, b = (_random(shape, dtype) for shape in ((M, K), (K, N), (N,)))
        return (x, W, b), _checked_by_rows("layer", x, W, b)

    moved = (M * K + K * N + N + M * N) * np.dtype(dtype).itemsize
    counts = 2 * M * (K + 1) * N, moved
    tolerance = TOLERANCE[dtype]
    return Case("layer", _by_dimensions(M, K, N), dtype, *counts, make, tolerance, **fields)


def matmul(dtype: str, M: int, K: int, N: int, transposed: bool = False) -> Case:
    """A @ B, or the gradient x^T @ grad_y whose x (M, K) is read across its rows."""

    def make() -> tuple[tuple[Array, ...], Error]:
        a = _random((M, K), dtype)
        a = a.T if transposed else a
        b = _random((a.shape[1], N), dtype)
        return (a, b), _checked_by_rows("matmul", a, b)

    counts = 2 * M * K * N, (M * K + K * N + M * N) * np.dtype(dtype).itemsize
    shape = _by_dimensions(M, K, N) + (" transposed" if transposed else "")
    return Case("matmul", shape, dtype, *counts, make, TOLERANCE[dtype])


def rowwise(operation: str, dtype: str, samples: int, classes: int) -> Case:
    """relu, another activation, softmax, log or log_softmax, forward and backward."""

    def make() -> tuple[tuple[Array, ...], Error]:
        x, grad_y = _random((samples, classes), dtype), _random((classes, samples), dtype).T.copy()
        x = abs(x) if operation == "log" else x
        return (x, grad_y), _checked_by_rows(operation, x, grad_y, per_row=2)

    # Forward reads x and writes y; backward reads y and grad_y and writes grad_x. Elementwise
    # functions are not counted as operations.
    moved = 5 * samples * classes * np.dtype(dtype).itemsize
    shape = _by_dimensions(samples, classes)
    return Case(operation, shape, dtype, 0, moved, make, TOLERANCE[dtype])


def update(operation: str, dtype: str) -> Case:
    """An optimizer's update of the parameters of 784-512-256-10, in one array."""

    def make() -> tuple[tuple[Array, ...], Error]:
        p, g = _random((2, UPDATED), dtype)
        expected = getattr(plain, operation)(p, g)().copy()
        return (p, g), lambda result: relative_error(result, expected)

    passes = UPDATES[operation]
    moved = passes * UPDATED * np.dtype(dtype).itemsize
    return Case(operation, f"{UPDATED}", dtype, 0, moved, make, TOLERANCE[dtype])


def initial_parameters(sizes: Sequence[int], dtype: str, activation: Any = "relu") -> list[Array]:
    """Return the parameters that every provider starts from."""
    loss: Any = "squared_error" if sizes[-1] == 1 else "cross_entropy"
    return fastmlp.MLP(sizes, dtype=dtype, rng=0, activation=activation, loss=loss).parameters


@cache
def _images(dtype: str) -> tuple[Array, Array]:
    (x, y), _ = fastmlp.mnist_dataset()
    return x.reshape(len(x), -1).astype(dtype), y


def data(samples: int, inputs: int, dtype: str) -> tuple[Array, Array]:
    """Return x (samples, inputs) and labels: of MNIST where they fit, else random ones."""
    if inputs == 784 and samples <= 60_000:
        x, y = _images(dtype)
        return x[:samples], y[:samples]
    random = np.random.default_rng(0)
    return random.random((samples, inputs), np.dtype(dtype).type), random.integers(0, 10, samples)


def predict(
    dtype: str, samples: int, sizes: Sequence[int], operation: str = "predict", **fields: Any
) -> Case:
    """The class of each sample of a batch, or another prediction."""

    def make() -> tuple[tuple[Any, ...], Error]:
        x, _ = data(samples, sizes[0], dtype)
        parameters = initial_parameters(sizes, dtype)
        return (x, parameters), _checked_by_rows(operation, x, parameters)

    weights = count_weights(sizes)
    counts = 2 * samples * weights, (samples * sizes[0] + weights) * np.dtype(dtype).itemsize
    shape = f"{samples} x {'-'.join(map(str, sizes))}"
    return Case(operation, shape, dtype, *counts, make, TOLERANCE[dtype], **fields)


def train(
    dtype: str,
    samples: int,
    sizes: Sequence[int],
    batch_size: int,
    without_zeros: bool = False,
    **fields: Any,
) -> Case:
    """An epoch over `samples` images in order, in batches of `batch_size`.

    `without_zeros`: each 0 of x, which 81% of MNIST's pixels are, is 1 / 255 instead.
    """

    def make() -> tuple[tuple[Any, ...], Error]:
        x, y = data(samples, sizes[0], dtype)
        x = np.maximum(x, x.dtype.type(1 / 255)) if without_zeros else x
        arguments = x, y, initial_parameters(sizes, dtype), batch_size, 0.01
        return arguments, training_error(*arguments)

    flops = count_flops(samples, sizes)
    moved = (samples * sizes[0] + 2 * count_weights(sizes)) * np.dtype(dtype).itemsize
    shape = f"{samples} x {'-'.join(map(str, sizes))}, batch {batch_size}"
    shape += " without zeros" if without_zeros else ""
    tolerance = TRAINING_TOLERANCE * (len(sizes) - 1)
    if sizes[0] == 784 and not without_zeros:  # forward, and the gradient of the first W
        fields["zeros"] = int(MNIST_ZEROS * 4 * samples * sizes[0] * sizes[1])
    return Case("train", shape, dtype, flops, moved, make, tolerance, **fields)


def regress(samples: int, sizes: Sequence[int], batch_size: int) -> Case:
    """An epoch of a smooth regression in order: tanh, squared error, Adam, float32."""

    def make() -> tuple[tuple[Any, ...], Error]:
        x = np.random.default_rng(0).uniform(-1, 1, (samples, sizes[0])).astype(np.float32)
        y = np.sin(x @ np.linspace(-2, 2, sizes[0], dtype=np.float32))
        arguments = x, y, initial_parameters(sizes, "float32", "tanh"), batch_size, 1e-3
        return arguments, training_error(*arguments, train=numpy_lean.regress)

    flops = count_flops(samples, sizes)
    moved = 4 * (samples * sizes[0] + 6 * count_weights(sizes))
    shape = f"{samples} x {'-'.join(map(str, sizes))} tanh, batch {batch_size}"
    tolerance = TRAINING_TOLERANCE * (len(sizes) - 1)
    return Case("regress", shape, "float32", flops, moved, make, tolerance)


def training_error(*arguments: Any, train: Callable[..., Any] = numpy_lean.train) -> Error:
    """Compare with an epoch of plain NumPy: the error beside the epoch's change."""
    start = np.concatenate([a.ravel() for pair in split(arguments[2]) for a in pair])
    call = train(*arguments)
    expected = np.concatenate([array.ravel() for array in call()]) - start

    def error(result: list[Array]) -> float:
        change = np.concatenate([np.asarray(array).ravel() for array in result]) - start
        return relative_error(change, expected)

    return error


def count_flops(samples: int, sizes: Sequence[int]) -> int:
    """Return the operations of an epoch.

    Forward, and backward to the weights of each layer and to the inputs of all but the first.
    """
    flops = 4 * samples * count_weights(sizes)
    return flops + sum(2 * samples * rows * columns for rows, columns in pairwise(sizes[1:]))


def count_weights(sizes: Sequence[int]) -> int:
    """Return how many parameters there are."""
    return sum((rows + 1) * columns for rows, columns in pairwise(sizes))


MNIST_ZEROS = 0.809  # the share of its pixels that are 0

SMALL, LARGE, SMOOTH = (784, 100, 10), (784, 512, 256, 10), (16, 64, 64, 1)

QUICK = [
    layer("float32", 128, 784, 100),
    layer("float32", 60_000, 784, 100),
    matmul("float32", 60_000, 784, 100, transposed=True),
    predict("float32", 1, SMALL),
    predict("float32", 32, SMALL),
    predict("float32", 10_000, SMALL),
    rowwise("log_softmax", "float32", 60_000, 10),
    update("adam", "float32"),
    train("float32", 60_000, SMALL, 60_000),
    train("float32", 60_000, SMALL, 128),
    regress(10_000, SMOOTH, 64),
]
FULL = [
    *(layer("float32", *shape) for shape in ((32, 784, 512), (128, 784, 100), (60_000, 784, 100))),
    layer("float64", 60_000, 784, 100),
    *(matmul(dtype, 60_000, 784, 100, transposed=True) for dtype in ("float32", "float64")),
    matmul("float32", 1024, 1024, 1024),
    *(
        predict("float32", samples, SMALL, operation)
        for operation in ("predict", "predict_proba")
        for samples in (1, 32, 10_000)
    ),
    *(rowwise("log_softmax", "float32", *shape) for shape in ((60_000, 10), (4096, 1000))),
    *(update(operation, "float32") for operation in UPDATES),
    *(train(dtype, 60_000, SMALL, 60_000) for dtype in ("float32", "float64")),
    *(train("float32", 60_000, sizes, size) for sizes in (SMALL, LARGE) for size in (128, 32)),
    train("float32", 60_000, SMALL, 128, without_zeros=True),
    regress(10_000, SMOOTH, 64),
]


def curves(full: bool, threads: int) -> list[Case]:
    """Return the points of the curves: batch sizes, widths, samples, depths, threads.

    torch.compile is left out: it would compile each of them for a minute. The curves of growth have
    the three providers that a reader is most likely to compare.
    """
    drawn = [name for name in PROVIDERS if name not in ("fastmlp reference", "torch.compile")]
    grown = ["fastmlp", "numpy lean", "torch eager"]
    batch_sizes = (8, 32, 128, 512, 2048, 8192) if full else (32, 512, 8192)
    rows = (1, 8, 32, 128, 1024, 10_000) if full else (1, 32, 1024)
    widths = (10, 32, 100, 256, 512, 1024, 2048, 4096) if full else (10, 100, 1024)
    points = [
        *(
            (size, "batch size, training", train("float32", 8192, SMALL, size))
            for size in batch_sizes
        ),
        *((size, "batch size, inference", predict("float32", size, SMALL)) for size in rows),
        *((w, "width, training", train("float32", 512, (784, w, w, 10), 128)) for w in widths),
        *((w, "width, inference", predict("float32", 128, (784, w, w, 10))) for w in widths),
    ]
    cases = [replace(case, series=s, value=v, providers=drawn) for v, s, case in points]
    if not full:
        return cases
    sizes = [10**power for power in range(2, 7)]
    points = [
        *((n, "samples", train("float32", n, (100, 100, 10), 128)) for n in sizes),
        *((d, "depth", train("float32", 2048, (256,) * (d + 1) + (10,), 128)) for d in range(1, 9)),
    ]
    cases += [replace(case, series=s, value=v, providers=grown) for v, s, case in points]
    case = train("float32", 60_000, SMALL, 60_000)
    return cases + [
        replace(case, series="threads", value=n, threads=n, providers=grown)
        for n in range(1, threads + 1)
    ]
