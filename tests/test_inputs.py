"""Every argument of every public operation with every odd kind of input: what each must do.

The rest of what operations promise about their inputs is tested beside each operation.
"""

import numpy as np
import pytest
from helpers import assert_same_bits
from numpy.lib.stride_tricks import as_strided
from odd_inputs import KINDS, small_numbers

import fastmlp
from fastmlp import reference


def _run_matmul(module, x, W, grad_y):
    operation = module.Matmul()
    return [operation.forward(x, W), *operation.backward(grad_y)]


def _run_matmul_relu(module, x, W, b, grad_y):
    operation = module.MatmulRelu()
    return [operation.forward(x, W, b), *operation.backward(grad_y)]


def _into(name):
    def run(module, out):
        return [getattr(module, name)().forward(small_numbers(5, 3), small_numbers(3, 4), out=out)]

    return run


def _operation(name):
    def run(module, x, grad_y):
        operation = getattr(module, name)()
        return [operation.forward(x), operation.backward(grad_y)]

    return run


def _run_mlp(module, x, label, W1):
    model = module.MLP([3, 4], rng=0)
    model.W1 = W1
    log_prob = model.forward(x)
    model.backward(label)
    return [log_prob, model.flat_gradients]


def _run_fit(module, x, y, learning_rate=0.5):
    model = module.MLP([3, 4], rng=0)
    before = model.flat_parameters.copy()
    try:
        history = model.fit(x, y, epochs=1, batch_size=2, learning_rate=learning_rate, rng=1)
    except Exception:
        assert_same_bits(model.flat_parameters, before)
        raise
    return [model.flat_parameters, history.loss, history.accuracy]


def _run_validation(module, x, y):
    history = module.MLP([3, 4], rng=0).fit(MATRIX, CLASSES, epochs=1, rng=1, validation=(x, y))
    return [history.validation_loss, history.validation_accuracy]


def _run_training(module, x, y):
    model = module.MLP([3, 4], rng=0)
    return [*module.train_one_step(model, x, y), *module.test(model, x, y), model.flat_parameters]


def _run_adam(module, params, grads, m, v):
    module.adam([params], [grads], [m], [v], 1, 0.5)
    return [params, m, v]


def _run_sgd(module, params, grads):
    module.sgd([params], [grads], 0.5)
    return [params]


def _run_momentum(module, params, grads, velocities):
    module.momentum([params], [grads], [velocities], 0.5, 0.5)
    return [params, velocities]


def _run_gradient_check(module, inputs):
    return [np.array([row.passed for row in module.gradient_check(module.Log(), [inputs])])]


