"""Published numbers beside ours: what the papers print, how they ran it, and what differs here. Never one ranking."""

from opd_bench.reporting.published.command import add_arguments, show
from opd_bench.reporting.published.comparison import Beside, Comparison, beside, compared, reference_of, referred
from opd_bench.reporting.published.grouped import Counterpart, Group, Metric, counterparts, groups, metrics
from opd_bench.reporting.published.results import Published, chosen, numbers
from opd_bench.reporting.published.setups import FIELDS, Difference, Stated, differences, here, setup
from opd_bench.reporting.published.tables import beside_markdown, beside_terminal, differing, markdown, pairs, terminal

__all__ = [
    "FIELDS",
    "Beside",
    "Comparison",
    "Counterpart",
    "Difference",
    "Group",
    "Metric",
    "Published",
    "Stated",
    "add_arguments",
    "beside",
    "beside_markdown",
    "beside_terminal",
    "chosen",
    "compared",
    "counterparts",
    "differences",
    "differing",
    "groups",
    "here",
    "markdown",
    "metrics",
    "numbers",
    "pairs",
    "reference_of",
    "referred",
    "setup",
    "show",
    "terminal",
]
