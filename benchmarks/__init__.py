"""Benchmarks: each compares with a peer in the same run, on the same shapes, and prints a ratio."""
