"""Commands in this process: they end as their own process would, without the seconds that its imports take."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest


class Ended(NamedTuple):
    """As of a completed process."""

    returncode: int
    stdout: str
    stderr: str


def ended(main: Callable[[], object], capsys: pytest.CaptureFixture[str], *arguments: str, width: int = 160) -> Ended:
    """What `main` says and returns when it is started with these arguments in a terminal that wide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["command", *arguments])
        patch.setenv("COLUMNS", str(width))
        code: object = None
        try:
            main()
        except SystemExit as end:
            code = end.code
    said = capsys.readouterr()
    if isinstance(code, str):  # which Python prints, and ends with 1
        return Ended(1, said.out, f"{said.err}{code}\n")
    return Ended(int(code or 0), said.out, said.err)
