"""The pictures: speed by batch size and width, time by number of networks, time to accuracy."""

from pathlib import Path
from typing import Any

from .populations import NETWORKS
from .providers import PROVIDERS
from .report import exponents
from .results import Results

FORMATS = ("png", "svg")
PANELS = ("training", "inference")
CURVES = {"batch-size": ("batch size", "samples in a batch"), "width": ("width", "hidden units")}
LIMIT = "limit of the machine"
BANDS = (
    "bands: 20th to 80th percentile of the rounds; numpy lean: plain NumPy without needless work"
)
LEVEL = "n^1: twice the networks take twice the time"
SETTINGS: Any = {"svg.hashsalt": "fastmlp", "font.size": 10, "svg.fonttype": "none"}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write each picture as PNG and SVG; return the paths. Needs matplotlib."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(SETTINGS):
        figures = {name: _speed(results, *words) for name, words in CURVES.items()}
        figures["many-networks"] = _growth(results)
        figures["time-to-accuracy"] = _accuracy(results)
        paths = []
        for name, figure in figures.items():
            for kind in FORMATS if figure else ():
                path = folder / f"{name}.{kind}"
                metadata = {"Date": None} if kind == "svg" else None
                figure.savefig(path, dpi=150, metadata=metadata)
                paths.append(path)
    return paths


def _figure(panels: int) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * panels + 1.5, 4.5), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def plain_numbers(axis: Any) -> None:
    """Write 200 and 0.2 on a logarithmic axis, where it would have powers of ten."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, value: float, position: int | None = None) -> str:
            return f"{value:g}" if super().__call__(value, position) else ""

    for named in (axis.xaxis, axis.yaxis):
        if named.get_scale() == "log":
            base = named.get_transform().base
            named.set_major_formatter(Plain(base))
            named.set_minor_formatter(Plain(base))


def _style(provider: str) -> dict[str, Any]:
    own = provider == "fastmlp"
    return {
        "color": "black" if own else f"C{list(PROVIDERS).index(provider)}",
        "marker": "o" if own else "sv^D*Pp<X"[list(PROVIDERS).index(provider) - 1],
        "linewidth": 2.5 if own else 1.3,
        "markersize": 5,
        "label": provider,
    }


def _speed(results: Results, curve: str, axis_label: str) -> Any:
    figure, axes = _figure(len(PANELS))
    labels = {}
    for axis, panel in zip(axes, PANELS, strict=True):
        rows = [row for row in results["rows"] if row["series"] == f"{curve}, {panel}"]
        if not rows:
            return None
        for provider in dict.fromkeys(row["provider"] for row in rows):
            points = [row for row in rows if row["provider"] == provider]
            if len(points) < 2:  # no curve
                continue
            x = [row["value"] for row in points]
            rates = [[100 * row["limit"] / row[key] for row in points] for key in _SPREAD]
            style = _style(provider)
            axis.plot(x, rates[0], **style)
            axis.fill_between(x, rates[1], rates[2], color=style["color"], alpha=0.15, linewidth=0)
        axis.axhline(100, color="black", linestyle="--", label=LIMIT)
        axis.set_xscale("log", base=2 if curve == "batch size" else 10)
        axis.set_ylim(0, None)
        plain_numbers(axis)
        axis.set_xlabel(axis_label)
        axis.set_ylabel("speed, % of the machine's limit")
        axis.set_title(f"{panel}, float32")
        axis.grid(True, which="major", alpha=0.3)
        labels.update(dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True)))
    names = [name for name in (*PROVIDERS, LIMIT) if name in labels]
    figure.legend([labels[name] for name in names], names, loc="outside right upper")
    figure.suptitle(f"{_machine(results)}\n{BANDS}", fontsize=9)
    return figure


_SPREAD = ("median", "p80", "p20")


def _growth(results: Results) -> Any:
    """The time for each of many networks: a level line where all take as much more as they are."""
    rows = [row for row in results["rows"] if row["series"] == NETWORKS]
    fitted = {name: slope for series, name, slope, _ in exponents(results) if series == NETWORKS}
    if not fitted:
        return None
    figure, (axis,) = _figure(1)
    for provider, slope in fitted.items():
        points = [row for row in rows if row["provider"] == provider]
        counts = [row["value"] for row in points]
        each = [[1e6 * row[key] / row["value"] for row in points] for key in _SPREAD]
        style = _style(provider)
        style["label"] += f": n networks take c x n^{slope:.2f} (a fit)"
        axis.plot(counts, each[0], **style)
        axis.fill_between(counts, each[1], each[2], color=style["color"], alpha=0.15, linewidth=0)
        axis.axhline(each[0][-1], color=style["color"], linestyle="--", label=LEVEL)
    axis.set_xscale("log")
    axis.set_ylim(0, None)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("networks trained by one call of fit_many")
    axis.set_ylabel("microseconds for each network")
    axis.set_title(f"{rows[0]['shape'].partition(' x ')[2]}, 10 epochs of Adam", fontsize=10)
    axis.grid(True, which="major", alpha=0.3)
    axis.legend(loc="lower left")
    figure.suptitle(f"{_machine(results)}\n{BANDS.partition(';')[0]}", fontsize=9)
    return figure


def _accuracy(results: Results) -> Any:
    if not results["accuracy"]:
        return None
    figure, (axis,) = _figure(1)
    for provider in dict.fromkeys(row["provider"] for row in results["accuracy"]):
        points = [row for row in results["accuracy"] if row["provider"] == provider]
        seconds = [row["seconds"] for row in points]
        axis.plot(seconds, [100 * row["accuracy"] for row in points], **_style(provider))
    axis.set_xscale("log")
    plain_numbers(axis)
    axis.set_xlabel("seconds of training")
    axis.set_ylabel("accuracy for the test images of MNIST, %")
    axis.set_title("784-100-10, batch 128, sgd 0.1; a mark for each epoch")
    axis.grid(True, which="both", alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.suptitle(_machine(results), fontsize=9)
    return figure


def _machine(results: Results) -> str:
    machine = results["machine"]
    return f"{machine['cpu']}, threads: {machine['threads']}"
