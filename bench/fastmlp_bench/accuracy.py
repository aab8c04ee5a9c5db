"""Time to accuracy: the test accuracy after each epoch, against the seconds of training."""

from collections.abc import Callable
from typing import Any

import numpy as np

import fastmlp

from .cases import data, initial_parameters
from .measure import reason
from .providers import PROVIDERS, Array, Call
from .timing import interleaved

SIZES, BATCH, LEARNING_RATE = (784, 100, 10), 128, 0.1
LEFT_OUT = ("fastmlp reference", "numpy notebook", "torch.compile")


def measure_accuracy(
    epochs: int, failed: dict[str, str], done: Callable[[], Any]
) -> list[dict[str, Any]]:
    """Return the accuracy after each epoch of each provider, and the seconds until then.

    The seconds are those of the median epoch times the epochs, so no compiling is in them.
    """
    x, y = data(60_000, SIZES[0], "float32")
    x_test, y_test = fastmlp.mnist_dataset()[1]
    x_test = x_test.reshape(len(x_test), -1)
    calls: dict[str, Call] = {}
    accuracies: dict[str, list[float]] = {}
    for name, provider in PROVIDERS.items():
        if provider.missing() or not provider.trains or name in LEFT_OUT:
            continue
        try:
            form: Any = provider.form("train")
            made = form(x, y, initial_parameters(SIZES, "float32"), BATCH, LEARNING_RATE)
            call = list(made.values())[-1] if isinstance(made, dict) else made
            accuracies[name] = [
                share_right([np.array(array) for array in call()], x_test, y_test)
                for _ in range(epochs)
            ]
        except Exception as error:
            failed[f"{name}, accuracy"] = reason(error)
        else:
            calls[name] = call
    seconds = interleaved(calls, 3, done)
    return [
        {
            "provider": name,
            "epoch": epoch,
            "seconds": epoch * float(np.median(seconds[name])),
            "accuracy": accuracy,
        }
        for name in calls
        for epoch, accuracy in enumerate(accuracies[name], start=1)
    ]


def share_right(arrays: list[Array], x: Array, y: Array) -> float:
    """Return the share of x whose largest logit is that of y; arrays: [W1, b1, W2, b2, ...]."""
    h = x
    for W, b in zip(arrays[:-2:2], arrays[1:-2:2], strict=True):
        h = np.maximum(h @ W + b, 0)
    return float(np.mean(np.argmax(h @ arrays[-2] + arrays[-1], axis=1) == y))
