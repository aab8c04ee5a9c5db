"""Chains of fused multiply-adds in NumPy: what a leaf of a product is, and the same bits sooner."""

from itertools import product

import numpy as np

from ..checks import Array
from .fma import fma, has_room, two_product, two_sum

# Elements of a step at a time, and bytes of all steps: much for a call of NumPy, little for caches.
_WIDTH, _BLOCK = 1 << 12, 1 << 17


def chain(a: Array, b: Array) -> Array:
    """Return the totals (M, N) for a (M, K), b (K, N): total = fma(a[:, k], b[k], total), from +0.

    `fma` takes some 30 calls of NumPy. Here a step rounds its sum twice in 2 or 9: to more digits
    than the total has, then to these. That is wrong only where the first rounding isn't exact and
    gives the middle between two totals. Blocks of steps are looked through for such a case: one
    that has it is computed again, by `fma`.
    """
    quick = _float32 if a.dtype == np.float32 else _float64
    totals = np.zeros((len(a), b.shape[1]), a.dtype)
    rows = max(1, _WIDTH // max(1, b.shape[1]))
    steps = max(1, _BLOCK // max(1, totals[:rows].nbytes))
    with np.errstate(all="ignore"):
        for row, k in product(range(0, len(a), rows), range(0, len(b), steps)):
            mine = slice(row, row + rows)
            block = a[mine, k : k + steps], b[k : k + steps], totals[mine]
            total = quick(*block)
            totals[mine] = chain_by_fma(*block) if total is None else total
    return totals


def chain_by_fma(a: Array, b: Array, total: Array) -> Array:
    """Return the same from a total on, as it is defined."""
    for k in range(len(b)):
        total = fma(a[:, k, np.newaxis], b[np.newaxis, k], total)
    return total


def _float32(a: Array, b: Array, total: Array) -> Array | None:
    """Return the totals; None where a step's two roundings may be wrong.

    product = a * b is exact in float64; wide = product + total in float64; total = wide in float32.
    """
    products = np.multiply(a.T[:, :, np.newaxis], b[:, np.newaxis], dtype=np.float64)
    products = products.reshape(len(b), total.size)  # of one axis, a step is a third faster
    all_wide, now = np.empty_like(products), total.reshape(-1)
    for exact, wide in zip(products, all_wide, strict=True):
        np.add(exact, now, out=wide)
        now = wide.astype(np.float32)
    # Where float32 is subnormal, any inexact sum counts.
    middle = (all_wide.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    k, place = np.nonzero(middle | (np.abs(all_wide) < 2.0**-126))
    before = np.where(k > 0, all_wide[k - 1, place].astype(np.float32), total.reshape(-1)[place])
    error = two_sum(products[k, place], before.astype(np.float64))[1]
    return None if error.any() else now.reshape(total.shape)


def _float64(a: Array, b: Array, total: Array) -> Array | None:
    """Return the totals; None where a step's two roundings may be wrong, or its sums not exact.

    product + lost = a * b and near + far = product + total, exactly; rest = far + lost;
    total = near + rest. Beside near, rest is so small that the middle between two totals is
    near + a float64.
    """
    exact = two_product(a.T[:, :, np.newaxis], b[:, np.newaxis])
    products, lost = (part.reshape(len(b), total.size) for part in exact)
    near, far, rest = (np.empty_like(products) for _ in range(3))
    totals = np.empty((len(b) + 1, total.size))
    totals[0] = total.reshape(-1)
    for k in range(len(b)):
        near[k], far[k] = two_sum(products[k], totals[k])
        np.add(far[k], lost[k], out=rest[k])
        np.add(near[k], rest[k], out=totals[k + 1])
    if not has_room(a, b, totals) or np.signbit(total[total == 0]).any():  # near has lost a -0
        return None
    cut = two_sum(near, rest)[1]
    middle = ((cut.view(np.int64) & 0xFFFFFFFFFFFFF) == 0) & (cut != 0)  # a power of two
    error = two_sum(far[middle], lost[middle])[1]
    return None if error.any() else totals[-1].reshape(total.shape)
