"""What a worker gets from the operating system."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

_SHOW = """
import os, sys, threading
from pathlib import Path
from stream.runtime.scheduling import prepare_process

def show():
    text = Path(f"/proc/self/task/{threading.get_native_id()}/sched").read_text()
    turns = [line.split()[-1] for line in text.splitlines() if line.startswith("se.slice")]
    print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), *turns)

if sys.argv[1:]:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
os.nice(3)
prepare_process("test")
thread = threading.Thread(target=show)
thread.start()
thread.join()
"""


def show(*arguments: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", _SHOW, *arguments], capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


def _grants_turns() -> bool:
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return False
    release = tuple(int(n) for n in platform.release().split(".")[:2])
    sched = Path("/proc/self/sched")
    return release >= (6, 12) and sched.exists() and "se.slice" in sched.read_text()


@pytest.mark.skipif(not _grants_turns(), reason="this kernel grants no short turns, or tells none")
def test_the_threads_of_a_worker_have_short_turns_and_their_niceness() -> None:
    policy, nice, turn_ns = show()
    assert (policy, turn_ns) == (os.SCHED_OTHER, 100_000)
    assert nice == os.getpriority(os.PRIO_PROCESS, 0) + 3


@pytest.mark.skipif(not _grants_turns(), reason="this kernel grants no short turns, or tells none")
def test_a_policy_that_a_worker_was_started_with_stays() -> None:
    try:
        policy, *_ = show("real-time")
    except subprocess.CalledProcessError:
        pytest.skip("real-time priority is not granted here")
    assert policy == os.SCHED_FIFO
