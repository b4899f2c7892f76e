"""The table of all methods: at a terminal, and as a page of the docs."""

import re
import runpy
from functools import partial
from pathlib import Path

import pytest

from opd_bench import method_names
from opd_bench.methods import main, rows
from tests.commands import ended
from tests.prefixes import prefix_pair

ROOT = Path(__file__).parents[1]


def test_the_docs_page_is_what_the_command_prints(capsys):
    """If this fails, `make docs` writes the page anew."""
    assert main(["--markdown"]) == 0
    assert capsys.readouterr().out == (ROOT / "docs" / "methods.md").read_text()


def test_the_page_has_a_line_for_every_method_below_its_formula():
    sections = (ROOT / "docs" / "methods.md").read_text().split("## One by one")[1].split("\n### ")[1:]
    lines = [line for section in sections for line in re.findall(r"^\| \[(\w+)\]\(.*\|$", section, re.MULTILINE)]
    assert sorted(lines) == method_names()
    for section in sections:
        formula = re.search(r"\n\n(    .*\n)+\n", section)
        assert formula, section
        assert section.index("\n- Paper: ") > formula.start()
    (tropd,) = (section for section in sections if section.startswith("TrOPD\n"))
    assert '| `k=64` `renormalise=false` `beta=0.001` `trust="bernoulli"` `outlier="forward_kl"`' in tropd
    assert 'TeacherPrefix `length="ratio"` `extra=0.25` | Σ min(p, q)' in tropd


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_the_command_shows_every_method_and_marks_the_wrong_ones(capsys):
    command = partial(runpy.run_module, "opd_bench.methods", run_name="__main__")  # python -m, in this process
    code, shown, _ = ended(command, capsys, "--prefixes", "1", width=140)
    assert code == 0
    assert all(f" {name} " in shown for name in method_names())
    assert "k1_direct ⚠" in shown


def test_figures_are_means_over_the_prefixes():
    pair = prefix_pair(2, 20)
    both, first, second = (
        next(rows(["vopd"], *(logits[part] for logits in pair), 0.0)).figures
        for part in (slice(0, 2), slice(0, 1), slice(1, 2))
    )
    assert both[-1] == pytest.approx((first[-1] + second[-1]) / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["opdd"], "no method 'opdd', did you mean opd"), (["--prefixes", "0"], "must be ≥ 1, got 0")],
)
def test_bad_arguments_are_told_plainly(capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
