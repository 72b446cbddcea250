"""Targeted changes to how a run is trained: one file each, wired into the seams; and how they are found and loaded."""
