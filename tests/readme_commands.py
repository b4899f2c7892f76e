"""Every command of the README in a clean clone: python tests/readme_commands.py --quick | --all | --list.

A command is what stands on a line of a block ```sh; RULES says how it is tried. One that no rule fits is an error.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

ROOT = Path(__file__).parents[1]
SMALL = "plan.steps=2 plan.prompts=4 evaluation.problems=8 evaluation.every=0"
PROBE = "probe.sets=2 probe.prefixes=4"
BENCH = re.compile(r"-m opd_bench\.bench (?:-m )?(.*)")
RECIPE = re.compile(r"^`((?:opd_bench|conf)/\S+)`:\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLE_RUN = re.compile(r"results/runs/(?:\.\.\.|PROTOCOL/METHOD)/seed-\d+")
OUTER = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS")
"""What a make that started this would tell the makes below."""
LIMIT = 600
"""Seconds for a command, which then ends with code 124; with --all an hour."""


class Rule(NamedTuple):
    """How a command is tried.

    run: as it stands, with `more` added to make it small. dry: with DRY=1 too. compose: its configuration is made and
    shown, nothing runs. parse: make or bash reads it, and that is all.
    """

    pattern: str
    how: Literal["run", "dry", "compose", "parse"]
    more: str = ""
    why: str = ""
    is_long: bool = False  # only with --all; else it is parsed
    is_alone: bool = False  # needs nothing that commands before it make, so that it may run beside them


RULES = (
    Rule(r"make bench METHOD=tropd$", "run"),
    Rule(r"make bench .*EXPERIMENT=smollm2", "compose", why="needs what make smollm2 makes, and takes minutes"),
    Rule(r"make bench .*EXPERIMENT=", "compose", why="needs the Hub and a GPU"),
    Rule(r"make bench .*DRY=1", "run", is_alone=True),
    Rule(r"make bench .*TRAINER=cpu_", "run", SMALL, "several processes take long to start", is_long=True),
    Rule(r"make bench .*TRAINER=", "dry", "trainer.devices=1", "needs GPUs", is_alone=True),
    Rule(r"make bench .*watch\.weights_every=", "run", f"{SMALL} watch.weights_every=2"),
    Rule(r"make bench METHOD=\w+", "run", SMALL),
    Rule(r"make sweep EXPERIMENT=compare$", "run", f"method=opd seed=0 setting=standard {SMALL}"),
    Rule(r"make sweep\b.*(submitit|ARGS=.*,)", "parse", why="needs a cluster, or hours"),
    Rule(r"make sweep\b.*EXPERIMENT=", "compose", why="takes hours, or needs the Hub and a GPU"),
    Rule(r"make leaderboard\b", "run"),
    Rule(r"make reproduce ROW=\w+/\d", "run", is_alone=True),
    Rule(r"make export RUN=", "run"),
    Rule(r"make methods\b", "run", is_alone=True),
    Rule(r"make probe .*CHECKPOINT=", "run", f"methods=[vopd] {PROBE}"),
    Rule(r"make probe .*METHODS=", "run", PROBE, is_alone=True),
    Rule(r"make probe\b", "run", "", "all methods take minutes", is_long=True),
    Rule(r"make board\b", "parse", why="goes on until Ctrl-C; tests/test_board.py reads what it shows"),
    Rule(r"make gpu-check\b", "run", "--accelerator cpu", "minutes, and meant for a GPU", is_long=True),
    Rule(r"make perf\b", "parse", why="downloads TRL"),
    Rule(r"make smollm2$", "parse", why="downloads a pretrained model"),
    Rule(r"make embedded-models\b", "parse", why="about an hour"),
    Rule(r"make test ARGS=", "run", "", "tests/test_readme.py does the same in a copy of the tree", is_long=True),
    Rule(r"make (check|test\S*)$", "parse", why="minutes of tests: the next command of CI"),
    Rule(r"make( help| setup| lint)?$", "run"),
    Rule(r"(torchrun|srun|([A-Z_]+=\S+ )+python) .*-m opd_bench\.bench", "compose", why="needs several nodes"),
    Rule(r"\S*python -m opd_bench\.bench .*(--cfg|--help)", "run", is_alone=True),
    Rule(r"\S*python -m opd_bench\.bench .*experiment=", "compose", why="takes hours, or needs the Hub and a GPU"),
    Rule(r"\S*python -m opd_bench\.bench -m .*seed=", "run", f"seed=0 {SMALL}"),
    Rule(r"\S*python -m opd_bench\.bench\b", "run", SMALL),
    Rule(r"\S*python -m opd_bench\.report rescore", "run", "results/runs"),
    Rule(r"\S*python -m opd_bench\.(report|methods|reproduce)\b", "run"),
    Rule(r"(git clone|cd|\S*pip install) ", "parse", why="has been done wherever this runs"),
)
"""The first that fits counts."""


class Command(NamedTuple):
    """As the README has it, on one line, without its comment."""

    text: str

    @property
    def rule(self) -> Rule:
        """The first that fits."""
        for rule in RULES:
            if re.match(rule.pattern, self.text):
                return rule
        raise ValueError(f"no rule for  {self.text}\nSay in RULES of {__file__} how it is tried, and why so")

    def enlarged(self, *words: str, more: str = "") -> str:
        """With further words, and more arguments: in ARGS, if it is make's."""
        own = [*shlex.split(self.text), *words]
        if not more or own[0] != "make":
            return shlex.join([*own, *more.split()])
        given = next((word for word in own if word.startswith("ARGS=")), "ARGS=")
        rest = [word for word in own if word != given]
        return shlex.join([*rest, f"{given} {more}" if given != "ARGS=" else f"ARGS={more}"])


