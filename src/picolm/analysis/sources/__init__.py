"""Readers: who wrote a suite of checkpoints, and where its tensors stand; `analysis.opening` chooses among them."""
