"""C functions of one address, called from Python with arrays and integers, without Numba.

`invoke(address, *arguments)` is a function of Python's C interface, made of LLVM code. It writes
what it was given to words on its stack, see passed.py, and calls the C function with their address,
without the GIL. Numba's own way takes twice as long for six arguments.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from fastmlp_kernels.compiling import numpy_structs
from fastmlp_kernels.compiling.late import one_compiles
from fastmlp_kernels.compiling.numpy_structs import ARRAY, DATA, DIMENSIONS, NUMBER, POINTER, field
from fastmlp_kernels.compiling.passed import AXES, LENGTH, PASSED_WORDS, SIZE, START, WIDTH
from fastmlp_kernels.compiling.stored import load_module

MOST_ARGUMENTS = 15

_INT, _VOID = ir.IntType(64), ir.VoidType()
_FASTCALL = 0x80  # METH_FASTCALL: the arguments as a C array
_PYTHON = {
    "PyType_IsSubtype": (NUMBER, [POINTER, POINTER]),
    "PyLong_AsLongLong": (_INT, [POINTER]),
    "PyLong_FromLongLong": (POINTER, [_INT]),
    "PyErr_Occurred": (POINTER, []),
    "PyErr_SetNone": (_VOID, [POINTER]),
    "PyEval_SaveThread": (POINTER, []),
    "PyEval_RestoreThread": (_VOID, [POINTER]),
}


class _Method(ctypes.Structure):
    """Python's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_method = _Method(b"invoke", None, _FASTCALL, None)


def invoke() -> Any:
    """The function."""
    with one_compiles:
        return _made()


@cache
def _made() -> Any:
    module = ir.Module()
    _emit_probe(module)
    _Emitter(module).emit()
    _method.function, probe = load_module(str(module), "invoke", "probe")
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p,) * 3
    function = make(ctypes.byref(_method), None, None)
    some = np.zeros((3, 5, 7), np.float32)
    expected = {START: some.ctypes.data, SIZE: some.size, AXES: 3, LENGTH: 3, WIDTH: 7}
    for word, value in expected.items():
        if function(probe, 1 + 2 * PASSED_WORDS + word, some) != value:
            raise ImportError(f"expected NumPy 2's C interface, got {np.__version__}'s")
    return function


