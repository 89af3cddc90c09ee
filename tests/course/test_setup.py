"""The files a newcomer meets first agree with each other; the command line answers at once."""

import re
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mnist_lab.course.cli import main
from mnist_lab.course.execution import CourseFailed
from mnist_lab.files import PROJECT, LabError


def text_of(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


LINES = text_of("requirements.txt").strip().splitlines()
PACKAGES = [line.split("#")[0].strip() for line in LINES[:-1] if not line.startswith("#")]
PINS = {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, PACKAGES)}
QUICK_START = [
    "python -m pip install -r requirements.txt && python -m mnist_lab run",
    "python -m pip install -r requirements.txt && python -m pytest",
]


def test_requirements_pin_what_the_package_declares_and_say_what_for_and_end_with_the_project():
    assert LINES[-1] == "-e ." and all("#" in line for line in LINES[:-1])
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    ranges = {canonicalize_name(r.name): r.specifier for r in map(Requirement, declared)}
    assert set(PINS) == set(ranges)
    for name, pin in PINS.items():
        assert re.fullmatch(r"==[\d.]+", pin) and pin.removeprefix("==") in ranges[name], name


def test_conda_takes_its_versions_from_requirements():
    text = text_of("environment.yml")
    python = re.search(r"- python=(\d+)\.(\d+)", text)
    assert python and (int(python[1]), int(python[2])) >= (3, 11)
    assert "- -r requirements.txt" in text
    assert not set(re.findall(r"^  - ([a-z-]+)", text, re.MULTILINE)) & set(PINS)


def test_readme_starts_with_the_two_commands_ci_calls_the_second_and_links_lead_somewhere():
    section = re.split(r"(?im)^#+\s*quick\s*start.*$", text_of("README.md"))[1]
    (block, *_) = re.findall(r"```[a-z]*\n(.*?)```", section, re.DOTALL)
    assert block.strip().splitlines() == QUICK_START
    assert QUICK_START[1] in text_of(".ci/run").splitlines()
    links = re.findall(r"\]\(([^)#]+)\)", text_of("README.md"))
    inside = [link for link in links if "://" not in link]
    assert inside and [link for link in inside if not (PROJECT / link).exists()] == []


@pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="not a git checkout")
def test_no_mnist_file_is_tracked():
    done = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, check=True)
    assert not re.search(rb"(train|t10k)-(images|labels)-idx", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--help"], 0, "run data bench search report verify"),
        (["run", "--help"], 0, "--profile --dataset --seed --jobs --out --dask -p"),
        (["run", "-p", "nonsense", "3"], 2, "'nonsense'"),
        (["run", "-p", "epochs", "many"], 2, "'epochs' 'many'."),
    ],
)
def test_help_and_refused_settings_wait_for_no_heavy_import(arguments, status, said):
    command = [sys.executable, "-X", "importtime", "-m", "mnist_lab", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    imports = {name.split(".")[0] for name in re.findall(r"\| +(\S+)$", done.stderr, re.MULTILINE)}
    assert done.returncode == status and "mnist_lab" in imports
    assert set(said.split()) <= set((done.stdout + done.stderr).replace(",", " ").split())
    assert not imports & {"torch", "pandas", "numpy", "papermill", "scipy", "matplotlib"}


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        (LabError("wrong"), 2),
        (CourseFailed("one failed"), 1),
        (NotADirectoryError(20, "Not a directory", "file/report"), 2),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
    ],
)
def test_whatever_stops_a_command_is_one_line_and_the_exit_status(monkeypatch, stop, status):
    def stopped(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr("mnist_lab.course.pipeline.run_course", stopped)
    done = CliRunner().invoke(main, ["run"])
    assert done.exit_code == status
    assert len(done.stderr.splitlines()) == 1 and done.stdout == ""
