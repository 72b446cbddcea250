"""How a model learns: metrics (plain functions of tensors), sites (which tensor), sources (whose checkpoints)."""
