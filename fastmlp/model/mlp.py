"""The multilayer perceptron: relu layers, then the log-probabilities of classes, or numbers."""

from collections.abc import Callable
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
from ..reference.losses import Elementary
from ..threads import threads_for
from . import epochs
from .estimator import Estimator, Layers
from .fit import Epoch, Samples
from .fit_checks import Data, Schedule
from .losses import CROSS_ENTROPY, NUMPY, loss_of
from .parameters import Rng, draw_normal
from .predictions import DONE, HITS_BIT, NEGATIVE, NO_REALS, NOT_FINITE, Predictor, predictor
from .sample_weights import weighted

_CLASS = np.dtype(np.int64)
_NO_CLASSES = np.empty(0, _CLASS)


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
    _compiled: tuple[Callable[..., int], Array, Array, Array, Predictor] | None = None

    def predict(self, x: Array, *, check_finite: bool = True) -> Array:
        """Return the class (N,) of each sample of x (N, ...), as int64: the first largest logit.

        With another loss than cross-entropy, what the outputs say of targets: (N, outputs), (N,)
        for one output. All layers in one call, without the log-probabilities; `log_prob` and what
        backward needs stay those of the last forward. A NaN counts as largest. check_finite:
        whether NaN and inf in x are a ValueError. Raises what `forward` raises.
        """
        if self.loss_name != CROSS_ENTROPY:
            return self._predict_targets(x, check_finite)
        if is_numpy():
            return np.asarray(np.argmax(self._logits(self._samples(x, check_finite)), axis=1))
        call, plan, parameters, none, _ = self._compiled or self._compile_predict()
        # The usual array goes straight to the kernel: all other checks would cost a fifth of a
        # single row's 3 us. A view is our own: no other thread can give it another shape.
        if type(x) is np.ndarray and x.dtype is self.dtype:
            rows = x.view()
            if rows.flags.carray and rows.ndim == 2:
                classes = np.empty(len(rows), _CLASS)
                threads = threads_for(len(rows) * parameters.size)
                if call(rows, plan, classes, none, threads) == DONE:
                    return classes
        classes, found = self._signed_classes(np.ascontiguousarray(self._inputs(x), self.dtype))
        if check_finite and found & NOT_FINITE:
            self._samples(x, check_finite)
        return np.where(classes < 0, -1 - classes, classes) if found & NEGATIVE else classes

    def _signed_classes(self, x: Array) -> tuple[Array, int]:
        """Return the classes (N,) of x (N, inputs), and what the kernel tells of them.

        Where a sample's largest logit j isn't finite, which makes its loss NaN, it is -1 - j.
        """
        call, plan, parameters, none, _ = self._compiled or self._compile_predict()
        classes = np.empty(len(x), _CLASS)
        found = call(x, plan, classes, none, threads_for(len(x) * parameters.size))
        return classes, found

    def _right(self, data: Data, check_finite: bool) -> Array:
        if self._is_composed() or self.loss_name != CROSS_ENTROPY:
            return super()._right(data, check_finite)
        classes, found = self._signed_classes(data.x)
        if check_finite and found & NOT_FINITE:
            data.refuse_not_finite()
        return np.asarray(classes == data.y)

    def _trains_together(self) -> bool:
        return not self._is_composed()

    def _is_composed(self) -> bool:
        """Whether operations are called one after the other: no plan has them."""
        return is_numpy() or self._head != (LogSoftmax,)

    def _compile_predict(self) -> tuple[Callable[..., int], Array, Array, Array, Predictor]:
        it = self._predictor("classes")  # the last, as `words` has addresses of what it holds
        compiled = it.run, it.words, it.parameters, NO_REALS[self.dtype.itemsize], it
        self._compiled = compiled
        return compiled

    def _predictor(self, goal: str) -> Predictor:
        """Return the model's plans for a goal, made once."""
        made: dict[str, Predictor] = vars(self).setdefault("_predictors", {})
        found = made.get(goal)
        if found is None:  # of threads that come at once, all take the first one's
            new = predictor(
                self.sizes, self.bias, self.activation, self.flat_parameters, goal, loss_of(self)
            )
            found = made.setdefault(goal, new)
        return found

    def _logits(self, x: Array) -> Array:
        if is_numpy():
            return super()._logits(x)
        it = self._predictor("logits")
        logits = np.empty((len(x), self.sizes[-1]), self.dtype)
        threads = threads_for(len(x) * it.parameters.size)
        x = np.ascontiguousarray(x, self.dtype)
        it.run(x, it.words, _NO_CLASSES, logits.reshape(-1), threads)
        return logits

    def _evaluate(self, data: Data) -> tuple[float, float | None]:
        if self._is_composed():
            return super()._evaluate(data)
        x, y, it = data.x, data.y, self._predictor("losses")
        losses, threads = np.empty(len(x), self.dtype), threads_for(len(x) * it.parameters.size)
        if self.loss_name == CROSS_ENTROPY:
            found = it.run(x, it.words, y, losses, threads)
        else:
            found = it.run(x, it.with_targets(y), _NO_CLASSES, losses, threads)
        loss = float(self._mean(weighted(losses, data.weight)))
        return loss, (found >> HITS_BIT) / len(x) if self._has_accuracy else None

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
        if self._is_composed():
            return super()._train_epoch(data, schedule, states, number)
        x, y, order, scales = data
        # flatten: the kernel trusts its one axis, whatever shape was assigned in place.
        parameters, losses = self.flat_parameters.flatten(), np.empty(len(x), self.dtype)
        steps = epochs.Steps(
            self.sizes, self.bias, schedule.optimizer, schedule.constants(number),
            schedule.batch_size, schedule.rides(self.dtype), self.activation,
            schedule.max_norm, schedule.decay_bias, *loss_of(self),
        )  # fmt: skip
        weights = epochs.Weights(parameters, states, losses)
        threads = threads_for(schedule.batch_size * parameters.size)
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
