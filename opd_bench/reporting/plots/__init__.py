"""The leaderboard's plots: within the page, and as files."""

from opd_bench.reporting.plots.pictures import Picture, curves, drawings, pictures, write_pictures

__all__ = ["Picture", "curves", "drawings", "pictures", "write_pictures"]
