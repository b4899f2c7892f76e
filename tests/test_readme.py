"""The README does what it says."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from opd_bench import method_names

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


RECIPE = dict(re.findall(r"^`((?:opd_bench|conf)/\S+)`:\n\n```\w+\n(.*?)^```", README, re.DOTALL | re.MULTILINE))


def contract_with(tmp_path: Path, edit: Callable[[str], str]) -> subprocess.CompletedProcess:
    """Copy the tree, add the recipe's two files, touch nothing else, and run the contract suite on the new method."""
    for folder in ("opd_bench", "conf", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, text in RECIPE.items():
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(edit(text))
    name = Path(next(iter(RECIPE))).stem
    command = [sys.executable, "-m", "pytest", "tests/test_contract.py", "-k", name, "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)


def test_the_recipe_for_a_method_of_ones_own_is_enough(tmp_path):
    assert sorted(Path(path).suffix for path in RECIPE) == [".py", ".yaml"]
    assert sum(len(text.splitlines()) for text in RECIPE.values()) < 60
    result = contract_with(tmp_path, lambda text: text)
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= 20


def test_a_false_claim_in_the_recipe_is_found(tmp_path):
    result = contract_with(tmp_path, lambda text: text.replace("target=None", 'target="reverse_kl"'))
    assert result.returncode == 1
    failed = set(re.findall(r"^FAILED \S+::(\w+)", result.stdout, re.MULTILINE))
    assert failed == {"test_mean_gradient_is_the_stated_target"}


def test_the_figures_shown_are_those_of_the_docs_page():
    page = (ROOT / "docs" / "methods.md").read_text()
    shown = README.split("## Exact moments")[1].split("Nothing here is sampled")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in shown.splitlines() if line[:3] == "| `"]
    assert len(rows) == 8
    for name, target, bias, cosine, variance, reads in rows:
        row = (
            rf"^\| {name.replace('`', '')} \| \w+ \| {target} \| {bias} \| {cosine} \| .* \| {variance} \| {reads} \|$"
        )
        assert re.search(row, page, re.MULTILINE), name


def test_the_notebook_example_runs():
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "exact_moments" in block)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_method_is_listed_and_every_listed_method_exists():
    section = README.split("## Methods")[1].split("## Add your own")[0]
    listed = re.findall(r"`([a-z0-9_]+)`", section.split("|---|---|")[1])
    assert sorted(listed) == method_names()


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert named - {"alone"} <= targets
