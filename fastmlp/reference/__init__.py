"""The operations in plain NumPy: the page to open to learn what an operation means.

It needs no compiler, and loads none.
"""

import importlib
import sys
import typing

from .. import schedules as schedules
from ..arithmetic_mode import arithmetic, get_arithmetic, set_arithmetic
from ..labels import one_hot
from ..model.history import History
from ..threads import get_num_threads, set_num_threads
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

if typing.TYPE_CHECKING:
    from ..mnist import mnist_dataset
    from ..operations.gradient_check import gradient_check

# What comes from elsewhere when it is asked for: it takes time, or loads what is compiled.
_HOME = {"gradient_check": "fastmlp.operations.gradient_check", "mnist_dataset": "fastmlp.mnist"}

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
    "compute_accuracy",
    "compute_loss",
    "get_arithmetic",
    "get_num_threads",
    "gradient_check",
    "load",
    "load_predictor",
    "mnist_dataset",
    "momentum",
    "nesterov",
    "one_hot",
    "set_arithmetic",
    "set_num_threads",
    "sgd",
    "test",
    "train_one_step",
]


def __getattr__(name: str) -> typing.Any:
    if name not in _HOME:
        here = sys.modules[__name__]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=here)
    globals()[name] = value = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
