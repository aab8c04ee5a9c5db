"""The arithmetic that kernels share: elementary functions, vectors, sums."""
