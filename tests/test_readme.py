"""The README does what it says."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opd_bench import method_names
from opd_bench.configs import names
from opd_bench.report import printed
from opd_bench.reporting.filled import BLOCK, filled
from opd_bench.reporting.protocol import VERSION
from tests.readme_commands import Command, commands
from tests.test_docs import PAGES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MEASUREMENT = (ROOT / "docs" / "measurement.md").read_text()
OFFICIAL = ROOT / "results" / "official" / VERSION


RECIPE = dict(re.findall(r"^`((?:opd_bench|conf)/\S+)`:\n\n```\w+\n(.*?)^```", README, re.DOTALL | re.MULTILINE))


NAME = next(Path(path).stem for path in RECIPE)
TWIN = f"{NAME}_twin"
CHOICE = re.compile(r"\b(METHOD|EXPERIMENT|TRAINER|SETTING|TASK)=([a-z0-9_.]+)")


def in_code(text: str) -> str:
    """What a page has in blocks and in backticks."""
    found = re.findall(r"^```\w*\n.*?^```|`[^`\n]+`", text, re.DOTALL | re.MULTILINE)
    return "\n".join(part.strip("`") for part in found)


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    """What the contract suite says, by method and test, of the recipe's method and of its twin with a false claim.

    In a copy of the tree that has each one's two files more and is touched nowhere else.
    """
    folder = tmp_path_factory.mktemp("tree")
    for part in ("opd_bench", "conf", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, text in RECIPE.items():
        false = text.replace("target=None", 'target="reverse_kl"').replace(f".{NAME}.", f".{TWIN}.")
        for place, words in ((path, text), (Path(path).with_stem(TWIN), false)):
            assert not (folder / place).exists()
            (folder / place).write_text(words)
    command = [sys.executable, "-m", "pytest", "tests/test_contract.py", "-rA", "-k", NAME, "-p", "no:cacheprovider"]
    environment = {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    said = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout
    found = {NAME: {"PASSED": [], "FAILED": [], "ERROR": []}, TWIN: {"PASSED": [], "FAILED": [], "ERROR": []}}
    for outcome, test, words in re.findall(r"^([A-Z]+) \S+::(\w+)\[(\S+)\]", said, re.MULTILINE):
        (method,) = found.keys() & set(words.split("-"))
        found[method][outcome].append(test)
    return found


def test_the_recipe_for_a_method_of_ones_own_is_enough(contract):
    assert sorted(Path(path).suffix for path in RECIPE) == [".py", ".yaml"]
    assert sum(len(text.splitlines()) for text in RECIPE.values()) < 60
    said = contract[NAME]
    assert said["FAILED"] == said["ERROR"] == []
    assert len(set(said["PASSED"])) >= 20


def test_a_false_claim_in_the_recipe_is_found(contract):
    said = contract[TWIN]
    assert set(said["FAILED"]) == {"test_mean_gradient_is_the_stated_target"}
    assert said["ERROR"] == []
    assert set(said["PASSED"]) == set(contract[NAME]["PASSED"]) - set(said["FAILED"])


def test_the_figures_shown_are_those_of_the_page_of_methods():
    page = (ROOT / "docs" / "methods.md").read_text()
    shown = MEASUREMENT.split("### A: exact moments")[1].split("Nothing here is sampled")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in shown.splitlines() if line[:3] == "| `"]
    assert len(rows) == 8
    for name, target, bias, cosine, variance, reads in rows:
        row = (
            rf"^\| {name.replace('`', '')} \| \w+ \| {target} \| {bias} \| {cosine} \| .* \| {variance} \| {reads} \|$"
        )
        assert re.search(row, page, re.MULTILINE), name


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"no official results in this checkout ({OFFICIAL})")
def test_figures_in_pages_are_what_the_official_records_give(monkeypatch):
    monkeypatch.chdir(ROOT)
    pages = {page: page.read_text() for page in PAGES if BLOCK.search(page.read_text())}
    assert ROOT / "README.md" in pages
    for page, text in pages.items():
        assert filled(text, printed) == text, f"python -m opd_bench.report fill {page.relative_to(ROOT)}"


def test_a_page_is_filled_with_what_its_commands_print():
    page = "# A\n<!-- report: top --rows 2 -->\nold\nolder\n<!-- end -->\nwords\n<!-- report: b -->\n<!-- end -->\n"
    new = filled(page, lambda command: f"said {command}\n")
    assert new == (
        "# A\n<!-- report: top --rows 2 -->\n\nsaid top --rows 2\n\n<!-- end -->\nwords\n"
        "<!-- report: b -->\n\nsaid b\n\n<!-- end -->\n"
    )
    assert filled(new, lambda command: f"said {command}\n") == new


def test_the_notebook_example_runs():
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", MEASUREMENT, re.DOTALL) if "exact_moments" in block
    )
    exec(code, {})


def test_every_method_is_listed_and_every_listed_method_exists():
    section = README.split("## Methods")[1].split("## Add your own")[0]
    listed = re.findall(r"`([a-z0-9_]+)`", section.split("|---|---|")[1])
    assert sorted(listed) == method_names()
    assert f"runs {len(listed)} methods side by side" in README


def test_it_is_short_enough_to_be_read():
    assert len(BLOCK.sub("", README).splitlines()) <= 250


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    words = "\n".join(in_code(page.read_text()) for page in PAGES)
    named = set(re.findall(r"^make ([a-z0-9-]+)", words, re.MULTILINE))
    assert {"bench", "probe", "docs"} <= named <= targets


def test_every_choice_that_is_named_exists():
    found = {pair for page in PAGES for pair in CHOICE.findall(in_code(page.read_text()))}
    assert ("METHOD", "tropd") in found
    wrong = {(group, name) for group, name in found if name not in names(group.lower())}
    assert wrong <= {("METHOD", NAME)}


def test_every_command_has_a_rule_by_which_make_readme_tries_it():
    found = commands(README)
    assert "make bench METHOD=tropd" in [command.text for command in found]
    assert {command.rule.how for command in found} <= {"run", "dry", "compose", "parse"}
    assert all(command.rule.why for command in found if command.rule.how != "run" or command.rule.is_long)


@pytest.mark.parametrize("text", ["make unheard-of", "curl -O https://example.org", "make reproduce"])
def test_a_command_that_no_rule_knows_is_refused(text):
    with pytest.raises(ValueError, match=f"no rule for  {text}\n.*RULES"):
        _ = Command(text).rule


def test_commands_are_read_as_bash_reads_them():
    text = """```sh
make bench METHOD=opd ARGS="a=1 # no comment" \\
  SEED=3   # a comment
# nothing
make probe && make board
make probe
```

