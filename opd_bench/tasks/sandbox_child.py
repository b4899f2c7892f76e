"""The inside of the sandbox, run by itself as `python -I -S -B`: it shuts itself in, then runs one program.

It imports the standard library alone. What to do is its input, and what it says goes to what was its output: READY when
nothing but the program is left to be run, then the token if all parts have come to their ends, or FAILED and by what.
The token is where programs don't come by it in frames, modules, the collector or /proc, but a program that reads the
memory of its own process can find it.
"""

import ctypes
import marshal
import math
import os
import stat
import struct
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from operator import call
from types import ModuleType
from typing import Any

READY, FAILED = b"R", b"F"
CHECKS = "<checks>"
REASON = 300
"""Characters of an error that are told."""
FILE_MIB, OPEN_FILES = 8, 32
MIB = 2**20

SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime")
"""What may be read beside the interpreter's own library."""

PARENT_DEATH, SECCOMP, FILTER, NO_NEW_PRIVILEGES, SIGKILL = 1, 22, 2, 38, 9
CAPABILITIES_3 = 0x20080522

LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of access a version of Landlock knows. Later ones have no more of them."""
READ_FILE, READ_DIR, WRITE_FILE, TRUNCATE = 1 << 2, 1 << 3, 1 << 1, 1 << 14
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | TRUNCATE | sum(1 << bit for bit in (4, 5, 7, 8, 12, 13))
"""Also: remove folders and files, make folders, files and symbolic links, move between folders; but no devices."""
OF_FILES = READ_FILE | WRITE_FILE | TRUNCATE

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS = """
read 0 63, readv 19 65, pread64 17 67, preadv 295 69, write 1 64, writev 20 66, pwrite64 18 68, pwritev 296 70,
close 3 57, lseek 8 62, stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291, access 21 -,
faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78, getdents 78 -, getdents64 217 61,
getcwd 79 17, chdir 80 49, fchdir 81 50, mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35,
rename 82 -, renameat 264 38, renameat2 316 276, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36,
ftruncate 77 46, fsync 74 82, fdatasync 75 83, dup 32 23, dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59,
poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, umask 95 166, mmap 9 222, munmap 11 215, mremap 25 216,
mprotect 10 226, madvise 28 233, brk 12 214, rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139,
sigaltstack 131 132, alarm 37 -, pause 34 -, setitimer 38 103, getitimer 36 102, restart_syscall 219 128,
getpid 39 172, getppid 110 173, gettid 186 178, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177,
getgroups 115 158, getpgrp 111 -, getpgid 121 155, getsid 124 156, uname 63 160, sysinfo 99 179, times 100 153,
getrusage 98 165, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101,
gettimeofday 96 169, time 201 -, getrandom 318 278, futex 202 98, sched_yield 24 124, sched_getaffinity 204 123,
exit 60 93, exit_group 231 94, open 2 -, openat 257 56, fcntl 72 25, ioctl 16 29
"""
"""The system calls that there are for a program, with their numbers on x86_64 and aarch64; all others are refused."""
TRUNCATING = 0o1000
ARGUMENTS = {
    "open": (1, TRUNCATING | 3, (0, 1, 2, TRUNCATING | 1, TRUNCATING | 2)),  # none that empties what it only reads,
    "openat": (2, TRUNCATING | 3, (0, 1, 2, TRUNCATING | 1, TRUNCATING | 2)),  # which early Landlock lets pass
    "fcntl": (1, 0xFFFFFFFF, (0, 1, 2, 3, 4, 1030)),  # copies and flags; F_SETOWN would send signals to others
    "ioctl": (1, 0xFFFFFFFF, (0x5401, 0x5450, 0x5451)),  # is it a terminal, and is it inherited
}
"""Of some, one argument under a mask must be among these."""
LOAD, EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000


def main() -> None:
    """One step after the other, of which the last says the token, or what was raised; and that is the process's end."""
    report = os.dup(1)
    try:
        deque(map(call, _steps(report)), 0)
    except BaseException as error:
        os.write(report, FAILED + _told(error))
    finally:
        os._exit(0)


def _steps(report: int) -> list[Callable[[], Any]]:
    """The parts of the program, then success: all compiled and at hand before the first can change anything."""
    token, parts, *limits = marshal.loads(_input())
    _confine(*limits)
    os.write(report, READY)
    module = sys.modules["program"] = ModuleType("program")
    names = ["<part>"] * (len(parts) - 1) + [CHECKS]
    codes = [compile(text, name, "exec", dont_inherit=True) for text, name in zip(parts, names, strict=True)]
    return [*(partial(exec, code, vars(module)) for code in codes), partial(os.write, report, token)]


