"""Predictions of every kind: one compiled call each, the reference's bits, and `out`."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastmlp_kernels.plans import record
from helpers import DTYPES, assert_same_bits, floats, layouts, specials, with_threads

import fastmlp
from fastmlp import reference
from fastmlp.model import mlp
from fastmlp.model.losses import LOSSES, REGRESSIONS

METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function"]
MODULES = [fastmlp, reference]
each_module = pytest.mark.parametrize("module", MODULES, ids=["fastmlp", "reference"])
each_loss = pytest.mark.parametrize("loss", LOSSES)


def methods_of(loss):
    return [name for name in METHODS if "proba" not in name or loss not in REGRESSIONS]


def models(outputs, loss, dtype=np.float32, inputs=6):
    """A model of either module, with the same weights; some outputs are special."""
    sizes = [inputs, 3, outputs]
    made = [module.MLP(sizes, dtype=dtype, rng=2, loss=loss) for module in MODULES]
    weights = made[1].W2
    weights[-1] = np.resize(specials(dtype), outputs)
    weights[-1, 1:] = np.where(np.arange(1, outputs) % 5, 0.5, weights[-1, 1:])
    weights[-1, 0] = 700 if dtype == np.float64 else 87
    made[0].W2 = weights
    return made


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@each_loss
def test_each_prediction_has_the_references_bits(loss, dtype, num_threads):
    """Around the rows of a block, of wide tiles, of packed weights, and of vectors of outputs."""
    for outputs in (1, 2, 10, 16, 17, 133):
        if outputs == 1 and loss == "cross_entropy":
            continue
        model, twin = models(outputs, loss, dtype)
        for samples in (0, 1, 2, 3, 49, 200) if outputs in (1, 10) else (5,):
            x = floats(outputs, (samples, 6), dtype)
            x[samples // 2 : samples // 2 + 1, 2] = np.nan
            with with_threads(num_threads):
                for method in methods_of(loss):
                    got = getattr(model, method)(x, check_finite=False)
                    assert_same_bits(got, getattr(twin, method)(x, check_finite=False))
                    assert got.flags.c_contiguous


@each_module
def test_predictions_are_their_operations(module):
    x = floats(3, (9, 6), np.float32)
    model = module.MLP([6, 3, 4], rng=2)
    logits, operation = model.decision_function(x), module.LogSoftmax()
    assert_same_bits(model.predict_log_proba(x), operation.forward(logits))
    assert_same_bits(model.predict_proba(x), operation.mem["p"])
    assert_same_bits(model.predict(x), np.argmax(logits, axis=1))
    assert_same_bits(model.forward(x), operation.mem["out"])
    own, x = module.NotebookMLP(rng=1), floats(3, (4, 784), np.float64, -9, -6)
    p = module.Softmax().forward(own.decision_function(x))
    assert_same_bits(own.predict_proba(x), p)
    assert_same_bits(own.predict_log_proba(x), module.Log().forward(p))


@each_module
def test_shapes_and_dtypes_are_scikit_learns(module):
    x, words = floats(3, (9, 6), np.float32), ["int64", "float32"]
    for loss in LOSSES:
        for outputs in (1, 3):
            if outputs == 1 and loss == "cross_entropy":
                continue
            model, each = module.MLP([6, outputs], rng=2, loss=loss), (outputs,) * (outputs > 1)
            of_classes = loss not in REGRESSIONS
            shapes = {
                "predict": () if loss == "cross_entropy" else each,
                "predict_proba": (max(2, outputs),),
                "predict_log_proba": (max(2, outputs),),
                "decision_function": each,
            }
            for method in methods_of(loss):
                got = getattr(model, method)(x)
                assert got.shape == (9, *shapes[method])
                assert got.dtype == words[method != "predict" or not of_classes]


@each_loss
def test_a_prediction_is_one_compiled_call(loss, monkeypatch):
    """Nothing is composed, whatever the layout of x."""
    model, x = models(3, loss)[0], floats(3, (9, 6), np.float32)
    expected = {method: getattr(model, method)(x) for method in methods_of(loss)}
    monkeypatch.setattr(mlp, "affine", None)
    monkeypatch.setattr(type(model), "_logits", None)
    monkeypatch.setattr(type(model), "_run_head", None)
    calls = []
    for method, result in expected.items():
        it = model._predictors[method]
        counted = it._replace(run=lambda *a, run=it.run: calls.append(a) or run(*a))
        model._predictors[method] = counted
        for _, given in layouts(x):
            assert_same_bits(getattr(model, method)(given), result)
            assert calls.pop()
            assert not calls


@each_module
@each_loss
def test_out_is_written_and_returned(module, loss):
    model = models(3, loss)[MODULES.index(module)]
    for x in (floats(3, (9, 6), np.float32), floats(4, (300, 6), np.float32)[::33]):
        for method in methods_of(loss):
            call = getattr(model, method)
            expected = call(x)
            for name, out in layouts(np.zeros_like(expected)):
                if name != "read-only":
                    for check_finite in (True, False):
                        out[...] = 9
                        assert call(x, out=out, check_finite=check_finite) is out
                        assert_same_bits(out, expected)
    with fastmlp.arithmetic("numpy"):
        out = np.zeros_like(model.predict(x))
        assert model.predict(x, out=out) is out
        np.testing.assert_allclose(out, model.predict(x))


@each_module
@pytest.mark.parametrize("method", METHODS)
def test_an_out_that_does_not_fit_is_refused(module, method):
    model, x = module.MLP([6, 3, 4], rng=2), floats(3, (9, 6), np.float32)
    call = getattr(model, method)
    good = call(x)
    other = np.float32 if method == "predict" else np.float64
    read_only = np.zeros_like(good)
    read_only.flags.writeable = False
    overlapping = np.lib.stride_tricks.as_strided(good.copy(), good.shape, (0,) * good.ndim)
    cases = [
        (good.tolist(), TypeError, "a NumPy array, got list"),
        (np.zeros(good.shape, other), TypeError, f"{good.dtype}, got {np.dtype(other)}"),
        (np.zeros((8, *good.shape[1:]), good.dtype), ValueError, "shape "),
        (np.zeros((*good.shape, 1), good.dtype), ValueError, "shape "),
        (read_only, ValueError, "a writable array, got a read-only one"),
        (overlapping, ValueError, "one place in memory for each element"),
        (np.zeros(good.shape, good.dtype.newbyteorder()), TypeError, str(good.dtype)),
    ]
    if method != "predict":
        cases.append((x[:, :4], ValueError, "memory of its own, got an array that overlaps x"))
    before = x.copy()
    for out, error, words in cases:
        with pytest.raises(error, match=rf"^out: expected {re.escape(words)}") as refused:
            call(x, out=out)
        mend = re.search(r"pass out=(.*)$", str(refused.value)).group(1)
        mended = eval(mend, {"np": np})
        assert_same_bits(call(x, out=mended), good)
    assert_same_bits(x, before)


@each_module
@pytest.mark.parametrize("method", METHODS)
def test_a_refused_x_leaves_out_alone(module, method):
    model, x = module.MLP([6, 3, 4], rng=2), floats(3, (200, 6), np.float32)
    out = getattr(model, method)(x)
    x[150, 3], before = np.inf, out.copy()
    with pytest.raises(ValueError, match=r"^x\[150, 3\]: expected finite numbers, got inf; "):
        getattr(model, method)(x, out=out)
    with pytest.raises(ValueError, match=r"^x: expected \(samples, ...\) with 6 numbers"):
        getattr(model, method)(x[:, :5], out=out)
    assert_same_bits(out, before)


def test_calls_at_once_share_the_threads():
    model, x = fastmlp.MLP([6, 3, 4], rng=2), floats(3, (200, 6), np.float32)
    given, inside = [], threading.Barrier(3, timeout=60)
    with with_threads(2):  # the first parallel call of a process is the main thread's
        expected = model.predict_proba(x)
    it = model._predictors["predict_proba"]

    def run(*arguments):
        given.append(arguments[-2])
        if len(given) < 4:
            inside.wait()
        return it.run(*arguments)

    model._predictors["predict_proba"] = it._replace(run=run)
    with with_threads(2), ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: model.predict_proba(x), range(3)))
        results.append(model.predict_proba(x))
    assert given == [2, 1, 1, 2]
    for result in results:
        assert_same_bits(result, expected)


def test_no_two_operations_of_a_plan_have_one_name():
    names = [*record.ACTIVATIONS, *record.TARGET_LOSSES, *record.HEADS]
    assert len({*names}) == len(names)
    assert record.KERNELS + len(record.FIELDS) <= record.TILES
