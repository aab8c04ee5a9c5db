"""How the layers of a network go in training: the one place that chooses.

A batch of many leaves is cut by leaves of samples. Otherwise the first large layers go by columns
of W, and where the inputs of a layer are zeros for the most part, its products pass over these;
where such a first layer is narrow, the leaves of its inputs are tasks. docs/training.md says why.
"""

from dataclasses import dataclass
from typing import NamedTuple

from fastmlp_kernels.plans.record import ACTIVATIONS as OPERATIONS
from fastmlp_kernels.plans.record import FEW_THREADS, LEAF, WORD

from .blocking import FAR_ROWS, SHORT_INNER, Machine, count_leaves, panel_width, split_leaves

LEAVES_PER_THREAD = 4  # a batch of so many leaves is cut by leaves: fewer don't balance

# Smaller layers cost less by their way than by a stage of their own; in a shorter epoch, moving W
# to the panels and back costs more than it gains, but where rows of W are far apart, a batch of so
# many samples pays for it: an epoch of 4 steps of 784-2048-2048-10 took 0.83 of its time (Zen 4).
# Of more threads than panels, some share a panel's samples, but where these are enough for all,
# each thread takes some through all layers.
SMALLEST_WEIGHTS = 16384  # elements of W
FEWEST_STEPS = 8
FEWEST_FAR_SAMPLES = 128
FEWEST_PANELS = 2
FEWEST_SAMPLES_EACH = 16

# By samples, each thread reads all of W^T: of 1 or 2 threads, for as many samples as pay for it.
# Others gain more by columns, from so many elements of W on, than a stage costs.
LARGE_WEIGHTS = 1 << 17

# What hidden layers may have; relu is a product's own end, identity is nothing.
ACTIVATIONS = ("relu", *OPERATIONS, "identity")

# How many arrays of state each optimizer keeps, of the size of the parameters.
STATES = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "adamw": 2}


class Training(NamedTuple):
    """What a plan of training depends on; the key under which it is kept.

    last: samples of the last batch if these are fewer than the others', or 0. is_long: an epoch of
    FEWEST_STEPS or more. rides: the update is W - rate * gradient, with rates that are finite.
    skips: whether hidden layers may pass over zeros, and the first one shall. groups: those of the
    first layer's inputs that each thread has, where they are tasks. activation: each hidden
    layer's, or nothing if all are relu. clips: whether the gradients' norm has a limit.
    decay_bias: whether biases have the others' weight decay. weighted: each sample has a scale of
    its own.
    """

    sizes: tuple[int, ...]
    bias: tuple[bool, ...]
    itemsize: int
    batch: int
    last: int
    threads: int
    optimizer: str
    rides: bool
    ordered: bool
    is_long: bool
    skips: bool
    skips_x: bool
    groups: tuple[tuple[int, ...], ...]
    activation: tuple[str, ...] = ()
    clips: bool = False
    decay_bias: bool = True
    loss: str = "cross_entropy"
    delta: float = 0.0
    weighted: bool = False


@dataclass
class Layer:
    """A layer: its shape, its way, and where its weights lie (operands; 0 for none).

    start: of W in the parameters, in elements. panels, row_panels: in how many blocks of columns W
    is updated, and in how many panels W^T lies. row: elements from one sample's outputs to the
    next's. activation: "identity" of the last. packed, packed_transpose: copies of W and W^T;
    columns: W in panels, its states behind, `columns_size` elements each.
    """

    number: int
    inputs: int
    outputs: int
    bias: bool
    start: int
    is_last: bool
    activation: str
    by_columns: bool = False
    back_by_columns: bool = False
    skips: bool = False
    by_groups: bool = False
    panels: int = 1
    row_panels: int = 1
    row: int = 0
    packed: int = 0
    packed_transpose: int = 0
    columns: int = 0
    columns_size: int = 0

    @property
    def leaves(self) -> int:
        """How many leaves the index of h @ W + b is."""
        return count_leaves(self.inputs, int(self.bias))


