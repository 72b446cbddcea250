"""A hypothesis as an object: what seeds alone do, what a change does beside it, and what may be said of it."""
