"""The losses and the weights of samples: kernels, reference and the page's formulas agree."""

import pickle

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats, specials, with_threads

import fastmlp
from fastmlp import reference
from fastmlp.model.losses import LOSSES, REGRESSIONS
from fastmlp.reference.losses import Loss, gradient, sample_losses

TARGETS = LOSSES[1:]
MODULES = [fastmlp, reference]
each_loss = pytest.mark.parametrize("loss", TARGETS)
each_module = pytest.mark.parametrize("module", MODULES, ids=["fastmlp", "reference"])


def data(loss, samples, sizes, dtype=np.float32, seed=0):
    """x with zeros, y as the loss takes it, and weights, some of them 0."""
    x = floats(seed, (samples, sizes[0]), dtype, -3, 1)
    x[floats(seed + 1, x.shape, dtype) < -0.5] = 0
    shape = (samples, sizes[-1]) if sizes[-1] > 1 else (samples,)
    y = floats(seed + 2, shape, dtype, -3, 2)
    if loss == "poisson":
        y = np.floor(np.abs(y))
    if loss == "binary_cross_entropy":
        y = (y > 0).astype(dtype)
    if loss == "cross_entropy":
        y = np.arange(samples) * 7 % sizes[-1]
    weight = np.abs(floats(seed + 3, (samples,), np.float64))
    weight[::5] = 0
    return x, y, weight


def fitted(module, loss, sizes, x, y, *, delta=None, dtype=np.float32, **how):
    model = module.MLP(sizes, dtype=dtype, rng=1, loss=loss, delta=delta)
    how = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "rng": 2} | how
    history = model.fit(x, y, **how)
    return model, history


def assert_alike(ours, theirs):
    (mine, history), (other, other_history) = ours, theirs
    assert_same_bits(mine.flat_parameters, other.flat_parameters)
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        assert getattr(history, name) == getattr(other_history, name), name


# One output and several, around the lanes of a row sum; batches cut, whole, and of many leaves.
SHAPES = [([7, 9, 1], 75, 16), ([7, 9, 3], 75, 75), ([5, 17], 50, 16), ([3, 1], 1100, 1100)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@each_loss
def test_training_equals_the_reference(loss, dtype, shape, weighted):
    sizes, samples, batch_size = shape
    x, y, weight = data(loss, samples, sizes, dtype)
    how = {"batch_size": batch_size, "dtype": dtype, "validation": (x[:40], y[:40])}
    how |= {"sample_weight": weight} if weighted else {}
    how |= {"delta": 0.75} if loss == "huber" else {}
    expected = fitted(reference, loss, sizes, x, y, **how)
    for num_threads in (1, 2):
        with with_threads(num_threads):
            actual = fitted(fastmlp, loss, sizes, x, y, **how)
            assert_alike(actual, expected)
            assert_same_bits(actual[0].predict(x), expected[0].predict(x))
            scores = [
                (model.loss(x, y), model.loss(x, y, sample_weight=weight),
                 model.score(x, y), model.score(x, y, sample_weight=weight))
                for model, _ in (actual, expected)
            ]  # fmt: skip
            assert scores[0] == scores[1]
    assert len(expected[1].accuracy) == (0 if loss in REGRESSIONS else 2)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_weights_in_layers_that_pass_over_zeros(loss, optimizer, threads):
    sizes = [300, 60, 3]
    x, y, weight = data(loss, 150, sizes)
    x[floats(7, x.shape, np.float32) < 1] = 0
    weight[32:64] = 0  # a whole batch
    how = {"batch_size": 32, "optimizer": optimizer, "sample_weight": weight, "epochs": 1}
    how["shuffle"] = False
    assert_alike(*(fitted(module, loss, sizes, x, y, **how) for module in MODULES))


@pytest.mark.parametrize("loss", LOSSES)
def test_steps_equal_the_reference(loss):
    sizes = [6, 5, 2]
    x, y, _ = data(loss, 30, sizes)
    label = fastmlp.one_hot(y, 2, np.float32) if loss == "cross_entropy" else y
    models = [module.MLP(sizes, rng=1, loss=loss) for module in MODULES]
    for _ in range(2):
        results = [
            module.train_one_step(model, x, label, 1e-3)
            for module, model in zip(MODULES, models, strict=True)
        ]
        assert results[0] == results[1]
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)
    assert_same_bits(models[0].forward(x), models[1].forward(x))
    tested = [module.test(model, x, label) for module, model in zip(MODULES, models, strict=True)]
    assert tested[0] == tested[1]
    for module, model in zip(MODULES, models, strict=True):
        assert_same_bits(module.compute_loss(model.forward(x), label, loss=loss), tested[0][0])
    assert float(tested[0][0]) == models[0].loss(x, y)
    accuracy = None if loss in REGRESSIONS else models[0].score(x, y)
    assert tested[0][1] == accuracy


