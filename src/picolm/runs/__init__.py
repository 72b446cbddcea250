"""The run directory: layout, integrity, atomic commit, reading and writing. It knows nothing of training."""
