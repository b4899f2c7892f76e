"""The leaderboard as one page that needs nothing but a browser."""

from opd_bench.reporting.page.document import page
from opd_bench.reporting.page.samples import not_kept, samples

__all__ = ["not_kept", "page", "samples"]
