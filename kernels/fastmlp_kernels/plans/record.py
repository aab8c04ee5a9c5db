"""What the planner (fastmlp/plan) and the kernels share: operations, their fields, bases, tasks.

No Numba here: the planner imports this file. All is int64. An operand is a base and an offset in
bytes, `base << 48 | offset`, 0 for none; where a kernel runs, the base has an address. So a plan
holds for every model and data of its shape.
"""

# Bases: those that move from step to step, those that stay, and the thread's own memory.
NONE, X, ORDER, LABELS, SCALES, LOSSES, RATE, CONSTANTS = range(8)  # LABELS: or targets
PARAMETERS, STATES, BUFFERS, PLAN, CLASSES, OWN, KEPT = range(8, 15)
BASE_NAMES = (
    *("none", "x", "order", "labels", "scales", "losses", "rate", "constants"),
    *("parameters", "states", "buffers", "plan", "classes", "own", "kept"),
)
OFFSET_BITS = 48
ARRAYS = 1  # of single products: the base of the call's first array, before that of the next

# The words that all threads share: 16 bases, by how many bytes each moves with a step, then these.
MOVES = 16
LEFT, FAILED, STEPS, STEPS_DONE, HITS_DONE = range(32, 37)
LAST_ROWS, THREADS, OWN_PLACE, OWN_BYTES, TEAM = range(37, 42)
OPERATIONS, TASKS, STAGES, PROGRAMS = range(42, 46)  # addresses of the plan's tables
PACKS, ROOM, NEGATIVE = range(46, 49)  # of a prediction: see execute.py
MAX_NORM = 52  # the bits of a float64, where a plan clips
ON_THREADS = 53  # the address of what starts threads, where a plan has several
WORKER = 51  # the address of what threads run; ROOM is what single products need, too
KERNELS, TILES, ROWS_KERNELS = 64, 112, 160  # addresses: kernels by opcode, micro-kernels by number
SHARED_WORDS = 192

# What comes before the shared words of a model's three plans of predictions, see execute.py.
HEAD = 8
CODE, PLACE, INPUTS, MOST_FEW, FEWEST_MANY, TARGETS, INTEGERS, REALS = range(HEAD)

# What a single product has before these: NumPy's number of its dtype; its threads, but 0 where one
# always suffices; then what each of a call's six arrays must be, in the order of their bases. axes:
# 0 where none is read. Strides are in bytes.
CALL_HEAD = 2
ARGUMENT_FIELDS = (
    *("axes", "rows", "columns", "is_packed", "row_stride", "column_stride", "is_result"),
)
CALL_WORDS = CALL_HEAD + 6 * len(ARGUMENT_FIELDS)
# What a call for usual arrays has to know of an operation on rows; see row_shares.py.
ROWWISE_FIELDS = ("float32", "float64", "work", "inputs", "results", "is_matrix", "most_work")
USUAL_PLACES = 256  # of plans for usual arrays, see product.py


def usual_place(rows: int, inner: int, columns: int) -> int:
    """The one place where the plan for such a shape can be."""
    return (rows * 31 + inner * 7 + columns) % USUAL_PLACES

# Activations that are operations of their own; relu is part of a product.
ACTIVATIONS = ("tanh", "logistic", "silu", "gelu", "leaky_relu")
# Losses of targets; that of labels, cross-entropy, is the operation "loss".
TARGET_LOSSES = ("squared_error", "absolute_error", "huber", "poisson", "binary_cross_entropy")
# What a prediction makes of each of the last layer's outputs; of a row of them, "softmax".
HEADS = ("counts", "binary_probabilities", "binary_log_probabilities", "binary_classes")

