"""The generator of the micro-kernel: emits the LLVM IR of one tile shape.

Its rows and vectors are constants of the code: with values known only at run time it ran at half
the speed. The accumulators are slots on the stack that LLVM keeps in vector registers.
"""

from llvmlite import ir
from numba.core import cgutils

from fastmlp_kernels.compiling.emitter import (
    INT,
    REGISTERS,
    VECTOR_BITS,
    Emitter,
    constant,
    emit_fma,
)
from fastmlp_kernels.plans.memory import emit_fetch
from fastmlp_kernels.plans.record import BY_SLOPE, LEAF

# Masked stores and sub-vector broadcasts cost nothing with AVX-512 and much elsewhere. Masked loads
# cost little with AVX, too, and NEON has none: there B is packed where its last columns fill no
# vector.
HAS_MASKS = VECTOR_BITS == 512
HAS_MASKED_LOADS = VECTOR_BITS >= 256

STRIDES = (
    *("a_row", "a_step", "b_step", "b_leaf", "c_row", "gate_row"),
    *("level_size", "tile_size", "ahead_step", "ahead_tile"),
)

ROWS_EACH = 3  # that one pointer serves: addresses have a base, and an index once or twice


class Tile(Emitter):
    """Emits the code of one tile; every value is a vector of the CPU's width."""

    def __init__(self, builder, real, arguments, rows, vectors, group):
        super().__init__(builder, real)
        self.argument = arguments
        self.rows, self.vectors, self.group = rows, vectors, group
        self.tail_lanes = self.lanes // group if group > 1 else 0
        self.accumulators = [
            [cgutils.alloca_once(builder, self.vector) for _ in range(vectors)] for _ in range(rows)
        ]
        tails = rows // group if group > 1 else 0
        self.tails = [cgutils.alloca_once(builder, self.vector) for _ in range(tails)]
        # Beside those and B there must be room for two elements of A, and for the tail of B. Where
        # there is just so much, LLVM spills; the last vector of B is read for each row then.
        needed = rows * vectors + tails + vectors + 3
        self.is_crowded = tails > 0 and needed >= REGISTERS

    def emit(self):
        builder, argument = self.builder, self.argument
        self._set_masks()
        self.stride = {
            name: builder.mul(argument[name], constant(self.itemsize)) for name in STRIDES
        }
        self.place = {
            name: cgutils.alloca_once_value(builder, argument[name])
            for name in ("a", "b", "c", "gate", "partials", "ahead")
        }
        with cgutils.for_range(builder, argument["count"]):
            self._run_leaves()
            for name, step, times in [
                ("a", "a_row", self.rows),
                ("c", "c_row", self.rows),
                ("gate", "gate_row", self.rows),
                ("partials", "tile_size", 1),
                ("ahead", "ahead_tile", 1),
            ]:
                self._advance(self.place[name], self.stride[step], times)

    def _advance(self, place, stride, times):
        step = self.builder.mul(stride, constant(times))
        self.builder.store(self.builder.add(self.builder.load(place), step), place)

    def _run_leaves(self):
        """All leaves of one tile."""
        builder, argument = self.builder, self.argument
        start = {
            name: cgutils.alloca_once_value(builder, builder.load(self.place[name]))
            for name in ("a", "b", "ahead")
        }
        for name, slot in start.items():
            builder.store(builder.load(self.place[name]), slot)
        final = builder.sub(argument["leaves"], constant(1))
        with cgutils.for_range(builder, argument["leaves"]) as loop:
            is_final = builder.icmp_signed("==", loop.index, final)
            for slot in self._slots():
                builder.store(self.zero, slot)
            reads_c = builder.icmp_signed("!=", argument["rate"], constant(0))
            with builder.if_then(builder.and_(is_final, reads_c)):
                self._fetch_result()
            self._chain(start, builder.select(is_final, argument["steps"], constant(LEAF)))
            ends = builder.icmp_signed("!=", argument["last"], constant(0))
            closing = builder.and_(is_final, ends)
            with_bias = builder.icmp_signed("!=", argument["bias"], constant(0))
            with builder.if_then(builder.and_(closing, with_bias)):
                self._add_bias()
            level = self._join_partials(builder.add(argument["leaf"], loop.index), closing)
            with builder.if_else(closing) as (then, otherwise):
                with then:
                    self._finish()
                with otherwise:
                    for position, slot in enumerate(self._slots()):
                        self._store(builder.load(slot), self._partial(level, position))
            self._advance(start["a"], self.stride["a_step"], LEAF)
            self._advance(start["b"], self.stride["b_leaf"], 1)
            self._advance(start["ahead"], self.stride["ahead_step"], LEAF)

    def _slots(self):
        return [slot for row in self.accumulators for slot in row] + self.tails

    # The columns of a row. The last ones of a panel are masked, or are a packed tail.

    def _set_masks(self):
        whole = (self.vectors - 1 if self.group == 1 else self.vectors) * self.lanes
        lanes = self.lanes if self.group == 1 else self.tail_lanes
        columns = self.builder.sub(self.argument["columns"], constant(whole))
        self.last_mask = self._mask_of(lanes, columns)
        self.is_whole = self.builder.icmp_signed("==", columns, constant(lanes))

        # Of constant masks LLVM would make shuffles, which take a port of the FMAs: 2% of a tile.
        number, mask = ir.IntType(self.lanes), ir.VectorType(ir.IntType(1), self.lanes)
        row = (1 << self.tail_lanes) - 1
        self.row_masks = [
            self.builder.bitcast(
                self._opaque(ir.Constant(number, row << place * self.tail_lanes)), mask
            )
            for place in range(self.group if self.group > 1 else 0)
        ]

    def _is_last(self, j):
        return self.group == 1 and j == self.vectors - 1

    def _repeat_tail(self, value):
        """The tail's columns, once for each row of a group."""
        lanes = [lane % self.tail_lanes for lane in range(self.lanes)]
        return self._shuffle(value, ir.Constant(value.type, ir.Undefined), lanes)

    def _merge_row(self, merged, value, place):
        """`merged` with the lanes of the group's row number `place` taken from `value`."""
        if place == 0:
            return value
        return self.builder.select(self.row_masks[place], value, merged)

    def _row_of_tail(self, value, place):
        lanes = range(place * self.tail_lanes, (place + 1) * self.tail_lanes)
        return self._shuffle(value, ir.Constant(value.type, ir.Undefined), list(lanes))

    def _read_columns(self, address, masked):
        """The vectors of one row of columns at `address`, and the packed tail's if there is one."""
        full = [self._address(address, constant(j * self.lanes)) for j in range(self.vectors)]
        if self.group == 1:
            read = [self._load(at) for at in full[:-1]]
            kind, mask = self.vector, self.last_mask
            last = self._masked_load(full[-1], kind, mask) if masked else self._load(full[-1])
            return [*read, last], None
        read = [self._load(at) for at in full]
        at = self._address(address, constant(self.vectors * self.lanes))
        kind = ir.VectorType(self.real, self.tail_lanes)
        return read, self._repeat_tail(self._masked_load(at, kind, self.last_mask))

    # The chain over k.

    def _fetch_result(self):
        """Fetch the tile of C meanwhile, where it is read at the end."""
        builder = self.builder
        for i in range(self.rows):
            row = builder.mul(self.stride["c_row"], constant(i))
            for j in range(self.vectors + int(self.group > 1)):
                place = builder.add(builder.load(self.place["c"]), row)
                emit_fetch(builder, self._address(place, constant(j * self.lanes)), level=1)

    def _chain(self, start, steps):
        builder = self.builder
        place = {name: cgutils.alloca_once(builder, INT) for name in ("b", "ahead")}
        for name, slot in place.items():
            builder.store(builder.load(start[name]), slot)
        rows = self._pointers_to_rows(builder.load(start["a"]))
        with cgutils.for_range(builder, steps):
            # For AMD's CPUs LLVM would unroll it, with the addresses of all rows, for which there
            # are no registers: 1024 x 1024 x 1024 took 1.13 times as long (Zen 3).
            self._keep_rolled()
            b, ahead = (builder.load(place[name]) for name in ("b", "ahead"))
            emit_fetch(builder, ahead, level=2)
            columns, tail = self._read_columns(b, masked=HAS_MASKED_LOADS)
            merged = None
            for i in range(self.rows):
                if self.is_crowded:
                    last = self._address(b, constant((self.vectors - 1) * self.lanes))
                    columns[-1] = self._load(last)
                element = self._splat(self._load_of_row(rows, i), self.lanes)
                for j in range(self.vectors):
                    self._fma(self.accumulators[i][j], element, columns[j])
                if self.group > 1:
                    merged = self._merge_row(merged, element, i % self.group)
                    if i % self.group == self.group - 1:
                        self._fma(self.tails[i // self.group], merged, tail)
                if self.is_crowded:
                    self._keep_loads_in_order()
            for name, slot in place.items():
                self._advance(slot, self.stride[f"{name}_step"], 1)
            for slot in rows:
                self._advance(slot, self.stride["a_step"], 1)

    def _pointers_to_rows(self, a):
        """One for each few rows: LLVM would make a chain of additions of them all, 12 cycles long.

        For 10 columns that took 1.4 times as long.
        """
        slots = [cgutils.alloca_once(self.builder, INT) for _ in range(0, self.rows, ROWS_EACH)]
        for number, slot in enumerate(slots):
            offset = self.builder.mul(self.stride["a_row"], constant(number * ROWS_EACH))
            self.builder.store(self._opaque(self.builder.add(a, offset)), slot)
        return slots

    def _load_of_row(self, pointers, i):
        row = self.builder.mul(self.stride["a_row"], constant(i % ROWS_EACH))
        pointer = self.builder.load(pointers[i // ROWS_EACH])
        return self._load(self.builder.add(pointer, row), self.real)

    def _fma(self, slot, x, y):
        self.builder.store(emit_fma(self.builder, x, y, self.builder.load(slot)), slot)

    def _add_bias(self):
        """One more index k with a = 1: fma(1, bias, total) is total + bias."""
        columns, tail = self._read_columns(self.argument["bias"], masked=True)
        for row in self.accumulators:
            for slot, value in zip(row, columns, strict=True):
                self._add(slot, value)
        for slot in self.tails:
            self._add(slot, tail)

    def _add(self, slot, value):
        self.builder.store(self.builder.fadd(self.builder.load(slot), value), slot)

    # The tree: bit n of the leaf's number is set where a partial tile of 2^n leaves waits.

    def _partial(self, level, position):
        return self._address(level, constant(position * self.lanes))

    def _join_partials(self, leaf, closing):
        """Add the waiting partial tiles that end here; return the address of the next free level.

        They are those of the trailing ones of `leaf`; of all ones, at the last leaf.
        """
        builder = self.builder
        waiting, level = (cgutils.alloca_once(builder, INT) for _ in range(2))
        builder.store(leaf, waiting)
        builder.store(builder.load(self.place["partials"]), level)

        check = builder.append_basic_block("tree.check")
        body = builder.append_basic_block("tree.body")
        end = builder.append_basic_block("tree.end")
        builder.branch(check)
        builder.position_at_end(check)
        bits = builder.load(waiting)
        is_one = builder.trunc(bits, ir.IntType(1))
        some = builder.icmp_signed("!=", bits, constant(0))
        builder.cbranch(builder.select(closing, some, is_one), body, end)
        builder.position_at_end(body)
        with builder.if_then(is_one):
            for position, slot in enumerate(self._slots()):
                self._add(slot, self._load(self._partial(builder.load(level), position)))
        builder.store(builder.lshr(bits, constant(1)), waiting)
        self._advance(level, self.stride["level_size"], 1)
        builder.branch(check)
        builder.position_at_end(end)
        return builder.load(level)

    # The end: relu or gate in registers, then the only store of the result.

    def _finish(self):
        builder, argument = self.builder, self.argument
        with builder.if_then(builder.icmp_signed("==", argument["relu"], constant(1))):
            for slot in self._slots():
                value = builder.load(slot)
                positive = builder.fcmp_ordered(">", value, self.zero)
                builder.store(builder.select(positive, value, self.zero), slot)
        with builder.if_then(builder.icmp_signed("!=", argument["gate"], constant(0))):
            self._gate()
        with builder.if_then(builder.icmp_signed("!=", argument["rate"], constant(0))):
            rate = self._splat(self._load(argument["rate"], self.real), self.lanes)
            self._combine("c", lambda value, c: builder.fsub(c, builder.fmul(rate, value)))
        for i in range(self.rows):
            c = builder.add(
                builder.load(self.place["c"]), builder.mul(self.stride["c_row"], constant(i))
            )
            for j, slot in enumerate(self.accumulators[i]):
                at = self._address(c, constant(j * self.lanes))
                if self._is_last(j):
                    self._store_last(builder.load(slot), at)
                else:
                    self._store(builder.load(slot), at)
            if self.group > 1:
                tail = builder.load(self.tails[i // self.group])
                at = self._address(c, constant(self.vectors * self.lanes))
                self._masked_store(self._row_of_tail(tail, i % self.group), at, self.last_mask)

    def _store_last(self, value, at):
        if HAS_MASKS:
            self._masked_store(value, at, self.last_mask)
            return
        # AMD's CPUs without AVX-512 take a dozen cycles and more for a masked store.
        with self.builder.if_else(self.is_whole) as (then, otherwise):
            with then:
                self._store(value, at)
            with otherwise:
                self._masked_store(value, at, self.last_mask)

    def _gate(self):
        """Multiply by 1 where the gate is above 0, else by 0; or by the gate, if it is a slope."""
        builder = self.builder
        one = ir.Constant(self.vector, [ir.Constant(self.real, 1.0)] * self.lanes)
        is_slope = builder.icmp_signed("==", self.argument["relu"], constant(BY_SLOPE))

        def multiply(value, gate):
            factor = builder.select(builder.fcmp_ordered(">", gate, self.zero), one, self.zero)
            return builder.fmul(value, builder.select(is_slope, gate, factor))

        self._combine("gate", multiply)

    def _combine(self, name, function):
        """Replace each accumulator by `function` of it and of what an array has in its place."""
        builder = self.builder

        def combine(slot, other):
            builder.store(function(builder.load(slot), other), slot)

        merged = None
        for i in range(self.rows):
            row = builder.mul(self.stride[f"{name}_row"], constant(i))
            columns, tail = self._read_columns(
                builder.add(builder.load(self.place[name]), row), masked=True
            )
            for slot, other in zip(self.accumulators[i], columns, strict=True):
                combine(slot, other)
            if self.group > 1:
                merged = self._merge_row(merged, tail, i % self.group)
                if i % self.group == self.group - 1:
                    combine(self.tails[i // self.group], merged)
