"""The leaderboard as one page that needs nothing but a browser."""

from opd_bench.reporting.page.document import page

__all__ = ["page"]
