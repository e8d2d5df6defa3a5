"""What a worker asks of the operating system: a name, sharp timers, and real-time priority."""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import logging
import os
import platform
import signal
import struct
import sys
from pathlib import Path

from stream.runtime.clock import sharpen_timers

PRIORITY = 20
"""Above everything that is not real-time, below the threads with which a kernel serves devices."""

# The shortest that the kernel grants.
_TURN_NS = 100_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_SCHED_ATTRIBUTES = struct.Struct("IIQiIQQQ")
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_MCL_CURRENT = 1
_MCL_ONFAULT = 4


def prepare_process(group: str) -> None:
    """Give this process its name, signals, log and timers; it ends with its supervisor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_NAME, f"in:{group}".encode()[:15], 0, 0, 0)
        _shorten_turns(libc)
    sharpen_timers()


def _shorten_turns(libc: ctypes.CDLL) -> None:
    """Ask for short turns on a processor: no more of it, but sooner, where others keep it busy.

    Threads that are started later inherit it. Linux 6.12 and newer; older ones do nothing. A
    process that was started with another policy keeps it.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is not None and os.sched_getscheduler(0) == os.SCHED_OTHER:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        attributes = _SCHED_ATTRIBUTES.pack(
            _SCHED_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, _TURN_NS, 0, 0
        )
        libc.syscall(number, 0, attributes, 0)


def stand_back() -> None:
    """Take no processor from others when waking up: what this process does is in no hurry."""
    if sys.platform == "linux":
        _schedule(os.SCHED_BATCH, 0)


def give_way() -> None:
    """Leave the processor to others that want it, but for about a quarter, from now on.

    With less a process seems to hang, or loses what it follows, where every processor is busy.
    """
    if sys.platform != "win32":
        os.nice(5)


def claim_real_time() -> str:
    """Put every thread of this process under SCHED_FIFO and keep its memory from being paged out.

    The kernel leaves the rest of the machine its share (`sched_rt_runtime_us`), also when a node
    never stops. Processes started from here are ordinary ones.

    Returns
    -------
    str
        What was refused and why, for the report; empty when nothing was.
    """
    if sys.platform != "linux":
        return "this system has no SCHED_FIFO"
    refused = []
    if error := _schedule(os.SCHED_FIFO, PRIORITY):
        refused.append(f"SCHED_FIFO ({error})")
    libc = ctypes.CDLL(None, use_errno=True)
    # What has been touched by now stays; what later comes may be more than the limit allows.
    if libc.mlockall(_MCL_CURRENT | _MCL_ONFAULT):
        refused.append(f"locked memory ({os.strerror(ctypes.get_errno())})")
    return " and ".join(refused)


def release_real_time() -> None:
    """Go back to ordinary priority and memory: nothing is in a hurry any more."""
    if sys.platform == "linux":
        _schedule(os.SCHED_OTHER, 0)
        ctypes.CDLL(None).munlockall()


def _schedule(policy: int, priority: int) -> str:
    """Set the policy of all threads of this process; return why not, or nothing."""
    try:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setscheduler(
                int(thread.name), policy | os.SCHED_RESET_ON_FORK, os.sched_param(priority)
            )
    except OSError as error:
        return os.strerror(error.errno or errno.EPERM)
    return ""
