"""Small multilayer perceptrons on a CPU: compiled, fast, with the same bits on every machine.

Every name has a twin in plain NumPy in `fastmlp.reference`, with the same bits.
"""

from . import startup as startup  # first: it shows what the imports below raise

# isort: split
from . import reference as reference
from .arithmetic_mode import arithmetic, get_arithmetic, set_arithmetic
from .fit import History
from .gradient_check import gradient_check
from .labels import one_hot
from .log import Log
from .log_softmax import LogSoftmax
from .loss import compute_loss
from .matmul import Matmul
from .matmul_relu import MatmulRelu
from .mlp import MLP, NotebookMLP
from .mnist import mnist_dataset
from .relu import Relu
from .softmax import Softmax
from .threads import get_num_threads, set_num_threads
from .training import compute_accuracy, test, train_one_step
from .update import adam, momentum, sgd

__all__ = [
    "MLP",
    "History",
    "Log",
    "LogSoftmax",
    "Matmul",
    "MatmulRelu",
    "NotebookMLP",
    "Relu",
    "Softmax",
    "adam",
    "arithmetic",
    "compute_accuracy",
    "compute_loss",
    "get_arithmetic",
    "get_num_threads",
    "gradient_check",
    "mnist_dataset",
    "momentum",
    "one_hot",
    "set_arithmetic",
    "set_num_threads",
    "sgd",
    "test",
    "train_one_step",
]

__version__ = "0.1.0"
