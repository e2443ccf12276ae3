"""How steps run: several a compiled call, and what commands may do to the process."""
