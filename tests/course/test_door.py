"""Errors of the system and Ctrl-C reach a user as words and an exit status."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files and signals")
STOPPED = "Stopped. Nothing is left half-written.\n"
INTERRUPTED = """
import os, runpy, signal, sys
module = sys.argv.pop(1)
class Interrupt:
    def find_spec(name, *_):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt)
runpy.run_module("mnist_lab", run_name="__main__", alter_sys=True)
"""


def answer(*line: str, stdout: int | IO[str] = subprocess.PIPE) -> tuple[int, str]:
    """The exit status of a command of Python's, and what it says of errors."""
    command = [sys.executable, *line]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, encoding="utf-8")
    return done.returncode, done.stderr


@POSIX
@pytest.mark.parametrize(
    ("module", "expected"), [("click", (-signal.SIGINT, "")), ("torch", (130, STOPPED))]
)
def test_ctrl_c_while_modules_are_imported_shows_no_traceback(tmp_path, module, expected):
    run = ("run", "--dataset", "uci-digits", "--out", str(tmp_path / "report"))
    assert answer("-c", INTERRUPTED, module, *run) == expected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["data"]])
def test_a_full_disk_behind_the_standard_output_is_one_line(words):
    with Path("/dev/full").open("w") as full:
        assert answer("-m", "mnist_lab", *words, stdout=full) == (2, "No space left on device\n")


@POSIX
def test_a_file_that_cannot_be_written_is_refused_before_hours_of_training(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for name, said in (("pipe.csv", "what is there is no file"), (300 * "x", "name too long")):
        status, errors = answer("-m", "mnist_lab", "search", "--out", str(tmp_path / name))
        assert status == 2 and said in errors and "Traceback" not in errors
