"""The lab notebook: a folder with one record of each experiment, `NAME.yaml`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from picolm.config.loading import explain
from picolm.config.yaml12 import parse_yaml, to_yaml
from picolm.errors import PicoLMError, nearest
from picolm.experiments.record import Record
from picolm.runs.durable import make_parents, write_text


@dataclass(frozen=True, slots=True)
class Notebook:
    """A folder of records.

    Attributes:
        path: the folder.
    """

    path: Path

    def records(self) -> list[Record]:
        """All records, newest first; of one day by name.

        Raises:
            PicoLMError: there is no such folder, or one of its records is none.
        """
        if not self.path.is_dir():
            raise PicoLMError(f"there is no lab notebook {self.path}: `picolm experiment record EXPERIMENT` begins one")
        found = sorted((read_record(file) for file in self.path.glob("*.yaml")), key=lambda one: one.name)
        return sorted(found, key=lambda one: one.date, reverse=True)

    def record(self, name: str) -> Record:
        """One record.

        Raises:
            PicoLMError: there is none of this name.
        """
        if not self.path_of(name).is_file():
            raise PicoLMError(f"there is no record '{name}'{nearest(name, (one.name for one in self.records()))}")
        return read_record(self.path_of(name))

    def path_of(self, name: str) -> Path:
        """Where a record stands, whether it is there or not."""
        return self.path / f"{name}.yaml"

    def keep(self, record: Record, former_plans: Collection[str] = ()) -> Record:
        """Write a record; the author's words of one that is there already stay, where the new one has none.

        Args:
            record: the new one.
            former_plans: hashes of earlier versions of its plan: records of these are its own too.

        Returns:
            What was written.

        Raises:
            PicoLMError: a record of this name is there that is of another plan, or no record.
        """
        path = self.path_of(record.name)
        if path.exists():
            former = read_record(path)
            if former.plan not in (record.plan, *former_plans):
                raise PicoLMError(
                    f"{path} is the record of another plan (its hash is {former.plan[:12]}, not {record.plan[:12]}): "
                    "move it, or give the plan another `name`"
                )
            words = {key: getattr(record, key) or getattr(former, key) for key in ("question", "lesson")}
            record = record.model_copy(update=words)
        make_parents(path)
        write_text(path, to_yaml(record.plain()))
        return record


def read_record(path: Path) -> Record:
    """Read a record, which somebody may have written by hand.

    Raises:
        PicoLMError: it is no record; the sentence names the file and the key.
    """
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), origin=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PicoLMError(f"cannot read the record {path}: {error}") from None
    if not isinstance(values, dict) or "record" not in values:
        raise PicoLMError(f"{path} is no record of an experiment: it does not say `record: 1`")
    try:
        record = Record.model_validate(values)
    except ValidationError as error:
        raise PicoLMError(f"{path}: {explain(error, Record)}") from None
    if record.name != path.stem:
        raise PicoLMError(f"{path}: name must be that of the file, '{path.stem}', not '{record.name}'")
    return record
