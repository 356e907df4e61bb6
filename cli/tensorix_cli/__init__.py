"""The command line, `tensorix`: it asks, starts, shows and says where the page is; the work is done in other rooms."""

from tensorix_cli._entry import main

__all__ = ["main"]
