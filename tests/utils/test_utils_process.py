"""What a process holds of the system's memory."""

import subprocess
import sys

import pytest

from monju.utils.process import child_environment

# blocks that small ones keep apart, as a page's threads leave them: MiB taken, and held after they are freed
HOLES = """
import psutil
from monju.utils.process import return_large_blocks
{first}
one = b"x" * (20 << 20)
del one  # from here on glibc would take all that is smaller from its arenas
held = lambda: psutil.Process().memory_info().rss >> 20
before = held()
kept = [(b"x" * (1 << 20), b"x" * 2000) for _ in range(100)]
full, kept = held(), [small for _, small in kept]
print(full - before, held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="another allocator")
def test_large_blocks_go_back_to_the_system_when_they_are_freed():
    def asked(first):
        script = [sys.executable, "-c", HOLES.format(first=first)]
        return [int(part) for part in subprocess.run(script, env=child_environment(), capture_output=True, check=True).stdout.split()]

    full, held = asked("return_large_blocks()")
    assert full >= 95 and held < 10
    assert asked("")[1] > held + 50  # what it is for
