"""Arrays as Python gives them: compiled code reads what NumPy has written down of each.

Numba takes dtype, axes and order of its own array arguments on trust, so Python has to check them
before, and to hold views, as another thread can give an array another shape meanwhile: 1.5 us for
two small matrices. This reads an array while no other thread runs Python, and in 5 ns where Numba
takes 35; the kernel looks at what was read, and refuses what it can't use. A function that holds
the GIL can make a result, too, in a third of the time that np.empty takes.
"""

import ctypes

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import (
    NativeValue,
    box,
    intrinsic,
    make_attribute_wrapper,
    models,
    register_model,
    unbox,
)

from fastmlp_kernels.compiling.jit import jit
from fastmlp_kernels.compiling.numpy_structs import (
    ARRAY,
    AXES,
    BYTE,
    DATA,
    DESCRIPTION,
    DIMENSIONS,
    DTYPE,
    FLAGS,
    KIND,
    NUMBER,
    ORDER,
    POINTER,
    SIZES,
    STRIDES,
    field,
)

# item: the object's own address; place: that of the first element. kind: NumPy's number of the
# dtype, -1 for one whose bytes are swapped. axes: -1 for what is no array of NumPy's own class, -2
# for None; the rest is 0 then. rows, columns and their strides in bytes: the first two axes; a
# missing one has 1 and 0.
FIELDS = (
    *("item", "place", "kind", "axes", "flags", "rows", "columns", "row_stride", "column_stride"),
)
NOTHING = -2
C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400  # NumPy's flags
FLOAT32, FLOAT64 = np.dtype(np.float32).num, np.dtype(np.float64).num

_INT = ir.IntType(64)