@pytest.mark.parametrize("dtype", DTYPES)
@each_loss
def test_special_values_in_an_epoch(loss, dtype):
    """The operation of a plan beside the formulas, for z that are what they like."""
    values = np.concatenate([specials(dtype), floats(3, (40,), dtype, -30, 7), [1000, -1000]])
    z = values.astype(dtype)[:, np.newaxis]
    y = (np.arange(len(z)) % 2).astype(dtype)[:, np.newaxis]
    models = [module.MLP([1, 1], bias=False, dtype=dtype, loss=loss) for module in MODULES]
    losses = []
    for model in models:
        model.flat_parameters[:] = 1  # z = x, but for NaN and inf
        how = {"shuffle": False, "check_finite": False, "batch_size": 1, "optimizer": "sgd"}
        history = model.fit(z, y, epochs=1, learning_rate=0.0, **how)
        losses.append((history, [model.loss(z[i : i + 1], y[i : i + 1], check_finite=False)
                                 for i in range(len(z))]))  # fmt: skip
        losses[-1][0].seconds.clear()
    assert_same_bits(losses[0][1], losses[1][1])
    assert losses[0][0].accuracy == losses[1][0].accuracy
    assert_same_bits(losses[0][0].loss, losses[1][0].loss)


def by_hand(loss, z, y, delta):
    """Losses and their derivatives in long double."""
    z, y = z.astype(np.longdouble), y.astype(np.longdouble)
    d = z - y
    if loss == "squared_error":
        return d**2, 2 * d
    if loss == "absolute_error":
        return abs(d), np.sign(d)
    if loss == "huber":
        small = abs(d) <= delta
        return np.where(small, d**2 / 2, delta * (abs(d) - delta / 2)), np.clip(d, -delta, delta)
    if loss == "poisson":
        return np.exp(z) - y * z, np.exp(z) - y
    return np.logaddexp(0, z) - z * y, 1 / (1 + np.exp(-z)) - y


@each_loss
def test_losses_are_their_formulas(loss):
    _, y, _ = data(loss, 200, [3, 4], np.float64)
    z = floats(9, y.shape, np.float64, -9, 5)
    z[:2] = [[-1000, 1000, 700, -745]] if loss == "binary_cross_entropy" else 0
    name, ones = Loss(loss, 0.75), np.full(200, 0.5)
    values, slopes = by_hand(loss, z, y, 0.75)
    np.testing.assert_allclose(
        sample_losses(name, z, y), values.mean(axis=1).astype(float), rtol=1e-13, atol=1e-15
    )
    expected = (0.5 * slopes / 4).astype(float)
    np.testing.assert_allclose(gradient(name, z, y, ones), expected, rtol=1e-11, atol=1e-15)


def test_the_sign_of_nothing_is_nothing():
    z = np.array([[0.0, -0.0, np.nan, 1.0]])
    slope = gradient(Loss("absolute_error"), z, np.zeros((1, 4)), np.array([4.0]))
    assert_same_bits(slope, np.array([[0.0, 0.0, np.nan, 1.0]]))


@pytest.mark.parametrize("loss", LOSSES)
@each_module
def test_weights_of_1_are_none_and_their_size_does_not_matter(module, loss):
    sizes = [7, 9, 2]
    x, y, weight = data(loss, 60, sizes)
    expected = fitted(module, loss, sizes, x, y)
    for same in (np.ones(60), np.full(60, 4.0), np.full(60, 2.0**-140)):
        assert_alike(fitted(module, loss, sizes, x, y, sample_weight=same), expected)
    expected = fitted(module, loss, sizes, x, y, sample_weight=weight)
    assert_alike(fitted(module, loss, sizes, x, y, sample_weight=weight * 2**20), expected)
    assert expected[1].loss != fitted(module, loss, sizes, x, y)[1].loss


