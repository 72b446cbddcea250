"""Where the rooms are put together: from a configuration to a run, and from a run to its model."""
