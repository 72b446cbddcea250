"""The statistics of experiments: pure functions of plain numbers. Seeds by t, items crossed with them, verdicts."""
