"""The files a newcomer meets first agree with each other."""

import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mnist_lab.data import PROJECT


def pins() -> dict[str, str]:
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    stripped = (line.split("#")[0].strip() for line in lines)
    found = [Requirement(line) for line in stripped if line and not line.startswith("-")]
    return {canonicalize_name(r.name): str(r.specifier) for r in found}


def ranges() -> dict[str, Requirement]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    return {canonicalize_name(r.name): r for r in map(Requirement, texts)}


def test_requirements_pin_exactly_what_the_package_declares():
    assert set(pins()) == set(ranges())


@pytest.mark.parametrize("name", sorted(pins()))
def test_every_pin_is_exact_and_inside_its_range(name):
    assert re.fullmatch(r"==[\d.]+", pins()[name])
    assert pins()[name].removeprefix("==") in ranges()[name].specifier


def test_requirements_say_what_each_is_for_and_end_with_the_project():
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").strip().splitlines()
    assert lines[-1] == "-e ."
    assert all("#" in line for line in lines[:-1])


def test_conda_takes_its_versions_from_requirements():
    text = (PROJECT / "environment.yml").read_text(encoding="utf-8")
    assert "- -r requirements.txt" in text
    python = re.search(r"- python=(\d+)\.(\d+)", text)
    assert python and (int(python[1]), int(python[2])) >= (3, 11)
    named = re.findall(r"^  - ([a-z-]+)", text, re.MULTILINE)
    assert not set(named) & set(pins()), "versions belong into requirements.txt alone"


def quick_start() -> list[str]:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    section = re.split(r"(?im)^#+\s*quick\s*start.*$", text)[1]
    block = re.search(r"```[a-z]*\n(.*?)```", section, re.DOTALL)
    assert block
    return block[1].strip().splitlines()


def test_quick_start_is_exactly_the_two_commands():
    assert quick_start() == [
        "python -m pip install -r requirements.txt && python -m mnist_lab run",
        "python -m pip install -r requirements.txt && python -m pytest",
    ]


def test_ci_calls_the_test_command_of_the_readme():
    script = (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert quick_start()[1] in script


def test_readme_links_lead_somewhere():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (PROJECT / link).exists()] == []


def test_no_mnist_file_is_tracked():
    if not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert not re.search(r"(train|t10k)-(images|labels)-idx", tracked)


def test_command_line_lists_its_commands():
    shown = subprocess.run(
        [sys.executable, "-m", "mnist_lab", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert {"run", "data", "report"} <= set(shown.split())
