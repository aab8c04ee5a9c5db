"""LogSoftmax over the rows of x (N, classes), N >= 0, classes >= 1.

m = max(x); z = x - m; e = exp(z); r = rowsum(e); logp = z - log(r); p = e / r.
grad_x = grad_y - p * rowsum(grad_y).
"""

import numpy as np

from fastmlp_kernels.arithmetic import lanes
from fastmlp_kernels.arithmetic.elementary import exp_all, exp_on_lanes, log, log_all
from fastmlp_kernels.arithmetic.lanes import LANES
from fastmlp_kernels.arithmetic.row_sum import last_part, row_max, row_sum
from fastmlp_kernels.compiling.jit import jit
from fastmlp_kernels.row_shares import RowsKernel, finish, my_rows

SHORT = 256  # classes of the longest row whose block goes through scratch memory
BLOCK_SIZE = 2048  # elements of a block of short rows: z and e stay in the nearest cache
SCRATCH_SIZE = 4 * BLOCK_SIZE


@jit
def log_softmax(x, logp, p, scratch):
    """Write logp and p, both of x's shape. scratch: (SCRATCH_SIZE,), its values don't matter."""
    if x.shape[1] <= SHORT:
        of_short_rows(x, logp, p, scratch)
    else:
        of_long_rows(x, logp, p)


@jit
def of_short_rows(x, logp, p, scratch):
    """Blocks of rows go through each pass together, so exp and log have vectors without ends."""
    samples, classes = x.shape
    flat_x, flat_logp, flat_p = x.reshape(-1), logp.reshape(-1), p.reshape(-1)
    rows = BLOCK_SIZE // classes // 8 * 8  # a multiple of 8, so exp has no remainder
    for start in range(0, samples, rows):
        stop = min(start + rows, samples)
        block = slice(start * classes, stop * classes)
        # A row that is read just after the one before it was written to the same memory waits
        # for that write, which costs a short row more than its arithmetic: hence the scratch.
        size = (stop - start) * classes
        z, e = scratch[:size], scratch[BLOCK_SIZE : BLOCK_SIZE + size]
        r = scratch[2 * BLOCK_SIZE : 2 * BLOCK_SIZE + stop - start]
        log_r = scratch[3 * BLOCK_SIZE : 3 * BLOCK_SIZE + stop - start]
        shift(flat_x[block], classes, z)
        exp_all(z, e)
        row_sums(e, classes, classes, r)
        log_all(r, log_r)
        normalise(z, e, log_r, r, flat_logp[block], flat_p[block])


@jit
def of_long_rows(x, logp, p):
    """Row by row, each in the nearest cache: (4096, 1000) took 1.6 times as long by blocks.

    The largest of the next row is looked for while the logarithm of this one's sum is computed.
    """
    classes = x.shape[1]
    flat_x, flat_logp, flat_p = x.reshape(-1), logp.reshape(-1), p.reshape(-1)
    if not flat_x.size:
        return
    largest = row_max(flat_x, 0, classes)
    for start in range(0, flat_x.size, classes):
        r = exponentials_of_row(flat_x, start, classes, largest, flat_p)
        of_row = largest, log(r), r
        largest = row_max(flat_x, min(start + classes, flat_x.size - classes), classes)
        end_row(flat_x, flat_logp, flat_p, start, classes, of_row)


@jit
def exponentials_of_row(x, start, classes, largest, e):
    """Write e = exp(x - largest) of one row; return its sum."""
    zero, rest = x.dtype.type(0), last_part(classes)
    stop = start + classes - rest
    less, total = lanes.splat(largest), lanes.splat(zero)
    for j in range(start, stop, LANES):
        powers = exp_on_lanes(lanes.subtract(lanes.load(x, j), less))
        lanes.store(e, j, powers)
        total = lanes.add(total, powers)
    z = lanes.subtract(lanes.load_part(x, stop, rest, largest), less)
    powers = lanes.first_of(exp_on_lanes(z), rest, zero)
    lanes.store_part(e, stop, rest, powers)
    return lanes.sum_of_lanes(lanes.add(total, powers))


@jit
def end_row(x, logp, p, start, classes, of_row):
    """Write logp = (x - max(x)) - log(r) and p = e / r of one row; p is e at first.

    of_row: (max(x), log(r), r).
    """
    largest, log_r, r = of_row
    zero, rest = p.dtype.type(0), last_part(classes)
    stop = start + classes - rest
    first, second, divisor = lanes.splat(largest), lanes.splat(log_r), lanes.splat(r)
    for j in range(start, stop, LANES):
        z, e = lanes.subtract(lanes.load(x, j), first), lanes.load(p, j)
        lanes.store(logp, j, lanes.subtract(z, second))
        lanes.store(p, j, lanes.divide(e, divisor))
    z = lanes.subtract(lanes.load_part(x, stop, rest, zero), first)
    e = lanes.load_part(p, stop, rest, zero)
    lanes.store_part(logp, stop, rest, lanes.subtract(z, second))
    lanes.store_part(p, stop, rest, lanes.divide(e, divisor))


