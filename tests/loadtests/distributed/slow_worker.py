"""A worker that is ready for its part of an open loop only when a test lets it: `slow_worker.py PORT worker …`.

Told to begin, it connects to that port of this machine, and is not ready before it got a byte there.
"""

from gevent import monkey

monkey.patch_all()

import socket  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402
from unittest.mock import patch  # noqa: E402

from tensorix_loadtests._distributed import _worker_engine  # noqa: E402
from tensorix_loadtests._engine import main  # noqa: E402

_open_loop: Any = vars(_worker_engine)["open_loop"]


def _slowly(*arguments: Any) -> Any:
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60) as line:
        line.recv(1)
    return _open_loop(*arguments)


if __name__ == "__main__":
    with patch.object(_worker_engine, "open_loop", _slowly):
        sys.exit(main(sys.argv[2:]))
