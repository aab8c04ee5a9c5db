"""A training's figures as curves: a picture by matplotlib, a few lines of text by plotext."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .history import History

INSTALL = "pip install 'fastmlp[plot]'"
LINES = 12  # of a terminal


def draw(history: "History", figure: Any) -> Any:
    """Draw the figures into a matplotlib figure, None: pyplot's new one; return its axes."""
    try:
        if figure is None:
            from matplotlib import pyplot
        from matplotlib.ticker import MaxNLocator
    except ImportError as error:
        message = f"History.plot: expected matplotlib, to draw, got none; {INSTALL}"
        raise ImportError(message, name=error.name) from error
    names = ["loss", "accuracy"] if history.accuracy else ["loss"]
    if figure is None:
        figure = pyplot.figure(figsize=(4.5 * len(names), 3.2), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        for label, values in _curves(history, name).items():
            axis.plot(range(1, len(values) + 1), values, ".-", label=label)
        if history.best_epoch is not None:
            axis.axvline(history.best_epoch + 1, color="gray", ls=":", label="best epoch")
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend()
    return axes


def as_text(history: "History", width: int) -> str | None:
    """Return the losses as LINES lines of so many characters, None without plotext 6 or newer."""
    try:
        from plotext import figure, uncolorize
    except ImportError:
        return None
    curves = _curves(history, "loss")
    figure.clear()
    figure.plot_size(width, LINES)
    for marker, values in zip(("hd", "*"), curves.values(), strict=False):
        figure.draw(figure.signal(values, marker=marker).lines())
    count = len(history.loss)
    ticks = sorted({1 + round(part * (count - 1) / 4) for part in range(5)})
    figure.ruler("x").ticks(ticks, [str(tick) for tick in ticks])
    others = "" if len(curves) == 1 else "   * validation loss"
    figure.title(f"training loss of each epoch{others}")
    text: str = uncolorize(figure.build().string())
    return "\n".join(line.rstrip() for line in text.splitlines())


def _curves(history: "History", name: str) -> dict[str, list[float]]:
    figures = vars(history)
    curves = {"training": figures[name], "validation": figures[f"validation_{name}"]}
    return {label: values for label, values in curves.items() if values}
