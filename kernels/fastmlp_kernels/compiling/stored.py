"""C functions by address, without Numba where they have been compiled before.

Numba's import takes longer than all else of a program's start. Of each C function that it compiles
machine code is kept that needs nothing of Numba's, and where Numba isn't loaded, LLVM's linker
alone loads it: bits, errors and threads are the same. The key is all that Numba's code depends on;
where anything of it differs, or can't be told, Numba is imported and compiles or loads its own.
"""

import ctypes
import hashlib
import importlib.util
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from fastmlp_kernels.compiling.folder import Files, source_of, sources_digest
from fastmlp_kernels.compiling.late import (
    VARIABLES,
    Late,
    is_as_the_environment_says,
    is_set_up_elsewhere,
    one_compiles,
)
from fastmlp_kernels.compiling.notices import logger

# Functions of Python's own that code calls: in call.py, and where it has raised, see lean.py.
PYTHON = (
    *("PyType_IsSubtype", "PyLong_AsLongLong", "PyLong_FromLongLong", "PyErr_Occurred"),
    *("PyErr_SetNone", "PyEval_SaveThread", "PyEval_RestoreThread", "PyGILState_Ensure"),
    *("PyErr_BadInternalCall", "PyErr_WriteUnraisable", "PyGILState_Release"),
)

_addresses: dict[tuple[Any, ...], int] = {}


def address(module: str, maker: str, *arguments: Any) -> int:
    """The address that a maker of a module of this package gives for the arguments."""
    named = (module, maker, *arguments)
    if named not in _addresses:
        with one_compiles:
            if named not in _addresses:  # another thread may have found it meanwhile
                _addresses[named] = _find(module, maker, arguments)
    return _addresses[named]


def _find(module: str, maker: str, arguments: tuple[Any, ...]) -> int:
    files = _files(module, maker)
    key = tuple(each.str if isinstance(each, np.dtype) else each for each in arguments)
    if files is not None and "numba" not in sys.modules:
        code = _read(files, key)
        if code:
            logger.debug("loaded %s without Numba", files.path(key).name)
            return _load(code, _symbol(files, key))
    found = int(getattr(Late(module), maker)(*arguments))
    if files is not None and is_as_the_environment_says():
        _keep(files, key, found)
    return found


def remembered(module: str, function: str) -> int:
    """The number that a function of a module of this package returns, which needs Numba for it."""
    with one_compiles:
        files = _files(module, function)
        if files is not None and "numba" not in sys.modules:
            kept = _read(files, ())
            if kept is not None:
                return int(kept)
        found = int(getattr(Late(module), function)())
        if files is not None and is_as_the_environment_says():
            with suppress(OSError):
                files.write((), str(found).encode())
    return found


def _read(files: Files, key: Any) -> bytes | None:
    try:
        return files.read(key)
    except Exception:  # damaged: it is written again
        return None


def _keep(files: Files, key: Any, found: int) -> None:
    """Write what an address is of; nothing, so that nobody tries again, where it needs Numba."""
    from fastmlp_kernels.compiling.jit import compiled_at
    from fastmlp_kernels.compiling.lean import lean_code

    if _read(files, key) is not None:
        return
    try:
        code = lean_code(*compiled_at[found], _symbol(files, key))
    except (ValueError, RuntimeError, AttributeError) as error:  # of LLVM's, or older versions
        logger.debug("%s needs Numba at each start: %s", files.path(key).name, error)
        code = b""
    with suppress(OSError):  # cache.py has told of it
        files.write(key, code)


def _symbol(files: Files, key: Any) -> str:
    return f"fastmlp_{files.path(key).stem.rpartition('-')[2]}"


def _files(module: str, maker: str) -> Files | None:
    state = _environment()
    if state is None or is_set_up_elsewhere():
        return None
    sources = (source_of(name) for name in (module, "compiling.lean"))
    return Files(f"{module}.{maker}.lean", (*map(sources_digest, sources), *state))


@cache
def _environment() -> tuple[Any, ...] | None:
    """All that compiled code depends on besides its sources; None where it can't be told."""
    numba = importlib.util.find_spec("numba")
    if numba is None or not numba.submodule_search_locations:
        return None
    version = Path(numba.submodule_search_locations[0]) / "_version.py"
    try:
        digest = hashlib.sha256(version.read_bytes()).hexdigest()
        features = llvm.get_host_cpu_features().flatten()
    except (OSError, RuntimeError):
        return None
    return (
        *(sys.platform, platform.machine(), sys.version, getattr(sys, "abiflags", "")),
        *(digest, llvmlite.__version__, llvm.get_host_cpu_name(), features, VARIABLES),
    )


@cache
def _engine() -> Any:
    with suppress(RuntimeError):  # newer ones need none
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in PYTHON:  # which LLVM doesn't find by itself where it is a library of its own
        function = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p)
        llvm.add_symbol(name, function.value)
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(), jit=True, codemodel="jitdefault"
    )
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _load(code: bytes, symbol: str) -> int:
    engine = _engine()
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(symbol))


def load_module(code: str, *symbols: str) -> list[int]:
    """Compile a module of LLVM's; return the addresses of its functions."""
    with one_compiles:
        engine = _engine()
        engine.add_module(llvm.parse_assembly(code))
        engine.finalize_object()
        return [int(engine.get_function_address(symbol)) for symbol in symbols]
