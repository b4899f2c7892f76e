"""Imports go down the stairs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "opd_bench"
STAIRS = (
    {"settings", "configs", "maths", "reporting"},
    {"tokens", "tasks"},
    {"models", "estimators", "rescoring"},
    {"rollouts"},
    {"chunks", "catalogue"},
    {"scoring"},
    {"enumeration"},
    {"redraw"},
    {"training", "tuning"},
    {"probing", "forecast"},
    {"methods", "bench", "probe", "report", "export", "gpu_check", "reproduce"},
)
LEVEL = {room: level for level, rooms in enumerate(STAIRS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Dotted names of the modules that a file imports, wherever in the file it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_down(path):
    if path == PACKAGE / "__init__.py":
        return  # the public names, imported when first used
    here = room_of(path)
    for name in imported(path):
        if name.startswith("opd_bench."):
            there = name.split(".")[1]
            assert there == here or LEVEL[there] < LEVEL[here], f"{path.name} may not import {name}"


def test_every_room_has_its_stair():
    assert {room_of(path) for path in FILES} - {"__init__"} == set(LEVEL)


def test_maths_imports_torch_and_the_standard_library_alone():
    outside = {name.split(".")[0] for path in (PACKAGE / "maths").glob("*.py") for name in imported(path)}
    assert outside - set(sys.stdlib_module_names) == {"torch", "opd_bench"}


@pytest.mark.parametrize(
    "rooms",
    [
        {
            "opd_bench": ["torch", "lightning", "hydra"],
            "opd_bench.report": ["torch", "lightning", "transformers", "hydra"],
            "opd_bench.export": ["torch", "lightning", "transformers", "hydra"],
            "opd_bench.reproduce": ["torch", "lightning", "transformers", "hydra"],
            "opd_bench.maths.moments": ["lightning", "transformers", "hydra"],
            "opd_bench.tokens": ["lightning", "transformers", "hydra"],
        },
        {
            "opd_bench.probe": ["torch", "lightning", "transformers", "matplotlib"],
            "opd_bench.bench": ["torch", "lightning", "transformers"],
        },
    ],
    ids=["without hydra", "with hydra"],
)
def test_what_importing_a_room_brings_along(rooms):
    """Rooms one after the other in one process: what is absent after some is brought along by none of them."""
    code = "import sys\nfrom importlib import import_module\n"
    code += f"for room, absent in {rooms}.items():\n"
    code += "    import_module(room)\n    print(room, [name for name in absent if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"{room} []" for room in rooms]


def brought(tmp_path, *arguments):
    """All modules that a command has imported when it ends."""
    told = tmp_path / "modules"
    code = "import atexit, sys; from pathlib import Path; from opd_bench.bench import main; sys.argv = sys.argv[1:]; "
    code += f"atexit.register(lambda: Path({str(told)!r}).write_text(chr(10).join(sys.modules))); main()"
    subprocess.run([sys.executable, "-c", code, "bench", *arguments], capture_output=True, text=True, check=True)
    return set(told.read_text().split())


def test_help_brings_nothing_along_that_takes_seconds(tmp_path):
    found = brought(tmp_path, "--help")
    assert "hydra" in found
    assert not found & {"torch", "lightning", "transformers", "matplotlib", "scipy.stats", "deepspeed"}


def test_a_run_in_one_process_brings_along_what_it_uses(tmp_path):
    """To its end, so before its first step too. What Lightning and transformers bring themselves is theirs."""
    least = ("plan.steps=1", "plan.prompts=2", "evaluation.problems=2", "evaluation.samples=1", "evaluation.every=0")
    found = brought(tmp_path, "method=opd", *least, "watch.moments_every=0", f"results={tmp_path / 'results'}")
    assert {"torch", "lightning", "transformers"} <= found
    assert not found & {"deepspeed", "datasets", "peft", "bitsandbytes", "vllm", "trl", "pyarrow", "pandas"}


def test_files_stay_readable_in_one_sitting():
    assert max(len(path.read_text().splitlines()) for path in FILES) <= 300
