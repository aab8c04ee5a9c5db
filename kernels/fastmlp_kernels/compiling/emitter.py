"""What vector code is emitted from: LLVM's vectors, their loads and stores, masks and shuffles."""

from llvmlite import ir
from numba.core import cgutils, types

from fastmlp_kernels.compiling.cpu import architecture, vector_bits

VECTOR_BITS = vector_bits()
# AVX-512 and NEON have 32 vector registers, AVX 16.
REGISTERS = 32 if VECTOR_BITS == 512 or architecture() == "aarch64" else 16

INT = ir.IntType(64)
_INT32 = ir.IntType(32)


def constant(value):
    return ir.Constant(INT, value)


def emit_fma(builder, x, y, total):
    """Emit the vector fma(x, y, total).

    By hand: llvmlite's builder takes scalars only, its declare_intrinsic builds a wrong signature.
    """
    vector = total.type
    letter = "f32" if isinstance(vector.element, ir.FloatType) else "f64"
    kind = ir.FunctionType(vector, [vector] * 3)
    name = f"llvm.fma.v{vector.count}{letter}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [x, y, total])


class Emitter:
    """Emits code of vectors of the CPU's width, of elements of one dtype."""

    def __init__(self, builder, real):
        self.builder = builder
        self.real = ir.FloatType() if real == types.float32 else ir.DoubleType()
        self.itemsize = real.bitwidth // 8
        self.lanes = VECTOR_BITS // real.bitwidth
        self.vector = ir.VectorType(self.real, self.lanes)
        self.zero = ir.Constant(self.vector, [ir.Constant(self.real, 0.0)] * self.lanes)

    def _intrinsic(self, name, returned, *arguments):
        kind = ir.FunctionType(returned, arguments)
        return cgutils.get_or_insert_function(self.builder.module, kind, name)

    def _address(self, base, elements):
        return self.builder.add(base, self.builder.mul(elements, constant(self.itemsize)))

    def _pointer(self, address, kind):
        return self.builder.inttoptr(address, kind.as_pointer())

    def _load(self, address, kind=None):
        kind = kind or self.vector
        value = self.builder.load(self._pointer(address, kind))
        value.align = self.itemsize
        return value

    def _store(self, value, address):
        self.builder.store(value, self._pointer(address, value.type)).align = self.itemsize

    def _mask_of(self, lanes, valid):
        numbers = ir.VectorType(_INT32, lanes)
        lane = ir.Constant(numbers, list(range(lanes)))
        limit = self._splat(self.builder.trunc(valid, _INT32), lanes)
        return self.builder.icmp_signed("<", lane, limit)

    def _masked_name(self, operation, kind):
        letter = "f32" if self.itemsize == 4 else "f64"
        return f"llvm.masked.{operation}.v{kind.count}{letter}.p0"

    def _masked_load(self, address, kind, mask):
        function = self._intrinsic(
            self._masked_name("load", kind), kind, kind.as_pointer(), _INT32, mask.type, kind
        )
        zero = ir.Constant(kind, [ir.Constant(self.real, 0.0)] * kind.count)
        align = ir.Constant(_INT32, self.itemsize)
        return self.builder.call(function, [self._pointer(address, kind), align, mask, zero])

    def _masked_store(self, value, address, mask):
        kind, pointer = value.type, self._pointer(address, value.type)
        taken = kind, pointer.type, _INT32, mask.type
        function = self._intrinsic(self._masked_name("store", kind), ir.VoidType(), *taken)
        self.builder.call(function, [value, pointer, ir.Constant(_INT32, self.itemsize), mask])

    def _splat(self, scalar, lanes):
        kind = ir.VectorType(scalar.type, lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(_INT32, 0))
        return self._shuffle(first, undefined, [0] * lanes)

    def _shuffle(self, x, y, lanes):
        kind = ir.VectorType(_INT32, len(lanes))
        return self.builder.shuffle_vector(x, y, ir.Constant(kind, lanes))

    def _opaque(self, value):
        """The value, of which LLVM shall not know how it was made."""
        kind = ir.FunctionType(value.type, [value.type])
        return self.builder.asm(kind, "", "=r,0", [value], False)

    def _keep_loads_in_order(self):
        """No load passes this place, nor is one behind it the same as one before."""
        self.builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], True)

    def _keep_rolled(self):
        """The loop around this place is not unrolled."""
        nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True)
        self.builder.call(nothing, [], attrs=("convergent",))