def choose(training: Training, machine: Machine) -> list[Layer]:
    """Return the layers with their ways."""
    sizes, lanes = training.sizes, machine.lanes(training.itemsize)
    layers, start = [], 0
    for number, bias in enumerate(training.bias):
        inputs, outputs = sizes[number : number + 2]
        is_last = number == len(training.bias) - 1
        activation = "identity" if is_last else "relu"
        if training.activation and not is_last:
            activation = training.activation[number]
        layers.append(Layer(number, inputs, outputs, bias, start, is_last, activation))
        start += (inputs + bias) * outputs
    by_leaves = run_of_leaves(training.batch, training.threads) > 0
    count = 0 if by_leaves else count_by_columns(training, machine)
    count = max(count, int(training.skips_x))
    for layer in layers:
        layer.by_columns = layer.number < count
        # Only relu makes zeros, of the layer's inputs and of its gradients.
        has_zeros = layer.activation == "relu" and layers[layer.number - 1].activation == "relu"
        hidden = 0 < layer.number < min(count, len(layers) - 1) and has_zeros
        layer.skips = hidden and training.skips and not by_leaves
        if layer.number == 0:
            layer.skips = training.skips_x
        layer.back_by_columns = 0 < layer.number <= _last_back(training, layers[:count])
        _cut(layer, training, machine, lanes)
    layers[0].by_groups = count == 1 and not by_leaves and goes_by_groups(training, machine)
    if layers[0].by_groups:
        layers[0].panels = 1
    return layers


def _cut(layer: Layer, training: Training, machine: Machine, lanes: int) -> None:
    if layer.skips:
        layer.panels = machine.count_sparse_panels(
            layer.outputs, training.batch, training.threads, lanes
        )
    elif layer.by_columns:
        layer.panels = machine.count_panels(LEAF, layer.outputs, lanes)
    # Of W^T wide panels, if the threads have one each, where k is short.
    layer.row_panels = machine.count_panels(LEAF, layer.inputs, lanes)
    if training.threads > 1:  # each has rows of W, if that leaves two vectors to a panel
        vectors = panel_width(layer.inputs, lanes) // lanes
        layer.row_panels = max(layer.row_panels, min(training.threads, vectors // 2))
    if layer.outputs <= SHORT_INNER:
        wide = machine.count_panels(1, layer.inputs, lanes)
        layer.row_panels = min(layer.row_panels, max(training.threads, wide))
    if layer.number > 0 and layer.skips:  # by samples, a thread multiplies those it has
        rows, threads = WORD, 1
        if layer.back_by_columns:
            rows, threads = training.batch, training.threads
        layer.row_panels = machine.count_sparse_panels(layer.inputs, rows, threads, lanes)


def _last_back(training: Training, layers: list[Layer]) -> int:
    """Return which of the layers that go by columns is the last one to go back so; 0 if none."""
    if training.threads <= FEW_THREADS:
        return 0
    return max((it.number for it in layers if it.inputs * it.outputs >= LARGE_WEIGHTS), default=0)


def count_by_columns(training: Training, machine: Machine) -> int:
    """Return how many of the first layers go by columns."""
    count, lanes, sizes = 0, machine.lanes(training.itemsize), training.sizes
    fewest = FEWEST_PANELS
    if training.batch >= FEWEST_SAMPLES_EACH * training.threads:
        fewest = max(fewest, training.threads)
    while (
        count < len(sizes) - 1
        and (training.is_long or _is_far(training, sizes[count + 1]))
        and sizes[count] * sizes[count + 1] >= SMALLEST_WEIGHTS
        and machine.count_panels(LEAF, sizes[count + 1], lanes) >= fewest
    ):
        count += 1
    return count


def _is_far(training: Training, columns: int) -> bool:
    """Return whether one step pays for moving W, of so many columns, to the panels and back."""
    return training.batch >= FEWEST_FAR_SAMPLES and columns * training.itemsize >= FAR_ROWS


def goes_by_groups(training: Training, machine: Machine) -> bool:
    """Return whether leaves of the first layer's inputs are tasks, if no other goes by columns."""
    lanes, (inputs, outputs) = machine.lanes(training.itemsize), training.sizes[:2]
    if not training.skips_x or inputs <= LEAF:
        return False
    return machine.count_sparse_panels(outputs, 1, 1, lanes) == 1


def count_groups(inputs: int, bias: int) -> int:
    """Return how many groups the inputs are: leaves, but a last one of few is with its sibling."""
    leaves = count_leaves(inputs, bias)
    joins = leaves > 2 and leaves % 2 == 0 and inputs - (leaves - 1) * LEAF < WORD
    return leaves - int(joins)


def run_of_leaves(rows: int, num_threads: int) -> int:
    """Return the leaves of a task that takes runs of them; 0 if the batch is cut otherwise."""
    leaves = count_leaves(rows, 0)
    fewest = LEAVES_PER_THREAD * num_threads
    if num_threads > FEW_THREADS:  # of 3.5 for each, a thread's 4 are 1.14 of its equal share
        fewest -= num_threads // 2
    return split_leaves(leaves, num_threads) if leaves >= fewest else 0