MATRIX, CLASSES = small_numbers(5, 3), np.arange(5) % 3
ONE_HOT = np.eye(4, dtype=np.float32)[np.arange(5) % 4]
# Each operation with good arguments: the columns of the table, in this order.
OPERATIONS = {
    "Matmul": (_run_matmul, {"x": MATRIX, "W": small_numbers(3, 4), "grad_y": small_numbers(5, 4)}),
    "MatmulRelu": (
        _run_matmul_relu,
        {
            "x": MATRIX,
            "W": small_numbers(3, 4),
            "b": small_numbers(4),
            "grad_y": small_numbers(5, 4),
        },
    ),
    "into Matmul": (_into("Matmul"), {"out": small_numbers(5, 4)}),
    "into MatmulRelu": (_into("MatmulRelu"), {"out": small_numbers(5, 4)}),
    "Relu": (_operation("Relu"), {"x": MATRIX, "grad_y": MATRIX}),
    "Log": (_operation("Log"), {"x": MATRIX, "grad_y": MATRIX}),
    "Tanh": (_operation("Tanh"), {"x": MATRIX, "grad_y": MATRIX}),
    "Softmax": (_operation("Softmax"), {"x": MATRIX, "grad_y": MATRIX}),
    "LogSoftmax": (_operation("LogSoftmax"), {"x": MATRIX, "grad_y": MATRIX}),
    "MLP": (_run_mlp, {"x": MATRIX, "label": ONE_HOT, "W1": small_numbers(4, 4)}),
    "predict": (lambda module, x: [module.MLP([3, 4], rng=0).predict(x)], {"x": MATRIX}),
    "probabilities": (
        lambda module, x: [
            module.MLP([3, 4], rng=0).predict_proba(x),
            module.MLP([3, 4], rng=0).predict_log_proba(x),
            module.MLP([3, 4], rng=0).decision_function(x),
        ],
        {"x": MATRIX},
    ),
    "score": (
        lambda module, x, y: [
            module.MLP([3, 4], rng=0).score(x, y),
            module.MLP([3, 4], rng=0).loss(x, y),
        ],
        {"x": MATRIX, "y": CLASSES},
    ),
    "fit": (_run_fit, {"x": MATRIX, "y": CLASSES, "learning_rate": np.float32([0.5, 0.25, 0.0])}),
    "fit one-hot": (_run_fit, {"x": MATRIX, "y": ONE_HOT}),
    "validation": (_run_validation, {"x": MATRIX, "y": CLASSES}),
    "training": (_run_training, {"x": MATRIX, "y": ONE_HOT}),
    "compute_loss": (
        lambda module, log_prob, labels: [module.compute_loss(log_prob, labels)],
        {"log_prob": -MATRIX, "labels": MATRIX},
    ),
    "compute_accuracy": (
        lambda module, log_prob, labels: [module.compute_accuracy(log_prob, labels)],
        {"log_prob": -MATRIX, "labels": MATRIX},
    ),
    "of integers": (
        lambda module, labels: [module.compute_accuracy(-MATRIX, labels)],
        {"labels": CLASSES},
    ),
    "one_hot": (lambda module, labels: [module.one_hot(labels)], {"labels": CLASSES}),
    "sgd": (_run_sgd, {"params": small_numbers(3, 4), "grads": small_numbers(3, 4)}),
    "momentum": (
        _run_momentum,
        {
            "params": small_numbers(3, 4),
            "grads": small_numbers(3, 4),
            "velocities": small_numbers(3, 4),
        },
    ),
    "adam": (
        _run_adam,
        {
            "params": small_numbers(3, 4),
            "grads": small_numbers(3, 4),
            "m": small_numbers(3, 4),
            "v": small_numbers(3, 4),
        },
    ),
    "gradient_check": (_run_gradient_check, {"inputs": small_numbers(3, 4) + 1}),
}

