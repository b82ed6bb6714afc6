"""``python -m lightning_wrcor``: the Lightning CLI."""

from lightning_wrcor.cli import main

if __name__ == "__main__":
    main()
