"""Real tables, beside scikit-learn's own networks: the same split, ten seeds each.

    pip install '.[sklearn]'  # in a checkout
    python examples/real_data.py               # prints the table
    python examples/real_data.py docs/real-data.md    # and writes it there

A network of one hidden layer is trained by Adam. All that can be is alike: the scaled inputs, the
layers, the batches, the rate, the epochs, no weight decay. Initial weights and shuffles differ.
"""

import sys
import time
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

import fastmlp

SEEDS, HIDDEN, EPOCHS, BATCH, RATE = range(10), 64, 200, 32, 1e-3
TABLES = {
    "iris": (datasets.load_iris, "cross_entropy"),
    "breast cancer": (datasets.load_breast_cancer, "binary_cross_entropy"),
    "digits": (datasets.load_digits, "cross_entropy"),
    "diabetes": (datasets.load_diabetes, "squared_error"),
}


def split(load):
    """Return x and y to train on, then those to test on, scaled by what is trained on."""
    x, y = load(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    scaler = StandardScaler().fit(x)
    x, x_test = (scaler.transform(part).astype(np.float32) for part in (x, x_test))
    if y.dtype.kind == "f":  # a regression: targets near 0, as wide as 1
        mean, width = y.mean(), y.std()
        y, y_test = (((part - mean) / width).astype(np.float32) for part in (y, y_test))
    return x, y, x_test, y_test


def ours(loss, x, y, seed):
    """Return a model that has been trained."""
    outputs = int(y.max()) + 1 if loss == "cross_entropy" else 1
    activation = "tanh" if loss == "squared_error" else "relu"
    model = fastmlp.MLP([x.shape[1], HIDDEN, outputs], loss=loss, activation=activation, rng=seed)
    model.fit(x, y, epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE, rng=seed)
    return model


def theirs(loss, x, y, seed):
    """Return scikit-learn's, trained alike."""
    kind = MLPRegressor if loss == "squared_error" else MLPClassifier
    activation = "tanh" if loss == "squared_error" else "relu"
    model = kind(
        hidden_layer_sizes=[HIDDEN], activation=activation, alpha=0, learning_rate_init=RATE,
        batch_size=BATCH, max_iter=EPOCHS, n_iter_no_change=EPOCHS, random_state=seed,
    )  # fmt: skip
    return model.fit(x, y)


def table():
    """Return lines of Markdown: mean and standard deviation of the test scores over the seeds."""
    lines = ["| table | samples | score | fastmlp | scikit-learn | its time |"]
    lines.append("|---|---|---|---|---|---|")
    for name, (load, loss) in TABLES.items():
        x, y, x_test, y_test = split(load)
        ours(loss, x, y, 0)  # compiles
        scores, seconds = [], []
        for make in (ours, theirs):
            start = time.perf_counter()
            found = [make(loss, x, y, seed).score(x_test, y_test) for seed in SEEDS]
            seconds.append(time.perf_counter() - start)
            scores.append(f"{np.mean(found):.3f} ± {np.std(found):.3f}")
        score = "R²" if loss == "squared_error" else "accuracy"
        ratio = f"{seconds[1] / seconds[0]:.0f} x"
        lines.append(f"| {name} | {len(x)} | {score} | {scores[0]} | {scores[1]} | {ratio} |")
    return lines


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")  # scikit-learn's, that all epochs have been made
    lines = table()
    print("\n".join(lines))
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        head = page.read_text().partition("| table |")[0]
        page.write_text(head + "\n".join(lines) + "\n")
