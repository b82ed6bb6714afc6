"""What every drawing asks before it begins."""

from __future__ import annotations


def check_drawing(width: float) -> None:
    """Refuse a width that is none, and say what to install where matplotlib is missing.

    Args:
        width: inches.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: for a width that is not positive.
    """
    if not width > 0:
        raise ValueError(f"width is a positive number of inches; got {width!r}.")
    try:
        import matplotlib  # noqa: F401  (named here because modules that use it may have been loaded before)
    except ImportError as error:
        raise ImportError("A drawing needs matplotlib: pip install 'lightning_wrcor[recipes]'.") from error
