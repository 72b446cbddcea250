"""PicoLM: a laboratory for small language models.

    import picolm

    config = picolm.load_config("demo", {"training.steps": 100})
    run = picolm.train(config, name="first")
    print(picolm.generate(run.path, "Once upon a time"))

Nothing heavy is loaded before it is used: `import picolm` loads neither torch nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from picolm.assembly.evaluating import evaluate
    from picolm.assembly.forking import fork
    from picolm.assembly.models import export_model, generate, generate_texts, open_model
    from picolm.assembly.training import forecast, resume, train
    from picolm.config.loading import load_config
    from picolm.errors import PicoLMError
    from picolm.model.importing import import_model
    from picolm.report.page import write_run_report
    from picolm.runs.directory import RunDirectory

__all__ = [
    "PicoLMError",
    "RunDirectory",
    "__version__",
    "evaluate",
    "export_model",
    "forecast",
    "fork",
    "generate",
    "generate_texts",
    "import_model",
    "load_config",
    "open_model",
    "resume",
    "train",
    "write_run_report",
]

_HOMES = {
    "PicoLMError": "picolm.errors",
    "RunDirectory": "picolm.runs.directory",
    "evaluate": "picolm.assembly.evaluating",
    "export_model": "picolm.assembly.models",
    "forecast": "picolm.assembly.training",
    "fork": "picolm.assembly.forking",
    "generate": "picolm.assembly.models",
    "generate_texts": "picolm.assembly.models",
    "import_model": "picolm.model.importing",
    "load_config": "picolm.config.loading",
    "open_model": "picolm.assembly.models",
    "resume": "picolm.assembly.training",
    "train": "picolm.assembly.training",
    "write_run_report": "picolm.report.page",
}

try:
    __version__ = version("picolm")
except PackageNotFoundError:  # imported from a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'picolm' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
