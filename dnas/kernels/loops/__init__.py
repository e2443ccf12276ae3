"""Loops over the edges of cells, forward and backward, that XLA compiles once."""
