"""Check that every backward is the derivative of its forward.

The derivative is that of sum(grad_y * forward(inputs)) for a fixed random grad_y, against central
finite differences in float64 and, where torch can be imported, against its autograd.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..checks import Array, dtype_error, integer, plain_array, shape_error
from ..mends import numbers_mend
from ..model.estimator import Estimator
from ..model.losses import LOSSES
from ..model.summed_loss import SummedLoss
from .update_checks import real_number

try:
    from ..model.mlp import MLP
    from .activations import Gelu, Identity, LeakyRelu, Logistic, Silu, Tanh
    from .log import Log
    from .log_softmax import LogSoftmax
    from .matmul import Matmul
    from .matmul_relu import MatmulRelu
    from .relu import Relu
    from .softmax import Softmax
except ImportError:  # without a compiler, the reference's own are checked
    from ..reference import (  # type: ignore[assignment]
        MLP,
        Gelu,
        Identity,
        LeakyRelu,
        Log,
        Logistic,
        LogSoftmax,
        Matmul,
        MatmulRelu,
        Relu,
        Silu,
        Softmax,
        Tanh,
    )

# The step eps^(1/3) puts truncation and rounding near 1e-10 for values of order one. The default
# tolerance, 1e-6, leaves room for operations ten thousand times as curved, while a wrong factor,
# sign or index is off by percents.
STEP = float(np.finfo(np.float64).eps) ** (1 / 3)
# Two exact derivatives in float64 differ by a few roundings only.
TORCH_TOLERANCE = 1e-12
# Errors are relative to the largest element of a gradient, but not to one so small that the
# rounding of the differences would count.
SMALLEST_SCALE = 1e-4


class Operation(Protocol):
    """What can be checked: forward(*inputs) -> y; backward(grad_y) -> a gradient, or one each."""

    @property
    def forward(self) -> Callable[..., Array]: ...  # noqa: D102

    @property
    def backward(self) -> Callable[[Array], Array | Sequence[Array]]: ...  # noqa: D102


class GradientCheck(NamedTuple):
    """One row: the gradient of one input of one operation against one method.

    error: the largest difference, relative to the largest element (of either result).
    passed: whether error <= limit; a NaN fails.
    """

    operation: str
    gradient: str
    method: str
    error: float
    limit: float
    passed: bool


def gradient_check(
    operation: Operation | None = None,
    inputs: Sequence[Array] | None = None,
    *,
    seed: int = 0,
    tolerance: float = 1e-6,
) -> list[GradientCheck]:
    """Return a row for each gradient of `operation` at `inputs`, or of all operations of fastmlp.

    operation: an object with forward(*inputs) and backward(grad_y), for which forward(*inputs) is
    called with float64 copies; keep the inputs off points without a derivative (relu's 0). A model,
    with inputs [x, y]: the gradients of its summed loss by its weights, in float64. Without both,
    every operation and every loss of fastmlp, the notebook's whole chain, and its fused equal.
    seed: of the drawn grad_y, and inputs. tolerance: the largest relative error of finite
    differences that passes.

    >>> gradient_check(fastmlp.Relu(), [np.array([-1.0, 2.0])])

    Raises TypeError for one of operation and inputs without the other, for a single array instead
    of a list, and for inputs that are not real numbers; ValueError if backward returns another
    number of gradients than inputs, or another shape than its input's.
    """
    if integer("seed", seed) < 0:
        raise shape_error("seed", "0 or more", seed, "pass seed=0")
    tolerance = real_number("tolerance", tolerance)
    if operation is None and inputs is None:
        return _check_all(seed, tolerance)
    if operation is None or inputs is None:
        raise TypeError(
            "operation, inputs: expected an operation and the list of its inputs, got one without "
            "the other; give both"
        )
    if isinstance(operation, type):
        raise TypeError("operation: expected an object, got its class; pass operation()")
    if isinstance(inputs, np.ndarray) or not isinstance(inputs, Iterable):
        got = "a single array" if isinstance(inputs, np.ndarray) else type(inputs).__name__
        raise TypeError(f"inputs: expected a list of arrays, got {got}; pass [inputs]")
    if isinstance(operation, Estimator):
        if len(inputs) != 2:
            raise shape_error("inputs", "x and y", f"{len(inputs)} inputs", "pass [x, y]")
        checked = SummedLoss(operation, *inputs)
        weights = [W.astype(np.float64) for W in operation.parameters]
        draw, name = _Uniform(seed), type(operation).__name__
        return _check(name, checked, weights, None, draw, tolerance)
    arrays = [_float64(f"inputs[{i}]", array) for i, array in enumerate(inputs)]
    draw = _Uniform(seed)
    return _check(type(operation).__name__, operation, arrays, None, draw, tolerance)


def format_table(rows: Iterable[GradientCheck]) -> str:
    """Return the rows as text, one line each under a heading, the verdict last."""
    lines = [("operation", "gradient of", "against", "error", "limit", "")]
    for row in rows:
        verdict = "ok" if row.passed else "FAILED"
        numbers = f"{row.error:.1e}", f"{row.limit:.1e}"
        lines.append((row.operation, row.gradient, row.method, *numbers, verdict))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


class _Uniform:
    """Numbers with magnitudes in [low, high), from PCG64's raw draws."""

    def __init__(self, seed: int) -> None:
        self.raw = np.random.PCG64(seed)

    def positive(self, shape: tuple[int, ...], low: float, high: float) -> Array:
        raw = self.raw.random_raw(int(np.prod(shape, dtype=int))).reshape(shape)
        return np.asarray(low + (high - low) * ((raw >> np.uint64(11)) * 2.0**-53))

    def signed(self, shape: tuple[int, ...], low: float, high: float) -> Array:
        sign = np.where(self.positive(shape, 0, 1) < 0.5, -1.0, 1.0)
        return np.asarray(sign * self.positive(shape, low, high))

    def layer(self, samples: int, inputs: int, outputs: int) -> tuple[Array, Array]:
        """Return x and W with every |x @ W| >= 0.05 * inputs: no element near relu's kink.

        The rows of x, and the columns of W, have alternating signs.
        """
        x_sign = 1.0 - 2.0 * (np.arange(samples)[:, np.newaxis] % 2)
        W_sign = 1.0 - 2.0 * (np.arange(outputs) % 2)
        x = self.positive((samples, inputs), 0.5, 1.5) * x_sign
        return x, self.positive((inputs, outputs), 0.1, 0.5) * W_sign


class _Chain:
    """Operations one after another; those with weights are given W1 and W2 in turn."""

    def __init__(self, *operations: Any) -> None:
        self.operations = operations

    def forward(self, x: Array, W1: Array, W2: Array) -> Array:
        weights = iter((W1, W2))
        for operation in self.operations:
            weighted = isinstance(operation, Matmul | MatmulRelu)
            x = operation.forward(x, next(weights)) if weighted else operation.forward(x)
        return x

    def backward(self, grad_y: Array) -> tuple[Array, ...]:
        grad_weights: tuple[Array, ...] = ()
        for operation in reversed(self.operations):
            gradients = operation.backward(grad_y)
            if isinstance(gradients, tuple):
                grad_y, grad_W = gradients
                grad_weights = (grad_W, *grad_weights)
            else:
                grad_y = gradients
        return (grad_y, *grad_weights)


def _check_all(seed: int, tolerance: float) -> list[GradientCheck]:
    draw = _Uniform(seed)
    x, W = draw.layer(4, 5, 6)
    b = draw.signed((6,), 0.01, 0.1)
    W2 = draw.signed((6, 3), 0.1, 0.5)
    z = draw.signed((4, 6), 0.1, 1.5)
    probabilities = draw.positive((4, 6), 0.1, 1.0)
    notebook = _Chain(Matmul(), Relu(), Matmul(), Softmax(), Log())
    fused = _Chain(MatmulRelu(), Matmul(), LogSoftmax())
    table: list[tuple[str, Operation, list[Array], Callable[..., Any]]] = [
        ("Matmul", Matmul(), [x, W], lambda t, x, W: x @ W),
        ("Relu", Relu(), [z], lambda t, x: t.relu(x)),
        ("Softmax", Softmax(), [z], _torch_softmax),
        ("Log", Log(), [probabilities], lambda t, x: t.log(x + 1e-12)),
        ("MatmulRelu", MatmulRelu(), [x, W], lambda t, x, W: t.relu(x @ W)),
        ("MatmulRelu, bias", MatmulRelu(), [x, W, b], lambda t, x, W, b: t.relu(x @ W + b)),
        ("LogSoftmax", LogSoftmax(), [z], lambda t, x: t.log_softmax(x, -1)),
        (
            "Matmul-Relu-Matmul-Softmax-Log",
            notebook,
            [x, W, W2],
            lambda t, x, W1, W2: t.log(_torch_softmax(t, t.relu(x @ W1) @ W2) + 1e-12),
        ),
        (
            "MatmulRelu-Matmul-LogSoftmax",
            fused,
            [x, W, W2],
            lambda t, x, W1, W2: t.log_softmax(t.relu(x @ W1) @ W2, -1),
        ),
        ("Tanh", Tanh(), [z], lambda t, x: t.tanh(x)),
        ("Logistic", Logistic(), [z], lambda t, x: t.sigmoid(x)),
        ("Silu", Silu(), [z], lambda t, x: t.nn.functional.silu(x)),
        ("Gelu", Gelu(), [z], lambda t, x: t.nn.functional.gelu(x, approximate="tanh")),
        ("LeakyRelu", LeakyRelu(), [z], lambda t, x: t.nn.functional.leaky_relu(x)),
        ("Identity", Identity(), [z], lambda t, x: x * 1),
    ]
    rows = [row for entry in table for row in _check(*entry, draw, tolerance)]
    for loss in LOSSES:
        rows += _check(*_fitting(loss, x, draw), draw, tolerance)
    return rows


def _fitting(
    loss: Any, x: Array, draw: _Uniform
) -> tuple[str, Operation, list[Array], Callable[..., Any]]:
    """A model of a loss at targets it can have: its entry of the table."""
    _, W1 = draw.layer(4, 5, 6)
    W2, y = draw.signed((7, 3), 0.1, 0.5), draw.signed((4, 3), 0.1, 3.0)
    if loss == "cross_entropy":
        y = np.array([0, 2, 1, 2])
    elif loss == "poisson":
        y = np.floor(abs(y))
    elif loss == "binary_cross_entropy":
        y = (y > 0) * 1.0

    def in_torch(torch: Any, W1: Any, W2: Any) -> Any:
        functional, z = torch.nn.functional, torch.relu(torch.tensor(x) @ W1) @ W2[:6] + W2[6]
        function = {
            "cross_entropy": functional.cross_entropy,
            "squared_error": functional.mse_loss,
            "absolute_error": functional.l1_loss,
            "huber": functional.huber_loss,
            "poisson": functional.poisson_nll_loss,
            "binary_cross_entropy": functional.binary_cross_entropy_with_logits,
        }[loss]
        losses = function(z, torch.tensor(y), reduction="none")
        return (losses if loss == "cross_entropy" else losses.mean(1)).sum().reshape(1)

    model = MLP([5, 6, 3], bias=[False, True], dtype=np.float64, rng=0, loss=loss)
    return f"MLP, {loss}", SummedLoss(model, x, y), [W1, W2], in_torch


def _torch_softmax(torch: Any, x: Any) -> Any:
    x_exp = torch.exp(x)
    return x_exp / (x_exp.sum(-1, keepdim=True) + 1e-12)


def _check(
    name: str,
    operation: Operation,
    inputs: list[Array],
    torch_function: Callable[..., Any] | None,
    draw: _Uniform,
    tolerance: float,
) -> list[GradientCheck]:
    y = operation.forward(*inputs)
    grad_y = draw.signed(np.shape(y), 0.5, 1.5)
    gradients = _gradients(operation, grad_y, inputs)
    names = list(inspect.signature(operation.forward).parameters)
    names = getattr(operation, "names", names)
    names += [f"inputs[{i}]" for i in range(len(names), len(inputs))]
    methods = [("finite differences", _finite_differences(operation, inputs, grad_y), tolerance)]
    torch = _torch_or_none() if torch_function is not None else None
    if torch is not None and torch_function is not None:
        by_torch = _by_torch(torch, torch_function, inputs, grad_y)
        methods.append(("torch", by_torch, TORCH_TOLERANCE))
    rows = []
    for method, expected, limit in methods:
        for input_name, actual, other in zip(names, gradients, expected, strict=False):
            error = _relative_error(actual, other)
            rows.append(GradientCheck(name, input_name, method, error, limit, error <= limit))
    return rows


def _gradients(operation: Operation, grad_y: Array, inputs: list[Array]) -> list[Array]:
    result = operation.backward(grad_y)
    gradients = [np.asarray(g) for g in (result if isinstance(result, tuple | list) else (result,))]
    if len(gradients) != len(inputs):
        raise shape_error(
            "backward", f"{len(inputs)} gradients, one for each input", len(gradients), "return all"
        )
    for i, (gradient, array) in enumerate(zip(gradients, inputs, strict=True)):
        if gradient.shape != array.shape:
            raise shape_error(
                f"gradient of inputs[{i}]",
                f"shape {array.shape}, that of the input",
                f"shape {gradient.shape}",
                "return the gradients in the order of forward's arguments",
            )
    return gradients


def _finite_differences(operation: Operation, inputs: list[Array], grad_y: Array) -> list[Array]:
    """(f(x + h) - f(x - h)) / ((x + h) - (x - h)), element by element."""
    gradients = []
    for which, array in enumerate(inputs):
        gradient = np.empty(array.shape)
        for place in np.ndindex(array.shape):
            ends = []
            for side in (1, -1):
                moved = [np.array(other) for other in inputs]
                moved[which][place] += side * STEP * max(1.0, abs(array[place]))
                ends.append((moved[which][place], operation.forward(*moved)))
            (right, y_right), (left, y_left) = ends
            gradient[place] = np.sum(grad_y * (y_right - y_left)) / (right - left)
        gradients.append(gradient)
    return gradients


def _torch_or_none() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


def _by_torch(
    torch: Any, function: Callable[..., Any], inputs: list[Array], grad_y: Array
) -> list[Array]:
    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    function(torch, *tensors).backward(torch.tensor(grad_y))
    return [tensor.grad.numpy() for tensor in tensors]


def _relative_error(actual: Array, expected: Array) -> float:
    if not actual.size:
        return 0.0
    scale = np.max([np.max(np.abs(actual)), np.max(np.abs(expected)), SMALLEST_SCALE])
    with np.errstate(invalid="ignore"):
        return float(np.max(np.abs(actual - expected)) / scale)


def _float64(name: str, value: object) -> Array:
    array = plain_array(name, value)
    if array.dtype.kind not in "fiu":
        mend = numbers_mend(name, value, array, "float64")
        raise dtype_error(name, "an array of real numbers", array.dtype, mend)
    return np.array(array, np.float64)
