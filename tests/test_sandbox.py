"""Programs that mean harm: each is ended in time, fails for a telling reason, and leaves everything as it was."""

import ctypes
import marshal
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from opd_bench.tasks import sandbox
from opd_bench.tasks.limits import TimeUpError, within
from opd_bench.tasks.sandbox import Outcome, SandboxError


def landlock() -> int:
    """Its version as the kernel says it, 0 if there is none: asked without the package."""
    return max(0, ctypes.CDLL(None).syscall(444, None, 0, 1)) if sys.platform == "linux" else 0


needs_landlock = pytest.mark.skipif(landlock() < 1, reason="this system has no Landlock: code is refused, not run")
SLACK = 6
"""Seconds beyond a program's own, on a busy machine."""
BREAKS_NOTHING = "def double(n):\n    return 2 * n"
REFUSED = r"raised PermissionError: \[Errno (1|13)\]"

PROCESSES = {
    "fork": ("for _ in range(50):\n    if not os.fork():\n        time.sleep(60)", REFUSED),
    "a fork whose error is caught": (
        "while True:\n    try:\n        os.fork() or time.sleep(60)\n    except OSError:\n        pass",
        "no end after 1 s",
    ),
    "forkpty": ("os.forkpty() or time.sleep(60)", REFUSED),
    "subprocess": ("import subprocess\nsubprocess.Popen(['/bin/sleep', '60'])", REFUSED),
    "posix_spawn": ("os.posix_spawn('/bin/sleep', ['sleep', '60'], {})", REFUSED),
    "system": ("assert os.system('sleep 60') == 0", "raised AssertionError"),
    "exec": ("os.execv('/bin/sleep', ['sleep', '60'])", REFUSED),
    "multiprocessing": (
        "import multiprocessing\nmultiprocessing.Process(target=time.sleep, args=(60,)).start()",
        REFUSED,
    ),
    "threads": (
        "import threading\nthreading.stack_size(65536)\n"
        "for _ in range(5000):\n    threading.Thread(target=time.sleep, args=(60,)).start()",
        "raised RuntimeError: can't start new thread",
    ),
    "clone": (
        "import ctypes\ncalls = {'x86_64': (56, 57, 58, 435, 0x40000039), 'aarch64': (220, 435)}[os.uname().machine]\n"
        "made = [ctypes.CDLL(None).syscall(call, 17, 0, 0, 0, 0) for call in calls]\n"
        "0 in made and time.sleep(60)\nraise SystemExit(set(made))",
        r"raised SystemExit: \{-1\}",
    ),
    "a new session": ("os.setsid()", REFUSED),
    "a new group": ("os.setpgid(0, 0)", REFUSED),
    "ptrace": ("import ctypes\nassert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0", "raised AssertionError"),
    "death of its parent": ("os.kill(os.getppid(), 9)", REFUSED),
    "death of all": ("os.kill(-1, 9)", REFUSED),
    "signals by fcntl": ("import fcntl\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())", REFUSED),
    "signals by ioctl": ("import fcntl\nfcntl.ioctl(os.pipe()[0], 0x8901, bytes(4))", REFUSED),
    "a higher limit": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "raised (PermissionError|ValueError)",
    ),
    "another limit": ("import resource\nresource.prlimit(os.getppid(), 7, (3, 3))", "raised PermissionError"),
    "another priority": ("os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)", REFUSED),
}
TIME = {
    "a loop": ("while True:\n    pass", "no end after 1 s"),
    "a nap": ("time.sleep(60)", "no end after 1 s"),
    "a power": ("3 ** 10 ** 9", "no end after 1 s"),
    "a regular expression": ("import re\nre.fullmatch('(a+)+b', 60 * 'a')", "no end after 1 s"),
    "deaf to signals": (
        "import signal\nfor number in range(1, 65):\n    try:\n        signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
        "no end after 1 s",
    ),
    "catches everything": (
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
        "no end after 1 s",
    ),
    "prints forever": ("while True:\n    print(1000 * 'x')", "no end after 1 s"),
    "closes all files and naps": ("os.closerange(0, 32)\ntime.sleep(60)", "no end after 1 s"),
}
MEMORY = {
    "a list": ("[0] * 10**9", "more than 128 MiB"),
    "bit by bit": ("found = []\nwhile True:\n    found.append(bytearray(10**6))", "more than 128 MiB"),
    "a map": ("import mmap\nmmap.mmap(-1, 2**30)", "raised OSError: .*Cannot allocate memory"),
    "no way back": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(n):\n    f(n + 1)\nf(0)",
        "more than|killed by|no end",
    ),
    "a deep call": ("def f(n):\n    return f(n + 1)\nf(0)", "raised RecursionError"),
    "a deep expression": (
        100_000 * "(" + 100_000 * ")",
        "raised (SyntaxError|MemoryError|RecursionError)|more than|killed",
    ),
    "a fault": ("import ctypes\nctypes.string_at(0)", "killed by SIGSEGV"),
    "abort": ("os.abort()", "killed by SIG"),
    "a warning shot": ("import signal\nsignal.alarm(1)\ntime.sleep(60)", "killed by SIGALRM|no end"),
}
FILES = {
    "a new file": ("open('{outside}/new', 'w')", REFUSED),
    "by way of ..": ("open(os.path.relpath('{outside}/new'), 'w')", REFUSED),
    "beside the folder": ("open('../new', 'w')", REFUSED),
    "a link out": ("os.symlink('{outside}', 'link')\nopen('link/new', 'w')", REFUSED),
    "a link to a file": ("os.symlink('{outside}/kept', 'link')\nopen('link', 'w')", REFUSED),
    "a hard link": ("os.link('{outside}/kept', 'link')", r"raised (PermissionError|OSError: \[Errno 18\])"),
    "open and create": ("os.open('/tmp/opd_bench-new', os.O_CREAT | os.O_WRONLY)", REFUSED),
    "a write": ("open('{outside}/kept', 'a').write('more')", REFUSED),
    "a read": ("print(open('{outside}/kept').read())", REFUSED),
    "a list": ("os.listdir('{outside}')", REFUSED),
    "truncation": ("os.truncate('{outside}/kept', 0)", REFUSED),
    "truncation when read": ("open('own', 'w').close()\nos.open('own', os.O_RDONLY | os.O_TRUNC)", REFUSED),
    "removal": ("os.remove('{outside}/kept')", REFUSED),
    "removal of a folder": ("os.rmdir('{outside}/empty')", REFUSED),
    "a new name": ("os.rename('{outside}/kept', '{outside}/new')", r"raised (PermissionError|OSError: \[Errno 18\])"),
    "a move in": ("os.rename('{outside}/kept', 'mine')", r"raised (PermissionError|OSError: \[Errno 18\])"),
    "a move out": (
        "open('a', 'w')\nos.rename('a', '{outside}/new')",
        r"raised (PermissionError|OSError: \[Errno 18\])",
    ),
    "chmod": ("os.chmod('{outside}/kept', 0o777)", REFUSED),
    "chown": ("os.chown('{outside}/kept', 1, 1)", REFUSED),
    "utime": ("os.utime('{outside}/kept', (0, 0))", REFUSED),
    "an attribute": ("os.setxattr('{outside}/kept', 'user.new', b'new')", REFUSED),
    "a folder": ("os.mkdir('{outside}/new')", REFUSED),
    "a fifo": ("os.mkfifo('fifo')", REFUSED),
    "passwords": ("open('/etc/passwd').read()", REFUSED),
    "the home": ("os.listdir('{home}')", REFUSED),
    "the package": ("open('{package}').read()", REFUSED),
    "its parent's environment": ("open(f'/proc/{os.getppid()}/environ').read()", REFUSED),
    "its own memory": ("open('/proc/self/mem', 'rb').read(1)", REFUSED),
    "a root": ("os.chroot('.')", REFUSED),
    "a mount": (
        "import ctypes\nassert ctypes.CDLL(None).mount(b'a', b'.', b'tmpfs', 0, None) == 0",
        "raised AssertionError",
    ),
    "a key": ("import ctypes\nassert ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0", "raised AssertionError"),
    "memory as a file": ("os.memfd_create('a')", REFUSED),
    "a large file": (
        "with open('a', 'wb') as file:\n    while True:\n        file.write(bytes(2**20))",
        "File too large",
    ),
    "a sparse file": ("os.truncate(os.open('a', os.O_CREAT | os.O_RDWR), 2**40)", "File too large"),
    "many files": (
        "for n in range(10**9):\n    with open(str(n), 'wb') as file:\n        file.write(bytes(10_000))",
        "more than 64 MiB or 1,000 files",
    ),
    "a deep nest": ("while True:\n    os.mkdir(200 * 'd')\n    os.chdir(200 * 'd')", "more than 64 MiB or 1,000 files"),
    "open files": ("files = [open('a', 'w') for _ in range(100)]", "Too many open files"),
}
NETWORK = {
    "TCP": ("import socket\nsocket.create_connection(('127.0.0.1', {port}))", REFUSED),
    "UDP": (
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
        REFUSED,
    ),
    "UNIX": ("import socket\nsocket.socket(socket.AF_UNIX).connect('{outside}/server')", REFUSED),
    "abstract": (r"import socket" "\nsocket.socket(socket.AF_UNIX).bind(chr(0) + 'x')", REFUSED),
    "a pair": ("import socket\nsocket.socketpair()", REFUSED),
    "a URL": ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}')", "Operation not permitted"),
    "a server": ("import http.server\nhttp.server.HTTPServer(('', 0), None)", REFUSED),
    "io_uring": ("import ctypes\nassert ctypes.CDLL(None).syscall(425, 1, bytes(120)) >= 0", "raised AssertionError"),
}
FORGED = {
    "leaves": ("import sys\nsys.exit(0)", "raised SystemExit: 0"),
    "leaves quietly": ("raise SystemExit", "raised SystemExit"),
    "leaves at once": ("os._exit(0)", "ended before its checks, with code 0"),
    "leaves at once, otherwise": ("os._exit(3)", "ended before its checks, with code 3"),
    "quits": ("quit = exit = lambda *_: None\nraise KeyboardInterrupt", "raised KeyboardInterrupt"),
    "says so": ("import sys\nsys.stdout.close()\nos.write(1, b'passed')\nos._exit(0)", "ended before its checks"),
    "says so everywhere": (
        "for file in range(32):\n    for text in (b'', b'R', bytes(16), b'R' + bytes(16)):\n        try:\n"
        "            os.write(file, text)\n        except OSError:\n            pass",
        "wrote where the sandbox alone writes",
    ),
    "says so too often": (
        "while True:\n    for file in range(3, 32):\n        try:\n            os.write(file, bytes(1000))\n"
        "        except OSError:\n            pass",
        "wrote where the sandbox alone writes",
    ),
    "patches builtins": (
        "import builtins\nfor name in ('exec', 'eval', 'compile', 'AssertionError', 'map', 'len', '__import__'):\n"
        "    setattr(builtins, name, lambda *_, **__: None)",
        "raised AssertionError",
    ),
    "patches the runner": (
        "import sys\nmain = sys.modules['__main__']\n"
        "for name in ('exec', '_told', 'call', 'partial', 'map', '_steps'):\n    setattr(main, name, lambda *_: None)\n"
        "sys.exit = os._exit = lambda *_: None",
        "raised|ended before its checks",
    ),
    "patches the ending": ("os._exit = lambda *_: None\nos.write = lambda *_: None", "ended before its checks"),
    "looks at frames": (
        "import sys\nframe, found = sys._getframe(), []\nwhile frame:\n"
        "    found += [*frame.f_locals.values(), *frame.f_globals.values()]\n    frame = frame.f_back\n"
        "found += [part for value in found for part in getattr(value, '__dict__', {}).values()]\n"
        "found += [part for value in found if isinstance(value, (list, tuple, set)) for part in value]\n"
        "for value in {value for value in found if isinstance(value, bytes) and len(value) == 16}:\n"
        "    for file in range(3, 32):\n        try:\n            os.write(file, value)\n"
        "        except OSError:\n            pass\nos._exit(0)",
        "ended before its checks|wrote where",
    ),
    "asks the collector": ("import gc\ngc.get_objects()", "raised PermissionError: gc.get_objects is not for programs"),
    "asks for referents": ("import gc, sys\ngc.get_referents(sys._getframe())", "raised PermissionError"),
    "raises what can't be shown": (
        "class Mine(Exception):\n    def __str__(self):\n        os._exit(0)\nraise Mine",
        "ended before its checks",
    ),
    "raises what lies": (
        "class MemoryError(Exception):\n    pass\nraise MemoryError('R')",
        "more than 128 MiB",
    ),
    "speaks gibberish": ("raise Exception(chr(0xDC80) + chr(10) + chr(0))", "raised Exception: "),
}
GOOD = {
    "plain": (BREAKS_NOTHING, "assert double(2) == 4"),
    "modules": (
        "import bisect, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools, hashlib, heapq\n"
        "import io, itertools, json, math, operator, random, re, statistics, string, sys, textwrap, typing, unittest\n"
        "import contextlib, csv, pprint, time, unicodedata, uuid, zlib, array, cmath, queue, struct, secrets, tempfile",
        "assert hashlib.md5(b'').hexdigest().startswith('d41d') and datetime.datetime.now().year > 2000",
    ),
    "own files": (
        "import os, shutil, tempfile\nwith open('a', 'w') as file:\n    print('é', file=file)\nos.mkdir('b')\n"
        "shutil.copyfile('a', 'b/c')\nos.rename('b/c', 'b/d')\nos.chdir('b')\n"
        "with tempfile.TemporaryFile(dir='.') as file:\n    file.write(b'x')",
        "assert open('d', encoding='utf-8').read() == 'é\\n'\nos.remove('d')\nassert os.listdir() == []",
    ),
    "much printed": ("for _ in range(10000):\n    print(100 * 'é')", "import sys\nprint('end', file=sys.stderr)"),
    "nothing to read": ("import sys", "assert sys.stdin.read() == ''"),
    "no main": ("if __name__ == '__main__':\n    raise SystemExit", ""),
    "annotations and classes": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n",
        "assert Point(3) == Point(x=3)",
    ),
    "exceptions caught": (
        "try:\n    open('/etc/shadow')\nexcept OSError as error:\n    caught = type(error)",
        "assert caught is PermissionError",
    ),
    "a long text": ("x = '''" + 300_000 * "é" + "'''", "assert len(x) == 300_000"),
    "nothing": ("", ""),
}
EVIL = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("processes", PROCESSES),
        ("time", TIME),
        ("memory", MEMORY),
        ("files", FILES),
        ("network", NETWORK),
        ("forged", FORGED),
    )
    for name, case in cases.items()
}


