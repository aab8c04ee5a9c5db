"""Plans as kernels see them: their records, their threads, and how they are executed."""
