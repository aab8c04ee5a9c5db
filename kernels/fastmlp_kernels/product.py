"""Single products: what a plan tells for the arrays of one call, see fastmlp/plan/matmul.py."""

import numpy as np

from fastmlp_kernels.compiling.jit import integer, jit, kernel
from fastmlp_kernels.given import (
    C_CONTIGUOUS,
    NOTHING,
    WRITEABLE,
    given,
    hold,
    integer_item,
    itemsize_of,
    let_go,
    list_item,
    new_array,
    none,
    read,
    release_gil,
    same,
    take_gil,
)
from fastmlp_kernels.plans.execute import set_places
from fastmlp_kernels.plans.memory import (
    address,
    aligned,
    array_at,
    copy,
    keep_alive,
    words_on_stack,
)
from fastmlp_kernels.plans.operands import argument_at, set_word, word
from fastmlp_kernels.plans.parallel import run_team
from fastmlp_kernels.plans.record import (
    ARGUMENT_FIELDS,
    ARRAYS,
    CALL_HEAD,
    CALL_WORDS,
    MOST_OWN,
    ON_THREADS,
    ROOM,
    SHARED_WORDS,
    THREADS,
    WORKER,
    usual_place,
)

ARGUMENT_BYTES = 8 * len(ARGUMENT_FIELDS)
MOST_ON_STACK = 512  # int64
# As literals, each would have what it is passed to compiled once more.
NONE, TWO = np.int64(0), np.int64(2)
usual_place = jit(usual_place)


@jit
def _argument(words, place):
    return argument_at(words + 8 * CALL_HEAD + place * ARGUMENT_BYTES)


@jit
def _fits(array, words, place):
    """Whether it is what the plan was made for."""
    it = _argument(words, place)
    if it.axes == 0:
        return True
    if array.kind != word(words, 0) or array.axes != it.axes:
        return False
    if array.rows != it.rows or array.columns != it.columns:
        return False
    if it.is_result and not array.flags & WRITEABLE:
        return False
    if it.is_packed:
        return array.flags & C_CONTIGUOUS != 0
    return array.row_stride == it.row_stride and array.column_stride == it.column_stride


@jit
def _are_apart(array, other):
    """Whether no byte of one packed array belongs to another one; one that isn't read has none."""
    end = array.place + array.rows * array.columns * itemsize_of(array.kind)
    other_end = other.place + other.rows * other.columns * itemsize_of(other.kind)
    return end <= other.place or other_end <= array.place


@jit
def _room(words, memory):
    """Memory for what the plan notes: `memory` if that is enough, else new."""
    room = array_at(np.int64(0), memory.place, memory.rows)
    if room.size < word(words, ROOM):
        room = np.empty(word(words, ROOM), np.int64)
    return room


@jit
def _run(words, room, first, second, third, fourth, fifth, sixth):
    """Run a plan on arrays by address, in the order of their bases."""
    shared = address(room)
    copy(shared, words, SHARED_WORDS * 8)
    set_word(shared, ARRAYS, first)
    set_word(shared, ARRAYS + 1, second)
    set_word(shared, ARRAYS + 2, third)
    set_word(shared, ARRAYS + 3, fourth)
    set_word(shared, ARRAYS + 4, fifth)
    set_word(shared, ARRAYS + 5, sixth)
    set_places(shared, aligned(room[SHARED_WORDS:]))
    run_team(word(words, WORKER), shared, word(words, THREADS), word(words, ON_THREADS))
    keep_alive(room)


@kernel(lambda _: (given, given, given, given, given, given, given, given))
def run(plan, memory, first, second, third, fourth, fifth, sixth):
    """Run a plan on the arrays of a call, in the order of their bases; return whether they fit it.

    Else nothing is done. plan: CALL_WORDS, then what threads share, then the plan's tables; memory:
    int64 for what the plan notes meanwhile, of less than it needs nothing is used.
    """
    words = plan.place
    fits = _fits(first, words, 0) and _fits(second, words, 1) and _fits(third, words, 2)
    if not (
        fits and _fits(fourth, words, 3) and _fits(fifth, words, 4) and _fits(sixth, words, 5)
    ):
        return False
    words += CALL_WORDS * 8
    _run(
        words, _room(words, memory), first.place, second.place, third.place, fourth.place,
        fifth.place, sixth.place,
    )  # fmt: skip
    return True


@jit
def _run_without_gil(plan, memory, first, second, third, fourth, fifth, sixth):
    """The same, while others run Python, who may drop the plan from the list."""
    words = plan.place + CALL_WORDS * 8
    # Of malloc, it took 50 ns.
    own = array_at(np.int64(0), words_on_stack(MOST_ON_STACK), MOST_ON_STACK)
    room = own if word(words, ROOM) <= MOST_ON_STACK else _room(words, memory)
    hold(plan.item)
    state = release_gil()
    _run(words, room, first, second, third, fourth, fifth, sixth)
    take_gil(state)
    let_go(plan.item)


@jit
def _find(plans, x, W, num_threads, memory):
    """The plan for x @ W, whether it can run, and what to answer if not: a place, or None.

    plans: a list of USUAL_PLACES plans, or None in their place.
    """
    place = usual_place(x.rows, x.columns, W.columns)
    plan = list_item(plans, place)
    if plan.axes < 0 or not (_fits(x, plan.place, 0) and _fits(W, plan.place, 1)):
        return plan, False, none()
    threads, room = word(plan.place, 1), word(plan.place + CALL_WORDS * 8, ROOM)
    if (threads != 0 and threads != num_threads) or (room >= MOST_OWN and room > memory.rows):
        return plan, False, integer_item(place)
    return plan, True, none()


@kernel(lambda _: (given, given, given, given, given, integer, given), holds_gil=True)
def forward_of_usual(plans, x, W, b, out, num_threads, memory):
    """Return y, a new array or `out`, if there is a plan for these arrays, else None.

    Return its place, an int, if that plan is for another number of threads, or needs much memory
    and hasn't got it. plans: see `_find`; b, out: None for none; num_threads: 0 if not known.
    """
    plan, is_found, answer = _find(plans, x, W, num_threads, memory)
    if not (is_found and _fits(b, plan.place, 3)):
        return answer
    if out.axes != NOTHING:
        apart = _are_apart(out, x) and _are_apart(out, W) and _are_apart(out, b)
        if not (apart and _fits(out, plan.place, 2)):
            return answer
    y = same(out) if out.axes != NOTHING else new_array(x.kind, TWO, x.rows, W.columns, none())
    _run_without_gil(plan, memory, x.place, W.place, read(y).place, b.place, NONE, NONE)
    return y


@kernel(lambda _: (given, given, given, given, given, integer, given), holds_gil=True)
def backward_of_usual(plans, x, W, grad_y, y, num_threads, memory):
    """Return grad_x and grad_W, new arrays, or None twice; a place and None: see above."""
    plan, is_found, answer = _find(plans, x, W, num_threads, memory)
    if not (is_found and _fits(grad_y, plan.place, 2) and _fits(y, plan.place, 5)):
        return answer, none()
    grad_x = new_array(x.kind, TWO, x.rows, x.columns, none())
    grad_W = new_array(x.kind, TWO, _argument(plan.place, 4).rows, W.columns, grad_x)
    _run_without_gil(
        plan, memory, x.place, W.place, grad_y.place, read(grad_x).place, read(grad_W).place,
        y.place,
    )  # fmt: skip
    return grad_x, grad_W
