"""LogSoftmax over the rows of x (N, classes), N >= 0, classes >= 1.

m = max(x); z = x - m; e = exp(z); r = rowsum(e); logp = z - log(r); p = e / r.
grad_x = grad_y - p * rowsum(grad_y).
"""

import numpy as np

from fastmlp_kernels import lanes
from fastmlp_kernels.elementary import exp_all, log_all
from fastmlp_kernels.jit import jit
from fastmlp_kernels.lanes import LANES
from fastmlp_kernels.memory import address, fetch, fetch_to_write
from fastmlp_kernels.record import LINE
from fastmlp_kernels.row_shares import RowsKernel, finish, my_rows
from fastmlp_kernels.row_sum import last_part, row_max, row_sum

SHORT = 128  # classes of the longest row whose block goes through scratch memory
BLOCK_SIZE = 2048  # elements of a block of short rows: z and e stay in the nearest cache
LONG_BLOCK_SIZE = 16384  # of long rows: x, z and e stay in the second cache, with what comes next
PIECE = 512  # elements of z between which the next block is fetched
MOST_LONG_ROWS = 64
SCRATCH_SIZE = 4 * BLOCK_SIZE


@jit
def rows_of_block(classes):
    """How many rows go through the passes together: a multiple of 8, so exp has no remainder."""
    if classes <= SHORT:
        return BLOCK_SIZE // classes // 8 * 8
    return min(MOST_LONG_ROWS, max(8, LONG_BLOCK_SIZE // classes // 8 * 8))


@jit
def log_softmax(x, logp, p, scratch):
    """Write logp and p, both of x's shape. scratch: (SCRATCH_SIZE,), its values don't matter."""
    samples, classes = x.shape
    flat_x, flat_logp, flat_p = x.reshape(-1), logp.reshape(-1), p.reshape(-1)
    rows = rows_of_block(classes)
    for start in range(0, samples, rows):
        stop = min(start + rows, samples)
        block = slice(start * classes, stop * classes)
        z, e = flat_logp[block], flat_p[block]
        if classes <= SHORT:
            # A row that is read just after the one before it was written to the same memory waits
            # for that write, which costs a short row more than its arithmetic.
            z, e = scratch[: z.size], scratch[BLOCK_SIZE : BLOCK_SIZE + z.size]
        r = scratch[2 * BLOCK_SIZE : 2 * BLOCK_SIZE + stop - start]
        log_r = scratch[3 * BLOCK_SIZE : 3 * BLOCK_SIZE + stop - start]
        shift(flat_x[block], classes, z)
        if classes <= SHORT:
            exp_all(z, e)
        else:
            # exp needs no memory for long, the passes around it little else: meanwhile the next
            # block comes. (4096, 1000) took 1.21 ms, not 1.52.
            ahead = stop * classes * x.itemsize
            exp_and_fetch(z, e, address(flat_x) + ahead, address(flat_logp) + ahead)
        row_sums(e, classes, r)
        log_all(r, log_r)
        normalise(z, e, log_r, r, flat_logp[block], flat_p[block])


@jit
def exp_and_fetch(z, e, to_read, to_write):
    """Write e = exp(z), and bring near what lies at two addresses, as much as z has."""
    for piece in range(0, z.size, PIECE):
        for line in range(piece * z.itemsize, (piece + PIECE) * z.itemsize, LINE):
            fetch(to_read + line)
            fetch_to_write(to_write + line)
        exp_all(z[piece : piece + PIECE], e[piece : piece + PIECE])


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
def row_sums(x, classes, sums):
    for row in range(sums.size):
        sums[row] = row_sum(x, row * classes, classes)


@jit
def normalise(z, e, log_r, r, logp, p):
    """Write logp = z - log(r) and p = e / r for each row; of long rows logp may be z, and p e."""
    classes = z.size // r.size
    zero, rest = p.dtype.type(0), last_part(classes)
    free = z.size if classes <= SHORT else 0
    for row in range(r.size):
        start = row * classes
        stop = start + classes - rest
        less, divisor = lanes.splat(log_r[row]), lanes.splat(r[row])
        for j in range(start, stop, LANES):
            lanes.store(logp, j, lanes.subtract(lanes.load(z, j), less))
            lanes.store(p, j, lanes.divide(lanes.load(e, j), divisor))
        z_part, e_part = lanes.load_part(z, stop, rest, zero), lanes.load_part(e, stop, rest, zero)
        lanes.store_end(logp, stop, rest, lanes.subtract(z_part, less), free)
        lanes.store_end(p, stop, rest, lanes.divide(e_part, divisor), free)


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
    row_sums_at(e, stride, classes, r)


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
def row_sums_at(e, stride, classes, sums):
    for row in range(sums.size):
        sums[row] = row_sum(e, row * stride, classes)


@jit
def loss_gradient(logits, stride, classes, labels, scale, scales, losses, grad, scratch):
    """The loss of each sample and the gradient of their sum times `scale`; return the hits.

    losses[i] = 0 - logp[i, label]; grad = p * scale, less scale at the label: what
    log_softmax_backward makes of -scale at the label. A hit is a label whose logit is the first
    largest of its row. logits and grad: flat, with a row every `stride` elements, a multiple of
    16; logits are overwritten. labels, losses (N,); scratch (LOSS_SCRATCH * (N + 1),). scales:
    (N,), each sample's scale, where +0 gives a gradient of +0; or empty.
    """
    samples, zero, hits, rest = labels.size, logits.dtype.type(0), 0, last_part(classes)
    r, log_r, dense = scratch[:samples], scratch[samples : 2 * samples], scratch[2 * samples :]
    less_largest(logits, stride, classes, samples)
    z, e, apart = logits, grad, stride
    if classes < LANES:
        # Side by side they fill the vectors of exp: 32 samples of 3 classes took 0.51 us, not 0.71.
        size, apart = samples * classes, classes
        z, e = dense[:size], dense[size + LANES : 2 * size + LANES]
        for row in range(samples):  # what a row's vector writes behind it, the next one overwrites
            lanes.store(dense, row * classes, lanes.load(logits, row * stride))
    exp_all(z, e)
    row_sums_at(e, apart, classes, r)
    log_all(r, log_r)
    for row in range(samples):
        start, source = row * stride, row * apart
        if scales.size:
            scale = scales[row]
        factor, divisor = lanes.splat(scale), lanes.splat(r[row])
        stop = start + classes - rest
        for j in range(start, stop, LANES):
            p = lanes.divide(lanes.load(e, source + j - start), divisor)
            lanes.store(grad, j, lanes.multiply(p, factor) if scale != 0 else factor)
        p = lanes.divide(lanes.load_part(e, source + classes - rest, rest, zero), divisor)
        lanes.store(grad, stop, lanes.multiply(p, factor) if scale != 0 else factor)
        label = start + labels[row]
        grad[label] -= scale
        losses[row] = zero - (logits[label] - log_r[row])
        hits += is_first_zero(logits, start, label) if r[row] == r[row] else 0
    return hits


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