# Operations. Each has these first: of a task's rows it takes `most` at most, from `chunk` on.
OPERATION_WORDS = 40
OPCODE, CHUNK, MOST = range(3)
_COMMON = ("opcode", "chunk", "most")
_UPDATE = ("w", "gradient", "first_state", "second_state", "size", "without_decay")
FIELDS = {
    # C = gate(relu(A @ B + bias)) or C - rate * (A @ B); see product_walk.py. relu: 1, or with a
    # gate BY_SLOPE, where it is a factor itself.
    "product": (
        *("rows", "inner", "ones", "a", "a_row", "a_step", "b", "b_row", "b_leaf"),
        *("c", "c_row", "bias", "relu", "gate", "gate_row", "rate", "width", "at_once"),
        *("level", "panels", "panel_count", "scratch", "itemsize", "by_leaf", "part"),
    ),
    # The product of rows that are mostly zeros; see sparse_walk.py.
    "sparse": (
        *("rows", "inner", "ones", "a", "a_row", "a_step", "words", "words_row", "b", "b_step"),
        *("bias", "width", "total", "slots", "slot_size", "target", "rate", "by_leaf", "part"),
        *("offsets", "distance", "finds", "x", "x_row", "c", "c_row", "columns", "gate", "relu"),
        *("itemsize", "vectors"),
    ),
    # Words of what is not zero, by rows and by columns.
    "find": (
        *("rows", "x", "x_row", "inputs", "first", "stop", "words", "words_row"),
        *("column_words", "stride", "square", "skipped"),
    ),
    "gather": ("x", "x_row", "order", "target", "target_row", "size"),
    "move": ("source", "source_row", "target", "target_row", "count", "size"),
    "pack": (
        *("source", "row_step", "column_step", "first_k", "steps", "depth"),
        *("panels", "panel_count", "target", "width"),
    ),
    # Cross-entropy; see step_loss.py.
    "loss": ("logits", "row_size", "classes", "labels", "scales", "losses", "grad", "scratch"),
    "join": ("sums", "apart", "count", "width", "scratch", "c", "c_row", "relu", "itemsize"),
    "gate": ("values", "gates", "result"),
    "add": ("parts", "apart", "size", "pairs", "count"),
    "watch": ("values", "row_size", "size", "signs", "columns"),
    "rates": ("rates",),
    **dict.fromkeys(("sgd", "momentum", "adam"), _UPDATE),
    "argmax": ("logits", "row_size", "columns", "classes"),
    **dict.fromkeys(("nesterov", "adamw"), _UPDATE),
    # The norm of all gradients, and a block's gradient with no larger one; see norm.py.
    "squares": ("values", "size", "sums"),
    "clip": (
        *("gradient", "row", "target", "rows", "columns", "width"),
        *("sums", "each", "count", "scratch"),
    ),
    # z = f(z) and its slope, an operation for each activation; see activations.py.
    **dict.fromkeys(ACTIVATIONS, ("z", "slope", "row_size", "columns")),
    # The losses of targets; see losses.py.
    **dict.fromkeys(
        TARGET_LOSSES,
        (
            *("z", "row_size", "outputs", "targets", "scales", "losses", "grad"),
            *("constants", "scratch", "at_once"),
        ),
    ),
    # What predictions are; see heads.py.
    "softmax": ("z", "row_size", "classes", "is_log", "result", "e", "scratch"),
    **dict.fromkeys(HEADS, ("z", "row_size", "outputs", "columns", "result", "scratch")),
}
FIELDS = {name: _COMMON + fields for name, fields in FIELDS.items()}
OPCODES = {name: number for number, name in enumerate(FIELDS)}

# Tasks: operations first .. stop for `rows` samples from `row` on, of a batch of so many; where
# `leaves` isn't 0, for one leaf of them after the other, whose sum is `part`.
TASK_WORDS = 8
TASK_FIELDS = ("first", "stop", "row", "rows", "batch", "leaves", "part")

# The thread's own memory: what it is at, then what the plan puts there.
OWN_WORDS = 32
OWN_CALL = 16  # from this word on, what a call of sparse.py's rows has to know
OWN_FIELDS = ("row", "rows", "batch", "leaf", "leaves", "part", "hits")

# A model of a population; see population.py. Addresses, then numbers, then places in the memory of
# the thread that trains it. y_bytes: of a sample's label or targets; weights: float64, of the rows;
# constants: the steps' but for rates and decay, which each job has; rule: where these belong.
JOB_FIELDS = (
    *("plan", "x", "rows", "y", "weights", "parameters", "states", "losses", "hits"),
    *("constants", "rates", "rate_step", "decay", "rule"),
    *("samples", "batch_size", "steps", "epoch", "epochs", "y_bytes", "size"),
    *("parameter_bytes", "state_bytes", "max_norm", "bits"),
    *("shuffles", "watches", "check_finite", "is_left", "is_over"),
    *("order", "draws", "counts", "seen", "seen_weights", "scales", "sample_losses", "work"),
    *("step_constants", "plan_memory", "plan_bytes"),
    # Validation: the plan of its losses, samples, where they lie and where the figures go; then
    # what ends a training in time, and the weights and states of the best epoch, 0: not kept.
    *("validation_plan", "validation_x", "validation_y", "validation_samples"),
    *("validation_sample_losses", "validation_memory", "validation_losses", "validation_hits"),
    *("patience", "by_accuracy", "best", "best_figure", "best_epoch"),
    *("state_low", "state_high", "increment_low", "increment_high"),
)
RULES = ("other", "adam", "adamw")

# Panels: a run of columns, and where the table of its tiles lies behind the panels' base; for each
# number of rows that are left, 0 .. 48, which tile comes next, its rows, and how many of them.
PANEL_WORDS, TILE_WORDS = 4, 4
PANEL_FIELDS = ("first", "columns", "width", "tiles")
TILE_FIELDS = ("number", "rows", "count")

# A plan's programs, a first and a last stage each; of a stage its first task, and threads' ends.
BEFORE, WHOLE, LAST, AFTER = range(4)
PROGRAM_WORDS = 8
MOST_OWN = 1 << 13  # int64 of memory that a call takes by itself: malloc keeps so little

LEAF, LINE, BLOCK_ROWS, WORD = 256, 64, 48, 64
FEW_THREADS = 2  # whose tasks are as measured; of more, tasks are smaller for equal shares
READ_ROWS = 4  # of a task by columns: reading the panel takes as long as so many rows of it
LOSS_SCRATCH, LOSS_MORE = 34, 22  # elements of the loss's scratch for each row; rows more
BY_SLOPE = 2  # in the place of a product's `relu`
CONSTANTS_EACH = 8  # float64 of a step: weight decay, then those of the update, see fit_checks.py

TEAM_LINES = 2  # cache lines of a team, before one of each thread; see team.py


def team_bytes(num_threads: int) -> int:
    """The memory of a team."""
    return (TEAM_LINES + num_threads) * LINE
