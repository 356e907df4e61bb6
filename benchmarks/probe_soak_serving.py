"""`tensorix probe serve` as `probe_soak.py` starts it: its configuration, its process, and what is seen of it."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cores import cpu_s

INTERVAL_S = 10.0


@dataclass(slots=True)
class Serving:
    """One life of `tensorix probe serve`."""

    process: subprocess.Popen[str]
    url: str
    began_unix_s: float
    """Of this machine's true clock."""
    monotonic_less_unix_s: float
    rss: list[tuple[float, int]] = field(default_factory=list)
    last: dict[tuple[str, ...], float] = field(default_factory=dict)
    """The counters of the last scrape, by name and labels."""
    ready_s: float = 0.0
    """When it probed, on the monotonic clock, and what processor time it had taken by then."""
    ready_cpu_s: float = 0.0
    ended_s: float = 0.0
    cpu_s: float = 0.0
    unhealthy: int = 0
    pages: int = 0

    def get(self, path: str) -> tuple[int, str]:
        """A page's status and text; status 0 where there is no answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def look(self) -> None:
        """Scrape the metrics as Prometheus does, ask for its health and its page, and see what memory it has."""
        self.unhealthy += self.get("healthz")[0] != 200
        self.pages += self.get("")[0] == 200
        status, text = self.get("metrics")
        if status == 200:
            self.last = {
                (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        self.rss.append((time.monotonic(), int(pages) * os.sysconf("SC_PAGE_SIZE")))
        self.cpu_s = cpu_s(self.process.pid)
        self.ended_s = time.monotonic()

    def total(self, name: str, *labels: str) -> float:
        """The sum of a counter's last values over all samples that have these labels."""
        return sum(value for key, value in self.last.items() if key[0] == name and set(labels) <= set(key[1:]))


def configuration(folder: Path, name: str, base_url: str, numbers: range, silent_port: int | None) -> str:
    """A configuration: healthy targets with keys of their own, and two that hang where a port is given for one."""
    lines = [
        'location = "here"',
        f'[history]\nurl = "{folder}/disk/{name}.db"',
        "[serve]\nport = 0",
        f'[defaults]\ninterval = "{INTERVAL_S:.0f}s"\nmodel = "deepseek/deepseek-chat-v3.1"',
        'timeouts = { total = "9s", dns = "5s", first_byte = "9s", first_token = "9s" }',
        "headers = { requests = 600 }\nbudget = { share = 1.0, tokens_a_day = 10_000_000 }",
    ]
    for number in numbers:
        lines.append(
            f'[[target]]\nname = "t{number}"\nbase_url = "{base_url}"\nkey_file = "{folder}/key{number}"\n'
            f'offset = "{offset_s(number):.3f}s"'
        )
        (folder / f"key{number}").write_text(key_of(number))
        (folder / f"key{number}").chmod(0o600)
    hanging = (("silent", f"127.0.0.1:{silent_port}"), ("nameless", "stalls.example"))
    for name, address in () if silent_port is None else hanging:
        lines.append(f'[[target]]\nname = "{name}"\nbase_url = "http://{address}/v1"\nkey_file = "{folder}/key0"')
    return "\n".join(lines) + "\n"


def key_of(number: int) -> str:
    """The key of a target."""
    return f"sk-soak-{number:04d}-of-nobody"


def offset_s(number: int) -> float:
    """Where the slots of a target are within the interval: spread, and no two of them the same."""
    return number * 0.618034 * INTERVAL_S % INTERVAL_S


def start(folder: Path, name: str, faked: str | None = None) -> Serving:
    """Start it and wait until it says where it listens."""
    environment = dict(os.environ)
    if faked is not None:
        environment |= {
            "LD_PRELOAD": faked,
            "FAKETIME_TIMESTAMP_FILE": f"{folder}/clock",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
        }
    command = [str(Path(sysconfig.get_path("scripts"), "tensorix")), "probe", "serve", f"{folder}/{name}.toml"]
    log = (folder / "stderr").open("a")
    began, less = time.time(), time.monotonic() - time.time()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    url = None
    for line in process.stdout:
        if "Status page at " in line:
            url = line.split("Status page at ")[1].split()[0]
            break
    if url is None:
        raise SystemExit(f"it did not start: {(folder / 'stderr').read_text()[-1000:]}")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    life = Serving(process, url, began, less)
    life.ready_s, life.ready_cpu_s = time.monotonic(), cpu_s(process.pid)
    return life


def kill_all(lives: list[Serving]) -> None:
    """End what still runs."""
    for life in lives:
        life.process.kill()
        life.process.wait()
