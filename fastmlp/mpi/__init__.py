"""One training by many ranks of MPI, with the bits of one process: `fit(comm=)`.

`pip install 'fastmlp[mpi]'`; docs/several-machines.md says how it works and when it pays. mpi4py is
imported by who makes the communicator, never here.
"""
