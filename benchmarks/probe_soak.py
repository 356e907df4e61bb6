"""Does `tensorix probe serve` keep its time, its memory and its history while everything around it goes wrong?

    python benchmarks/probe_soak.py [--minutes 30] [--targets 20] [--json FILE]

Twenty targets, each with a key of its own, are probed every 10 s on a simulator, whose log of arrivals is the truth.
Beside them one target never answers, and the name of another is asked of a name server that never does. One after the
other, as shares of the time:

    0.08 - 0.18  the disk of the history is full
    0.24 - 0.34  the history's database is locked
    0.40 - 0.55  the time of day is an hour ahead, and then right again: in a second process with targets of its own,
                 since libfaketime, which makes it so, takes several times the processor time of the probe itself
    0.90         SIGKILL, and a new start; 1.00 SIGTERM

Each slot of the twenty has to bring a request within 100 ms, or be counted as missed; where a round began in time by
the probe's own clock and its request reached a busy simulator later, that is said apart. None of them may be called
down; no round may be lost; resident memory may not grow from the first to the last third of 0.36 - 0.90 (by then, of
half an hour, what is kept of ten minutes is full, and written what had waited for the database); and the processor
time has to stay below a tenth of a core. Prints a table, and ends with 1 where something failed. Linux; the disk and
the name server need root (a mount namespace), the clock `libfaketime` (Debian: faketime). What is missing is left out,
and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from glob import glob
from pathlib import Path

from probe_soak_judging import Row, begun_in_time, first_requests, harm, keeping, kept, punctual, punctuality, resources
from probe_soak_serving import configuration, kill_all, start
from probe_soak_troubles import Trouble, left_out, mount, silent_servers, timetable
from tensorix_simulator import Simulator

_LOOK_S = 15.0
"""As often as Prometheus scrapes where nobody says otherwise."""
_INSIDE = "TENSORIX_SOAK_INSIDE"
_APART = 3
"""Targets of the process whose time of day is set."""


def soak(minutes: float, targets: int, folder: Path, faked: str | None) -> list[Row]:
    """Run all of it; rows of what was looked at, what was seen, what was wanted, and whether it held."""
    (folder / "disk").mkdir()
    root = os.geteuid() == 0
    if root:
        mount(folder)
    trouble = Trouble(folder)
    trouble.stepped(False)
    whole_s = minutes * 60
    with ExitStack() as stack:
        port = stack.enter_context(silent_servers())
        simulator = stack.enter_context(Simulator(rpm=600, ttft="20ms", between_tokens="1ms"))
        url, healthy, apart = simulator.base_url, range(targets), range(targets, targets + _APART)
        (folder / "main.toml").write_text(configuration(folder, "main", url, healthy, port))
        (folder / "apart.toml").write_text(configuration(folder, "apart", url, apart, None))
        lives = [start(folder, "main")]
        stack.callback(kill_all, lives)
        stepped = [start(folder, "apart", faked)] if faked else []
        stack.callback(kill_all, stepped)
        begin = time.monotonic()

        def wait_until(share: float) -> None:
            while (now := time.monotonic()) < begin + share * whole_s:
                time.sleep(min(_LOOK_S, max(0.0, begin + share * whole_s - now)))
                for life in (lives[-1], *stepped):
                    life.look()

        for share, what, act in timetable(trouble, root, faked):
            wait_until(share)
            print(f"{time.monotonic() - begin:6.0f} s  {what}", file=sys.stderr)
            act()
        wait_until(0.90)
        lives[-1].look()
        before = kept(folder)
        lives[-1].process.kill()
        lives[-1].process.wait()
        print(f"{time.monotonic() - begin:6.0f} s  SIGKILL, and a new start", file=sys.stderr)
        lives.append(start(folder, "main"))
        after = kept(folder)
        wait_until(1.0)
        lives[-1].look()
        lives[-1].process.send_signal(signal.SIGTERM)
        told_s = time.monotonic()
        ended = lives[-1].process.wait(timeout=60), time.monotonic() - told_s
        truth = simulator.truth("arrival")
    arrivals = first_requests(truth)
    return [
        *punctual("healthy", punctuality(arrivals, lives, healthy, begun_in_time(folder)), lives, healthy),
        *(punctual("set clock", punctuality(arrivals, stepped, apart, {}), stepped, apart) if stepped else ()),
        *harm(lives, stepped, [*healthy, *apart]),
        *resources(lives[0], begin + 0.36 * whole_s),
        *keeping(lives, before, after, kept(folder), ended),
        ("what was left out", "nothing" if root and faked else "; ".join(left_out(root, faked)), "nothing", None),
    ]


def main() -> int:
    """Run it, in a mount namespace of its own where that can be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    wanted = parser.parse_args()
    if os.geteuid() == 0 and _INSIDE not in os.environ:
        os.environ[_INSIDE] = "1"
        os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])
    faked = next(iter(sorted(glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))), None)  # noqa: PTH207
    folder = Path(tempfile.mkdtemp(prefix="soak"))
    failed = False
    try:
        rows = soak(wanted.minutes, wanted.targets, folder, faked)
        print(f"| {wanted.minutes:g} minutes, {wanted.targets} targets | seen | wanted | |\n| --- | --- | --- | --- |")
        for what, seen, wish, held in rows:
            failed |= held is False
            print(f"| {what} | {seen} | {wish} | {'' if held is None else 'yes' if held else '**no**'} |")
        if wanted.json:
            wanted.json.write_text(json.dumps(rows, indent=1) + "\n")
        if failed:
            print((folder / "stderr").read_text()[-3000:], file=sys.stderr)
    finally:
        subprocess.run(["umount", f"{folder}/disk"], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder, ignore_errors=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