@pytest.mark.parametrize("loss", LOSSES)
@each_module
def test_a_sample_of_weight_0_has_no_say(module, loss):
    sizes = [7, 9, 2]
    x, y, weight = data(loss, 60, sizes)
    other, left_out = y.copy(), weight == 0
    if loss in ("binary_cross_entropy", "cross_entropy"):
        other[left_out] = 1 - y[left_out]
    else:
        other[left_out] = np.finfo(np.float32).max  # its square is infinite
    (mine, history), (twin, others) = (
        fitted(module, loss, sizes, x, each, sample_weight=weight) for each in (y, other)
    )
    assert_same_bits(mine.flat_parameters, twin.flat_parameters)
    assert history.loss == others.loss
    assert np.isfinite(history.loss).all()
    # A batch that has no weight is a step of nothing.
    model = module.MLP(sizes, rng=1, loss=loss)
    before, weight = model.flat_parameters.copy(), np.ones(33)
    weight[:32] = 0
    how = {"batch_size": 32, "optimizer": "sgd", "shuffle": False, "epochs": 1}
    model.fit(x[:33], y[:33], sample_weight=weight, learning_rate=[0.1, 0.0], **how)
    assert_same_bits(model.flat_parameters, before)


def test_scales_are_the_pages():
    """A step with weights is backward's gradient of each sample, by its weight's share."""
    x, y, weight = data("squared_error", 8, [3, 1], np.float64)
    model, _ = fitted(
        fastmlp, "squared_error", [3, 1], x, y, dtype=np.float64, sample_weight=weight,
        epochs=1, batch_size=8, optimizer="sgd", shuffle=False, learning_rate=1.0,
    )  # fmt: skip
    start = fastmlp.MLP([3, 1], dtype=np.float64, rng=1, loss="squared_error")
    d = start.predict(x) - y
    share = weight / weight.sum()
    expected = start.W1 - np.concatenate([x, np.ones((8, 1))], axis=1).T @ (share * 2 * d)[:, None]
    np.testing.assert_allclose(model.W1, expected, rtol=1e-12)
    assert start.loss(x, y, sample_weight=weight) == pytest.approx((share * d**2).sum())


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@each_module
def test_class_weights(module, loss):
    sizes = [7, 9, 3 if loss == "cross_entropy" else 1]
    x, _, weight = data(loss, 60, sizes)
    y = np.minimum(np.arange(60) % 5, sizes[-1] - (loss == "cross_entropy"))
    y = np.minimum(y, 2 if loss == "cross_entropy" else 1)
    counts = np.bincount(y)
    balanced = 60 / (len(counts) * counts)
    expected = fitted(module, loss, sizes, x, y, sample_weight=weight * balanced[y])
    for same in ("balanced", balanced, balanced.tolist(), dict(enumerate(balanced))):
        how = {"sample_weight": weight, "class_weight": same}
        assert_alike(fitted(module, loss, sizes, x, y, **how), expected)
        model, of_samples = expected[0], weight * balanced[y]
        assert model.loss(x, y, **how) == model.loss(x, y, sample_weight=of_samples)
        assert model.score(x, y, **how) == model.score(x, y, sample_weight=of_samples)
    assert model.loss(x, y, class_weight="balanced") != model.loss(x, y)
    one = fitted(module, loss, sizes, x, y, class_weight={1: 2.5})
    assert_alike(fitted(module, loss, sizes, x, y, sample_weight=np.where(y == 1, 2.5, 1)), one)


def r2_by_hand(predicted, y, weight):
    scores = []
    for p, t in zip(predicted.T, y.T, strict=True):
        residual = np.sum(weight * (t - p) ** 2)
        total = np.sum(weight * (t - np.average(t, weights=weight)) ** 2)
        scores.append(1 - residual / total if total else float(residual == 0))
    return np.mean(scores)


@each_module
def test_scores(module):
    x, y, weight = data("squared_error", 60, [7, 3], np.float64)
    model = module.MLP([7, 3], dtype=np.float64, rng=1, loss="squared_error")
    predicted = model.predict(x)
    assert model.score(x, y) == pytest.approx(r2_by_hand(predicted, y, np.ones(60)))
    y[:, 1] = 2  # constant, and predicted otherwise; then just so
    expected = r2_by_hand(predicted, y, weight)
    assert model.score(x, y, sample_weight=weight) == pytest.approx(expected)
    model.flat_parameters[:] = 0
    assert module.MLP.score(model, x, np.zeros((60, 3))) == 1
    assert np.isnan(model.score(x[:1], y[:1]))
    classes = module.MLP([7, 3], rng=1)
    labels = np.arange(60) % 3
    right = classes.predict(x.astype("f4")) == labels
    assert classes.score(x.astype("f4"), labels, sample_weight=weight) == pytest.approx(
        weight[right].sum() / weight.sum()
    )


