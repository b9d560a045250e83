"""Processes that tests start to interrupt them."""

import signal
import subprocess
from contextlib import contextmanager


@contextmanager
def default_ctrl_c():
    """Children started in the block heed SIGINT.

    They would inherit that it is ignored where the tests run in the background, by nohup, or in
    some continuous integration.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start(*arguments, **options):
    """A process of :class:`subprocess.Popen` that heeds SIGINT."""
    with default_ctrl_c():
        return subprocess.Popen(*arguments, **options)
