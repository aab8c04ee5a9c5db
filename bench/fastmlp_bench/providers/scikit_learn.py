"""scikit-learn's MLPClassifier, without momentum, penalty or shuffle."""

import numpy as np
from sklearn.neural_network import MLPClassifier

from . import Array, Call, split


def _classifier(x: Array, y: Array, parameters: list[Array], **options: object) -> MLPClassifier:
    """Return a classifier that starts from copies of `parameters`."""
    classifier = MLPClassifier(
        [W.shape[1] for W in parameters[:-1]],
        solver="sgd",
        alpha=0,
        momentum=0,
        nesterovs_momentum=False,
        shuffle=False,
        **options,
    )
    classifier.partial_fit(x, y, classes=np.arange(parameters[-1].shape[1]))  # allocates them
    for layer, (W, b) in enumerate(split(parameters)):
        classifier.coefs_[layer][...] = W
        classifier.intercepts_[layer][...] = b
    return classifier


def predict(x: Array, parameters: list[Array]) -> Call:
    start = np.zeros_like(x, shape=(1, x.shape[1]))
    classifier = _classifier(start, np.zeros(1, np.int64), parameters, batch_size=1)
    return lambda: classifier.predict(x)


def train(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    size = min(batch_size, len(x))
    classifier = _classifier(
        x[:size], y[:size], parameters, batch_size=size, learning_rate_init=learning_rate
    )

    def call() -> list[Array]:
        classifier.partial_fit(x, y)
        pairs = zip(classifier.coefs_, classifier.intercepts_, strict=True)
        return [array for pair in pairs for array in pair]

    return call
