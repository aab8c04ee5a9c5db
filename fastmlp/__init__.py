"""fastmlp."""

from .arithmetic_mode import arithmetic, get_arithmetic, set_arithmetic
from .log import Log
from .log_softmax import LogSoftmax
from .relu import Relu
from .softmax import Softmax
from .threads import get_num_threads, set_num_threads
from .update import adam, momentum, sgd
