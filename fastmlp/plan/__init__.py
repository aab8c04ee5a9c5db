"""Plans: ordinary Python decides once which operations a step is; compiled code executes them.

No file in here imports Numba.
"""
