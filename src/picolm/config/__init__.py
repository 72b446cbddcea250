"""The typed description of a run: one schema, presets as YAML, loading, overrides, difference."""
