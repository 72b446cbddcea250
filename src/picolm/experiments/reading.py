"""Reading plan files, with errors that say what is wrong and what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from picolm.config.loading import explain
from picolm.config.yaml12 import parse_yaml
from picolm.errors import PicoLMError, nearest
from picolm.experiments.plan import Plan

ENDINGS = (".yaml", ".yml")
PLANS = Path(__file__).parent / "plans"
"""Where the plans of PicoLM's own stand."""


def plan_names() -> list[str]:
    """Names of the plans that come with the package."""
    return sorted(file.stem for file in PLANS.glob("*.yaml"))


def plan_path(target: Path) -> Path:
    """The file of a plan: the one that was named, or, for a plain name, the plan of PicoLM's own."""
    shipped = PLANS / f"{target}.yaml"
    return shipped if len(target.parts) == 1 and not target.suffix and shipped.is_file() else target


def read_plan(path: Path) -> Plan:
    """Read a plan; a plan without a `name` is called as its file.

    Raises:
        PicoLMError: there is no such file, or it is no plan.
    """
    if path.suffix not in ENDINGS:
        hint = nearest(path.name, plan_names()) if len(path.parts) == 1 and not path.suffix else ""
        raise PicoLMError(f"'{path}' is no plan: a plan is a .yaml file{hint}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise PicoLMError(f"there is no plan '{path}'{nearest(path.name, siblings)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PicoLMError(f"cannot read the plan '{path}': {error}") from None
    return parse_plan(text, origin=str(path), name=path.stem)


def parse_plan(text: str, *, origin: str, name: str) -> Plan:
    """Read the text of a plan.

    Args:
        text: YAML.
        origin: what errors call it.
        name: of a plan that has none.

    Raises:
        PicoLMError: it is no plan.
    """
    values: Any = parse_yaml(text, origin=origin)
    if not isinstance(values, dict):
        raise PicoLMError(f"{origin} holds no plan: it must say `experiment: 1`, `base`, `arms` and `seeds`")
    if "experiment" not in values:
        raise PicoLMError(f"{origin} is no plan of an experiment: it does not say `experiment: 1`")
    try:
        return Plan.model_validate({"name": name, **values})
    except ValidationError as error:
        raise PicoLMError(f"{origin}: {explain(error, Plan)}") from None
