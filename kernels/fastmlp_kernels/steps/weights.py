"""Operations of a plan on weights: packed copies, updates, rates; see record.py for fields.

A packed copy of B is made of panels, runs of columns that a tile reads row after row. A leaf holds
up to 256 rows k of B; the panel that starts at column `first` starts at element first * 256, and
its row k at k * width, padded with zeros to whole vectors.
"""

from functools import cache

import numpy as np

from fastmlp_kernels.compiling.jit import address_of, jit
from fastmlp_kernels.plans.memory import array_at, load, store, transpose_block
from fastmlp_kernels.plans.operands import (
    KERNEL,
    moved,
    operation_at,
    own_at,
    panel_at,
    place,
    word,
)
from fastmlp_kernels.plans.record import CONSTANTS, CONSTANTS_EACH, PANEL_WORDS, STEPS
from fastmlp_kernels.update import (
    adam_array,
    adamw_array,
    momentum_array,
    nesterov_array,
    sgd_array,
)

_pack_at, _rates_at = operation_at["pack"], operation_at["rates"]
_update_at = operation_at["sgd"]  # of every update


@jit
def transpose_squares(zero, source, b_column, steps, columns, lanes, itemsize, place, width):
    """Pack what fits in squares of a vector's lanes; return how many columns that was."""
    squares = columns // lanes * lanes
    for j in range(0, squares, lanes):
        for k in range(0, steps // lanes * lanes, lanes):
            transpose_block(
                zero,
                source + (j * b_column + k) * itemsize,
                b_column,
                place + (k * width + j) * itemsize,
                width,
            )
    return squares


def _pack(zero, lanes):
    itemsize = zero.itemsize

    def pack_rows(row, shared, own):
        """Copy rows k of B, up to `depth` of `steps`, to a packed leaf.

        A task starts at row k of B, and of leaves with `width` columns that all threads share.
        """
        it, start = _pack_at(row), own_at(own).row
        row_step, column_step, steps = it.row_step, it.column_step, min(it.depth, it.steps - start)
        source = moved(it.source, start * row_step * itemsize, shared, own)
        target = moved(it.target, start * it.width * itemsize, shared, own)
        panels = place(it.panels, shared, own)
        for p in range(it.panel_count):
            panel = panel_at(panels + p * 8 * PANEL_WORDS)
            first, columns, width = panel.first, panel.columns, panel.width
            read = source + first * column_step * itemsize
            to = target + (first * it.depth + it.first_k * width) * itemsize
            squares = 0
            if row_step == 1 and lanes > 1:
                squares = transpose_squares(
                    zero, read, column_step, steps, columns, lanes, itemsize, to, width
                )
            for k in range(steps):
                done = squares if k < steps // lanes * lanes else 0
                if column_step == 1:
                    for j in range(columns):
                        store(load(zero, read, k * row_step + j), to, k * width + j)
                else:
                    for j in range(done, columns):
                        store(load(zero, read, k * row_step + j * column_step), to, k * width + j)
                for j in range(columns, width):
                    store(zero, to, k * width + j)

    return pack_rows


def _rates(zero):
    def round_rates(row, shared, own):
        """The rates of all steps, rounded to the dtype."""
        it, steps = _rates_at(row), word(shared, STEPS)
        rates = array_at(zero, place(it.rates, shared, own), steps)
        constants = array_at(np.float64(0), word(shared, CONSTANTS), steps * CONSTANTS_EACH)
        for step in range(steps):
            rates[step] = constants[step * CONSTANTS_EACH + 1]

    return round_rates


@jit
def _arrays(zero, row, shared, own):
    """What an update needs: W, its gradient, its states, the step's constants."""
    it = _update_at(row)
    constants = array_at(np.float64(0), word(shared, CONSTANTS), CONSTANTS_EACH)
    W = array_at(zero, place(it.w, shared, own), it.size)
    g = array_at(zero, place(it.gradient, shared, own), it.size)
    first_state = array_at(zero, place(it.first_state, shared, own), it.size)
    second_state = array_at(zero, place(it.second_state, shared, own), it.size)
    return W, g, first_state, second_state, constants


@jit
def _prepared(zero, row, shared, own):
    """The same, the gradient with the weight decay."""
    W, g, first_state, second_state, constants = _arrays(zero, row, shared, own)
    if constants[0] != 0 and not _update_at(row).without_decay:
        decay = W.dtype.type(constants[0])
        for i in range(W.size):
            g[i] = g[i] + decay * W[i]
    return W, g, first_state, second_state, constants


def _sgd(zero):
    def sgd(row, shared, own):
        W, g, _, _, constants = _prepared(zero, row, shared, own)
        sgd_array(W, g, W.dtype.type(constants[1]))

    return sgd


def _momentum(zero):
    def momentum(row, shared, own):
        W, g, velocity, _, constants = _prepared(zero, row, shared, own)
        real = W.dtype.type
        momentum_array(W, g, velocity, real(constants[1]), real(constants[2]))

    return momentum


def _nesterov(zero):
    def nesterov(row, shared, own):
        W, g, velocity, _, constants = _prepared(zero, row, shared, own)
        real = W.dtype.type
        nesterov_array(W, g, velocity, real(constants[1]), real(constants[2]))

    return nesterov


@jit
def _adams(W, k):
    """Adam's constants, rounded: the decays of its means, and its scale."""
    real = W.dtype.type
    return (real(k[1]), real(k[2]), real(k[3]), real(k[4])), (real(k[5]), real(k[6]), real(k[7]))


def _adam(zero):
    def adam(row, shared, own):
        W, g, mean, square, constants = _prepared(zero, row, shared, own)
        adam_array(W, g, mean, square, *_adams(W, constants))

    return adam


def _adamw(zero):
    def adamw(row, shared, own):
        W, g, mean, square, constants = _arrays(zero, row, shared, own)
        keep = 1.0 if _update_at(row).without_decay else constants[0]
        decays, scale = _adams(W, constants)
        adamw_array(W, g, mean, square, decays, scale, W.dtype.type(keep))

    return adamw


_OPTIMIZERS = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adam": _adam,
    "adamw": _adamw,
}


@cache
def pack_kernel(dtype, lanes):
    return address_of(_pack(dtype.type(0), lanes), KERNEL)


@cache
def rates_kernel(dtype):
    return address_of(_rates(dtype.type(0)), KERNEL)


@cache
def update_kernel(dtype, optimizer):
    return address_of(_OPTIMIZERS[optimizer](dtype.type(0)), KERNEL)
