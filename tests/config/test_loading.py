import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolm.config.difference import ABSENT, Change, difference
from picolm.config.loading import build_config, config_hash, load_config, valid_keys
from picolm.config.schema import Config
from picolm.config.yaml12 import parse_yaml, to_yaml
from picolm.errors import PicoLMError


def test_yaml_command_line_and_python_are_three_spellings_of_one_value(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "preset: demo\noptimizer: {learning_rate: 3e-4, betas: [0.9, 0.99]}\ndata: {sources: [a.txt, b.txt]}\n"
    )
    by_file = load_config(file)
    by_command = load_config(
        "demo", ["optimizer.learning_rate=3e-4", "optimizer.betas=[0.9, 0.99]", "data.sources=[a.txt, b.txt]"]
    )
    by_python = load_config(
        "demo",
        {"optimizer.learning_rate": 3e-4, "optimizer.betas": [0.9, 0.99], "data.sources": ("a.txt", "b.txt")},
    )
    assert by_file == by_command == by_python
    assert by_file.optimizer.learning_rate == 3e-4
    assert config_hash(by_file) == config_hash(by_python) != config_hash(load_config("demo"))


def test_one_string_is_a_list_of_one() -> None:
    assert load_config("demo", ["data.sources=a.txt"]).data.sources == ("a.txt",)


def test_a_file_inherits_from_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "preset: demo\ntraining: {steps: 7, batch_size: 3}\nschedule: {warmup_steps: 2}\n"
    )
    (tmp_path / "child.yaml").write_text("preset: base.yaml\ntraining: {steps: 9}\n")
    config = load_config(tmp_path / "child.yaml")
    assert (config.training.steps, config.training.batch_size) == (9, 3)
    assert config.model == load_config("demo").model


def test_another_kind_of_objective_drops_the_keys_of_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "masked.yaml"
    file.write_text("model: {attention: bidirectional}\nobjective: {kind: masked, rate: 0.3}\n")
    assert load_config(file).objective.model_dump()["rate"] == 0.3
    assert load_config(file, ["objective.kind=causal", "model.attention=causal"]).objective.kind == "causal"
    assert load_config(file, ["objective.rate=0.4"]).objective.model_dump()["rate"] == 0.4


@pytest.mark.parametrize("target", ["demo", "tiny", "large"])
def test_a_configuration_survives_yaml_and_json(target: str, tmp_path: Path) -> None:
    config = load_config(target)
    values = config.model_dump(mode="json")
    file = tmp_path / "again.yaml"
    file.write_text(to_yaml(values))
    assert load_config(file) == config
    assert build_config(json.loads(json.dumps(values))) == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-2", -2),
        ("010", 10),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("null", None),
        ("", None),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("a/b*.txt", "a/b*.txt"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    parsed = parse_yaml(text, origin="test")
    assert parsed == value
    assert type(parsed) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives_yaml(value: float) -> None:
    assert parse_yaml(to_yaml({"x": value}), origin="test")["x"] == value


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: [1, 2", "? [a]\n: 1", "1: x", "a: *b", "!!python/object:os.system {}"]
)
def test_yaml_that_is_wrong_or_wants_to_run_code_is_refused_with_its_origin(text: str) -> None:
    with pytest.raises(PicoLMError, match=r"^mine\.yaml is not valid YAML"):
        parse_yaml(text, origin="mine.yaml")


def test_every_key_of_the_schema_is_listed_once_and_can_be_set_to_its_default() -> None:
    keys = valid_keys()
    assert len(keys) == len(set(keys))
    assert {"training.steps", "objective.rate", "model.init.std", "seeds.data"} <= set(keys)
    defaults = Config().model_dump()
    n_set = 0
    for key in keys:
        value: object = defaults
        for part in key.split("."):
            # Keys of kinds and sections that the defaults do not have.
            value = value.get(part, {}) if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            assert load_config(None, {key: value}) == Config()
            n_set += 1
    assert n_set > 60


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["capture.positions=last"], r"^capture.positions: give `all`, or a list of positions such as \[0, -1\]$"),
        (["capture.positions=[]"], "capture.positions: give `all`"),
        (["capture.positions=[1.5]"], "capture.positions: give `all`"),
        (["capture.probes.mine.sequence=3"], "did you mean 'capture.probes.NAME.sequences'"),
        (["capture.probes.train.sequences=3"], "'train' cannot name a probe"),
        (["capture.probes={a/b: {}}"], "'a/b' cannot name a probe"),
    ],
)
def test_what_a_capture_cannot_be_is_said(overrides: list[str], sentence: str) -> None:
    with pytest.raises(PicoLMError, match=sentence):
        load_config(None, overrides)


def test_positions_of_a_capture() -> None:
    assert load_config(None, ["capture.positions=-1"]).capture.positions == (-1,)
    assert load_config(None, ["capture.positions=[0, -1]"]).capture.positions == (0, -1)
    assert load_config(None, ["capture.positions=all"]).capture.positions == "all"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["optimizer.momentum=0.9"], "optimizer.momentum means nothing to optimizer.kind=adamw: leave it out"),
        (["optimizer.kind=muon", "optimizer.betas=[0.9, 0.9]"], "optimizer.betas means nothing to optimizer.kind=muon"),
        (["optimizer.kind=muon", "optimizer.adamw.beta=1"], "did you mean 'optimizer.betas'|'optimizer.adamw.betas'"),
        (["optimizer.kind=sgd"], "optimizer.kind must be one of 'adamw', 'muon', not 'sgd'"),
        (["optimizer.kind=muon", "optimizer.scale=none"], "optimizer.scale must be one of 'spectral', 'rms_match'"),
    ],
)
def test_a_key_of_another_kind_is_named_as_such(overrides: list[str], sentence: str) -> None:
    with pytest.raises(PicoLMError, match=sentence):
        load_config(None, overrides)


def test_configurations_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().training.steps = 3


def test_difference_names_changed_and_missing_keys() -> None:
    left = {"a": {"b": 1, "c": 2}, "d": [1]}
    right = {"a": {"b": 1, "c": 3, "e": None}, "d": [1]}
    assert difference(left, right) == [Change("a.c", 2, 3), Change("a.e", ABSENT, None)]
    assert difference(left, left) == []
    assert difference({"a": 1}, {"a": 1.0}) == [Change("a", 1, 1.0)]
