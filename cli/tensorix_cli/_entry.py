"""The console entry: runs a command and turns whatever becomes of it into one line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from tensorix_api.errors import CannotWriteError, TensorixError
from tensorix_cli import _output
from tensorix_cli._extras import extra_of, how_to_install, require
from tensorix_cli.exit_status import ExitStatus

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `tensorix` with these arguments (default: the process's); returns the exit status and prints no traceback."""
    if (closed := _output.occupy()) is not None:
        _output.complain(f"error: the output cannot be written: {closed.strerror}")
        return ExitStatus.NOT_DONE
    _output.never_fail_to_encode()
    status = _run(list(sys.argv[1:] if arguments is None else arguments) or ["--help"])
    trouble = _output.flush()
    if trouble is not None:
        _output.complain(f"error: the output cannot be written: {trouble.strerror or trouble}")
        return status or ExitStatus.NOT_DONE
    return status


def _run(arguments: list[str]) -> int:
    try:
        require("cli", "records")
        from tensorix_cli._commands import run

        return run(arguments)
    except TensorixError as error:
        _output.complain(f"error: {error}")
        return ExitStatus.NOT_DONE if isinstance(error, CannotWriteError) else ExitStatus.MISTAKE
    except KeyboardInterrupt:
        _output.complain("interrupted")
        return ExitStatus.INTERRUPTED
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            return _defect(error)
        _output.complain(f"error: {error.name} not installed: {how_to_install(extra)}")
        return ExitStatus.MISTAKE
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _output.complain(f"error: {error.strerror or error}{where}")
        return ExitStatus.NOT_DONE
    except Exception as error:  # noqa: BLE001  the last resort: a user is owed a line, not a page
        return _defect(error)


def _defect(error: Exception) -> int:
    if os.environ.get("TENSORIX_TRACEBACK"):
        raise error
    kind = type(error).__name__
    _output.complain(
        f"error: a defect of tensorix, please report it ({kind}; TENSORIX_TRACEBACK=1 shows where): {error}"
    )
    return ExitStatus.DEFECT
