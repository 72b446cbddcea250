"""Which code may run, what a user reads when something is wrong, and that no file but its own names a method."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import picolm
from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.interventions.loading import Loaded, Trust, load_interventions
from picolm.interventions.registry import REGISTRY
from picolm.runs.digest import sha256_of_bytes

STUBS = Path(__file__).parent / "stubs"
SOURCE = Path(picolm.__file__).parent

TELLTALE = '''
from pathlib import Path
from picolm.seams import Intervention

Path(__file__).with_suffix(".ran").touch()

class Mine(Intervention):
    """Leaves a file behind when its code runs."""
'''


def load(
    *uses: dict[str, Any], named: tuple[str, ...] = (), hashes: dict[str, str] | None = None
) -> tuple[Loaded, ...]:
    return load_interventions([schema.Use.model_validate(use) for use in uses], Trust(named, hashes or {}))


@pytest.fixture
def telltale(tmp_path: Path) -> Path:
    file = tmp_path / "telltale.py"
    file.write_text(TELLTALE)
    return file


def test_code_that_nobody_trusts_is_not_run(telltale: Path) -> None:
    use = f"{telltale}:Mine"
    with pytest.raises(PicoLMError, match=r"runs only where you name it or trust it: add --with .*telltale\.py:Mine$"):
        load({"use": use})
    with pytest.raises(PicoLMError, match="is not what the run was made with"):
        load({"use": use}, hashes={use: "0" * 64})
    assert not telltale.with_suffix(".ran").exists()
    load({"use": use}, hashes={use: sha256_of_bytes(telltale.read_bytes())})
    assert telltale.with_suffix(".ran").exists()


def test_a_module_is_not_imported_before_it_is_trusted(telltale: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(telltale.parent)
    use = "telltale:Mine"
    with pytest.raises(PicoLMError, match="runs only where you name it"):
        load({"use": use})
    assert "telltale" not in sys.modules and not telltale.with_suffix(".ran").exists()
    (one,) = load({"use": use}, named=(use,))
    assert one.name == "Mine" and one.sha256 == sha256_of_bytes(telltale.read_bytes())
    sys.modules.pop("telltale")


def test_a_run_goes_on_only_with_the_code_that_it_was_made_with(lab: Any, cases: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    shutil.copy(STUBS / "projection.py", file)
    uses = [{"use": f"{file}:Projection"}]
    with pytest.raises(PicoLMError, match="add --with"):
        picolm.train(lab.config(uses), name="run", runs_dir=tmp_path)
    assert not (tmp_path / "run").exists()
    lab.train(uses, "done")
    with pytest.raises(PicoLMError, match="add --with"):
        picolm.resume(tmp_path / "done")
    file.write_text(file.read_text() + "\n# Changed.\n")
    with pytest.raises(PicoLMError, match="is not what the run was made with"):
        picolm.resume(tmp_path / "done", trust=True)
    picolm.resume(tmp_path / "done", trusted=[f"{file}:Projection"])


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ({"use": "freeze", "until": 0}, r"^interventions\.1 \(freeze\): until.*greater than or equal to 1"),
        ({"use": "freeze"}, r"^interventions\.1 \(freeze\): until"),
        ({"use": "freeze", "untill": 4}, r"^interventions\.1 \(freeze\): .*untill.*until"),
        ({"use": "label_smoothing", "alpha": 1.5}, r"^interventions\.1 \(label_smoothing\): alpha.*less than 1"),
        ({"use": "label_smoothing", "alpha": "x"}, r"^interventions\.1 \(label_smoothing\): alpha"),
        ({"use": "gradient_noise", "start": 3, "stop": 3}, r"^interventions\.1 \(gradient_noise\).*no step with noise"),
        ({"use": "label_smothing"}, "no intervention 'label_smothing'; did you mean 'label_smoothing'"),
        ({"use": f"{STUBS}/projektion.py:Projection"}, r"cannot read .*; did you mean '.*projection\.py'"),
        ({"use": f"{STUBS}/projection.py:Projektion"}, "no class 'Projektion' .*; did you mean 'Projection'"),
        ({"use": "no_such_module:Mine"}, "no Python module 'no_such_module'"),
        ({"use": "freeze", "until": 4, "name": "label_smoothing"}, "cannot name an intervention"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(use: dict[str, Any], said: str) -> None:
    with pytest.raises(PicoLMError, match=said) as caught:
        load({"use": "label_smoothing"}, use, named=(use["use"],))
    assert "\n" not in str(caught.value)


def test_a_pattern_that_means_nothing_is_refused_before_the_first_step(lab: Any) -> None:
    with pytest.raises(PicoLMError, match=r"freeze\.parameters: 'layers\.7' means no parameter"):
        lab.train([{"use": "freeze", "parameters": ["layers.7"], "until": 3}], "run")


BROKEN = """
from torch import nn
from picolm.seams import Intervention

