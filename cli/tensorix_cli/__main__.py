"""`python -m tensorix_cli` is `tensorix`."""

import sys

from tensorix_cli import main

if __name__ == "__main__":
    sys.exit(main())