def _numpys(number):
    """The address that stands at a place of NumPy's interface in C, as import_array() finds it."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    table = pointer(np._core._multiarray_umath._ARRAY_API, None)
    return ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[number]


_ARRAY_CLASS, _NEW_ARRAY = "fastmlp_array_class", "fastmlp_new_array"
llvm.add_symbol(_ARRAY_CLASS, _numpys(2))  # PyArray_Type
llvm.add_symbol(_NEW_ARRAY, _numpys(93))  # PyArray_New


class Given(types.Type):
    """The type of an argument that may be any Python object."""

    def __init__(self):
        super().__init__(name="fastmlp.given")


given = Given()


@register_model(Given)
class _Model(models.StructModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, [(name, types.int64) for name in FIELDS])


for _name in FIELDS:
    make_attribute_wrapper(Given, _name, _name)


@unbox(Given)
def _unbox(kind, item, c):
    return NativeValue(_emit_read(c.context, c.builder, item))


def _emit_read(context, builder, item):
    """What is written down of a Python object; the code is in each module once."""
    place = cgutils.create_struct_proxy(given)(context, builder)
    kinds = [item.type, place._getpointer().type]
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), kinds), "fastmlp_read"
    )
    if function.is_declaration:
        function.linkage = "internal"
        _define_read(context, function)
    builder.call(function, [item, place._getpointer()])
    return place._getvalue()


def _define_read(context, function):
    builder = ir.IRBuilder(function.append_basic_block())
    item, place = function.args
    pyapi = context.get_python_api(builder)
    it = cgutils.create_struct_proxy(given)(context, builder, ref=place)
    for name in FIELDS:
        setattr(it, name, _INT(0))
    it.item = builder.ptrtoint(item, _INT)
    is_none = builder.icmp_unsigned("==", item, pyapi.borrow_none())
    it.axes = builder.select(is_none, _INT(NOTHING), _INT(-1))
    array_class = context.get_c_value(builder, BYTE, _ARRAY_CLASS)
    classes = [builder.ptrtoint(each, _INT) for each in (pyapi.get_type(item), array_class)]
    with builder.if_then(builder.icmp_unsigned("==", *classes)):
        _read_array(builder, item, it)
    builder.ret_void()


def _read_array(builder, item, it):
    axes, flags = (field(builder, ARRAY, item, number) for number in (AXES, FLAGS))
    it.place = builder.ptrtoint(field(builder, ARRAY, item, DATA), _INT)
    it.axes, it.flags = builder.sext(axes, _INT), builder.sext(flags, _INT)
    described = field(builder, ARRAY, item, DTYPE)
    order, kind = (field(builder, DESCRIPTION, described, number) for number in (ORDER, KIND))
    is_native = builder.icmp_unsigned("==", order, BYTE(ord("=")))
    it.kind = builder.select(is_native, builder.sext(kind, _INT), _INT(-1))
    it.rows = it.columns = _INT(1)
    places = [field(builder, ARRAY, item, number) for number in (DIMENSIONS, STRIDES)]
    for axis, names in enumerate((("rows", "row_stride"), ("columns", "column_stride"))):
        with builder.if_then(builder.icmp_signed(">", axes, NUMBER(axis))):
            for name, place in zip(names, places, strict=True):
                value = builder.load(builder.gep(place, [NUMBER(axis)]))
                setattr(it, name, value if value.type == _INT else builder.sext(value, _INT))


class Item(types.Type):
    """The type of a Python object that compiled code returns: its address, 0 for None.

    Only functions that hold the GIL make any.
    """

    def __init__(self):
        super().__init__(name="fastmlp.item")


item = Item()


@register_model(Item)
class _ItemModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _INT)


@box(Item)
def _give(kind, address, c):
    result = cgutils.alloca_once_value(c.builder, c.builder.inttoptr(address, c.pyapi.pyobj))
    with c.builder.if_then(c.builder.icmp_signed("==", address, _INT(0))):
        c.builder.store(c.pyapi.make_none(), result)
    return c.builder.load(result)


def _size(builder, value):
    return value if cgutils.intp_t == _INT else builder.trunc(value, cgutils.intp_t)


@intrinsic
def none(typing_context):
    """None, as an item."""
    return item(), lambda context, builder, signature, values: _INT(0)


@intrinsic
def integer_item(typing_context, value):
    """A Python int, as an item."""

    def codegen(context, builder, signature, values):
        made = context.get_python_api(builder).long_from_longlong(values[0])
        return builder.ptrtoint(made, _INT)

    return item(types.int64), codegen


@intrinsic
def _new_array(typing_context, kind, axes, rows, columns):
    def codegen(context, builder, signature, values):
        kind, axes, *sizes = values
        place = cgutils.alloca_once(builder, cgutils.intp_t, size=2)
        for axis, size in enumerate(sizes):
            builder.store(_size(builder, size), builder.gep(place, [NUMBER(axis)]))
        # class, axes, sizes, number of the dtype, strides, data, bytes of text, flags, parent
        kinds = [
            *(POINTER, NUMBER, SIZES, NUMBER, SIZES),
            *(POINTER, NUMBER, NUMBER, POINTER),
        ]
        signature = ir.FunctionType(POINTER, kinds)
        function = cgutils.get_or_insert_function(builder.module, signature, _NEW_ARRAY)
        axes, kind = (builder.trunc(value, NUMBER) for value in (axes, kind))
        given = [context.get_c_value(builder, BYTE, _ARRAY_CLASS), axes, place, kind]
        rest = [ir.Constant(each, 0 if each == NUMBER else None) for each in kinds[4:]]
        return builder.ptrtoint(builder.call(function, given + rest), _INT)

    return item(types.int64, types.int64, types.int64, types.int64), codegen


@jit
def new_array(kind, axes, rows, columns, beside):
    """A new C-contiguous array of `axes` axes, two at most, as an item.

    beside: the result that was made before it, which goes where there is no room; or none().
    """
    made = _new_array(kind, axes, rows, columns)
    if is_none(made):
        if not is_none(beside):
            let_go(beside)
        raise MemoryError("expected room for a result, got none; use smaller batches")
    return made


@jit
def like(array, beside):
    """A new array of the same shape, two axes at most, and dtype; beside: see `new_array`."""
    return new_array(array.kind, array.axes, array.rows, array.columns, beside)


@intrinsic
def same(typing_context, array):
    """An argument itself, as an item."""

    def codegen(context, builder, signature, values):
        it = cgutils.create_struct_proxy(given)(context, builder, values[0])
        pyapi = context.get_python_api(builder)
        pyapi.incref(_object(builder, pyapi, it.item))
        return it.item

    return item(array), codegen


@intrinsic
def is_none(typing_context, of):
    """Whether an item is None."""

    def codegen(context, builder, signature, values):
        return builder.icmp_signed("==", values[0], _INT(0))

    return types.boolean(item), codegen


def _object(builder, pyapi, address):
    return builder.inttoptr(address, pyapi.pyobj)


@intrinsic
def read(typing_context, of):
    """The array that an item, or a Python object at an address, is."""

    def codegen(context, builder, signature, values):
        pyapi = context.get_python_api(builder)
        return _emit_read(context, builder, _object(builder, pyapi, values[0]))

    return given(of), codegen


@intrinsic
def list_item(typing_context, of, place):
    """What is at a place of an argument that is a list, as an argument."""

    def codegen(context, builder, signature, values):
        it = cgutils.create_struct_proxy(given)(context, builder, values[0])
        pyapi = context.get_python_api(builder)
        found = pyapi.list_getitem(_object(builder, pyapi, it.item), _size(builder, values[1]))
        return _emit_read(context, builder, found)

    return given(of, types.int64), codegen


def _of_reference(change, doc):
    @intrinsic
    def of_reference(typing_context, address):
        def codegen(context, builder, signature, values):
            pyapi = context.get_python_api(builder)
            getattr(pyapi, change)(_object(builder, pyapi, values[0]))
            return context.get_dummy_value()

        return types.void(address), codegen

    of_reference.__doc__ = doc
    return of_reference


hold = _of_reference("incref", "Keep the Python object at an address, until `let_go`.")
let_go = _of_reference("decref", "Drop a reference to the Python object at an address, or an item.")


@intrinsic
def release_gil(typing_context):
    """Let other threads run Python until `take_gil(state)`; return the state."""

    def codegen(context, builder, signature, values):
        return builder.ptrtoint(context.get_python_api(builder).save_thread(), _INT)

    return types.int64(), codegen


@intrinsic
def take_gil(typing_context, state):
    """Wait for the GIL."""

    def codegen(context, builder, signature, values):
        pyapi = context.get_python_api(builder)
        pyapi.restore_thread(builder.inttoptr(values[0], pyapi.voidptr))
        return context.get_dummy_value()

    return types.void(state), codegen


@jit
def itemsize_of(kind):
    """The bytes of an element, float32 or float64."""
    return 4 if kind == FLOAT32 else 8


@jit
def is_packed(array, kind):
    """Whether it is a C-contiguous array of this kind."""
    return array.axes >= 0 and array.kind == kind and array.flags & C_CONTIGUOUS != 0


@jit
def have_one_shape(array, other):
    """Whether they have the same axes, two at most."""
    sizes = array.rows == other.rows and array.columns == other.columns
    return sizes and array.axes == other.axes and array.axes <= 2
