"""An error band of a regression: 1,000 networks, each trained on a bootstrap of the samples.

    pip install '.[plot]'  # in a checkout
    python examples/error_band.py error-band.svg
"""

import sys
import time

import numpy as np

import fastmlp

MODELS = 1000


def samples():
    """Sixty measured points of sin(3 x), none in the middle, with noise."""
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.uniform(-2, -0.4, 30), generator.uniform(0.4, 2, 30)])
    y = np.sin(3 * x) + generator.normal(0, 0.15, x.size)
    return x.astype(np.float32)[:, np.newaxis], y.astype(np.float32)


def train(models=MODELS):
    """Return the networks, and the seconds that they took."""
    x, y = samples()
    model = fastmlp.MLP([1, 24, 24, 1], activation="tanh", loss="squared_error")
    members = fastmlp.ensemble(model, models, rng=0)
    rows = fastmlp.bootstrap(len(x), models, rng=1)
    start = time.perf_counter()
    fastmlp.fit_many(
        members, x, y, rows=rows, epochs=300, batch_size=20, learning_rate=0.005,
        rng=[*range(models)],
    )  # fmt: skip
    return members, time.perf_counter() - start


def draw(members, path):
    """Draw the mean and twice the standard deviation of what the networks say."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    x, y = samples()
    grid = np.linspace(-2.5, 2.5, 400, dtype=np.float32)[:, np.newaxis]
    mean, std = (fastmlp.predict_many(members, grid, combine=name) for name in ("mean", "std"))
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    band = {"color": "tab:blue", "alpha": 0.25, "label": "mean ± 2 standard deviations"}
    axes.fill_between(grid[:, 0], mean - 2 * std, mean + 2 * std, **band)
    axes.plot(grid[:, 0], mean, color="tab:blue", label=f"mean of {len(members)} networks")
    axes.plot(grid[:, 0], np.sin(3 * grid[:, 0]), "k--", linewidth=1, label="sin(3 x)")
    axes.plot(x[:, 0], y, "k.", label="samples")
    axes.set(xlabel="x", ylabel="y", ylim=(-3, 3))
    axes.legend(loc="upper left", fontsize="small")
    figure.savefig(path)


if __name__ == "__main__":
    networks, seconds = train()
    print(f"{len(networks)} networks of {'-'.join(map(str, networks[0].sizes))}: {seconds:.1f} s")
    draw(networks, sys.argv[1] if len(sys.argv) > 1 else "error-band.svg")
