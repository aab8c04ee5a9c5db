"""The operations in plain NumPy: the page to open to learn what an operation means."""

from .log import Log
from .log_softmax import LogSoftmax
from .relu import Relu
from .softmax import Softmax
from .update import adam, momentum, sgd
