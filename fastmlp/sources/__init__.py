"""Samples that don't lie in memory as a model takes them: where they lie, and how they are read."""
