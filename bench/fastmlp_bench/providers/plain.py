"""fastmlp.reference: plain NumPy with fastmlp's bits. It checks the others, and is slow."""

from fastmlp import reference

from . import Array, Call
from .package import ACTIVATIONS, Package


def layer(x: Array, W: Array, b: Array) -> Call:
    return lambda: reference.MatmulRelu().forward(x, W, b)


def matmul(x: Array, W: Array) -> Call:
    return lambda: reference.Matmul().forward(x, W)


_package = Package(reference)
relu, log = _package.relu, _package.log
tanh, logistic, silu, gelu, leaky_relu = map(_package.activation, ACTIVATIONS)
softmax, log_softmax = _package.softmax, _package.log_softmax
predict, predict_proba = _package.predict, _package.predict_proba
sgd, momentum, nesterov = _package.sgd, _package.momentum, _package.nesterov
adam, adamw = _package.adam, _package.adamw
