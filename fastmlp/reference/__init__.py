"""The operations in plain NumPy: the page to open to learn what an operation means.

It needs no compiler, and loads none.
"""

import typing

from .. import schedules as schedules
from ..arithmetic_mode import arithmetic, get_arithmetic, set_arithmetic
from ..lazy import names_of as _names_of
from ..threads import get_num_threads, set_num_threads

if typing.TYPE_CHECKING:
    from ..labels import one_hot
    from ..mnist import mnist_dataset
    from ..model.history import History
    from ..operations.gradient_check import gradient_check
    from ..population.fit_many import fit_many
    from ..population.members import bootstrap, ensemble, kfold, sweep
    from ..population.predictions import predict_many, predict_proba_many, score_many
    from .activations import Gelu, Identity, LeakyRelu, Logistic, Silu, Tanh
    from .log import Log
    from .log_softmax import LogSoftmax
    from .loss import compute_loss
    from .matmul import Matmul
    from .matmul_relu import MatmulRelu
    from .mlp import MLP, NotebookMLP
    from .relu import Relu
    from .saved import load, load_predictor
    from .softmax import Softmax
    from .training import compute_accuracy, test, train_one_step
    from .update import adam, adamw, momentum, nesterov, sgd

_get, __dir__ = _names_of(
    __name__,
    {
        "..labels": "one_hot",
        "..mnist": "mnist_dataset",
        "..model.history": "History",
        "..operations.gradient_check": "gradient_check",
        "..population.fit_many": "fit_many",
        "..population.members": "bootstrap ensemble kfold sweep",
        "..population.predictions": "predict_many predict_proba_many score_many",
        ".activations": "Gelu Identity LeakyRelu Logistic Silu Tanh",
        ".log": "Log",
        ".log_softmax": "LogSoftmax",
        ".loss": "compute_loss",
        ".matmul": "Matmul",
        ".matmul_relu": "MatmulRelu",
        ".mlp": "MLP NotebookMLP",
        ".relu": "Relu",
        ".saved": "load load_predictor",
        ".softmax": "Softmax",
        ".training": "compute_accuracy test train_one_step",
        ".update": "adam adamw momentum nesterov sgd",
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
