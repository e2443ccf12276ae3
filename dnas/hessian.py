"""Curvature of the outer loss with respect to arch, from exact Hessian-vector products."""
