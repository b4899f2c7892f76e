"""Schedules: values as functions of progress ∈ [0, 1], the share of optimiser steps done."""

import math


def linear(start: float, end: float, progress: float) -> float:
    """start at 0, end at 1, a straight line between."""
    return start + (end - start) * progress


def cosine(start: float, end: float, progress: float) -> float:
    """end + (start − end)(1 + cos π·progress)/2: slow, fast, slow."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