def living(room: Path) -> list[int]:
    """Processes that work in a folder or below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "cwd").startswith(str(room)):
                found.append(int(process.name))
    return found


def soon(condition, seconds=10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def room(tmp_path, monkeypatch):
    """Where the sandbox makes its folders: empty again after each run, and nobody works there any more."""
    (room := tmp_path / "room").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(room))
    return room


@pytest.fixture
def outside(tmp_path):
    (outside := tmp_path / "outside").mkdir()
    (outside / "kept").write_text("secret")
    (outside / "kept").chmod(0o640)
    (outside / "empty").mkdir()
    return outside


@pytest.fixture
def servers(outside):
    """One of TCP, UDP and UNIX each, that nobody is to call."""
    made = [socket.socket(), socket.socket(type=socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX)]
    made[0].bind(("127.0.0.1", 0))
    made[1].bind(made[0].getsockname())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(outside)  # the path of such a socket must be short
        made[2].bind("server")
    made[0].listen()
    made[2].listen()
    for server in made:
        server.setblocking(False)
    yield made
    for server in made:
        server.close()


def state(folder: Path) -> list:
    kept = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    return [(name, stat.st_mode, stat.st_uid, stat.st_size, stat.st_mtime_ns, stat.st_nlink) for name, stat in kept]


def judged(room: Path, *parts: str, seconds=1.0, memory_mib=128) -> Outcome:
    """The outcome, if it came in time and nothing is left."""
    start = time.monotonic()
    outcome = sandbox.run(parts, seconds, memory_mib)
    assert time.monotonic() - start < seconds + SLACK
    assert not living(room)
    assert not list(room.iterdir())
    return outcome


@needs_landlock
@pytest.mark.parametrize("name", EVIL)
def test_harm_is_not_done(name, room, outside, servers):
    program, reason = EVIL[name]
    before, files = state(outside), len(os.listdir("/proc/self/fd"))
    places = {"outside": outside, "port": servers[0].getsockname()[1], "home": Path.home(), "package": sandbox.__file__}
    for place, value in places.items():
        program = program.replace(f"{{{place}}}", str(value))
    passed, told = judged(room, f"import os, time\n{program}", "assert False", seconds=1 if "no end" in reason else 5)
    assert not passed
    assert re.search(reason, told), told
    assert state(outside) == before
    assert (outside / "kept").read_text() == "secret"
    assert not Path("/tmp/opd_bench-new").exists()
    assert len(os.listdir("/proc/self/fd")) == files
    for server in (servers[0], servers[2]):
        with pytest.raises(BlockingIOError):
            server.accept()
    with pytest.raises(BlockingIOError):
        servers[1].recv(1)


@needs_landlock
@pytest.mark.parametrize("name", GOOD)
def test_good_programs_pass(name, room):
    assert judged(room, *GOOD[name], seconds=10, memory_mib=256) == (True, "")


@needs_landlock
def test_a_failure_says_by_which_check(room):
    checks = "assert double(1) == 2\nassert double(2) == 5, 'four'\nassert double(3) == 6"
    assert judged(room, BREAKS_NOTHING, checks) == (
        False,
        "raised AssertionError: four at `assert double(2) == 5, 'four'`",
    )
    assert judged(room, "def f(:", "") == (False, "raised SyntaxError: invalid syntax (<part>, line 1)")
    assert judged(room, "x = 1", "assert y") == (False, "raised NameError: name 'y' is not defined at `assert y`")
    assert judged(room, "raise ValueError(1000 * 'x')", "")[1] == f"raised ValueError: {300 * 'x'}"


@needs_landlock
def test_parts_share_names_and_nothing_of_the_one_before_changes_how_the_next_is_read(room):
    first, second = "from typing import List\nx = 1", "from __future__ import annotations\ny: List = x + 1"
    assert judged(room, first, second, "assert (x, y) == (1, 2)").passed


@needs_landlock
def test_there_is_no_environment(room, monkeypatch):
    monkeypatch.setenv("SECRET_OF_PARENT", "hush")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    program = "import os\nraise Exception(sorted(os.environ))"
    assert re.fullmatch(r"raised Exception: \[('LC_CTYPE')?\]", judged(room, program, "").reason)


@needs_landlock
def test_there_are_no_open_files(room, tmp_path):
    with open(tmp_path / "open", "w") as file:
        os.set_inheritable(file.fileno(), True)
        program = "import os\nopen_ = []\nfor n in range(32):\n    try:\n        os.fstat(n)\n        open_.append(n)\n"
        program += "    except OSError:\n        pass\nassert len(open_) <= 4, open_"
        assert judged(room, program, "") == (True, "")


def of_process(number: int, file: str) -> dict[str, list[str]]:
    lines = Path(f"/proc/{number}/{file}").read_text().splitlines()
    return {name: values.split() for name, values in (re.split(r":|  +", line, maxsplit=1) for line in lines)}


@needs_landlock
def test_the_kernel_knows_every_limit(room):
    assert not sandbox.lacking()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sandbox.run, ["import time\ntime.sleep(1.5)"], 6.5, 128)
        assert soon(lambda: any(of_process(one, "status").get("Seccomp") == ["2"] for one in living(room)))
        (process,) = living(room)
        limits, status = of_process(process, "limits"), of_process(process, "status")
        assert os.getsid(process) == os.getpgid(process) == process
        assert os.listdir(f"/proc/{process}/task") == [str(process)]
        assert running.result().passed
    wanted = {
        "Max cpu time": ["8", "9"],
        "Max address space": 2 * [str(128 * 2**20)],
        "Max file size": 2 * [str(8 * 2**20)],
        "Max open files": ["32", "32"],
        "Max processes": ["0", "0"],
        "Max core file size": ["0", "0"],
    }
    assert {name: limits[name][:2] for name in wanted} == wanted
    assert status["NoNewPrivs"] == ["1"]
    assert {name: int(status[name][0], 16) for name in ("CapPrm", "CapEff")} == {"CapPrm": 0, "CapEff": 0}


@needs_landlock
def test_the_processor_s_time_ends_what_nobody_watches(room):
    job = marshal.dumps((b"token", ["while True:\n    pass"], os.getpid(), 0.5, 128))
    command = [sys.executable, "-I", "-S", "-B", str(sandbox.CHILD)]
    done = subprocess.run(command, input=job, cwd=room, stdout=subprocess.PIPE, timeout=30)
    assert (done.returncode, done.stdout) == (-signal.SIGXCPU, b"R")


@needs_landlock
@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_job_that_has_not_come_whole_is_not_run(room, cut):
    job = marshal.dumps((b"token", ["open('ran', 'w')"], os.getpid(), 0.5, 128))[:cut]
    command = [sys.executable, "-I", "-S", "-B", str(sandbox.CHILD)]
    done = subprocess.run(command, input=job, cwd=room, stdout=subprocess.PIPE, timeout=30)
    assert done.stdout.startswith(b"F")
    assert not list(room.iterdir())


@needs_landlock
def test_odd_things_are_removed_and_what_they_point_to_is_not(room, outside):
    program = f"""
