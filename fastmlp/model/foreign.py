"""Models of weights that another framework trained."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..checks import FLOATS, Array, dtype_error, not_finite, shape_error
from .losses import CROSS_ENTROPY

if TYPE_CHECKING:
    from .estimator import Estimator
    from .mlp import MLP


class Layer(NamedTuple):
    """x @ W + b. W: (inputs, outputs); b: (outputs,) or None; name: what errors call it."""

    name: str
    W: Array
    b: Array | None


def model_of(
    layers: Sequence[Layer],
    activation: Any,
    loss: Any = "squared_error",
    delta: float | None = None,
) -> "MLP":
    """Return an MLP with these weights, as they are. TypeError for dtypes, ValueError for values.

    Raises where layers don't follow each other, or aren't of one dtype, float32 or float64, and
    finite.
    """
    from .mlp import MLP

    for number, (name, W, b) in enumerate(layers):
        if W.dtype not in FLOATS or (b is not None and b.dtype != W.dtype):
            got = W.dtype if b is None else f"{W.dtype} and {b.dtype}"
            mend = "convert the weights to one of them"
            raise dtype_error(name, "weights and bias of float32, or of float64", got, mend)
        if W.dtype != layers[0].W.dtype:
            mend = "convert the weights to one dtype"
            raise dtype_error(name, f"{layers[0].W.dtype}, as before it", W.dtype, mend)
        if number and W.shape[0] != layers[number - 1].W.shape[1]:
            expected = f"{layers[number - 1].W.shape[1]} inputs, the outputs before it"
            raise shape_error(name, expected, W.shape[0], "give the layers in their order")
        for array in (W,) if b is None else (W, b):
            error = not_finite(name, array, array.shape, "train it anew")
            if error is not None:
                raise error
    sizes = [layers[0].W.shape[0], *(layer.W.shape[1] for layer in layers)]
    bias = [layer.b is not None for layer in layers]
    model = MLP(
        sizes, bias, layers[0].W.dtype, rng=0, activation=activation, loss=loss, delta=delta
    )
    for own, layer in zip(model.parameters, layers, strict=True):
        own[: len(layer.W)] = layer.W
        if layer.b is not None:
            own[-1] = layer.b
    return model


def layers_of(model: "Estimator", function: str) -> list[Layer]:
    """Return the layers of an MLP, views of its weights; TypeError for what is none.

    A NotebookMLP is none: what it makes of the logits, no other framework has.
    """
    from .estimator import Estimator

    kind = type(model).__name__
    if not isinstance(model, Estimator):
        raise dtype_error(function, "an MLP", kind, "pass model=fastmlp.MLP(sizes)")
    if kind == "NotebookMLP":
        mend = "give its flat_parameters to MLP([784, 100, 10], [True, False], np.float64)"
        raise dtype_error(function, "an MLP", f"{kind}, which has a softmax of its own", mend)
    layers = zip(model.parameters, model.sizes, model.bias, strict=False)
    return [
        Layer(f"W{number}", W[:inputs], W[inputs] if bias else None)
        for number, (W, inputs, bias) in enumerate(layers, start=1)
    ]


def loss_asked(name: str, found: str | None, asked: str | None, otherwise: str) -> str:
    """Return the loss of a model: what follows its last layer says it, or else who loads it.

    found: by what follows, None for nothing; asked: None or a name; otherwise: without both.
    """
    if found is None:
        return otherwise if asked is None else asked
    if asked not in (None, found):
        expected = f"None or {found!r}, as {name} says"
        raise shape_error("loss", expected, repr(asked), "leave loss out")
    return found


LINKS = {"softmax": CROSS_ENTROPY, "logistic": "binary_cross_entropy", "exp": "poisson"}
