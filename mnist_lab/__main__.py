"""``python -m mnist_lab``."""

import signal

# The command line answers Ctrl-C in words; while it is imported there is nothing to say.
if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from mnist_lab.course.cli import main

if __name__ == "__main__":
    main(prog_name="python -m mnist_lab")
