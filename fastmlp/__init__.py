"""fastmlp."""

from .arithmetic_mode import arithmetic, get_arithmetic, set_arithmetic
from .labels import one_hot
from .log import Log
from .log_softmax import LogSoftmax
from .matmul import Matmul
from .matmul_relu import MatmulRelu
from .mlp import MLP, NotebookMLP
from .mnist import mnist_dataset
from .relu import Relu
from .softmax import Softmax
from .threads import get_num_threads, set_num_threads
from .training import compute_accuracy, compute_loss, test, train_one_step
from .update import adam, momentum, sgd
