"""The mend that an error prints, run on the very input, works: `pass CODE` is read and obeyed.

`pass CODE` replaces the argument, `pass name=CODE` the one of that name.
"""

import copy
import pickle
import re
from types import FunctionType

import numpy as np
import pytest
from odd_inputs import Frame, FrameOfTexts, SparseMatrix

import fastmlp
from fastmlp import reference

X = np.eye(4, dtype=np.float32)
Y = np.array([0, 1, 0, 1])
ROW = [1.0, 0.0, 0.0, 0.0]


class Pandas(Frame):
    """A frame or series of pandas: it has astype and shape, but no reshape."""

    def astype(self, dtype):
        return Pandas(self.values.astype(dtype))


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


MODEL = "module.MLP([4, 3, 2], rng=0)"
FIT = f"{MODEL}.fit(x, y, epochs=1)"
VALIDATED = f"{MODEL}.fit(x, y, epochs=1, validation=tuple(validation))"
MATMUL = "module.Matmul().forward(x, W)"
ASSIGN = "setattr(module.MLP([3, 4], rng=0), 'W1', W1)"
INTO = "module.MatmulRelu().forward(x, W, b, out=out)"
ADAM = "module.adam(params, grads, m, v, step, learning_rate, beta1, beta2, epsilon)"
ADAMW = ADAM.replace("adam(", "adamw(").replace("epsilon)", "epsilon, weight_decay)")
CHECK = "fastmlp.gradient_check(operation, inputs, seed=seed, tolerance=tolerance)"
SOME = {
    **{"x": X, "y": Y, "W": X[:, :3], "b": X[0, :3], "label": X[:, :2], "labels": Y},
    **{"params": [X.copy()], "grads": [X], "m": [X.copy()], "v": [X.copy()], "step": 1},
    **{"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "learning_rate": 0.1, "momentum": 0.9},
    **{"weight_decay": 0.0, "optimizer": "adam", "epochs": 2, "batch_size": 3, "callback": None},
    **{"max_norm": 1.0, "decay_bias": True},
    **{"sizes": [4, 3, 2], "bias": True, "dtype": np.float32, "rng": 0, "seed": 0},
    **{
        "operation": fastmlp.Relu(),
        "inputs": [X + 1],
        "tolerance": 1e-6,
        "validation": (X, Y),
        "out": None,
    },
    **{"patience": 2, "monitor": "loss", "resume": True, "state": None},
    **{"steps": 9, "step_size": 2, "gamma": 0.5, "warmup": 2, "final_learning_rate": 0.0},
    **{"pct_start": 0.5, "div_factor": 5.0, "final_div_factor": 10.0},
}
ALL_OF_FIT = f"""{MODEL}.fit(
    x, y, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, optimizer=optimizer,
    momentum=momentum, weight_decay=weight_decay, max_norm=max_norm, decay_bias=decay_bias, rng=rng,
    callback=callback, validation=validation
)"""
WATCHED = f"""{MODEL}.fit(
    x, y, epochs=2, validation=validation, patience=patience, monitor=monitor
)"""
RESUMED = """(
    (model := module.MLP([4, 3, 2], rng=0)).fit(x, y, epochs=1, optimizer="adam"),
    setattr(model, "optimizer_state", state or model.optimizer_state),
    model.fit(x, y, epochs=1, optimizer=optimizer, resume=resume),
)"""
SCHEDULES = [
    "module.schedules.step(learning_rate, steps, step_size, gamma)",
    "module.schedules.cosine(learning_rate, steps, warmup, final_learning_rate)",
    "module.schedules.one_cycle(learning_rate, steps, pct_start, div_factor, final_div_factor)",
]
MAKE = "module.MLP(sizes, bias, dtype, rng)"
LABELS = ["score", "loss"]
# A call, the argument that is wrong, and wrong values whose mend is code.
FEATURES = {
    "float64": X.astype(np.float64),
    "int64": X.astype(np.int64),
    "longdouble": X.astype(np.longdouble),
    "complex": X.astype(np.complex128),
    "objects": X.astype(object),
    "text": X.astype(str),
    "a list": X.tolist(),
    "a tuple": tuple(map(tuple, X.tolist())),
    "a list of complex": X.astype(complex).tolist(),
    "a generator": lambda names: (row for row in X),
    "pandas": Pandas(X.astype(np.float64)),
    "pandas objects": Pandas(X.astype(object)),
    "polars": Frame(X.astype(np.float64)),
    "scipy": SparseMatrix(X),
    "scipy float64": SparseMatrix(X.astype(np.float64)),
    "masked": np.ma.masked_array(X, X == 1),
    "masked float64": np.ma.masked_array(X.astype(np.float64), X == 1),
}
ONE_SAMPLE = {"a row": X[0], "a picture": X[0].reshape(2, 2), "a column": X[:, :1].copy()}
NOT_OF_THE_DTYPE = list(FEATURES)[:17]
LABELS_OF_TWO = {
    "text": np.array(["b", "a", "b", "a"]),
    "a list of text": ["b", "a", "b", "a"],
    "objects": np.array(["b", "a", "b", "a"], object),
    "whole objects": np.array([0, 0, 1, 0], object),
    "categorical": FrameOfTexts(["b", "a", "b", "a"]),
    "pandas": Pandas(np.array([0.0, 1.0, 1.0, 0.0])),
    "a column of pandas": Pandas(Y.reshape(4, 1)),
    "polars": Frame(np.array([0.0, 1.0, 1.0, 0.0])),
    "floats": np.array([0.0, 1.0, 0.0, 0.0]),
    "a list of floats": [0.0, 1.0, 1.0, 0.0],
    "text of digits": ["1", "0", "0", "0"],
    "booleans": Y == 1,
    "a column": Y.reshape(4, 1),
    "a row": Y.reshape(1, 4),
    "a column of floats": Y.reshape(4, 1) * 1.0,
    "a column of text": np.array([["a"], ["b"], ["b"], ["a"]]),
    "a list's column": Y.reshape(4, 1).tolist(),
    "-1 and 1": 2 * Y - 1,
    "1 and 2": Y + 1,
    "1 and 2 in bytes": (Y + 1).astype(np.uint8),
    "floats -1 and 1": 2.0 * Y - 1,
    "0 and 255": (255 * Y).astype(np.uint8),
    "probabilities": np.array([[0.25, 0.75]] * 4),
    "a list of probabilities": [[0.25, 0.75]] * 4,
    "masked": np.ma.masked_array(Y, Y == 1),
    "scipy": SparseMatrix(np.eye(2)[Y]),
}
ROWS = [
    *[(call, "x", value) for value in FEATURES.values() for call in (FIT, f"{MODEL}.predict(x)")],
    *[(VALIDATED, "validation[0]", value) for value in FEATURES.values()],
    *[(f"{MODEL}.fit(x, y[:1])", "x", value) for value in ONE_SAMPLE.values()],
    (f"{MODEL}.predict(x)", "x", np.ones((4, 7), np.float32)),
    *[(FIT, "y", value) for value in LABELS_OF_TWO.values()],
    *[(f"{MODEL}.{name}(x, y)", "y", y) for y in LABELS_OF_TWO.values() for name in LABELS],
    *[(VALIDATED, "validation[1]", value) for value in LABELS_OF_TWO.values()],
    *[(MATMUL, "x", FEATURES[kind]) for kind in ("complex", "objects", "text", "longdouble")],
    *[(MATMUL, "x", FEATURES[kind]) for kind in ("scipy", "masked")],
    *[(MATMUL, "x", ONE_SAMPLE["a row"]), (MATMUL, "x", ROW)],
    (MATMUL, "x", np.ones((4, 3), np.float32).T.reshape(4, 3)),
    (MATMUL, "x", np.ones((4, 2, 2), np.float32)),
    (MATMUL, "W", np.ones((3, 4), np.float32)),
    (MATMUL, "W", np.ones(4, np.float32)),
    (MATMUL, "W", [1.0, 2, 3, 4]),
    (MATMUL, "W", X.astype(np.longdouble)),
    (MATMUL.replace("W)", "x)"), "x", X.astype(int)),
    ("module.Relu().forward(x)", "x", X.astype(np.float16)),
    ("module.Softmax().forward(x)", "x", ROW),
    ("module.LogSoftmax().forward(x)", "x", X[0]),
    (INTO, "b", X[:1, :3]),
    (INTO, "b", [[1.0], [2.0], [3.0]]),
    ("module.Matmul().forward(x, x, out=out)", "out", lambda names: names["x"]),
    *[
        (INTO, "out", out)
        for out in (
            *([], np.zeros((4, 3)), np.zeros((3, 4), np.float32), np.ma.zeros((4, 3), "f4")),
            *(read_only(X[:, :3]), np.broadcast_to(np.float32(0), (4, 3))),
            np.lib.stride_tricks.as_strided(np.zeros(20, "f4"), (4, 3), (4, 4)),
        )
    ],
    *[(MAKE, "sizes", sizes) for sizes in (784, [784], [784, 0, 10], [4.0, 3.0, 2.0], "784")],
    *[(MAKE, "sizes", sizes) for sizes in ([4, 1], [4, 3, 1], [4, None], [4, np.nan])],
    *[(MAKE, "bias", bias) for bias in ([True], 1, None, [1, 0], "yes")],
    *[(MAKE, "dtype", dtype) for dtype in (np.int64, "float16", "nonsense", object, X)],
    *[(MAKE, "rng", rng) for rng in (-1, 1.5, "0", np.random.MT19937(0), True)],
    *[(MAKE, "rng", np.random.RandomState(0))],
    *[(ALL_OF_FIT, "epochs", epochs) for epochs in (0, 2.0, "2", None, True, np.array([2, 3]))],
    *[(ALL_OF_FIT, "batch_size", size) for size in (-3, 2.5, "3", None, np.nan)],
    *[(ALL_OF_FIT, "learning_rate", rate) for rate in (-0.1, np.nan, np.inf, "fast", 1j)],
    *[(ALL_OF_FIT, "learning_rate", [0.1, 0.01]), (ALL_OF_FIT, "learning_rate", True)],
    (ALL_OF_FIT, "learning_rate", np.linspace(0.1, -0.1, 4)),
    *[(ALL_OF_FIT, "optimizer", name) for name in ("rmsprop", None, 3)],
    *[(ALL_OF_FIT, "momentum", value) for value in (1, -0.1, "0.5", "much", None)],
    *[(ALL_OF_FIT, "weight_decay", value) for value in (-1, np.nan, "0.5", None, [0.1])],
    *[(ALL_OF_FIT, "max_norm", value) for value in (0, -1, np.nan, True, "1.0", "big", [1.0])],
    *[(ALL_OF_FIT, "decay_bias", value) for value in (None, 0, 1.0, "no", [True])],
    *[(ADAMW, "weight_decay", value) for value in (-1, np.nan, np.inf, "0.5", None, True)],
    *[(ALL_OF_FIT, "rng", -1), (ALL_OF_FIT, "callback", 3), (ALL_OF_FIT, "callback", [print])],
    *[(ALL_OF_FIT, "validation", value) for value in (0.1, [X, Y], (X, Y, Y), X)],
    *[(WATCHED, "patience", value) for value in (0, -1, 2.0, "3", True)],
    *[(WATCHED, "monitor", "val_loss"), (WATCHED, "monitor", None), (WATCHED, "validation", None)],
    *[(RESUMED, "optimizer", "sgd"), (RESUMED, "state", {"step": 3})],
    *[
        (call, name, value)
        for call in SCHEDULES
        for name in re.findall(r"(\w+)[,)]", call)
        for value in (-1, None, np.nan)
    ],
    *[(SCHEDULES[1], "warmup", 9), (SCHEDULES[2], "pct_start", 1.5)],
    *[(ADAM, "params", X.copy()), (ADAM, "grads", X)],
    *[(ADAM, f"{name}[0]", X.tolist()) for name in ("params", "grads", "m", "v")],
    *[(ADAM, f"{name}[0]", X.astype(np.float64)) for name in ("grads", "m", "v")],
    *[(ADAM, f"{name}[0]", X.astype(int)) for name in ("params", "grads", "m", "v")],
    *[(ADAM, f"{name}[0]", X.astype(complex)) for name in ("params", "grads", "m", "v")],
    *[(ADAM, f"{name}[0]", read_only(X)) for name in ("params", "m", "v")],
    *[(ADAM, f"{name}[0]", np.ma.masked_array(X, X == 1)) for name in ("params", "grads", "m")],
    (ADAM, "params[0]", X.astype(">f4")),
    (ADAM, "v[0]", np.lib.stride_tricks.as_strided(np.zeros(20, "f4"), (4, 4), (4, 4))),
    *[(ADAM, "step", step) for step in (0, 1.0, "1", None)],
    *[(ADAM, name, 1.5) for name in ("beta1", "beta2")],
    *[(ADAM, name, value) for name in ("learning_rate", "epsilon") for value in ("0.1", "x", 1j)],
    *[(CHECK, "inputs", X + 1), (CHECK, "inputs", 3.0), (CHECK, "operation", fastmlp.Relu)],
    *[(CHECK, "inputs[0]", FEATURES[kind]) for kind in ("complex", "text", "objects", "scipy")],
    *[(CHECK, "seed", seed) for seed in (-1, 0.0, "0")],
    *[(CHECK, "tolerance", tolerance) for tolerance in ("1e-6", None)],
    ("fastmlp.set_num_threads(num_threads)", "num_threads", 10**6),
    ("fastmlp.set_num_threads(num_threads)", "num_threads", 1.0),
    *[("fastmlp.arithmetic(name)", "name", name) for name in ("exact", None, X)],
    *[
        ("fastmlp.one_hot(labels, 2)", "labels", LABELS_OF_TWO[kind])
        for kind in list(LABELS_OF_TWO)[:18]
    ],
    ("fastmlp.one_hot(labels, classes)", "classes", 2.0),
    ("fastmlp.one_hot(labels, classes)", "classes", 0),
    ("fastmlp.one_hot(labels, classes)", "classes", 1),
    ("fastmlp.one_hot(labels, 2, dtype)", "dtype", "nonsense"),
    ("fastmlp.one_hot(labels, 2, dtype)", "dtype", object),
]
BACKWARD = "(model := module.MLP([4, 3, 2], rng=0)).forward(x), model.backward(label)"
for labels in (Y, Y.tolist(), Y.reshape(4, 1), Y * 1.0, ["a", "b", "b", "a"], 2 * Y - 1):
    ROWS.append((BACKWARD, "label", labels))
    if np.asarray(labels).dtype.kind != "U":
        ROWS.append(("module.compute_loss(-x[:, :2], labels)", "labels", labels))
ROWS += [
    (BACKWARD, "label", np.full((4, 2), 0.1)),
    (BACKWARD, "label", np.full((4, 2), 0.1).tolist()),
    ("module.compute_loss(log_prob, x)", "log_prob", X.astype(complex)),
    ("module.compute_accuracy(log_prob, y[:1])", "log_prob", X[0]),
    *[(ASSIGN, "W1", value) for kind, value in FEATURES.items() if kind in NOT_OF_THE_DTYPE],
]


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = fastmlp.get_num_threads()
    yield
    fastmlp.set_num_threads(before)


def codes_of(message):
    """The code after each `pass` or `and` of the mend: up to a space or comma outside brackets."""
    codes = []
    mend = message.partition("; ")[2]
    for found in re.finditer(r"(?:^pass |(?<=\)) and )", mend):
        depth = 0
        for end in range(found.end(), len(mend) + 1):
            letter = mend[end : end + 1]
            depth += (letter in "([") - (letter in ")]") if letter else 0
            if not letter or (depth == 0 and letter in " ,"):
                break
        codes.append(mend[found.end() : end])
    return codes


@pytest.mark.parametrize("module", [fastmlp, reference], ids=["fastmlp", "reference"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0].split('(')[0]} {row[1]}")
def test_a_mend_works_on_the_very_input(row, module):
    call, argument, wrong = row
    names = {"np": np, "fastmlp": fastmlp, "module": module, **copy.deepcopy(SOME)}
    if "[" in argument:
        names["validation"] = [X, Y]
    names["wrong"] = wrong(names) if isinstance(wrong, FunctionType) else wrong
    exec(f"{argument} = wrong", names)
    with pytest.raises((TypeError, ValueError), match=r"(?s)expected .* got .*; ") as refusal:
        eval(call, names)
    message = str(refusal.value)
    codes = codes_of(message)
    assert codes, message
    arguments = message.partition(":")[0].split(", ") if len(codes) > 1 else [argument]
    for name, code in zip(arguments, codes, strict=True):
        keyword = re.match(r"\w+=", code)
        exec(code if keyword else f"{name} = {code}", names)
    eval(call, names)


MEASURED = {
    "floats": np.array([0.5, 1.0, 2.25, 11.0]),
    "of two values": np.array([0.1, 0.7, 0.1, 0.7]),
    "whole floats": np.array([23.0, 45.0, 31.0, 70.0]),
    "integers": np.array([250_000, 310_000, 99_000, 120_500]),
    "negative integers": np.array([-3, 0, 12, 5]),
    "text": np.array(["0.5", "0.25", "0.5", "1e3"]),
    "objects": np.array([0.5, 0.25, 0.5, 0.25], object),
    "NaN": np.array([0, 1, np.nan, 1]),
    "inf": np.array([0, 1, np.inf, 1]),
    "a column": np.array([[0.5], [1.5], [0.5], [2]]),
    "several": np.array([[0.5, 3.0], [1.5, 2.0], [0.1, 4.0], [1, 1]]),
}


@pytest.mark.parametrize("module", [fastmlp, reference], ids=["fastmlp", "reference"])
@pytest.mark.parametrize("y", MEASURED.values(), ids=MEASURED)
def test_no_mend_makes_classes_of_measured_numbers(module, y):
    with pytest.raises((TypeError, ValueError), match=r"; MLP classifies: give") as refusal:
        module.MLP([4, 3, 2], rng=0).fit(X, y)
    message = str(refusal.value)
    assert not codes_of(message)
    assert "outputs" not in message


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([0, 1, 2, 0, 2, 1], "an integer from 0 to 1, or make the model with 3 outputs"),
        (["a", "b", "c", "b", "a", "c"], "or make the model with 3 outputs"),
        (["a", "a", "a", "a"], "give it the class of each sample, an integer from 0 to 1$"),
        ([None, "a", "b", "a"], "give it the class of each sample, an integer from 0 to 1$"),
        ([0, 1, 0], "expected shape .4,., a label for each sample"),
        (np.eye(3)[[0, 1, 2, 0]], r"expected shape \(4, 2\), a one-hot row for each sample"),
    ],
)
def test_what_no_code_can_mend_has_words(y, words):
    x = np.ones((max(len(y), 4), 4), np.float32)
    with pytest.raises((TypeError, ValueError), match=words) as refusal:
        fastmlp.MLP([4, 3, 2], rng=0).fit(x, y)
    assert not codes_of(str(refusal.value))


