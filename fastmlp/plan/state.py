"""What all parts of the planner of a training share while they make one plan."""

from dataclasses import dataclass, field

import numpy as np
from fastmlp_kernels.plans.record import LEAF, ORDER, WORD, X

from ..checks import Array
from .blocking import count_leaves, padded_row, panel_width
from .blocks import Block
from .table import EVERY_ROW, Builder, at
from .ways import Layer, Training, count_groups

LEAF_WORDS = LEAF // WORD
WORD_BYTES = 8


def count_words(count: int) -> int:
    """Return the words of so many bits."""
    return -(-count // WORD)


@dataclass
class Buffers:
    """Where the samples of a batch, or of a leaf, have their numbers: operands, one a layer.

    is_own: each thread has its own. h, grad: outputs and their gradients; slope: of an activation
    that isn't relu (0: of none); words: of each layer's
    inputs, what isn't zero, by rows and, `stride` words each, by columns; gathered: the samples in
    their order; sums: of the first layer's groups of inputs.
    """

    is_own: bool
    rows: int
    h: list[int] = field(default_factory=list)
    grad: list[int] = field(default_factory=list)
    slope: list[int] = field(default_factory=list)
    row_words: list[int] = field(default_factory=list)
    column_words: list[int] = field(default_factory=list)
    gathered: int = 0
    sums: int = 0


@dataclass
class State:
    """One plan under way. size: the elements of all weights; `batch` samples are a step's now.

    gradients, squares: all gradients, and the sums of their leaves' squares, where a plan clips.
    """

    training: Training
    builder: Builder
    layers: list[Layer]
    blocks: list[Block]
    ends: list[int]
    size: int
    batch: int = 0
    one: int = 0
    parts: int = 0
    part_size: int = 0
    partials: list[int] = field(default_factory=list)
    gradients: int = 0
    squares: int = 0
    shared: Buffers | None = None
    own: Buffers | None = None
    now: Buffers = field(default_factory=lambda: Buffers(False, 0))

    @property
    def itemsize(self) -> int:
        """The bytes of an element."""
        return self.builder.itemsize

    @property
    def gathered_row(self) -> int:
        """The elements from one gathered sample to the next."""
        return padded_row(self.layers[0].inputs, self.itemsize)

    @property
    def any_skips(self) -> bool:
        """Whether a layer passes over zeros."""
        return any(layer.skips for layer in self.layers)

    def layer_input(self, layer: Layer) -> tuple[int, int]:
        """Return a layer's inputs, an operand, and the elements from row to row."""
        if layer.number > 0:
            return self.now.h[layer.number - 1], self.layers[layer.number - 1].row
        if self.training.ordered:
            return self.now.gathered, self.gathered_row
        return at(X), layer.inputs

    def activate(
        self, layer: Layer, first: int, columns: int, chunk: int = 0, most: int = EVERY_ROW
    ) -> None:
        """Apply a layer's activation to some columns of its outputs, where a product didn't."""
        slope = self.now.slope[layer.number]
        if slope:
            place = (chunk * layer.row + first) * self.itemsize
            self.builder.operation(
                layer.activation, chunk, most, z=self.now.h[layer.number] + place,
                row_size=layer.row, columns=columns, slope=slope + place,
            )  # fmt: skip

    def gather(self, first: int, stop: int, chunk: int = 0, most: int = EVERY_ROW) -> None:
        """Copy columns first .. stop of the samples, where these are shuffled."""
        itemsize, inputs = self.itemsize, self.layers[0].inputs
        row = self.gathered_row * itemsize
        target = self.now.gathered + first * itemsize + chunk * row
        self.builder.operation(
            "gather", chunk, most,
            x=at(X, first * itemsize), x_row=inputs * itemsize, order=at(ORDER, chunk * 8),
            target=target, target_row=row, size=(stop - first) * itemsize,
        )  # fmt: skip

    def place(self, rows: int, is_own: bool) -> Buffers:
        """Give the layers their buffers for so many samples."""
        builder, itemsize, lanes = self.builder, self.itemsize, self.builder.lanes
        take = builder.own_buffer if is_own else builder.buffer
        buffers = Buffers(is_own, rows)
        for layer in self.layers:
            buffers.h.append(take(rows * layer.row * itemsize))
            buffers.grad.append(take(rows * layer.row * itemsize))
            notes = layer.activation not in ("relu", "identity")
            buffers.slope.append(take(rows * layer.row * itemsize) if notes else 0)
            row_words = column_words = 0
            if layer.skips:
                words = count_leaves(layer.inputs, 0) * LEAF_WORDS
                row_words = take(rows * words * WORD_BYTES)
                if not layer.by_groups:
                    column_words = take((layer.inputs + 1) * count_words(rows) * WORD_BYTES)
                else:
                    groups = count_groups(layer.inputs, int(layer.bias))
                    size = groups * rows * panel_width(layer.outputs, lanes) * itemsize
                    buffers.sums = take(size)
            buffers.row_words.append(row_words)
            buffers.column_words.append(column_words)
        if self.training.ordered:
            buffers.gathered = take(rows * self.gathered_row * itemsize)
        return buffers


def bits_of(itemsize: int, *values: float) -> Array:
    """Return words that start with the values, each rounded to a dtype of so many bytes."""
    bits = np.zeros(len(values), np.int64)
    with np.errstate(over="ignore"):  # of float32, a large number is inf
        bits.view(np.float32 if itemsize == 4 else np.float64)[: len(values)] = values
    return bits
