"""Trackers: TensorBoard, Trackio and Weights & Biases, fed with the lines of a run's record."""
