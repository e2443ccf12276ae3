"""What XLA compiles well: convolutions, pooling, sums and norms, with gradients of their own, and
the loops over edges."""
