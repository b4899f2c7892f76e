"""opd_bench: on-policy-distillation estimators under the same conditions, with their bias and variance.

from opd_bench import exact_moments, load_method, method_names
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opd_bench.catalogue import load_method, method_names
    from opd_bench.enumeration import exact_moments

__version__ = "0.1.0"
__all__ = ["exact_moments", "load_method", "method_names"]

_ROOMS = {"exact_moments": "enumeration", "load_method": "catalogue", "method_names": "catalogue"}


def __getattr__(name: str) -> Any:
    """The public functions, imported when first used: they bring torch and lightning with them."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'opd_bench' has no attribute {name!r}")
    return getattr(import_module(f"opd_bench.{_ROOMS[name]}"), name)
