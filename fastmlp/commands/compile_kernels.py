"""Compile every kernel beforehand, as images and clusters want it: `fastmlp compile`."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastmlp_kernels.compiling.cpu import VARIABLE, vector_bits
from fastmlp_kernels.compiling.folder import cache_folder, folder_size

import fastmlp

from ..checks import FLOATS
from ..model.addresses import compile_all
from ..operations.elementary import exp, log, logistic


def compile_kernels(dtypes: Sequence[str] = (), widths: Sequence[int] = ()) -> int:
    """Fill the folder of compiled kernels; return the exit code.

    dtypes: "float32" and "float64", by default both; widths: of vectors in bits, as
    FASTMLP_VECTOR_BITS has them, by default the one in force. A width that the CPU lacks ends it.
    """
    names = [dtype.name for dtype in FLOATS if not dtypes or dtype.name in dtypes]
    for width in widths or [vector_bits()]:
        if width == vector_bits():
            for name in names:
                run_all(np.dtype(name))
                print(f"compiled for {name}, vectors of {width} bits", flush=True)
        else:  # a process has one width
            code = subprocess.run(
                [sys.executable, "-m", "fastmlp", "compile", "--dtype", *names],
                env=os.environ | {VARIABLE: str(width)},
            ).returncode
            if code:
                return code
    print(f"{cache_folder()} has {folder_size() / 1e6:.0f} MB")
    return 0


def run_all(dtype: np.dtype[Any]) -> None:
    """Run each operation on small arrays, and compile what training may need."""
    compile_all(dtype)
    x, W, b = (np.ones(shape, dtype) for shape in ((3, 2), (2, 2), 2))
    rowwise = fastmlp.Relu, fastmlp.Log, fastmlp.Softmax, fastmlp.LogSoftmax
    activations = fastmlp.Tanh, fastmlp.Logistic, fastmlp.Silu, fastmlp.Gelu, fastmlp.LeakyRelu
    for kind in rowwise + activations:
        operation = kind()
        operation.forward(x)
        operation.backward(x)
    product, layer = fastmlp.Matmul(), fastmlp.MatmulRelu()
    product.backward(product.forward(x, W))
    layer.backward(layer.forward(x, W, b))
    for function in (exp, log, logistic):
        function(x)
    fastmlp.compute_loss(x, x)
    fastmlp.sgd([x], [x.copy()], 0.0)
    fastmlp.sgd((x,), (x.copy(),), 0.0)  # a tuple: as any other lists
    for velocities in fastmlp.momentum, fastmlp.nesterov:
        velocities([x], [x.copy()], [x.copy()], 0.0, 0.0)
    for means in fastmlp.adam, fastmlp.adamw:
        means([x], [x.copy()], [x.copy()], [x.copy()], 1, 0.0)
    model, labels = fastmlp.MLP([2, 2, 2], dtype=dtype, rng=0), np.array([0, 1, 0])
    model.fit(x, labels, epochs=1, validation=(x, labels))
    model.predict(x)
