"""The multilayer perceptron: relu layers, then the log-probabilities of classes, or numbers."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import Array, real_arrays
from ..operations.activations import CLASSES
from ..operations.elementary import COMPILED
from ..operations.log import Log
from ..operations.log_softmax import LogSoftmax
from ..operations.loss import mean
from ..operations.matmul_relu import affine, gradient_below
from ..operations.softmax import Softmax
from ..operations.update import adam, adamw, momentum, nesterov, sgd, sum_of_squares
from ..plan.predict import keeps
from ..reference.losses import Elementary
from ..sources.answers import answer_in_pieces
from ..threads import threads_for
from . import epochs
from .draws import Rng, draw_normal
from .estimator import Estimator
from .fit import Epoch, Layers, Samples
from .fit_checks import Data, Schedule
from .goals import goal_of
from .losses import CROSS_ENTROPY, NUMPY, loss_of
from .packed_copies import PackedCopies
from .predictions import DONE, NEGATIVE, NOT_FINITE, Predictor, predictor

# Methods whose results are those of a model's own head.
_OF_THE_HEAD = ("predict_proba", "predict_log_proba", "losses", "fit")


class MLP(Estimator):
    """A multilayer perceptron: f(x @ W + b) layers, the last without f.

    `sizes`: the numbers of inputs, of each hidden layer's outputs and of classes or targets, as
    [784, 100, 10]. `bias`: one flag, or one per layer. `dtype`: float32 or float64. `rng`: None, an
    integer seed, or NumPy's Generator or BitGenerator of PCG64; a seed gives the same bits on every
    machine. `activation`: f of the hidden layers, "relu", "tanh", "logistic", "silu", "gelu" (its
    tanh form), "leaky_relu" (0.01) or "identity"; one name, or a list with one for each. Weights
    start uniform, with He's bound before relu, leaky_relu, silu and gelu, with Glorot's before the
    others; biases start at 0.

    `loss`: what `fit` makes small, and what the last layer's outputs z are. "cross_entropy": the
    log-probabilities of classes are LogSoftmax of z. "squared_error", "absolute_error", "huber"
    (the square up to `delta`, 1.0 by default, from there on the absolute error): z are numbers.
    "poisson": exp(z) are counts. "binary_cross_entropy": z > 0 is the class 1 of 0 and 1, of one
    label or of many. Each is the mean over samples and outputs.

    Wk has shape (inputs + bias, outputs), the bias as its last row; `parameters` is their list, and
    all lie in one buffer, `flat_parameters`, their gradients in `flat_gradients`. Assigning, as in
    `model.W1 = array`, writes into it.
    """

    _head: ClassVar[tuple[type[Any], ...]] = (LogSoftmax,)
    _updates: ClassVar[dict[str, Callable[..., None]]] = {
        "sgd": sgd,
        "momentum": momentum,
        "nesterov": nesterov,
        "adam": adam,
        "adamw": adamw,
    }
    _mean = staticmethod(mean)
    _sum_of_squares = staticmethod(sum_of_squares)
    _predictors: Mapping[str, Predictor] = MappingProxyType({})  # by method, as they are made

    def _answer(self, method: str, x: Array, out: Array | None, check_finite: bool) -> Array:
        if self._is_composed(method):
            return super()._answer(method, x, out, check_finite)
        it = self._predictors.get(method) or self._predictor(method)
        # The usual array goes straight to the kernel: all other checks would cost a fifth of a
        # single row's 3 us. A view is our own: no other thread can give it another shape.
        if out is None and type(x) is np.ndarray and x.dtype is self.dtype:
            rows = x.view()
            if rows.flags.carray and rows.ndim == 2:
                result = np.empty((len(rows), *it.goal.shape), it.goal.dtype)
                if it.fill(rows, result) == DONE:
                    return result
        read = answer_in_pieces(self, method, x, out, check_finite)
        if read is not None:
            return read
        rows = self._inputs(x)
        target = self._target(out, it.goal, rows)
        result = np.empty((len(rows), *it.goal.shape), it.goal.dtype)
        if target is not None and target.flags.carray and not check_finite:
            result = target  # else it is written when nothing is left to be refused
        found = it.fill(np.ascontiguousarray(rows, self.dtype), result)
        if check_finite and found & NOT_FINITE:
            self._refuse_not_finite(x, rows)
        if found & NEGATIVE:
            np.copyto(result, -1 - result, where=result < 0)
        if out is None or target is None:
            return result
        if result is not target:
            target[...] = result
        return out

    def _right(self, data: Data, check_finite: bool) -> Array:
        if self._is_composed("losses") or self.loss_name != CROSS_ENTROPY:
            return super()._right(data, check_finite)
        # Where the largest logit j isn't finite, which makes the loss NaN, the class is -1 - j.
        classes = np.empty(len(data.x), np.int64)
        found = self._predictor("predict").fill(data.x, classes)
        if check_finite and found & NOT_FINITE:
            data.refuse_not_finite()
        return np.asarray(classes == data.y)

    def _trains_together(self) -> bool:
        return not self._is_composed("fit")

    def _predicts_together(self, method: str) -> bool:
        return not self._is_composed(method)

    def _is_composed(self, method: str) -> bool:
        """Whether a method calls operations one after the other, as no plan has them."""
        return is_numpy() or (method in _OF_THE_HEAD and self._head != (LogSoftmax,))

    def _predictor(self, method: str) -> Predictor:
        """Return the model's plans for what a method asks for, made once."""
        made: dict[str, Predictor] = vars(self).setdefault("_predictors", {})
        found = made.get(method)
        if found is None:  # of threads that come at once, all take the first one's
            goal, attributes = goal_of(self, method), vars(self)
            owner = attributes["flat_parameters"]
            if keeps(self.sizes):
                owner = attributes.setdefault("_packed_copies", PackedCopies(attributes))
            new = predictor(self.sizes, self.bias, self.activation, owner, goal, loss_of(self))
            found = made.setdefault(method, new)
        return found

    def _logits(self, x: Array) -> Array:
        if is_numpy():
            return super()._logits(x)
        logits = np.empty((len(x), self.sizes[-1]), self.dtype)
        self._predictor("decision_function").fill(np.ascontiguousarray(x, self.dtype), logits)
        return logits

    def _losses(self, x: Array, y: Array) -> tuple[Array, int]:
        if self._is_composed("losses"):
            return super()._losses(x, y)
        return self._predictor("losses").losses(x, y)

    def _run_layers(self, h: Array) -> Layers:
        """Return what the layers make of h (N, inputs)."""
        inputs, functions = [], []
        for layer, W in enumerate(self.parameters):
            h, W = real_arrays(x=h, W=W)
            inputs.append(h)
            rows = self.sizes[layer]
            b = W[rows] if self.bias[layer] else None
            name = (*self.activation, "identity")[layer]
            h = affine(h, W[:rows], b, None, relu=name == "relu")
            functions.append(None if name in ("relu", "identity") else CLASSES[name]())
            if functions[-1] is not None:
                h = functions[-1].forward(h)
        return Layers(inputs, functions, h)

    def _elementary(self) -> Elementary:
        return NUMPY if is_numpy() else COMPILED

    def _propagate(self, g: Array) -> None:
        layers = self._last_forward[0]
        for layer in reversed(range(len(layers.inputs))):
            x = layers.inputs[layer]
            self._write_gradient(layer, x, g)
            if layer:  # nobody asks for the gradient of the model's own input
                W = self.parameters[layer][: self.sizes[layer]]
                if self.activation[layer - 1] == "relu":
                    g = gradient_below(g, W, x)  # x is relu(h): above 0 exactly where h is
                else:
                    g = affine(g, W.T, None, None, relu=False)
                if layers.functions[layer - 1] is not None:
                    g = layers.functions[layer - 1].backward(g)

    def _write_gradient(self, layer: int, x: Array, g: Array) -> None:
        """Write x^T @ g, and 1^T @ g below it where the layer has a bias, to the gradient of W."""
        grad_W, inputs = self.gradients[layer], self.sizes[layer]
        if is_numpy():
            if self.bias[layer]:
                x = np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1)
            grad_W[...] = notebook.matmul(x.T, g)
            return
        affine(x.T, g, None, grad_W[:inputs], relu=False)
        if self.bias[layer]:
            affine(np.ones((1, len(x)), x.dtype), g, None, grad_W[inputs:], relu=False)

    def _train_epoch(self, data: Samples, schedule: Schedule, states: Array, number: int) -> Epoch:
        if self._is_composed("fit"):
            return super()._train_epoch(data, schedule, states, number)
        x, y, order, scales = data
        # flatten: the kernel trusts its one axis, whatever shape was assigned in place.
        parameters, losses = self.flat_parameters.flatten(), np.empty(len(y), self.dtype)
        steps = epochs.steps_of(self, schedule, schedule.constants(number))
        weights = epochs.Weights(parameters, states, losses)
        work = schedule.batch_size * parameters.size
        threads = threads_for(work, len(steps.constants))
        hits = epochs.train(x, order, y, steps, weights, threads, scales)
        return Epoch(parameters, losses, hits)


class NotebookMLP(MLP):
    """The notebook's own model: 784-100-10, no bias in the second layer, float64, Softmax then Log.

    Its weights are normal(0, 1) from NumPy's Generator, unscaled. Under arithmetic("numpy") it has
    the bits of the notebook's own code. `rng` is as in `MLP`.
    """

    _head = (Softmax, Log)

    def __init__(self, rng: Rng = None) -> None:
        super().__init__([784, 100, 10], bias=[True, False], dtype=np.float64, rng=rng)

    def _draw_weights(self, generator: np.random.PCG64) -> None:
        draw_normal(self.parameters, generator)
