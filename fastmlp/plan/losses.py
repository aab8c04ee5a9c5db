"""A loss as an operation: the loss of each sample of a block, and the gradient by the outputs."""

from fastmlp_kernels.plans.record import LABELS, LOSS_MORE, LOSS_SCRATCH, LOSSES, SCALES

from .state import bits_of
from .table import Builder, at

DENSE = 2048  # elements that lie side by side: with what is made of them, in the nearest cache


def loss(
    builder: Builder,
    name: str,
    delta: float,
    outputs: int,
    rows: int,
    *,
    z: int,
    row_size: int,
    grad: int,
    weighted: bool,
) -> None:
    """Add the loss of this name for up to so many rows of outputs z."""
    scales = at(SCALES) if weighted else 0
    if name == "cross_entropy":
        builder.operation(
            "loss", logits=z, row_size=row_size, classes=outputs, labels=at(LABELS),
            scales=scales, losses=at(LOSSES), grad=grad,
            scratch=builder.scratch(0, LOSS_SCRATCH * (rows + LOSS_MORE) * builder.itemsize),
        )  # fmt: skip
        return
    at_once = min(rows, max(1, DENSE // outputs))
    builder.operation(
        name, z=z, row_size=row_size, outputs=outputs, targets=at(LABELS), scales=scales,
        losses=at(LOSSES), grad=grad, at_once=at_once,
        constants=builder.constant(bits_of(builder.itemsize, delta, 0.5 * delta)),
        scratch=builder.scratch(0, 3 * at_once * outputs * builder.itemsize),
    )  # fmt: skip