```python
print("make test")
```
"""
    expected = ['make bench METHOD=opd ARGS="a=1 # no comment" SEED=3', "make probe", "make board"]
    assert [command.text for command in commands(text)] == expected


@pytest.mark.parametrize(
    ("text", "larger"),
    [
        (
            'make bench METHOD=opd ARGS="plan.steps=300"',
            "make bench METHOD=opd 'ARGS=plan.steps=300 plan.steps=2' DRY=1",
        ),
        ("make bench METHOD=opd", "make bench METHOD=opd DRY=1 ARGS=plan.steps=2"),
        (
            ".venv/bin/python -m opd_bench.report rescore",
            ".venv/bin/python -m opd_bench.report rescore DRY=1 plan.steps=2",
        ),
    ],
)
def test_what_makes_a_command_small_goes_to_the_program_that_make_starts(text, larger):
    words = sorted(shlex.split(Command(text).enlarged("DRY=1", more="plan.steps=2")))
    assert words == sorted(shlex.split(larger))


def test_make_readme_tries_what_is_committed_tells_what_it_does_not_run_and_fails_with_a_command(tmp_path):
    """The script in its own process, on a clone with a short README."""
    if not (ROOT / ".venv" / ".ready").exists():
        pytest.skip("no environment that make has made")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    (clone / ".venv").symlink_to((ROOT / ".venv").resolve())
    (clone / "README.md").write_text("```sh\nmake    # all targets\nmake reproduce ROW=nosuch/0\nmake test\n```\n")
    author = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *author, "commit", "--quiet", "-am", "short"], cwd=clone, check=True)
    command = [sys.executable, str(ROOT / "tests" / "readme_commands.py"), "--quick", str(clone)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    lines = [line.split() for line in run.stdout.splitlines() if " s  make" in line]
    assert [(line[0], line[3:]) for line in lines] == [
        ("ok", ["make"]),
        ("FAILED", ["make", "reproduce", "ROW=nosuch/0"]),
        ("ok", ["make", "test"]),
    ]
    assert "| error: no official" in run.stdout
    assert "  make test\n      read, not run: minutes of tests" in run.stdout
    assert "3 commands, 1 failed" in run.stdout
