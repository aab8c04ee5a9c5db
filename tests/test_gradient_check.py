import sys

import numpy as np
import pytest

import fastmlp
from fastmlp.model.losses import LOSSES
from fastmlp.operations.gradient_check import GradientCheck, format_table, gradient_check


@pytest.mark.parametrize("arithmetic", ["portable", "numpy"])
def test_every_operation_passes(arithmetic):
    with fastmlp.arithmetic(arithmetic):
        rows = gradient_check()
    assert not [row for row in rows if not row.passed]
    checked = {(row.operation, row.gradient) for row in rows if row.method == "finite differences"}
    assert checked == {
        ("Matmul", "x"),
        ("Matmul", "W"),
        ("Relu", "x"),
        ("Softmax", "x"),
        ("Log", "x"),
        ("MatmulRelu", "x"),
        ("MatmulRelu", "W"),
        ("MatmulRelu, bias", "x"),
        ("MatmulRelu, bias", "W"),
        ("MatmulRelu, bias", "b"),
        ("LogSoftmax", "x"),
        *[(name, "x") for name in ("Tanh", "Logistic", "Silu", "Gelu", "LeakyRelu", "Identity")],
        *[("Matmul-Relu-Matmul-Softmax-Log", name) for name in ("x", "W1", "W2")],
        *[("MatmulRelu-Matmul-LogSoftmax", name) for name in ("x", "W1", "W2")],
        *[(f"MLP, {loss}", name) for loss in LOSSES for name in ("W1", "W2")],
    }
    assert max(row.error for row in rows) < 1e-8


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds_pass_too_and_draw_other_values(seed):
    rows = gradient_check(seed=seed)
    assert all(row.passed for row in rows)
    assert [row.error for row in rows] != [row.error for row in gradient_check()]


def test_against_torch():
    pytest.importorskip("torch")
    rows = [row for row in gradient_check() if row.method == "torch"]
    assert len(rows) == 23 + 2 * len(LOSSES)
    assert all(row.passed for row in rows)


