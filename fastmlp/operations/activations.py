from ..reference.activations import y_and_slope
from .relu import Relu
def make(name):
    class F:
        def forward(self, x):
            y, self.s = y_and_slope(name, x)
            return y
        def backward(self, g): return g * self.s
    return F
class Identity:
    def forward(self, x): return x
    def backward(self, g): return g
CLASSES = {n: make(n) for n in ("tanh","logistic","silu","gelu","leaky_relu")} | {"relu": Relu, "identity": Identity}
