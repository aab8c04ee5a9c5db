"""Small multilayer perceptrons on a CPU: compiled, fast, with the same bits on every machine.

Every name has a twin in plain NumPy in `fastmlp.reference`, with the same bits. A name is imported
when it is first asked for: those of the reference need no compiler, and none is loaded for them.
"""

import typing

from . import startup as startup  # first: it shows what the imports below raise

# isort: split
from . import onnx as onnx
from . import reference as reference
from . import schedules as schedules
from . import torch as torch
from .arithmetic_mode import arithmetic, get_arithmetic, set_arithmetic
from .lazy import names_of as _names_of
from .threads import get_num_threads, set_num_threads  # it watches forks

if typing.TYPE_CHECKING:
    from .labels import one_hot
    from .mnist import mnist_dataset
    from .model.history import History
    from .model.mlp import MLP, NotebookMLP
    from .model.saved import load
    from .model.training import compute_accuracy, test, train_one_step
    from .operations.activations import Gelu, Identity, LeakyRelu, Logistic, Silu, Tanh
    from .operations.gradient_check import gradient_check
    from .operations.log import Log
    from .operations.log_softmax import LogSoftmax
    from .operations.loss import compute_loss
    from .operations.matmul import Matmul
    from .operations.matmul_relu import MatmulRelu
    from .operations.relu import Relu
    from .operations.softmax import Softmax
    from .operations.update import adam, adamw, momentum, nesterov, sgd
    from .population.fit_many import fit_many
    from .population.members import bootstrap, ensemble, kfold, sweep
    from .population.predictions import predict_many, predict_proba_many, score_many
    from .reference.saved import load_predictor

_get, __dir__ = _names_of(
    __name__,
    {
        ".labels": "one_hot",
        ".mnist": "mnist_dataset",
        ".model.history": "History",
        ".model.mlp": "MLP NotebookMLP",
        ".model.saved": "load",
        ".model.training": "compute_accuracy test train_one_step",
        ".operations.activations": "Gelu Identity LeakyRelu Logistic Silu Tanh",
        ".operations.gradient_check": "gradient_check",
        ".operations.log": "Log",
        ".operations.log_softmax": "LogSoftmax",
        ".operations.loss": "compute_loss",
        ".operations.matmul": "Matmul",
        ".operations.matmul_relu": "MatmulRelu",
        ".operations.relu": "Relu",
        ".operations.softmax": "Softmax",
        ".operations.update": "adam adamw momentum nesterov sgd",
        ".population.fit_many": "fit_many",
        ".population.members": "bootstrap ensemble kfold sweep",
        ".population.predictions": "predict_many predict_proba_many score_many",
        ".reference.saved": "load_predictor",
    },
)

if not typing.TYPE_CHECKING:  # a type checker would let every name pass
    __getattr__ = _get

__all__ = [
    "MLP",
    "Gelu",
    "History",
    "Identity",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Logistic",
    "Matmul",
    "MatmulRelu",
    "NotebookMLP",
    "Relu",
    "Silu",
    "Softmax",
    "Tanh",
    "adam",
    "adamw",
    "arithmetic",
    "bootstrap",
    "compute_accuracy",
    "compute_loss",
    "ensemble",
    "fit_many",
    "get_arithmetic",
    "get_num_threads",
    "gradient_check",
    "kfold",
    "load",
    "load_predictor",
    "mnist_dataset",
    "momentum",
    "nesterov",
    "one_hot",
    "predict_many",
    "predict_proba_many",
    "score_many",
    "set_arithmetic",
    "set_num_threads",
    "sgd",
    "sweep",
    "test",
    "train_one_step",
]

__version__ = "0.2.1"