@pytest.mark.parametrize("module", [fastmlp, reference], ids=["fastmlp", "reference"])
def test_errors_of_calls_name_the_class(module):
    for call, name in [
        (lambda: module.MLP([4, 2], hidden=3), r"MLP\.__init__\(\) got an unexpected .*'hidden'"),
        (lambda: module.MLP(), r"MLP\.__init__\(\) missing 1 required .*'sizes'"),
        (lambda: module.MLP([4, 2]).fit(X, Y, epoch=3), r"MLP\.fit\(\) got an unexpected"),
        (lambda: module.MLP([4, 2]).fit(X, Y, 3), r"MLP\.fit\(\) takes 3 positional"),
        (lambda: module.MLP([4, 2]).score(X), r"MLP\.score\(\) missing"),
        (lambda: module.NotebookMLP(sizes=3), r"NotebookMLP\.__init__\(\) got an unexpected"),
    ]:
        with pytest.raises(TypeError, match=f"^{name}"):
            call()
    assert pickle.loads(pickle.dumps(fastmlp.MLP.fit)) is fastmlp.MLP.fit


@pytest.mark.parametrize("module", [fastmlp, reference], ids=["fastmlp", "reference"])
def test_what_a_model_lacks_is_named_with_what_it_has_instead(module):
    model = module.MLP([4, 2], rng=0)
    for name, words in [
        ("__sklearn_tags__", "it is no scikit-learn estimator"),
        ("get_params", "it is no scikit-learn estimator"),
        ("predit", r"MLP has no 'predit'; dir\(model\) lists what it has"),
        ("W3", "expected one of the arrays W1, W1_grad, log_prob, h1_log, got 'W3'"),
    ]:
        assert not hasattr(model, name)
        with pytest.raises(AttributeError, match=words):
            getattr(model, name)
    assert repr(copy.copy(model)) == repr(copy.deepcopy(model)) == repr(model)
    twin, before = copy.deepcopy(model), model.flat_parameters.copy()
    for epochs in (1, 1):
        model.fit(X, Y, epochs=epochs, optimizer="sgd", shuffle=False)
    twin.fit(X, Y, epochs=2, optimizer="sgd", shuffle=False)
    assert (model.flat_parameters == twin.flat_parameters).all()
    assert (model.flat_parameters != before).any()


def test_one_output_is_no_classifier():
    with pytest.raises(
        ValueError, match=r"two or more classes.*got \[4, 3, 1\]; pass sizes=\[4, 3, 2\]"
    ):
        fastmlp.MLP([4, 3, 1])