def test_torch_is_not_required(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    rows = gradient_check()
    assert {row.method for row in rows} == {"finite differences"}
    assert len(rows) == 23 + 2 * len(LOSSES)


class ReluWithoutMask(fastmlp.Relu):
    def backward(self, grad_y):
        return grad_y


class MatmulOffByOnePerMille(fastmlp.Matmul):
    def backward(self, grad_y):
        grad_x, grad_W = super().backward(grad_y)
        grad_W[0, 0] *= 1.001
        return grad_x, grad_W


class LogOfNaN(fastmlp.Log):
    def backward(self, grad_y):
        return np.full_like(grad_y, np.nan)


def test_a_wrong_backward_is_reported():
    x = np.array([[-1.0, 0.5], [2.0, -3.0]])
    (row,) = gradient_check(ReluWithoutMask(), [x])
    assert row[:3] == ("ReluWithoutMask", "x", "finite differences")
    assert not row.passed
    assert row.error > 0.1
    right, wrong = gradient_check(MatmulOffByOnePerMille(), [x, np.ones((2, 3))])
    assert right.passed
    assert not wrong.passed
    assert not gradient_check(LogOfNaN(), [np.ones(3)])[0].passed


@pytest.mark.parametrize("name", ["Matmul", "Relu", "Softmax", "Log", "MatmulRelu", "LogSoftmax"])
def test_the_full_table_catches_a_wrong_operation(name, monkeypatch):
    right = getattr(fastmlp, name)

    class Wrong(right):
        def backward(self, grad_y):
            gradients = super().backward(grad_y)
            if isinstance(gradients, tuple):
                return (gradients[0], -gradients[1], *gradients[2:])
            return -gradients

    monkeypatch.setattr(sys.modules["fastmlp.operations.gradient_check"], name, Wrong)
    failed = {row.operation for row in gradient_check() if not row.passed}
    assert name in failed
    assert any("-" in operation for operation in failed)  # a chain has it too


def test_tolerance_decides():
    x = [np.array([0.3, 0.7])]
    (row,) = gradient_check(fastmlp.Log(), x, tolerance=1e-15)
    assert row.limit == 1e-15
    assert 1e-15 < row.error < 1e-8
    assert not row.passed
    assert gradient_check(fastmlp.Log(), x)[0].passed


def test_inputs_are_not_changed_and_may_be_float32():
    x = np.array([[-1, 2]], np.float32)
    before = x.copy()
    assert gradient_check(fastmlp.Relu(), [x])[0].passed
    assert np.array_equal(x, before)


def test_table():
    rows = [
        GradientCheck("Relu", "x", "torch", 2e-17, 1e-12, True),
        GradientCheck("Matmul", "W", "finite differences", 0.5, 1e-6, False),
    ]
    heading, first, second = format_table(rows).splitlines()
    assert heading.split() == ["operation", "gradient", "of", "against", "error", "limit"]
    assert first.split() == ["Relu", "x", "torch", "2.0e-17", "1.0e-12", "ok"]
    assert second.split()[-3:] == ["5.0e-01", "1.0e-06", "FAILED"]
    assert first.index("torch") == second.index("finite")


@pytest.mark.parametrize("loss", LOSSES)
def test_a_model_is_checked_at_its_weights(loss, monkeypatch):
    x, y = np.eye(4, dtype=np.float32)[:3] + 0.5, np.array([0, 1, 1])
    for module in (fastmlp, fastmlp.reference):
        model = module.MLP([4, 3, 2], rng=1, loss=loss)
        before = model.flat_parameters.copy()
        targets = y if loss == "cross_entropy" else np.stack([y, 1 - y], axis=1)
        rows = gradient_check(model, [x, targets])
        assert [row[:2] for row in rows] == [("MLP", "W1"), ("MLP", "W2")]
        assert all(row.passed for row in rows)
        assert np.array_equal(model.flat_parameters, before)
        propagate = module.MLP._propagate
        with monkeypatch.context() as patch:
            patch.setattr(module.MLP, "_propagate", lambda self, g, p=propagate: p(self, 1.01 * g))
            assert not any(row.passed for row in gradient_check(model, [x, targets]))


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (np.array([["1", "2"]]), TypeError, "x: expected an array of float64, got <U1; pass x.ast"),
        (np.ma.masked_equal([[1.0, 2.0]], 2), TypeError, "x: expected an array without a mask"),
        (np.ones((1, 2), np.clongdouble), TypeError, "x: expected an array of float64"),
        (np.ones(2), ValueError, r"x: expected \(samples, ...\) with 2 .* pass x.reshape\(1, -1\)"),
        (np.ones((0, 2)), ValueError, r"x: expected at least one sample, got shape \(0, 2\)"),
        (None, TypeError, "x: expected an array, got NoneType"),
    ],
)
def test_a_models_samples_are_checked_as_by_fit(x, kind, message):
    y = np.zeros(0 if np.shape(x) == (0, 2) else 1, int)
    with pytest.raises(kind, match=message):
        gradient_check(fastmlp.MLP([2, 2], rng=0), [x, y])


class MatmulWithAList(fastmlp.Matmul):
    def backward(self, grad_y):
        return list(super().backward(grad_y))


def test_a_list_of_gradients_is_as_good_as_a_tuple():
    rows = gradient_check(MatmulWithAList(), [np.ones((2, 3)), np.ones((3, 4))])
    assert [row.passed for row in rows] == [True, True]


class TwoGradients(fastmlp.Relu):
    def backward(self, grad_y):
        return grad_y, grad_y


class FlatGradient(fastmlp.Relu):
    def backward(self, grad_y):
        return grad_y.ravel()


def test_errors_say_expected_got_and_mend():
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match=r"got a single array; pass \[inputs\]"):
        gradient_check(fastmlp.Relu(), x)
    with pytest.raises(TypeError, match="got one without the other"):
        gradient_check(fastmlp.Relu())
    with pytest.raises(
        TypeError, match=r"inputs\[0\]: expected an array of real numbers, got comp"
    ):
        gradient_check(fastmlp.Relu(), [x * 1j])
    with pytest.raises(ValueError, match=r"backward: expected 1 gradients.*got 2"):
        gradient_check(TwoGradients(), [x])
    with pytest.raises(ValueError, match=r"expected shape \(2, 3\).*got shape \(6,\)"):
        gradient_check(FlatGradient(), [x])
