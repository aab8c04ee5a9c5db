"""NaN and inf: refused in x, an end of training where they arise, and never a hit."""

import re

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats, with_threads

import fastmlp
from fastmlp import reference
from fastmlp.checks import all_finite
from fastmlp.model.predictions import DONE
from fastmlp.plan.ways import STATES

SIZES = [12, 7, 3]
VALUES = [np.nan, np.inf, -np.inf]
MODULES = [fastmlp, reference]
METHODS = [
    *("predict", "predict_proba", "predict_log_proba", "decision_function", "score", "loss"),
]

each_module = pytest.mark.parametrize("module", MODULES, ids=["fastmlp", "reference"])


def data(samples=40, dtype=np.float32):
    return floats(1, (samples, SIZES[0]), dtype, -3, 1), np.arange(samples) * 7 % SIZES[-1]


def call(model, method, x, **how):
    more = [np.arange(len(x)) % SIZES[-1]] if method in ("score", "loss") else []
    return getattr(model, method)(x, *more, **how)


def mended(error, x, name="x"):
    """x as the error's own words mend it."""
    expression = re.search(r"as (np\.nan_to_num\(.*\)) does", str(error)).group(1)
    return eval(expression.replace(name, "x"), {"np": np, "x": x})


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", [0, 9_999, 10_000, 24_999])
def test_the_check_sees_every_place_and_calls_blas_for_few_elements_only(
    monkeypatch, place, value
):
    sizes, vdot = [], np.vdot
    monkeypatch.setattr(np, "vdot", lambda a, b: sizes.append(a.size) or vdot(a, b))
    for finite in (1.0, 1e200):  # whose square overflows
        x = np.full((5, 5_000), finite)
        assert all_finite(x)
        x.reshape(-1)[place] = value
        assert not all_finite(x)
    assert max(sizes) <= 10_000  # OpenBLAS uses no threads for so many, which would go on spinning


@pytest.mark.parametrize("arithmetic", ["portable", "numpy"])
@pytest.mark.parametrize("value", VALUES)
@each_module
def test_fit_names_the_first_place_and_changes_nothing(module, value, arithmetic):
    x, y = data()
    x[5, 3], x[9, 2] = value, np.nan
    model, generator = module.MLP(SIZES, rng=0), np.random.PCG64(3)
    before, state = model.flat_parameters.copy(), generator.state
    how = {"rng": generator, "callback": lambda _: pytest.fail("an epoch has ended")}
    message = rf"^x\[5, 3\]: expected finite numbers, got {value}; replace it, as "
    with fastmlp.arithmetic(arithmetic), np.errstate(all="ignore"):
        with pytest.raises(ValueError, match=message) as refused:
            model.fit(x, y, **how)
        assert_same_bits(model.flat_parameters, before)
        assert generator.state == state
        model.fit(mended(refused.value, x), y, epochs=1)
        assert len(model.fit(x, y, epochs=2, check_finite=False).loss) == 2


@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("sizes", [SIZES, [12, 3], [12, 5, 4, 3]])
@each_module
def test_fit_sees_every_cell(module, sizes, value, optimizer):
    # Units that no sample reaches give gradients of zero, and rates of 0 give steps of zero.
    for row, column, rate, dead in [(0, 0, 0.0, 0), (39, 11, 1e-3, 1), (17, 5, 1e-30, 1)]:
        x, y = data()
        x[row, column] = value
        model = module.MLP(sizes, rng=0)
        model.W1[-1] -= np.float32(1e3 * dead)
        how = {"optimizer": optimizer, "learning_rate": rate, "momentum": 0.0, "batch_size": 16}
        with pytest.raises(ValueError, match=rf"^x\[{row}, {column}\]: expected finite numbers"):
            model.fit(x, y, epochs=1, **how)


