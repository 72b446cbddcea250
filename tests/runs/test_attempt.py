import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from picolm.runs.attempt import append_attempt, describe_attempt
from picolm.runs.directory import RunDirectory
from picolm.runs.software import package_versions, source_state


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package inside a repository, with one commit."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    package = tmp_path / "repository" / "src" / "package"
    package.mkdir(parents=True)
    (package / "loop.py").write_text("steps = 1\n")
    git(tmp_path / "repository", "init", "-q")
    commit(tmp_path / "repository")
    return package


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false")
    return subprocess.check_output(["git", "-C", str(directory), *identity, *arguments], text=True).strip()


def commit(repository: Path) -> str:
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "change")
    return git(repository, "rev-parse", "HEAD")


def test_attempt_says_what_ran_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["picolm", "train", "--name", "x"])
    facts = describe_attempt(200)
    assert facts["from_checkpoint"] == 200
    assert facts["command"] == ["picolm", "train", "--name", "x"]
    assert facts["time"].endswith("+00:00")
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["torch"] == version("torch")
    assert facts["cores"] >= 1
    assert facts["cpu"]
    assert {"commit", "diff_sha256", "platform", "picolm"} <= facts.keys()


def test_attempt_keeps_the_name_of_the_machine_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "secret-machine")
    monkeypatch.setattr("socket.gethostname", lambda: "secret-machine")
    assert "secret-machine" not in json.dumps(describe_attempt(None))


def test_describing_imports_no_heavy_package() -> None:
    program = (
        "import sys; from picolm.runs.attempt import describe_attempt; facts = describe_attempt(None);"
        "assert facts['packages']['numpy']; assert not {'torch', 'numpy', 'pydantic', 'pyarrow'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_packages_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("picolm.runs.software._PACKAGES", ("numpy", "no-such-package-of-ours"))
    assert package_versions() == {"numpy": version("numpy")}


def test_attempts_accumulate(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    append_attempt(run.path, {**describe_attempt(None), "ranks": 1})
    append_attempt(run.path, describe_attempt(100))
    assert [(line["from_checkpoint"], line.get("ranks")) for line in run.attempts] == [(None, 1), (100, None)]


def test_clean_sources_have_a_commit_and_no_difference(sources: Path) -> None:
    head = git(sources, "rev-parse", "HEAD")
    (sources.parents[1] / "notes.md").write_text("outside the package")
    assert source_state(sources) == {"commit": head, "diff_sha256": None}


def test_every_local_change_has_its_own_hash(sources: Path) -> None:
    states = [source_state(sources)]
    (sources / "loop.py").write_text("steps = 2\n")
    states.append(source_state(sources))
    (sources / "new.py").write_text("one")
    states.append(source_state(sources))
    (sources / "new.py").write_text("two")
    states.append(source_state(sources))
    git(sources, "add", "new.py")
    states.append(source_state(sources))
    assert len({state["diff_sha256"] for state in states}) == len(states)
    assert len({state["commit"] for state in states}) == 1


def test_reverted_change_is_clean_again(sources: Path) -> None:
    (sources / "loop.py").write_text("steps = 2\n")
    (sources / "dangling").symlink_to("nowhere")
    assert source_state(sources)["diff_sha256"]
    (sources / "loop.py").write_text("steps = 1\n")
    (sources / "dangling").unlink()
    assert source_state(sources)["diff_sha256"] is None


def test_repository_around_an_installed_package_is_not_its_source(sources: Path) -> None:
    installed = sources.parents[1] / ".venv" / "package"
    installed.mkdir(parents=True)
    (installed / "loop.py").touch()
    assert source_state(installed) == {"commit": None, "diff_sha256": None}


def test_repository_named_by_the_environment_is_not_asked(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = git(sources, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert source_state(sources)["commit"] == head


@pytest.mark.parametrize("where", ["no git", "no repository", "no commit"])
def test_unknown_state_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    (tmp_path / "loop.py").touch()
    if where == "no commit":
        git(tmp_path, "init", "-q")
        git(tmp_path, "add", "-A")
    if where == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    assert source_state(tmp_path) == {"commit": None, "diff_sha256": None}
    assert describe_attempt(None)["commit"] is None or where != "no git"