def _told(error: BaseException) -> bytes:
    """The line of the checks that it came through, 0 if none, the error's name and what it says."""
    line, trace = 0, error.__traceback__
    while trace:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == CHECKS else line
        trace = trace.tb_next
    return f"{line}\n{type(error).__name__[:REASON]}\n{str(error)[:REASON]}".encode(errors="replace")


def _input() -> bytes:
    """All of it, through no buffer in which the token would stay; input and output lead nowhere from then on."""
    read = b"".join(iter(partial(os.read, 0, MIB), b""))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return read


def _confine(parent: int, seconds: float, memory_mib: int) -> None:
    """From here on there is what a program may do, and nothing else."""
    _kernel("death with its parent", "prctl", PARENT_DEATH, SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise ProcessLookupError("who started this is gone")
    _limit(seconds, memory_mib)
    _kernel("no new privileges", "prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _lock_files()
    _kernel("no capabilities", "capset", struct.pack("Ii", CAPABILITIES_3, 0), bytes(24))
    sys.addaudithook(_refuse_collector)
    _lock_calls()


def _limit(seconds: float, memory_mib: int) -> None:
    """The processor's time is a little more than there is by the clock, which whoever started this looks at."""
    import resource  # not everywhere, and whoever starts this reads its constants everywhere

    time = math.ceil(seconds) + 1
    limits = {
        resource.RLIMIT_CPU: (time, time + 1),
        resource.RLIMIT_AS: (memory_mib * MIB, memory_mib * MIB),
        resource.RLIMIT_FSIZE: (FILE_MIB * MIB, FILE_MIB * MIB),
        resource.RLIMIT_NOFILE: (OPEN_FILES, OPEN_FILES),
        resource.RLIMIT_NPROC: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
    }
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = max(wanted) if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(kind, (min(wanted[0], most), min(wanted[1], most)))


def _lock_files() -> None:
    """Landlock: the interpreter and the system's libraries are for reading, the working folder for writing as well."""
    version = _kernel("Landlock", "syscall", LANDLOCK_CREATE, None, 0, 1)
    handled = (1 << RIGHTS.get(version, max(RIGHTS.values()))) - 1
    rules = _kernel("Landlock", "syscall", LANDLOCK_CREATE, struct.pack("Q", handled), 8, 0)
    library = (*sys.path, f"{sys.base_prefix}/lib", *SYSTEM)
    for path, rights in (*((path, READ) for path in library), (os.devnull, WRITE), (os.curdir, WRITE)):
        with suppress(FileNotFoundError):
            place = os.open(path, os.O_PATH)
            rights &= handled if stat.S_ISDIR(os.fstat(place).st_mode) else handled & OF_FILES
            _kernel("Landlock", "syscall", LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, place), 0)
            os.close(place)
    _kernel("Landlock", "syscall", LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


def _lock_calls() -> None:
    """Seccomp: no call but those of the table. The numbers of x32 are not in it, another architecture is the end."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise OSError(f"seccomp: there is no table of system calls for {machine}")
    column = list(ARCHITECTURES).index(machine) + 1
    table = [line.split() for line in CALLS.replace("\n", " ").split(",")]
    numbers = {line[0]: int(line[column]) for line in table if line[column] != "-"}
    steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, ARCHITECTURES[machine]), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    for name, number in numbers.items():
        allowed = _of_argument(*ARGUMENTS[name]) if name in ARGUMENTS else [(RETURN, 0, 0, ALLOW)]
        steps += [(EQUAL, 0, len(allowed), number), *allowed]
    packed = b"".join(struct.pack("HBBI", *step) for step in [*steps, (RETURN, 0, 0, REFUSE)])
    program = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("HxxxxxxQ", len(packed) // 8, ctypes.addressof(program))
    _kernel("seccomp", "prctl", SECCOMP, FILTER, header, 0, 0)


def _of_argument(index: int, mask: int, values: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Steps of the filter: its low half under the mask must be one of the values."""
    steps = [(LOAD, 0, 0, 16 + 8 * index), (AND, 0, 0, mask)]
    for value in values:
        steps += [(EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
    return [*steps, (RETURN, 0, 0, REFUSE)]


def _refuse_collector(event: str, _: Any) -> None:
    if event.startswith("gc.get_"):
        raise PermissionError(f"{event} is not for programs")


def _kernel(what: str, name: str, *arguments: Any) -> int:
    """What a function of the C library returns."""
    result = int(getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


if __name__ == "__main__":
    main()
