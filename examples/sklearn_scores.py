"""fastmlp.sklearn beside scikit-learn: the same parameters, twenty seeds each.

    pip install '.[sklearn]'  # in a checkout
    python examples/sklearn_scores.py                         # prints the table
    python examples/sklearn_scores.py docs/scikit-learn.md    # and writes it there

All parameters are the defaults, but where a row names others. Times are those of a CPU, one thread
each.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn import datasets, neural_network
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import fastmlp
from fastmlp import sklearn as ours

SEEDS = range(20)


def mnist(return_X_y):
    (x, y), _ = fastmlp.mnist_dataset()
    return x[:4000].reshape(4000, 784), y[:4000]


def small(return_X_y):
    return datasets.make_classification(1333, 20, flip_y=0.2, random_state=0)


TABLES = {
    "iris": (datasets.load_iris, {}),
    "wine": (datasets.load_wine, {}),
    "breast cancer": (datasets.load_breast_cancer, {}),
    "digits": (datasets.load_digits, {}),
    "diabetes": (datasets.load_diabetes, {}),
    "diabetes, lbfgs": (datasets.load_diabetes, {"solver": "lbfgs", "alpha": 100}),
    "iris, sgd adaptive": (datasets.load_iris, {"solver": "sgd", "learning_rate": "adaptive"}),
    "digits, early stopping": (datasets.load_digits, {"early_stopping": True}),
    "1,000 x 20, 20 epochs": (small, {"max_iter": 20}),
    "MNIST, 20 epochs, float32": (mnist, {"max_iter": 20}),
}


def split(load):
    """Return x and y to train on, then those to test on, scaled by what is trained on."""
    x, y = load(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    if x.dtype != np.float32:
        scaler = StandardScaler().fit(x)
        x, x_test = scaler.transform(x), scaler.transform(x_test)
    if y.dtype.kind == "f":  # a regression: targets near 0, as wide as 1
        mean, width = y.mean(), y.std()
        y, y_test = (y - mean) / width, (y_test - mean) / width
    return x, y, x_test, y_test


def measure(kind, how, data):
    """Return the test scores of all seeds, the epochs of all, and the seconds of the trainings."""
    x, y, x_test, y_test = data
    models = [kind(random_state=seed, **how) for seed in SEEDS]
    start = time.process_time()
    for model in models:
        model.fit(x, y)
    seconds = time.process_time() - start
    epochs = np.mean([model.n_iter_ for model in models])
    return [model.score(x_test, y_test) for model in models], epochs, seconds


def table():
    """Return lines of Markdown: mean and standard deviation of the test scores over the seeds."""
    lines = ["| table | samples | score | fastmlp | scikit-learn | epochs | its | its time |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, (load, how) in TABLES.items():
        data = split(load)
        is_regression = data[1].dtype.kind == "f"
        title = "MLPRegressor" if is_regression else "MLPClassifier"
        getattr(ours, title)(**{**how, "max_iter": 2}).fit(*data[:2])  # compiles
        mine = measure(getattr(ours, title), {**how, "n_threads": 1}, data)
        its = measure(getattr(neural_network, title), how, data)
        scores = [f"{np.mean(found):.3f} ± {np.std(found):.3f}" for found, *_ in (mine, its)]
        row = [name, len(data[0]), "R²" if is_regression else "accuracy", *scores]
        row += [f"{mine[1]:.0f}", f"{its[1]:.0f}", f"{its[2] / mine[2]:.1f} x"]
        lines.append(f"| {' | '.join(map(str, row))} |")
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # that all epochs have been made
    with threadpool_limits(1):
        lines = table()
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        head = page.read_text().partition("| table |")[0]
        page.write_text(head + "\n".join(lines) + "\n")
