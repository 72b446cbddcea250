"""Readers: who wrote a suite of checkpoints, and where its tensors stand. `picolm.analysis.opening` chooses among them."""
