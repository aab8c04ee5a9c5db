"""The names that an argument may have, for type checkers; at run time the checks have their own."""

from typing import Literal

Activation = Literal["relu", "tanh", "logistic", "silu", "gelu", "leaky_relu", "identity"]
Arithmetic = Literal["portable", "numpy"]
LossName = Literal[
    "cross_entropy",
    "squared_error",
    "absolute_error",
    "huber",
    "poisson",
    "binary_cross_entropy",
]
Monitor = Literal["loss", "accuracy"]
Optimizer = Literal["sgd", "momentum", "nesterov", "adam", "adamw"]