class Outcome(NamedTuple):
    """What became of a command."""

    command: Command
    how: str
    seconds: float
    code: int
    said: str


def commands(text: str) -> list[Command]:
    """In order; of one that stands there twice the first."""
    lines = [
        line for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for line in _lines(block)
    ]
    return [Command(line) for line in dict.fromkeys(lines)]


def _lines(block: str) -> Iterator[str]:
    for line in block.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s&&\s", _without_comment(line)):
            if part.strip():
                yield " ".join(part.split())


def _without_comment(line: str) -> str:
    """A # in quotes, or within a word, begins none."""
    quoted = False
    for at, letter in enumerate(line):
        quoted ^= letter == '"'
        if letter == "#" and not quoted and (at == 0 or line[at - 1].isspace()):
            return line[:at]
    return line


class Clone(NamedTuple):
    """A clean one, with a ready environment, where its own code is what runs."""

    folder: Path
    is_all: bool

    @classmethod
    def of(cls, root: Path, folder: Path, is_all: bool) -> "Clone":
        """What is committed there."""
        ready = root / ".venv"
        if not (ready / ".ready").exists():
            sys.exit(f"no environment in {ready}: make setup makes it")
        subprocess.run(["git", "clone", "--quiet", str(root), str(folder)], check=True)
        (folder / ".venv").symlink_to(ready.resolve())
        for name in ("pyproject.toml", "constraints.txt"):  # older than .ready: make has nothing to set up
            os.utime(folder / name, (0, 0))
        for path, content in RECIPE.findall((folder / "README.md").read_text()):  # files that it asks for
            (folder / path).write_text(content)
        clone = cls(folder, is_all)
        found = clone.said(".venv/bin/python -c 'import opd_bench; print(opd_bench.__file__)'")[1].strip()
        if not Path(found).is_relative_to(folder.resolve()):
            sys.exit(f"not the clone's code would run but {found}")
        return clone

    def tried(self, command: Command) -> Outcome:
        """By its rule."""
        rule = command.rule
        how = "parse" if rule.is_long and not self.is_all else rule.how
        start = time.perf_counter()
        code, said = self.said(self._line(command, how))
        return Outcome(command, how, time.perf_counter() - start, code, said)

    def said(self, line: str) -> tuple[int, str]:
        """What becomes of a line of bash, and what it says."""
        environment = {name: value for name, value in os.environ.items() if name not in OUTER}
        environment |= {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        call = ["timeout", str(6 * LIMIT if self.is_all else LIMIT), "bash", "-c", line]
        run = subprocess.run(call, cwd=self.folder, env=environment, capture_output=True, text=True)
        return run.returncode, run.stdout + run.stderr

    def _line(self, command: Command, how: str) -> str:
        rule = command.rule
        if how == "run":
            return self._filled(command.enlarged(more=rule.more))
        if how == "dry":
            return command.enlarged("DRY=1", more=rule.more)
        parsed = (
            f"make -n {command.text[4:]}"
            if command.text.startswith("make")
            else f"bash -nc {shlex.quote(command.text)}"
        )
        if how == "parse":
            return parsed
        text = self.said(parsed)[1] if command.text.startswith("make") else command.text
        found = BENCH.search(text.replace("\\\n", " "))
        return f".venv/bin/python -m opd_bench.bench {found[1] if found else '?'} --cfg job"

    def _filled(self, line: str) -> str:
        """An example's run is the last that was made, and its folder of a model a shipped one."""
        runs = sorted(self.folder.glob("results/runs/*/*/seed-*/record.json"), key=lambda path: path.stat().st_mtime)
        if runs:
            line = EXAMPLE_RUN.sub(str(runs[-1].parent.relative_to(self.folder)), line)
        return line.replace("=FOLDER", "=embedded/teacher")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if all that was tried went well."""
    given = _parser().parse_args(arguments)
    if given.list:
        for command in _known(given.root):
            print(_told(command.rule, command.rule.how), command.text, sep="\n    ")
        return 0
    with TemporaryDirectory(prefix="opd_bench-") as place:
        clone = Clone.of(given.root, Path(place) / "opd_bench", given.all)
        outcomes = list(_all_tried(clone, _known(clone.folder)))
    print("\nNot run, or not as it stands:")
    for one in outcomes:
        rule = one.command.rule
        if one.how != "run" or rule.more:
            print(f"  {one.command.text}\n      {_told(rule, one.how)}")
    failed = [one for one in outcomes if one.code]
    print(f"\n{len(outcomes)} commands, {len(failed)} failed")
    return 1 if failed else 0


def _known(root: Path) -> list[Command]:
    """A checkout's commands, all of which have a rule."""
    found = commands((root / "README.md").read_text())
    try:
        return [command for command in found if command.rule]
    except ValueError as error:
        sys.exit(str(error))


def _all_tried(clone: Clone, found: Sequence[Command]) -> Iterator[Outcome]:
    """Those that make or need a run in order, the others beside them."""
    with ThreadPoolExecutor(1) as order, ThreadPoolExecutor(1) as beside:
        waiting: list[Future[Outcome]] = []
        for command in found:
            rule = command.rule
            lane = beside if rule.is_alone or rule.how in ("compose", "parse") else order
            waiting.append(lane.submit(clone.tried, command))
        for one in waiting:
            outcome = one.result()
            print(
                f"{'FAILED' if outcome.code else 'ok':6} {outcome.seconds:6.1f} s  {outcome.command.text}", flush=True
            )
            if outcome.code:
                print("\n".join(f"       | {line}" for line in outcome.said.splitlines()[-30:]), flush=True)
            yield outcome


def _told(rule: Rule, how: str) -> str:
    added = f", with {rule.more}" if rule.more and how in ("run", "dry") else ""
    words = {
        "run": "run",
        "dry": "foretold with DRY=1",
        "compose": "configuration made, not run",
        "parse": "read, not run",
    }
    return f"{words[how]}{added}{' (--all runs it)' if rule.is_long else ''}{f': {rule.why}' if rule.why else ''}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--quick", action="store_true", help="what takes seconds, and two real runs")
    which.add_argument("--all", action="store_true", help="what takes minutes too")
    which.add_argument("--list", action="store_true", help="say how each command would be tried")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="a checkout (default: this one)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
