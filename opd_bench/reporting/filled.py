"""Pages with figures in them: what a command prints stands between two marks, and is put there by that command."""

import re
from collections.abc import Callable

BLOCK = re.compile(r"^<!-- report: (?P<command>.+?) -->\n(?P<shown>.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)


def filled(page: str, printed: Callable[[str], str]) -> str:
    """The page with every block as its command prints it now."""
    return BLOCK.sub(lambda block: _block(block["command"], printed(block["command"])), page)


def _block(command: str, shown: str) -> str:
    return f"<!-- report: {command} -->\n\n{shown.strip()}\n\n<!-- end -->"
