import importlib.util
import sys
from pathlib import Path

# Test modules are imported by path, so the script that anyone can run has to be made importable by name.
_spec = importlib.util.spec_from_file_location("kill_runs", Path(__file__).with_name("kill_runs.py"))
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["kill_runs"] = _module
_spec.loader.exec_module(_module)
