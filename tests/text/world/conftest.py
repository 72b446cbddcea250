import importlib.util
import sys
from pathlib import Path

import pytest

from picolm.text.document import Document
from picolm.text.world import documents

# Test modules are imported by path, so what several of them need has to be made importable by name.
_spec = importlib.util.spec_from_file_location("world_parsing", Path(__file__).with_name("parsing.py"))
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["world_parsing"] = _module
_spec.loader.exec_module(_module)


@pytest.fixture(scope="session")
def corpus() -> list[Document]:
    return list(documents())
