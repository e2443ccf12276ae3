"""Terms that are added to the outer objective: (arch, mix) -> scalar."""
