"""The operations, a module each: what they check and allocate, around the compiled kernels."""