# What must happen, a group of letters for each of OPERATIONS, in it a letter for each argument:
# w  works, with the bits of a plain copy
# T  TypeError, V  ValueError: expected, got and the mend, and no argument is changed
# R  RuntimeError, the object's own
# -  the argument isn't given, or is nothing to ask for
TABLE = """
int64               www wwww T T Tw Tw Tw Tw Tw TwT T T Tw Tww Tw Tw Tw ww ww w w TT TTT TTTT w
int8                www wwww T T Tw Tw Tw Tw Tw www w w ww www ww ww ww ww ww w w TT TTT TTTT w
bool                www wwww T T Tw Tw Tw Tw Tw www w w wT wTT ww wT ww ww ww V T TT TTT TTTT T
float16             www wwww T T Tw Tw Tw Tw Tw www w w wT wTw ww wT ww ww ww V T TT TTT TTTT w
float64             www wwww T T ww ww ww ww ww TwT T T TT TTw Tw TT Tw ww ww V T wT TTT TTTT w
longdouble          TTT TTTT T T TT TT TT TT TT TwT T T TT TTw Tw TT TT TT TT T T TT TTT TTTT w
bfloat16-like       TTT TTTT T T TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
complex             TTT TTTT T T TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
objects             TTT TTTT T T TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
text                TTT TTTT T T TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
dates               TTT TTTT T T TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
records             TTT TTTT T T TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
None                TTT TT-T - - TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
a dict              TTT TTTT T T TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
sparse              TTT TTTT T T TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
a list              www wwww T T ww ww ww ww ww TwT T T Tw Tww Tw Tw Tw ww ww w w TT TTT TTTT w
a ragged list       VVV VVVV T T VV VV VV VV VV VVV V V VV VVV VV VV VV VV VV V V TT TTT TTTT V
masked              TTT TTTT T T TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
a frame             www wwww T T ww ww ww ww ww www w w ww www ww ww ww ww ww w w TT TTT TTTT w
an old frame        www wwww T T ww ww ww ww ww www w w ww www ww ww ww ww ww w w TT TTT TTTT w
a frame of objects  TTT TTTT T T TT TT TT TT TT TTT T T TT TTT TT TT TT TT TT T T TT TTT TTTT T
a tensor elsewhere  RRR RRRR T T RR RR RR RR RR RRR R R RR RRR RR RR RR RR RR R R TT TTT TTTT R
byte-swapped        www wwww T T ww ww ww ww ww www w w ww www ww ww ww ww ww w w TT TTT TTTT w
read-only           www wwww V V ww ww ww ww ww www w w ww www ww ww ww ww ww w w Vw VwV VwVV w
far apart           www wwww w w ww ww ww ww ww www w w ww www ww ww ww ww ww w w ww www wwww w
field of records    www wwww w w ww ww ww ww ww www w w ww www ww ww ww ww ww w w ww www wwww w
reversed            www wwww w w ww ww ww ww ww www w w ww www ww ww ww ww ww w w ww www wwww w
broadcast           www wwww V V ww ww ww ww ww www w w ww www ww ww ww ww ww w w Vw VwV VwVV w
windows             www wwww V V ww ww ww ww ww www w w ww www wV ww ww ww ww w w Vw VwV VwVV w
NaN                 www wwww w w ww ww ww ww ww www V V VT VTw VV VT ww ww ww V T ww www wwww w
inf                 www wwww w w ww ww ww ww ww www V V VT VTw VV VT ww ww ww V T ww www wwww -
beyond 9            www wwww w w ww ww ww ww ww www w w wV wVw wV wV ww ww ww V V ww www wwww w
negative            www wwww w w ww ww ww ww ww www w w wV wVV wV wV ww ww ww V V ww www wwww w
a number            VVV VVVV T T VV VV VV VV VV TVV T T TT TTw TT TT TV VV VV V T TT TTT TTTT w
an axis less        VVV VVVV V V VV VV VV VV VV VVV V V VV VVw VT VV VV VV VV V V VV VVV VVVV w
an axis more        VVV VVVV V V VV VV VV VV VV VVV V V VV VVV VT VV VV VV VV V V VV VVV VVVV w
a row more          VVV VVVV V V VV VV VV VV VV VVV w w VV VVV VV VV VV VV VV V w VV VVV VVVV w
a column more       VVV VVVV V V VV VV VV VV VV VVV V V VV VVV VV VV VV VV VV V w VV VVV VVVV w
no rows             VVV VVVV V V VV VV VV VV VV VVV w w VV VVV VV VV VV VV VV V w VV VVV VVVV w
no columns          VVV VVVV V V VV VV VV VV VV VVV V V VV VVV VV VV VV VV VV V w VV VVV VVVV w
"""
if np.dtype(np.longdouble) == np.float64:  # as on Windows and on Apple's ARM
    del KINDS["longdouble"]
ERRORS = {TypeError: "T", ValueError: "V", RuntimeError: "R"}
CELLS = [
    (line[:19].strip(), operation, argument, expectation)
    for line in TABLE.strip().splitlines()
    for (operation, argument), expectation in zip(
        ((name, argument) for name, (_, good) in OPERATIONS.items() for argument in good),
        line[19:].replace(" ", ""),
        strict=True,
    )
]


