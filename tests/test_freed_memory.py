"""Memory that is freed is kept by the process, in one of its own: it stays so."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
if sys.argv[1] == "kept":
    from codec_det.training.freed_memory import keep_freed_memory
    keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(2**26, np.uint8).fill(1)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_large_blocks_are_cleared_by_the_system_once():
    faults = {}
    for how in ("kept", "usual"):
        command = [sys.executable, "-c", SCRIPT, how]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        faults[how] = int(done.stdout)
    assert faults["kept"] < faults["usual"] / 4
