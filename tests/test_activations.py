import numpy as np
import pytest
from fastmlp_kernels import activations as kernels
from helpers import DTYPES, assert_same_bits, floats, run_operation, specials

from fastmlp.reference import activations as formulas

NAMES = ["tanh", "logistic", "silu", "gelu", "leaky_relu"]

each_name = pytest.mark.parametrize("name", NAMES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@each_dtype
@each_name
def test_rows_of_a_plan(name, dtype):
    """Columns around a vector's size, in rows that lie apart; nothing beside them is written."""
    kernel = kernels.activate_kernel(np.dtype(dtype), name)
    for columns in (1, 3, 15, 16, 17, 32, 70):
        rows, row_size = 4, columns + 5
        x = floats(columns, (rows, row_size), dtype, -20, 7)
        x.flat[:: 3] = np.resize(specials(dtype), x.flat[:: 3].size)
        expected_z, expected_slope = x.copy(), np.full_like(x, 7)
        y, slope = formulas.y_and_slope(name, x[:, :columns])
        expected_z[:, :columns], expected_slope[:, :columns] = y, slope
        z, slope = x.copy(), np.full_like(x, 7)
        run_operation(kernel, name, rows, z=z, slope=slope, row_size=row_size, columns=columns)
        assert_same_bits(z, expected_z)
        assert_same_bits(slope, expected_slope)
        z = x.copy()
        run_operation(kernel, name, rows, z=z, row_size=row_size, columns=columns)
        assert_same_bits(z, expected_z)