@pytest.mark.parametrize("samples", [64, 9000])
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_fit_sees_it_beside_zeros_and_in_large_batches(share, samples, threads):
    x = np.where(np.random.default_rng(0).random((samples, 530)) < share, 1, 0).astype("f4")
    x[samples // 2, 529] = np.inf
    model = fastmlp.MLP([530, 50, 4], rng=0)
    with pytest.raises(ValueError, match=rf"^x\[{samples // 2}, 529\]: expected finite"):
        model.fit(x, np.arange(samples) % 4, epochs=1, batch_size=samples)


@each_module
def test_the_notebooks_model_sees_it(module):
    x = np.ones((3, 28, 28))
    x[1, 2, 3] = np.nan
    for refused in (module.NotebookMLP(rng=0).fit, module.NotebookMLP(rng=0).score):
        with pytest.raises(ValueError, match=r"^x\[1, 2, 3\]: expected finite numbers, got nan"):
            refused(x, [0, 1, 2])


@each_module
def test_validation_is_named(module):
    x, y = data()
    wrong = x.copy()
    wrong[2, 1] = np.inf
    model = module.MLP(SIZES, rng=0)
    before = model.flat_parameters.copy()
    with pytest.raises(ValueError, match=r"^validation\[0\]\[2, 1\]: expected finite") as refused:
        model.fit(x, y, validation=(wrong, y))
    assert_same_bits(model.flat_parameters, before)
    good = mended(refused.value, wrong, "validation[0]")
    assert np.isfinite(model.fit(x, y, epochs=1, validation=(good, y)).validation_loss[0])
    model.fit(x, y, epochs=1, validation=(wrong, y), check_finite=False)


@pytest.mark.parametrize("arithmetic", ["portable", "numpy"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
@each_module
def test_samples_that_are_not_finite_are_refused(module, dtype, method, arithmetic):
    model = module.MLP(SIZES, dtype=dtype, rng=0)
    with fastmlp.arithmetic(arithmetic), np.errstate(all="ignore"):
        for value in VALUES:
            for place in ((0, 0), (24, 11), (11, 6)):
                x = data(25, dtype)[0]
                x[place] = value
                swapped = x.astype(x.dtype.newbyteorder())
                odd = [x, np.asfortranarray(x), x.reshape(25, 3, 4), swapped]
                for given in [*odd, *([x.tolist()] if dtype == np.float64 else [])]:
                    cell = np.unravel_index(np.ravel_multi_index(place, x.shape), np.shape(given))
                    words = re.escape(f"x[{', '.join(map(str, cell))}]: expected finite numbers, ")
                    with pytest.raises(ValueError, match=f"^{words}got {value}; ") as refused:
                        call(model, method, given)
                    call(model, method, mended(refused.value, given))
                    call(model, method, given, check_finite=False)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_predict_sees_every_cell(dtype, num_threads):
    model = fastmlp.MLP([37, 3], dtype=dtype, rng=0)
    with with_threads(num_threads):
        for samples in (1, 2, 190, 600):
            x = floats(2, (samples, 37), dtype)
            model.predict(x)
            for place in range(0, x.size, 1 + x.size // 150):
                wrong = x.copy()
                wrong.reshape(-1)[place] = VALUES[place % 3]
                with pytest.raises(ValueError, match=rf"^x\[{place // 37}, {place % 37}\]: "):
                    model.predict(wrong)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
@each_module
def test_the_largest_numbers_are_finite(module, dtype, method):
    x = np.zeros((4, 12), dtype)
    x[1], x[2] = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    model = module.MLP(SIZES, dtype=dtype, rng=0)
    model.W1 *= 0
    call(model, method, x)


@each_module
def test_without_the_check_predictions_are_those_of_the_arithmetic(module):
    x, _ = data()
    x[3, 2], x[5, 1] = np.nan, np.inf
    model = module.MLP(SIZES, rng=0)
    log_prob = model.forward(x)
    assert_same_bits(model.predict_log_proba(x, check_finite=False), log_prob)
    assert_same_bits(model.predict(x, check_finite=False), np.argmax(log_prob, axis=1))
    assert np.isfinite(model.predict_proba(x, check_finite=False)[3]).all()  # relu(NaN) is +0


def test_predict_writes_no_more_than_there_is_room_for():
    # Another thread can have given x another shape since its length was read.
    model, x = fastmlp.MLP([4, 2], rng=0), np.ones((6, 4), np.float32)
    for method, good in (
        ("predict", np.full(8, 9)),
        ("predict_proba", np.full((8, 2), 9, np.float32)),
        ("decision_function", np.full((8, 2), 9, np.float32)),
    ):
        getattr(model, method)(x)
        it = model._predictors[method]
        for rows in (0, 3, 5):
            assert it.fill(x, good[:rows]) == 0
        assert (good == 9).all()
        assert it.fill(x, good[:6]) == DONE
        assert (good[6:] == 9).all()


# Training that diverges.


@pytest.mark.parametrize("arithmetic", ["portable", "numpy"])
@each_module
def test_divergence_ends_with_the_last_finite_epoch(module, arithmetic):
    x, y = data()
    rates = np.repeat([0.1, 0.1, 1e30, 0.1], 4)
    how = {"batch_size": 10, "optimizer": "sgd", "rng": 3, "validation": (x, y)}
    model, twin = (module.MLP(SIZES, rng=0) for _ in range(2))
    with fastmlp.arithmetic(arithmetic), np.errstate(all="ignore"):
        expected = twin.fit(x, y, epochs=2, learning_rate=0.1, **how)
        with pytest.raises(FloatingPointError) as diverged:
            model.fit(x, y, epochs=4, learning_rate=rates, **how)
    history = diverged.value.history
    assert history.best_epoch is None
    assert [len(values) for values in list(vars(history).values())[:5]] == [2] * 5
    assert history.loss == expected.loss
    assert history.validation_accuracy == expected.validation_accuracy
    assert_same_bits(model.flat_parameters, twin.flat_parameters)
    words = (
        r"^fit: expected finite losses and weights, got a loss of (nan|inf) in epoch 3 of 4, in "
        r"step [23] of 4, at a learning_rate of 1e\+30; lower it or scale x, or pass "
        r"check_finite=False to train on; the model is as epoch 2 left it$"
    )
    assert re.search(words, str(diverged.value))


@each_module
def test_divergence_in_the_first_epoch_leaves_the_model_as_it_was(module):
    x, y = data()
    model = module.MLP(SIZES, rng=0)
    before = model.flat_parameters.copy()
    how = {"optimizer": "sgd", "batch_size": 8, "rng": 0}
    with pytest.raises(FloatingPointError, match=r"in epoch 1 of 9.* is as it was$") as end:
        model.fit(x, y, learning_rate=1e20, epochs=9, **how)
    assert end.value.history.loss == []
    assert_same_bits(model.flat_parameters, before)
    history = model.fit(x, y, learning_rate=1e20, epochs=9, check_finite=False, **how)
    assert len(history.loss) == 9
    assert not np.isfinite(history.loss[-1])
    assert history.accuracy[-1] == model.score(x, y) == 0


@each_module
def test_a_loss_beyond_float32_ends_it_though_all_weights_are_finite(module):
    x, _ = data()
    model = module.MLP(SIZES, rng=0)
    model.W2[-1] = 0, 3e38, -3e38  # log_prob[2] is -inf
    before = model.flat_parameters.copy()
    words = r"got a loss of inf in epoch 1 of 5, in step 1 of 2, .*; scale x or make the model anew"
    with pytest.raises(FloatingPointError, match=words):
        model.fit(x, np.full(40, 2), epochs=5, batch_size=20)
    assert_same_bits(model.flat_parameters, before)


@each_module
def test_weights_that_overflow_in_the_last_step_end_it(module):
    x, y = data()
    model = module.MLP(SIZES, rng=0)
    before = model.flat_parameters.copy()
    how = {"optimizer": "sgd", "batch_size": 20, "learning_rate": [0.1, 1e39], "epochs": 1}
    with pytest.raises(FloatingPointError, match=r"got a weight of -?(inf|nan) .*in step 2 of 2"):
        model.fit(x, y, **how)
    assert_same_bits(model.flat_parameters, before)


@each_module
def test_weights_that_were_not_finite_are_named_as_the_cause(module):
    x, y = data()
    model = module.MLP(SIZES, rng=0)
    model.W1[0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="; make the model anew, as its weights weren't"):
        model.fit(x, y)


# What is no number is no hit.


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("arithmetic", ["portable", "numpy"])
@each_module
def test_logits_that_are_not_finite_are_no_hits(module, arithmetic, value):
    x, _ = data()
    y = np.full(40, 1)
    model = module.MLP(SIZES, rng=0)
    model.W2[-1] = value if value == -np.inf else (0, value, 0)
    with fastmlp.arithmetic(arithmetic), np.errstate(all="ignore"):
        assert_same_bits(model.predict(x), np.full(40, 0 if value == -np.inf else 1))
        assert model.score(x, y) == 0
        assert np.isnan(model.loss(x, y))
        history = model.fit(x, y, epochs=1, validation=(x, y), check_finite=False)
        assert history.accuracy == history.validation_accuracy == [0]


@each_module
def test_rows_that_are_finite_are_hits_beside_others(module):
    x, _ = data(600)
    model = module.MLP([12, 3], rng=0)
    expected = model.predict(x)
    x[::3, 0] = np.nan
    with with_threads(2):
        classes = model.predict(x, check_finite=False)
        assert model.score(x, classes, check_finite=False) == 400 / 600
    assert_same_bits(classes, np.where(np.arange(600) % 3 == 0, 0, expected))


@pytest.mark.parametrize("arithmetic", ["portable", "numpy"])
@each_module
def test_a_nan_is_no_hit_of_compute_accuracy(module, arithmetic):
    log_prob = np.array([[np.nan, -1, -2], [-1, -2, np.nan], [np.nan] * 3, [-1, -2, -3]])
    one_hot = fastmlp.one_hot([0, 0, 0, 0], 3)
    with fastmlp.arithmetic(arithmetic):
        for labels in (np.zeros(4, int), one_hot, one_hot.astype("f4")):
            assert module.compute_accuracy(log_prob, labels) == 0.25
        no_label = np.where(one_hot == 1, np.nan, one_hot)
        assert module.compute_accuracy(np.zeros((4, 3)), no_label) == 0
