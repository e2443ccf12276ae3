"""Numbers of double precision, which finite differences and second derivatives ask for."""

__all__ = ["enable_x64"]

try:
    from jax import enable_x64
except ImportError:  # jax before 0.8
    from jax.experimental import enable_x64