class Selfish(Intervention):
    exclusive = frozenset({"gradients"})

class Misspelt(Intervention):
    exclusive = frozenset({"gradient"})

class Unsaved(Intervention):
    def model(self, model, step, run):
        model.extra = nn.Linear(4, 4)
        return model

class Thief(Intervention):
    def model(self, model, step, run):
        model.layers[0].mlp.up_proj = nn.Identity()
        return model

class Grows(Intervention):
    def stages(self):
        return (2,)
    def model(self, model, step, run):
        model.extra = nn.Linear(4 if step < 2 else 5, 4)
        return model
    def export(self, model):
        del model.extra
        return model

class Half(Intervention):
    def model(self, model, step, run):
        model.extra = nn.Linear(4, 4)
        return model
    def export(self, model):
        return model

class Greedy(Intervention):
    def groups(self, groups):
        return groups[1:]

class Forgets(Intervention):
    def state_dict(self):
        return {"table": {1, 2}}

class Blind(Intervention):
    def views(self, views, sequences, run, *, measure):
        return ()

class Raises(Intervention):
    def after_step(self, run):
        run.reset_state(["layers.0.mlp.up_proj.wait"])
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Misspelt", "claims the seam 'gradient', which does not exist; did you mean 'gradients'"),
        ("Unsaved", "extra.* was added to the model, but no intervention has an `export`"),
        ("Thief", r"Thief took the parameter layers\.0\.mlp\.up_proj\.weight out of the model"),
        ("Grows", r"extra\.weight has the shape \[4, 5\] now and had \[4, 4\] before"),
        ("Half", "no plain model: it differs in the parameter extra"),
        ("Greedy", "the parameter groups of Greedy do not hold every trainable parameter once"),
        ("Forgets", "Forgets remembers in 'table' what is neither a tensor nor a JSON value"),
        ("Blind", "took away the view 'causal'"),
        ("Raises", r"Raises asks for 'layers\.0\.mlp\.up_proj\.wait', which is not trained"),
    ],
)
def test_a_faulty_intervention_is_named(lab: Any, tmp_path: Path, name: str, said: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    with pytest.raises(PicoLMError, match=said):
        lab.train([{"use": f"{file}:{name}"}], "run")


def test_two_that_claim_a_seam_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    selfish = f"{file}:Selfish"
    load({"use": selfish}, {"use": "freeze", "until": 3}, named=(selfish,))
    with pytest.raises(PicoLMError, match="Selfish wants gradients for itself, and gradient_noise changes it too"):
        load({"use": "gradient_noise"}, {"use": selfish}, named=(selfish,))


def test_no_file_of_picolm_but_its_own_names_a_method() -> None:
    """Adding one touches no file but its own; help may name some as examples of `--with`."""
    methods = {*REGISTRY, "relora", "maml", "smlmt", "galore", "curriculum"}
    classes = {place.partition(":")[2] for place in REGISTRY.values()}
    for file in STUBS.glob("*.py"):
        classes |= set(re.findall(r"^class (\w+)\(Intervention\)", file.read_text(), re.MULTILINE))
        methods.add(f"stubs/{file.stem}")
    # Tables of metadata, `nn.Identity` and projection-weighted CCA are something else.
    words = re.compile(rf"\b({'|'.join(sorted(methods | classes - {'Metadata', 'Identity', 'Projection'}))})\b")
    example = re.compile(r'"\w+ \w+=[\w.]+"')
    for file in set(SOURCE.rglob("*.py")) - set((SOURCE / "interventions").rglob("*.py")):
        found = words.findall(example.sub("", file.read_text()))
        assert not found, f"{file} names {found}"
