"""The words that call.py passes to a C function: of each argument these, behind a result.

An integer is its START. Of an array: where its memory starts, its size, its axes, and how long the
first and the last of them are. No Numba here.
"""

PASSED_WORDS = 5
START, SIZE, AXES, LENGTH, WIDTH = range(PASSED_WORDS)