@jit
def shift(x, classes, z):
    """Write z = x - max(x) for each row.

    With a NaN in the row the maximum may be anything: the NaN reaches rowsum(e), so the whole row.
    Nor does the sign of a maximum of zero matter: of x = +0 and -0, rowsum(e) is at least 2.
    """
    zero, rest = x.dtype.type(0), last_part(classes)
    for start in range(0, x.size, classes):
        largest = lanes.splat(row_max(x, start, classes))
        stop = start + classes - rest
        for j in range(start, stop, LANES):
            lanes.store(z, j, lanes.subtract(lanes.load(x, j), largest))
        part = lanes.load_part(x, stop, rest, zero)
        lanes.store_end(z, stop, rest, lanes.subtract(part, largest), z.size)


@jit
def row_sums(x, stride, classes, sums):
    """Write the sum of each row; there is one every `stride` elements."""
    for row in range(sums.size):
        sums[row] = row_sum(x, row * stride, classes)


@jit
def normalise(z, e, log_r, r, logp, p):
    """Write logp = z - log(r) and p = e / r for each row, into other memory than z and e."""
    classes = z.size // r.size
    zero, rest = p.dtype.type(0), last_part(classes)
    for row in range(r.size):
        start = row * classes
        stop = start + classes - rest
        less, divisor = lanes.splat(log_r[row]), lanes.splat(r[row])
        for j in range(start, stop, LANES):
            lanes.store(logp, j, lanes.subtract(lanes.load(z, j), less))
            lanes.store(p, j, lanes.divide(lanes.load(e, j), divisor))
        z_part, e_part = lanes.load_part(z, stop, rest, zero), lanes.load_part(e, stop, rest, zero)
        lanes.store_end(logp, stop, rest, lanes.subtract(z_part, less), logp.size)
        lanes.store_end(p, stop, rest, lanes.divide(e_part, divisor), p.size)


@jit
def log_softmax_backward(p, grad_y, grad_x):
    """Write grad_x; all three of shape (N, classes)."""
    samples, classes = p.shape
    flat_p, flat_grad_y, flat_grad_x = p.reshape(-1), grad_y.reshape(-1), grad_x.reshape(-1)
    zero, rest = p.dtype.type(0), last_part(classes)
    for row in range(samples):
        start = row * classes
        stop = start + classes - rest
        total = lanes.splat(row_sum(flat_grad_y, start, classes))
        for j in range(start, stop, LANES):
            mixed = lanes.multiply(lanes.load(flat_p, j), total)
            lanes.store(flat_grad_x, j, lanes.subtract(lanes.load(flat_grad_y, j), mixed))
        mixed = lanes.multiply(lanes.load_part(flat_p, stop, rest, zero), total)
        part = lanes.load_part(flat_grad_y, stop, rest, zero)
        lanes.store_end(flat_grad_x, stop, rest, lanes.subtract(part, mixed), flat_grad_x.size)


@jit
def exponentials(z, stride, classes, e, r):
    """Write z = x - max(x) in place of x, e = exp(z) and r = rowsum(e) for r.size rows.

    z and e: flat, with a row every `stride` elements, a multiple of 16.
    """
    less_largest(z, stride, classes, r.size)
    exp_all(z, e)
    row_sums(e, stride, classes, r)


@jit
def less_largest(z, stride, classes, rows):
    """z -= max(z) for each row; the lanes behind its classes become -inf."""
    lowest, rest = z.dtype.type(-np.inf), last_part(classes)
    for row in range(rows):
        start = row * stride
        stop = start + classes - rest
        largest = lanes.splat(row_max(z, start, classes))
        for j in range(start, stop, LANES):
            lanes.store(z, j, lanes.subtract(lanes.load(z, j), largest))
        part = lanes.load_part(z, stop, rest, lowest)
        lanes.store(z, stop, lanes.subtract(part, largest))


@jit
def loss_gradient(logits, stride, classes, labels, scale, scales, losses, grad, scratch):
    """The loss of each sample and the gradient of their sum times `scale`; return the hits.

    losses[i] = 0 - logp[i, label]; grad = p * scale, less scale at the label: what
    log_softmax_backward makes of -scale at the label. A hit is a label whose logit is the first
    largest of its row. logits and grad: flat, with a row every `stride` elements, a multiple of
    16; logits are overwritten. labels, losses (N,); scratch: see LOSS_SCRATCH. scales:
    (N,), each sample's scale, where +0 gives a gradient of +0; or empty.
    """
    if classes < LANES:
        return _of_few_classes(
            logits, stride, classes, labels, scale, scales, losses, grad, scratch
        )
    samples, zero, hits, rest = labels.size, logits.dtype.type(0), 0, last_part(classes)
    r, log_r = scratch[:samples], scratch[samples : 2 * samples]
    exponentials(logits, stride, classes, grad, r)
    log_all(r, log_r)
    for row in range(samples):
        start = row * stride
        if scales.size:
            scale = scales[row]
        factor, divisor = lanes.splat(scale), lanes.splat(r[row])
        stop = start + classes - rest
        for j in range(start, stop, LANES):
            p = lanes.divide(lanes.load(grad, j), divisor)
            lanes.store(grad, j, lanes.multiply(p, factor) if scale != 0 else factor)
        p = lanes.divide(lanes.load_part(grad, stop, rest, zero), divisor)
        lanes.store(grad, stop, lanes.multiply(p, factor) if scale != 0 else factor)
        label = start + labels[row]
        grad[label] -= scale
        losses[row] = zero - (logits[label] - log_r[row])
        hits += is_first_zero(logits, start, label) if r[row] == r[row] else 0
    return hits


