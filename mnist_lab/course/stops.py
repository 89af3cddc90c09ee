"""Ctrl-C, termination and hang-up: exceptions while there is something to stop, then nothing."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

STOPS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))


def stops_raise() -> AbstractContextManager[None]:
    """In this block Ctrl-C raises ``KeyboardInterrupt``, termination and hang-up ``SystemExit``."""

    def leave(number: int, frame: object) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    return _answering(leave)


def stops_ignored() -> AbstractContextManager[None]:
    """For the last moments of what is as good as done: this block runs to its end."""
    return _answering(signal.SIG_IGN)


@contextmanager
def _answering(answer: Callable[[int, object], None] | signal.Handlers) -> Iterator[None]:
    with ExitStack() as restored:
        if threading.current_thread() is threading.main_thread():
            for number in set(STOPS):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # nohup ignores some
                    restored.callback(signal.signal, number, signal.signal(number, answer))
        yield
