"""Floor 0: frozen values and pure functions. Standard library only; no clock, no I/O."""