import os
os.symlink({str(outside)!r}, "link")
os.symlink("loop", "loop")
for name in (b"\\xff\\n", b"-rf *", b"closed"):
    os.mkdir(name, 0)
os.mkdir("x")
os.chdir("x")
open("own", "w").close()
os.link("own", "other")
for _ in range(980):
    os.mkdir("d")
    os.chdir("d")
"""
    assert judged(room, program, "", seconds=10) == (True, "")
    assert (outside / "kept").read_text() == "secret"


@needs_landlock
def test_who_is_interrupted_leaves_nothing(room):
    start = time.monotonic()
    with pytest.raises(TimeUpError):
        within(0.4, lambda: sandbox.run(["import time\ntime.sleep(60)"], 60, 128))
    assert time.monotonic() - start < SLACK
    assert not living(room)
    assert not list(room.iterdir())


@needs_landlock
def test_a_program_goes_with_whoever_started_it(room):
    code = "from opd_bench.tasks import sandbox\nsandbox.run(['import time\\ntime.sleep(60)'], 60, 128)"
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(room)}) as parent:
        try:
            assert soon(lambda: living(room) and next(room.iterdir()).name, 30)
            time.sleep(0.5)  # until it naps
            assert len(living(room)) == 1
        finally:
            parent.send_signal(signal.SIGKILL)
    assert soon(lambda: not living(room))


@needs_landlock
def test_many_run_side_by_side(room):
    parts = [[f"x = {n}", f"assert x % 3, {n}"] for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: sandbox.run(part, 10, 128).passed, parts))
    assert found == [bool(n % 3) for n in range(12)]
    assert not list(room.iterdir())


@needs_landlock
def test_the_clock_starts_with_the_program_and_not_with_the_interpreter(room):
    assert judged(room, "import time\ntime.sleep(0.2)", "", seconds=0.5).passed
    start = time.monotonic()
    assert judged(room, "x = 1", "assert x").passed
    assert time.monotonic() - start < 1


@needs_landlock
def test_what_the_docstring_says_of_deceivers(room):
    program = "class Equal:\n    def __eq__(self, _):\n        return True\ndef double(n):\n    return Equal()"
    assert judged(room, program, "assert double(2) == 4").passed


@needs_landlock
@pytest.mark.parametrize(
    ("child", "reason"),
    [("import time\ntime.sleep(60)", "no end after 0.2 s"), ("1 / 0", "ended before its checks, with code 1")],
)
def test_what_has_not_started_is_no_failure_of_the_program(child, reason, room, tmp_path, monkeypatch):
    assert not sandbox.lacking()
    (tmp_path / "child.py").write_text(child)
    monkeypatch.setattr(sandbox, "CHILD", tmp_path / "child.py")
    monkeypatch.setattr(sandbox, "START", 0.2)
    with pytest.raises(SandboxError, match=f"the sandbox has not started: {reason}"):
        sandbox.run(["x = 1"], 1.0, 128)
    assert not living(room)
    assert not list(room.iterdir())


@pytest.fixture
def unknown():
    """Nothing is known of what is lacking, before and after."""
    sandbox.lacking.cache_clear()
    yield
    sandbox.lacking.cache_clear()


@needs_landlock
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("LANDLOCK_RESTRICT = 444", "LANDLOCK_RESTRICT = 1444", "OSError: .*Landlock"),
        (
            "FILTER, NO_NEW_PRIVILEGES, SIGKILL = 1, 22, 2",
            "FILTER, NO_NEW_PRIVILEGES, SIGKILL = 1, 22, 9",
            "OSError: .*seccomp",
        ),
        ('"x86_64": 0xC000003E, "aarch64"', '"sparc": 1, "aarch65"', "OSError: seccomp: .* no table"),
        ('"x86_64": 0xC000003E, "aarch64": 0xC00000B7', '"x86_64": 1, "aarch64": 1', "killed by SIGSYS"),
        ("    _lock_calls()\n", "", "what is forbidden is possible"),
        ("    _lock_files()\n", "", "what is forbidden is possible"),
        ("_steps(report)), 0)", "[]), 0)", "ended before its checks, with code 0"),
    ],
)
def test_where_a_lock_is_lacking_nothing_is_run(old, new, reason, unknown, room, tmp_path, monkeypatch):
    text = sandbox.CHILD.read_text()
    assert text.count(old) == 1
    (child := tmp_path / "child.py").write_text(text.replace(old, new))
    monkeypatch.setattr(sandbox, "CHILD", child)
    assert re.search(f"generated code can't be shut in here: .*{reason}", sandbox.lacking()), sandbox.lacking()
    with pytest.raises(SandboxError, match="can't be shut in here"):
        sandbox.run(["open('ran', 'w')"], 1.0, 128)
    assert not list(room.iterdir())


@needs_landlock
def test_early_landlock_is_enough(unknown, room, outside, tmp_path, monkeypatch):
    text, line = sandbox.CHILD.read_text(), "    handled = "
    assert text.count(line) == 1
    (child := tmp_path / "child.py").write_text(text.replace(line, f"    version = 1\n{line}"))
    monkeypatch.setattr(sandbox, "CHILD", child)
    assert judged(room, *GOOD["plain"]).passed
    for name in ("truncation", "truncation when read", "a write", "a move out", "removal"):
        program, reason = FILES[name]
        before = state(outside)
        assert re.search(reason, judged(room, f"import os\n{program.replace('{outside}', str(outside))}", "").reason)
        assert state(outside) == before


def test_other_systems_refuse(unknown, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(SandboxError, match="Landlock and seccomp, which Linux has and darwin has not"):
        sandbox.run(["x = 1"], 1.0, 128)