@pytest.mark.parametrize("module", [fastmlp, reference], ids=["fastmlp", "reference"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_cell_of_the_table(kind, module):
    cells = [cell for cell in CELLS if cell[0] == kind]
    assert cells
    for _, name, argument, expectation in cells:
        if expectation != "-":
            assert _outcome(module, kind, name, argument) == expectation, (name, argument)


def _outcome(module, kind, name, argument):
    run, good = OPERATIONS[name]
    odd = KINDS[kind](good[argument])
    given = {key: value.copy() for key, value in good.items()} | {argument: odd}
    before = {key: _values(value) for key, value in given.items()}
    try:
        results = run(module, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        refusal = error
    else:
        plain = np.array(before[argument], before[argument].dtype.newbyteorder("="))
        same = run(module, **{key: value.copy() for key, value in good.items()} | {argument: plain})
        for result, expected in zip(results, same, strict=True):
            native = np.asarray(result).dtype.newbyteorder("=")
            assert_same_bits(np.asarray(result, native), expected)
        return "w"
    letter = ERRORS[type(refusal)]
    if letter != "R":
        for word in ("expected", "got", "; "):
            assert word in str(refusal)
    for key, value in given.items():
        np.testing.assert_array_equal(_values(value), before[key])
    return letter


def _values(value):
    """A copy that shows what was written, of what NumPy can read."""
    try:
        return np.asarray(value).copy()
    except (RuntimeError, ValueError):
        return np.zeros(0)


@pytest.mark.parametrize("stride", [2**62, -(2**62), 2**62 + 1])
def test_the_stride_of_a_lone_row_means_nothing(stride):
    x = as_strided(small_numbers(3), (1, 3), (stride, 4))
    W = as_strided(small_numbers(4), (1, 4), (stride, 4))
    out = as_strided(np.zeros(4, np.float32), (1, 4), (stride, 4))
    expected = fastmlp.Matmul().forward(x.copy(), small_numbers(3, 4))
    operation = fastmlp.Matmul()
    assert operation.forward(x, small_numbers(3, 4), out=out) is out
    assert_same_bits(out, expected)
    assert_same_bits(operation.backward(out)[1], fastmlp.Matmul().forward(x.T.copy(), out.copy()))
    assert_same_bits(fastmlp.Matmul().forward(x.T, W), fastmlp.Matmul().forward(x.T.copy(), +W))
    assert_same_bits(fastmlp.MLP([3, 4], rng=0).predict(x), fastmlp.MLP([3, 4], rng=0).predict(+x))


@pytest.mark.parametrize("module", [fastmlp, reference])
@pytest.mark.parametrize(
    ("shape", "strides", "overlaps"),
    [
        ((5, 4), (4, 4), True),  # windows
        ((5, 4), (12, 4), True),  # rows that begin in the one before
        ((5, 4), (-12, 4), True),
        ((5, 4), (16, 2), True),  # elements that begin in the one before
        ((5, 4), (4, 20), False),
        ((5, 4), (-16, 4), False),
        ((5, 4), (400, -8), False),
    ],
)
def test_an_out_whose_elements_overlap_is_refused(module, shape, strides, overlaps):
    memory = np.zeros(1000, np.float32)
    out = np.ndarray(shape, np.float32, memory, 2000, strides)
    for operation in (module.Matmul(), module.MatmulRelu()):
        if overlaps:
            with pytest.raises(ValueError, match="out: expected one place in memory for each"):
                operation.forward(small_numbers(5, 3), small_numbers(3, 4), out=out)
            assert not memory.any()
        else:
            operation.forward(small_numbers(5, 3), small_numbers(3, 4), out=out)
            assert_same_bits(out, operation.forward(small_numbers(5, 3), small_numbers(3, 4)))


@pytest.mark.parametrize(
    ("labels", "options", "kind", "message"),
    [
        (
            [3],
            {"classes": 3},
            ValueError,
            r"labels\[0\]: expected 0 to 2, got 3; pass classes=4$",
        ),
        ([-1], {}, ValueError, r"labels\[0\]: expected 0 to 9, got -1; give it"),
        (np.array([2**64 - 1], np.uint64), {}, ValueError, "got 18446744073709551615; "),
        (np.array([300], np.int16), {}, ValueError, "expected 0 to 9, got 300"),
        (np.zeros(0, int), {"classes": -1}, ValueError, "classes: expected 1 or more, got -1"),
        ([1], {"classes": 10.0}, TypeError, "classes: expected an integer, got float"),
        ([1], {"dtype": object}, TypeError, "dtype: expected a dtype of real numbers, got object"),
        ([1], {"dtype": "M8[s]"}, TypeError, "dtype: expected a dtype of real numbers"),
    ],
)
def test_one_hot_refuses_what_names_no_class(labels, options, kind, message):
    with pytest.raises(kind, match=message):
        fastmlp.one_hot(labels, **options)
