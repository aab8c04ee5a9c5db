"""The picture of the learning-rate schedules: `python -m fastmlp_bench.schedules`."""

import sys
from pathlib import Path

from fastmlp import schedules

from .plots import SETTINGS

STEPS = 300


def draw(folder: Path) -> Path:
    """Write learning-rates.svg to the folder; return its path. Needs matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure

    curves = {
        "constant(0.05, steps)": schedules.constant(0.05, STEPS),
        "step(0.1, steps, step_size=75, gamma=0.5)": schedules.step(0.1, STEPS, 75, 0.5),
        "cosine(0.1, steps, warmup=30)": schedules.cosine(0.1, STEPS, warmup=30),
        "one_cycle(0.1, steps)": schedules.one_cycle(0.1, STEPS),
    }
    path = folder / "learning-rates.svg"
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axis = figure.subplots()
        for name, rates in curves.items():
            axis.plot(rates, label=name)
        axis.set_xlabel(f"step, of {STEPS}")
        axis.set_ylabel("learning rate")
        axis.grid(True, alpha=0.3)
        figure.legend(loc="outside upper center", ncols=2)
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
    return path


if __name__ == "__main__":
    print("written:", draw(Path(*sys.argv[1:2] or ["docs/pictures"])))