class _Emitter:
    """Writes the function."""

    def __init__(self, module: ir.Module) -> None:
        kind = ir.FunctionType(POINTER, [POINTER, POINTER.as_pointer(), _INT])
        self.function = ir.Function(module, kind, "invoke")
        self.builder = ir.IRBuilder(self.function.append_basic_block())
        self.python = {
            name: ir.Function(module, ir.FunctionType(*parts), name)
            for name, parts in _PYTHON.items()
        }
        self.words = self.builder.alloca(_INT, 1 + MOST_ARGUMENTS * PASSED_WORDS)
        self.derived = self.builder.alloca(NUMBER)

    def emit(self) -> None:
        """Write it: check how many arguments there are, read each, call."""
        builder, (_, arguments, count) = self.builder, self.function.args
        builder.store(_INT(0), self.words)
        fits = builder.icmp_unsigned("<", builder.sub(count, _INT(1)), _INT(MOST_ARGUMENTS))
        with builder.if_then(builder.not_(fits), likely=False):
            builder.call(self.python["PyErr_SetNone"], [_object(TypeError)])
            builder.ret(POINTER(None))
        with _loop(builder, count) as number:
            at = builder.add(builder.mul(number, _INT(PASSED_WORDS)), _INT(1))
            self._read(builder.load(builder.gep(arguments, [number])), at)
        words = self.words
        address = builder.load(builder.gep(words, [_INT(1 + START)]))
        kind = ir.FunctionType(_VOID, [_INT] * 3)
        thread = builder.call(self.python["PyEval_SaveThread"], [])
        given = builder.ptrtoint(words, _INT)
        builder.call(builder.inttoptr(address, kind.as_pointer()), [given, _INT(0), _INT(0)])
        builder.call(self.python["PyEval_RestoreThread"], [thread])
        builder.ret(builder.call(self.python["PyLong_FromLongLong"], [builder.load(words)]))

    def _read(self, item: ir.Value, at: ir.Value) -> None:
        """Write the words of an argument from number `at` on."""
        builder, array = self.builder, _object(np.ndarray)
        # The last of what all Python objects begin with.
        place = builder.gep(item, [_INT(object.__basicsize__ - 8)])
        kind = builder.load(builder.bitcast(place, POINTER.as_pointer()))
        builder.store(NUMBER(1), self.derived)
        with builder.if_then(builder.icmp_unsigned("!=", kind, array), likely=False):
            derived = builder.call(self.python["PyType_IsSubtype"], [kind, array])
            builder.store(derived, self.derived)
        is_array = builder.icmp_unsigned("!=", builder.load(self.derived), NUMBER(0))
        with builder.if_else(is_array, likely=True) as (then, otherwise):
            with then:
                self._read_array(item, at)
            with otherwise:
                value = builder.call(self.python["PyLong_AsLongLong"], [item])
                self._write(at, START, value)
                with builder.if_then(builder.icmp_signed("==", value, _INT(-1)), likely=False):
                    error = builder.call(self.python["PyErr_Occurred"], [])
                    with builder.if_then(builder.icmp_unsigned("!=", error, POINTER(None))):
                        builder.ret(POINTER(None))

    def _read_array(self, item: ir.Value, at: ir.Value) -> None:
        builder = self.builder
        places = DATA, numpy_structs.AXES, DIMENSIONS
        data, count, shape = (field(builder, ARRAY, item, place) for place in places)
        axes = builder.sext(count, _INT)
        for word, value in (
            (START, builder.ptrtoint(data, _INT)), (AXES, axes), (SIZE, _INT(1)),
            (LENGTH, _INT(1)), (WIDTH, _INT(1)),
        ):  # fmt: skip
            self._write(at, word, value)
        with _loop(builder, axes) as axis:
            length = builder.load(builder.gep(shape, [axis]))
            with builder.if_then(builder.icmp_signed("==", axis, _INT(0))):
                self._write(at, LENGTH, length)
            self._write(at, WIDTH, length)
            size = builder.gep(self.words, [builder.add(at, _INT(SIZE))])
            builder.store(builder.mul(builder.load(size), length), size)

    def _write(self, at: ir.Value, word: int, value: ir.Value) -> None:
        place = self.builder.gep(self.words, [self.builder.add(at, _INT(word))])
        self.builder.store(value, place)


def _object(item: Any) -> ir.Constant:
    """The address of an object that lives as long as the process."""
    return _INT(id(item)).inttoptr(POINTER)


@contextmanager
def _loop(builder: ir.IRBuilder, count: ir.Value) -> Iterator[ir.Value]:
    """Write what stands in the block for each number below count."""
    function, before = builder.function, builder.block
    head, body, end = (function.append_basic_block() for _ in range(3))
    builder.branch(head)
    builder.position_at_end(head)
    number = builder.phi(_INT)
    number.add_incoming(_INT(0), before)
    builder.cbranch(builder.icmp_signed("<", number, count), body, end)
    builder.position_at_end(body)
    yield number
    number.add_incoming(builder.add(number, _INT(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(end)


def _emit_probe(module: ir.Module) -> None:
    """Write a C function whose result is a word that it was given: of its 1st argument's number."""
    function = ir.Function(module, ir.FunctionType(_VOID, [_INT] * 3), "probe")
    builder = ir.IRBuilder(function.append_basic_block())
    words = builder.inttoptr(function.args[0], _INT.as_pointer())
    number = builder.load(builder.gep(words, [_INT(1 + PASSED_WORDS + START)]))
    builder.store(builder.load(builder.gep(words, [number])), words)
    builder.ret_void()
