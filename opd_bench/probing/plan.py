"""How much is drawn and what is kept of it."""

from dataclasses import dataclass

from opd_bench.settings import Count, Settings
from opd_bench.training.plan import AtLeastTwo


@dataclass(kw_only=True, eq=False)
class ProbePlan(Settings):
    """The same for every method of a probe."""

    sets: AtLeastTwo  # of rollouts of the same prompts; 8 or more for intervals to mean something
    redraws: AtLeastTwo  # of every scored token of a set, at fixed prefixes
    prefixes: Count  # where the moments in logit space are taken, over all sets
    numbers: Count  # kept of a gradient: a longer one is sketched to as many