@each_module
def test_binary_predictions(module):
    x, y, _ = data("binary_cross_entropy", 60, [7, 1])
    model = module.MLP([7, 1], rng=1, loss="binary_cross_entropy")
    z, classes = model.forward(x), model.predict(x)
    assert_same_bits(classes, (z[:, 0] > 0).astype(np.int64))
    p = model.predict_proba(x)
    assert p.shape == (60, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.log(p), model.predict_log_proba(x), rtol=1e-5)
    assert model.score(x, y) == np.mean(classes == y)
    model.flat_parameters[:] = 1000
    assert np.isfinite(model.predict_log_proba(x)).all()
    assert np.isfinite(model.loss(x, y))
    many = module.MLP([7, 3], rng=1, loss="binary_cross_entropy")
    y = (floats(1, (60, 3), np.float32) > 0).astype(np.int64)
    assert many.predict_proba(x).shape == many.predict(x).shape == (60, 3)
    assert many.score(x, y) == np.mean((many.predict(x) == y).all(axis=1))
    x[0] = np.nan
    assert many.score(x, many.predict(x, check_finite=False), check_finite=False) == 59 / 60


@each_loss
def test_numpys_arithmetic_is_near(loss):
    sizes = [7, 9, 2]
    x, y, weight = data(loss, 60, sizes, np.float64)
    how = {"dtype": np.float64, "sample_weight": weight, "optimizer": "momentum"}
    expected, _ = fitted(fastmlp, loss, sizes, x, y, **how)
    with fastmlp.arithmetic("numpy"):
        model, _ = fitted(fastmlp, loss, sizes, x, y, **how)
        np.testing.assert_allclose(model.flat_parameters, expected.flat_parameters, rtol=1e-7)
        assert model.loss(x, y) == pytest.approx(expected.loss(x, y), rel=1e-8)
        np.testing.assert_allclose(model.predict(x), expected.predict(x), rtol=1e-6)


def test_a_delta_that_is_infinite_in_float32_is_the_square():
    x, y = floats(1, (5, 2), np.float32), floats(2, (5,), np.float32)
    trained = []
    for module in (fastmlp, reference):
        model = module.MLP([2, 1], rng=0, loss="huber", delta=1e300)
        history = model.fit(x, y, epochs=1, rng=0)
        trained.append(np.append(model.flat_parameters, np.float32([*history.loss])))
        trained.append(np.float32([model.loss(x, y)]))
    assert_same_bits(trained[0], trained[2])
    assert_same_bits(trained[1], trained[3])


def test_numpys_arithmetic_has_no_warning_for_sure_classes():
    model = fastmlp.MLP([1, 2], rng=0, loss="binary_cross_entropy")
    x, y = np.array([[1000], [-1000]], np.float32), np.array([[0, 1], [1, 0]])
    with fastmlp.arithmetic("numpy"):
        model.flat_parameters[:] = 1, -1, 0, 0
        assert model.predict_proba(x).tolist() == [[1, 0], [0, 1]]
        model.fit(x, y, epochs=1)


@each_module
def test_targets_that_are_not_finite_have_a_mend_everywhere(module):
    """backward and test have no check_finite."""
    model, x = module.MLP([2, 1], rng=0, loss="squared_error"), np.ones((2, 2), np.float32)
    y = np.array([1, np.nan], np.float32)
    model.forward(x)
    for call in (
        model.backward,
        lambda y: module.test(model, x, y),
        lambda y: module.train_one_step(model, x, y),
        lambda y: model.fit(x, y),
    ):
        with pytest.raises(ValueError, match=r"\[1\]: .* got nan; leave that sample out$"):
            call(y)


@each_module
def test_a_regression_learns_and_pickles(module, capsys):
    x = floats(5, (64, 3), np.float64, -3, 1)
    y = np.abs(x[:, 0]) - x[:, 1]
    model = module.MLP([3, 8, 1], dtype=np.float64, rng=0, loss="huber", delta=2)
    history = model.fit(x, y, epochs=60, batch_size=32, learning_rate=0.03, rng=0, progress=True)
    assert model.score(x, y) > 0.9
    assert history.loss[-1] < history.loss[0] / 4
    assert "accuracy" not in capsys.readouterr().err
    assert repr(model).endswith("dtype=float64, loss='huber', delta=2.0)")
    twin = pickle.loads(pickle.dumps(model))
    assert (twin.loss_name, twin.delta) == ("huber", 2.0)
    assert_same_bits(twin.predict(x), model.predict(x))
    state = module.MLP([3, 2], rng=0).__getstate__()
    del state["loss_name"], state["delta"]  # as version 1 wrote it
    old = module.MLP.__new__(module.MLP)
    old.__setstate__(state)
    assert (old.loss_name, old.delta) == ("cross_entropy", None)
    with pytest.raises(AttributeError, match="delta"):
        model.delta = 3.0
    with pytest.raises(AttributeError, match="no 'log_prob' with loss='huber'"):
        _ = model.log_prob