@jit
def _of_few_classes(logits, stride, classes, labels, scale, scales, losses, grad, scratch):
    """The same with the samples side by side, 16 in a vector, class by class."""
    samples, zero, hits = labels.size, logits.dtype.type(0), 0
    nothing, no_class = lanes.splat(zero), lanes.splat(logits.dtype.type(-1))
    apart = (samples + LANES - 1) // LANES * LANES
    z, e = scratch[: classes * apart], scratch[classes * apart : 2 * classes * apart]
    rest = scratch[2 * classes * apart :]
    r, log_r, tile = rest[:apart], rest[apart : 2 * apart], rest[2 * apart :]
    for i in range(0, apart, LANES):
        for row in range(LANES):  # beyond the last sample, that one again
            sample = min(i + row, samples - 1)
            lanes.store(tile, row * LANES, lanes.load(logits, sample * stride))
        lanes.transpose(tile)
        largest = lanes.load(tile, 0)
        for j in range(1, classes):
            largest = lanes.larger(lanes.load(tile, j * LANES), largest)
        for j in range(classes):
            shifted = lanes.subtract(lanes.load(tile, j * LANES), largest)
            lanes.store(z, j * apart + i, shifted)
    exp_all(z, e)
    for i in range(0, apart, LANES):
        lanes.store(r, i, _sum_of_classes(e, i, apart, tile))
    log_all(r, log_r)
    for i in range(0, apart, LANES):
        count, divisor, factor = min(LANES, samples - i), lanes.load(r, i), lanes.splat(scale)
        if scales.size:
            factor = lanes.load_part(scales, i, count, zero)
        label = lanes.load_integers(labels, i, count, zero)
        first, of_label = no_class, nothing
        for j in range(classes - 1, -1, -1):
            number, shifted = lanes.splat(logits.dtype.type(j)), lanes.load(z, j * apart + i)
            p = lanes.divide(lanes.load(e, j * apart + i), divisor)
            of_class = lanes.where_equal(factor, nothing, nothing, lanes.multiply(p, factor))
            less = lanes.subtract(of_class, factor)
            lanes.store(tile, j * LANES, lanes.where_equal(label, number, less, of_class))
            of_label = lanes.where_equal(label, number, shifted, of_label)
            first = lanes.where_equal(shifted, nothing, number, first)
        for j in range(classes, LANES):
            lanes.store(tile, j * LANES, nothing)
        lanes.transpose(tile)
        for row in range(count):
            lanes.store(grad, (i + row) * stride, lanes.load(tile, row * LANES))
        of_label = lanes.subtract(nothing, lanes.subtract(of_label, lanes.load(log_r, i)))
        lanes.store_part(losses, i, count, of_label)
        first = lanes.where_equal(divisor, divisor, first, no_class)  # not NaN
        is_hit = lanes.where_equal(first, label, lanes.splat(logits.dtype.type(1)), nothing)
        hits += np.int64(lanes.sum_of_lanes(lanes.first_of(is_hit, count, zero)))
    return hits


@jit
def _sum_of_classes(e, start, apart, sums):
    """rowsum of 16 samples, with a class every `apart` elements from `start` on.

    Lanes of the row's sum that have no class are +0, and change no sum. sums: (16 * 16,).
    """
    count = e.size // apart
    for j in range(count):
        lanes.store(sums, j * LANES, lanes.load(e, start + j * apart))
    width = LANES // 2
    while width:
        for j in range(0, (count - width) * LANES, LANES):
            total = lanes.add(lanes.load(sums, j), lanes.load(sums, j + width * LANES))
            lanes.store(sums, j, total)
        count, width = min(count, width), width // 2
    return lanes.load(sums, 0)


@jit
def is_first_zero(z, start, place):
    """Whether z[place] is 0 and none from z[start] on to there is."""
    for j in range(start, place):
        if z[j] == 0:
            return False
    return z[place] == 0


def _forward(zero):
    def log_softmax_forward(data, _, thread):
        x, logp, p, _ = my_rows(zero, data, thread)
        log_softmax(x, logp, p, np.empty(SCRATCH_SIZE, x.dtype))
        finish(data)

    return log_softmax_forward


def _backward(zero):
    def log_softmax_backward_of_rows(data, _, thread):
        p, grad_y, grad_x, _ = my_rows(zero, data, thread)
        log_softmax_backward(p, grad_y, grad_x)
        finish(data)

    return log_softmax_backward_of_rows


forward = RowsKernel(_forward)  # x, logp, p
backward = RowsKernel(_backward)  # p, grad_y, grad_x
