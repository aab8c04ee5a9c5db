"""Models to files and back."""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..checks import Array, all_finite, dtype_error, shape_error
from ..tables.table import Table, are_words
from . import safetensors
from .description import ANEW, MODELS, Description, arithmetic_of

if TYPE_CHECKING:
    from ..model.estimator import Estimator

Model = TypeVar("Model", bound="Estimator")


def save(model: "Estimator", path: object, optimizer_state: bool) -> None:
    """Do what `model.save` does."""
    name = safetensors.path_of(path)
    kind = type(model).__name__
    if kind not in MODELS or not type(model).__module__.startswith("fastmlp."):
        raise TypeError(
            f"save: expected an MLP or NotebookMLP, got {kind}, whose code no file can hold; "
            "pickle.dump(model, file) keeps its name"
        )
    # A copy, so that what is checked is what is written.
    flat = model.flat_parameters.copy()
    _refuse_not_finite("flat_parameters", flat, "make the model anew or train it at a lower rate")
    state = _state(model) if optimizer_state else None
    described = _with_table(_describe(model, kind, state), model.table)
    shapes = {name: shape for name, (_, shape) in described.tensors().items() if name[0] == "W"}
    ends = np.cumsum([rows * columns for rows, columns in shapes.values()])
    parts = zip(shapes.items(), np.split(flat, ends[:-1]), strict=True)
    arrays: dict[str, Array] = {layer: part.reshape(shape) for (layer, shape), part in parts}
    if state is not None:
        arrays["optimizer_state"] = np.array(state.arrays, model.dtype, order="C")
        mend = "pass optimizer_state=False"
        _refuse_not_finite("optimizer_state", arrays["optimizer_state"], mend)
    safetensors.write(name, described, arrays)


def load_as(path: object, kinds: dict[str, type[Model]]) -> Model:
    """Return the model of a file, one of `kinds`, which are classes by name."""
    name = safetensors.path_of(path)
    described, arrays = safetensors.read(name)
    try:
        model = _make(described, kinds[described.model])
    except (TypeError, ValueError) as error:  # of the constructor, which knows the names
        raise ValueError(f"{name}: {str(error).partition(';')[0]}; {ANEW}") from None
    for W, array in zip(model.parameters, arrays.values(), strict=False):
        W[...] = array
    if described.optimizer is not None:
        from ..model.optimizer_state import OptimizerState

        own = np.array(arrays["optimizer_state"], model.dtype)
        model.optimizer_state = OptimizerState(*described.optimizer, own)
    if described.table is not None:
        model.table = Table.from_words(described.table, described.classes)
    return model


def _make(described: Description, kind: type[Model]) -> Model:
    """Return a new model; raise what its constructor raises."""
    make: Any = kind
    if described.model == "NotebookMLP":
        model: Model = make(rng=0)
    else:
        model = make(
            described.sizes, described.bias, described.dtype, rng=0,
            activation=described.activation, loss=described.loss, delta=described.delta,
        )  # fmt: skip
    made = _describe(model, described.model, None)
    for key in ("sizes", "bias", "dtype", "activation", "loss", "delta", "arithmetic"):
        expected, got = getattr(made, key), getattr(described, key)
        if got != expected:
            raise shape_error(key, f"{expected} for {made.model}", got, ANEW)
    return model


def _describe(model: "Estimator", kind: str, state: Any) -> Description:
    activation, loss = model.activation, model.loss_name
    optimizer = None if state is None else (state.optimizer, int(state.step))
    return Description(
        *(kind, model.sizes, model.bias, model.dtype.name, activation, loss, model.delta),
        *(arithmetic_of(activation, loss), optimizer),
    )


def _with_table(described: Description, table: Any) -> Description:
    """Return a description with the columns of the table that the model takes, where it has one."""
    if table is None:
        return described
    if not isinstance(table, Table):
        got = type(table).__name__
        raise dtype_error("table", "a table that fastmlp read, or None", got, "assign None")
    words, inputs, outputs = table.to_words(), described.sizes[0], described.sizes[-1]
    wrong = table.classes is not None and len(table.classes) != max(outputs, 2)
    if wrong or not are_words(words) or table.inputs != inputs:
        expected = f"columns of {inputs} inputs in all, and a class for each of {outputs} outputs"
        raise shape_error("table", expected, "others", "assign None")
    return described._replace(table=words, classes=table.classes)


def _state(model: "Estimator") -> Any:
    state = model.optimizer_state
    if state is None:
        mend = "fit first, or pass optimizer_state=False"
        raise shape_error("optimizer_state", "that of a fit", "none", mend)
    return state


def _refuse_not_finite(name: str, array: Array, mend: str) -> None:
    if not all_finite(array):
        wrong = array[~np.isfinite(array)][0]
        raise shape_error(name, "finite numbers, to be saved", wrong, mend)
