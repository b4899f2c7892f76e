"""Programs of unknown origin, run where they can do no harm; where that can't be had, they are not run at all.

Each runs in a process and session of its own, in an empty folder that is removed afterwards, without environment, input
and output. The kernel refuses it the network, further processes and threads, signals to others (seccomp), all files but
the interpreter's and those in its folder (Landlock), and more time, memory and disk than it is given. It is killed at
the end, come what may, and with whoever started it.

A program has passed if its last part, the checks, came to its end: then the runner says a token that no program is
told. Checks run in the program's own process, so one that means to deceive them still can: by returning what is equal
to everything, by changing what they call, by a trace that jumps over them, or by reading its process's memory. It can
also see that a file exists which it can't read.
"""

import marshal
import os
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

from opd_bench.tasks.sandbox_child import FAILED, MIB, READY

CHILD = Path(__file__).with_name("sandbox_child.py")
START = 60.0
"""Seconds for the interpreter to start in, on however busy a machine."""
LOOK = 0.05
"""Seconds between looks at the clock and at the folder."""
MOST = 4096
"""Bytes that are read of a report."""
MEDDLED = "wrote where the sandbox alone writes"
FILES, DISK_MIB = 1000, 64
"""What may lie in the folder."""
TRIAL = """
import _socket, collections, math, os, typing
for forbidden in (os.fork, _socket.socket, lambda: os.listdir(os.pardir), lambda: open("../trial", "w")):
    try:
        forbidden()
    except PermissionError:
        continue
    raise AssertionError("what is forbidden is possible")
"""


class SandboxError(RuntimeError):
    """There is no sandbox, or it has failed: nothing is known of the program."""


class Outcome(NamedTuple):
    """What became of a program."""

    passed: bool
    reason: str = ""  # why it has not


def run(parts: Sequence[str], seconds: float, memory_mib: int) -> Outcome:
    """Of a program in parts, run one after the other with the same names, of which the last checks the others."""
    if lack := lacking():
        raise SandboxError(lack)
    return _outcome(parts, seconds, memory_mib)


@cache
def lacking() -> str:
    """Why programs can't be run here, empty if they can: found out by a trial."""
    if sys.platform != "linux":
        return f"generated code is run with Landlock and seccomp, which Linux has and {sys.platform} has not"
    try:
        passed, reason = _outcome([TRIAL], START, 512)
    except (SandboxError, OSError) as error:
        return f"generated code can't be shut in here: {error}"
    return "" if passed else f"generated code can't be shut in here: a trial {reason}"


def _outcome(parts: Sequence[str], seconds: float, memory_mib: int) -> Outcome:
    token = secrets.token_bytes(16)
    job = marshal.dumps((token, list(parts), os.getpid(), float(seconds), memory_mib))
    top = tempfile.mkdtemp(prefix="opd_bench-sandbox-")
    try:
        os.mkdir(folder := os.path.join(top, "0"))
        said, ended, status = _ended(job, folder, seconds)
    finally:
        _remove(top)
    told = said.removeprefix(READY)
    reason = ended or _told(told, parts[-1], memory_mib) or (MEDDLED if told else _exit(status))
    if not said.startswith(READY):
        raise SandboxError(f"the sandbox has not started: {reason}")
    return Outcome(True) if told == token else Outcome(False, reason)


def _ended(job: bytes, folder: str, seconds: float) -> tuple[bytes, str, int]:
    """What a process says, why it had to be ended, if it had, and its status."""
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(CHILD)]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=nowhere, cwd=folder, env={}, start_new_session=True, bufsize=0
    ) as process:
        try:
            _hand_over(process, job)
            said, ended = _watched(process, folder, seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return said, ended, process.returncode


def _hand_over(process: subprocess.Popen[bytes], job: bytes) -> None:
    """Without all of it the process ends by itself."""
    assert process.stdin
    with suppress(BrokenPipeError), process.stdin as pipe:
        while job:
            job = job[pipe.write(job) :]


def _watched(process: subprocess.Popen[bytes], folder: str, seconds: float) -> tuple[bytes, str]:
    """Everything that is said, and what a process must be ended for, empty if it ends by itself."""
    said, limit, end = b"", START, time.monotonic() + START
    with closing(_heard(process)) as chunks:
        for chunk in chunks:
            if chunk and not said:
                limit, end = seconds, time.monotonic() + seconds
            said += chunk
            if len(said) > MOST:
                return said, MEDDLED
            if time.monotonic() > end:
                return said, f"no end after {limit:g} s"
            if not chunk and _is_full(folder):
                return said, f"more than {DISK_MIB} MiB or {FILES:,} files"
    return said, ""


def _heard(process: subprocess.Popen[bytes]) -> Generator[bytes, None, None]:
    """What a process says, empty where it says nothing for a while, until it has ended; it is not waited for."""
    assert process.stdout
    report, end = process.stdout.fileno(), os.pidfd_open(process.pid)
    os.set_blocking(report, False)
    with os.fdopen(end):
        poll = select.poll()
        poll.register(report, select.POLLIN)
        poll.register(end, select.POLLIN)
        ready: set[int] = set()
        while end not in ready:
            ready = {file for file, _ in poll.poll(1000 * LOOK)}
            chunk = b""
            with suppress(BlockingIOError):
                chunk = os.read(report, MOST + 1)
            if report in ready and not chunk:
                poll.unregister(report)
            yield chunk


def _is_full(folder: str) -> bool:
    """Whether too much lies in a folder, or what can't be counted."""
    waiting, files, size = [folder], 0, 0
    while waiting:
        try:
            for entry in os.scandir(waiting.pop()):
                files, size = files + 1, size + 512 * entry.stat(follow_symlinks=False).st_blocks
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                if files > FILES or size > DISK_MIB * MIB:
                    return True
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone meanwhile
        except OSError:
            return True
    return False


def _remove(top: str) -> None:
    """A folder, however deep: what is inside of its folders is moved up before it is removed."""
    fresh = (os.path.join(top, str(number)) for number in count(1))
    while folders := os.listdir(top):
        for folder in folders:
            for entry in list(os.scandir(os.path.join(top, folder))):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)
                    os.rename(entry.path, next(fresh))
                else:
                    os.unlink(entry.path)
            os.rmdir(os.path.join(top, folder))
    os.rmdir(top)


def _told(said: bytes, checks: str, memory_mib: int) -> str:
    """What was raised and at which check, empty if nothing is told."""
    line, name, message = [*said.removeprefix(FAILED).decode(errors="replace").split("\n", 2), "", ""][:3]
    if not said.startswith(FAILED) or not name:
        return ""
    if name == "MemoryError":
        return f"more than {memory_mib} MiB"
    check = dict(enumerate(checks.splitlines(), 1)).get(int(line) if line.isdecimal() else 0, "").strip()
    return f"raised {name}" + (f": {message}" if message else "") + (f" at `{check}`" if check else "")


def _exit(status: int) -> str:
    """How a process ended that said nothing of it."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended before its checks, with code {status}"
