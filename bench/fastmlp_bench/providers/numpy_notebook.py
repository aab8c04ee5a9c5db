"""NumPy as the notebook wrote it: a new array for every operation, ones appended for the bias."""

from collections.abc import Callable

from fastmlp import notebook

from . import Array, Call, one_hot_rows

EPSILON = 1e-12


def matmul(x: Array, W: Array) -> Call:
    return lambda: notebook.matmul(x, W)


def layer(x: Array, W: Array, b: Array) -> Call:
    return lambda: notebook.relu(notebook.affine(x, W, b))


def relu(x: Array, grad_y: Array) -> Call:
    return lambda: (notebook.relu(x), notebook.relu_backward(x, grad_y))


def _activation(name: str, keeps_y: bool) -> Callable[[Array, Array], Call]:
    def form(x: Array, grad_y: Array) -> Call:
        def call() -> tuple[Array, Array]:
            y = notebook.activation(name, x)
            return y, notebook.activation_backward(name, y if keeps_y else x, grad_y)

        return call

    return form


tanh, logistic = _activation("tanh", True), _activation("logistic", True)
silu, gelu = _activation("silu", False), _activation("gelu", False)
leaky_relu = _activation("leaky_relu", False)


def softmax(x: Array, grad_y: Array) -> Call:
    def call() -> tuple[Array, Array]:
        _, y = notebook.exp_and_softmax(x, EPSILON)
        return y, notebook.softmax_backward(y, grad_y)

    return call


def log(x: Array, grad_y: Array) -> Call:
    return lambda: (notebook.log(x, EPSILON), notebook.log_backward(x, grad_y, EPSILON))


def train(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call | None:
    if batch_size != len(x):  # the notebook has all images in every step
        return None
    weights = [W.copy() for W in parameters]
    label = one_hot_rows(y, weights[-1].shape[1], x.dtype)
    rate = learning_rate / len(x)  # the notebook's loss is summed over the samples

    def call() -> list[Array]:
        inputs, products, h = [], [], x
        for layer, W in enumerate(weights):
            inputs.append(h)
            products.append(notebook.affine(h, W[:-1], W[-1]))
            h = notebook.relu(products[-1]) if layer < len(weights) - 1 else products[-1]
        _, p = notebook.exp_and_softmax(h, EPSILON)
        notebook.log(p, EPSILON)
        g = notebook.softmax_backward(p, notebook.log_backward(p, -label, EPSILON))
        for layer in reversed(range(len(weights))):
            W = weights[layer]
            grad_x, grad_W, grad_b = notebook.affine_backward(inputs[layer], W[:-1], g, True)
            if layer:
                g = notebook.relu_backward(products[layer - 1], grad_x)
            W[:-1] -= rate * grad_W
            W[-1] -= rate * grad_b
        return [part for W in weights for part in (W[:-1], W[-1])]

    return call
