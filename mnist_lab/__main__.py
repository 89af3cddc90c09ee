"""``python -m mnist_lab``."""

from mnist_lab.course.cli import main

main(prog_name="python -m mnist_lab")
