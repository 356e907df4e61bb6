"""What prompts cost: a large file opened and gone through, made-up prompts, lengths as asked for, answers kept.

    python benchmarks/prompts.py [--megabytes 200] [--prompts 2000] [--chunks 200000] [--rounds 5]

The file is ShareGPT's format, of random words. Times are CPU of one core; memory is what the process grew by. The CPU a
chunk is that of the exchange alone (the reads are in memory: no socket, no system call), the best of the rounds.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tensorix_loadtests._exchange import Exchange
from tensorix_loadtests.plan import LoadPlan, Prompting, read_lengths
from tensorix_loadtests.prompts import Prompts
from tensorix_loadtests.prompts._lengths import Drawn
from tensorix_loadtests.prompts._synthetic import generator, words

_URL = "http://127.0.0.1:9/v1"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def write_sharegpt(path: Path, megabytes: float) -> int:
    """Conversations of one to eight questions of 5 to 120 words, with answers; how many."""
    rng, number = random.Random(1), 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        while file.tell() < megabytes * 1e6:
            turns = []
            for _ in range(rng.choice([1, 2, 3, 4, 6, 8])):
                turns.append({"from": "human", "value": words(rng.randint(5, 120), rng) + " — “ok”?\n"})
                turns.append({"from": "gpt", "value": words(rng.randint(50, 400), rng)})
            file.write((",\n" if number else "") + json.dumps({"id": f"x{number}", "conversations": turns}))
            number += 1
        file.write("]")
    return number


_OPEN = """
import resource, sys, time
from tensorix_loadtests.plan import LoadPlan, Prompting
from tensorix_loadtests.prompts import Prompts, survey
def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
plan = LoadPlan(base_url="http://127.0.0.1:9/v1", requests=1, prompting=Prompting(path=sys.argv[1]))
before, began = used(), time.process_time()
prompts = Prompts(plan)
prompts.next()
first = time.process_time() - began
began = time.process_time()
for _ in range(2000): prompts.next()
each = (time.process_time() - began) / 2000
began = time.process_time()
seen = survey(plan)
print(f"{seen.prompts} {first * 1e3} {each * 1e6} {time.process_time() - began} {used() - before}")
"""


def opening(megabytes: float) -> None:
    """Print what a file of that size takes, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "talks.json"
        write_sharegpt(path, megabytes)
        ran = subprocess.run([sys.executable, "-c", _OPEN, path], capture_output=True, text=True, check=True)
        count, first, each, whole, memory = map(float, ran.stdout.split())
        print(f"A ShareGPT file of {path.stat().st_size / 1e6:.0f} MB, {count:.0f} conversations:")
        print(f"  first prompt after {first:.1f} ms, each further one {each:.0f} µs")
        print(f"  the whole file looked through before the run: {whole:.1f} s; memory {memory:.0f} MB more\n")


def made_up(count: int) -> None:
    """Print what a made-up prompt takes."""
    print("| made-up prompt | µs |\n| --- | --- |")
    for name, asked in (
        ("100 tokens", Prompting(prompt_tokens=read_lengths("100"))),
        ("500 tokens", Prompting(prompt_tokens=read_lengths("500"))),
        ("lognormal:500,300", Prompting(prompt_tokens=read_lengths("lognormal:500,300"))),
        ("8,000 tokens", Prompting(prompt_tokens=read_lengths("8000"))),
        ("500 tokens, 400 of them shared", Prompting(prompt_tokens=read_lengths("500"), shared_prefix_tokens=400)),
    ):
        prompts = Prompts(LoadPlan(base_url=_URL, requests=1, prompting=asked))
        print(f"| {name} | {_each(prompts.next, count) * 1e6:.0f} |")
    traced = Prompts(LoadPlan(base_url=_URL, requests=1))
    hashes = tuple(range(16))
    took = _each(lambda: traced.next(prompt_tokens=8000, hash_ids=hashes), count)
    print(f"| 8,000 tokens of a trace whose blocks were seen before | {took * 1e6:.0f} |\n")


def _each(call: Callable[[], object], count: int) -> float:
    for _ in range(20):
        call()
    began = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - began) / count


def moments(count: int) -> None:
    """Print the moments of drawn lengths beside those asked for."""
    print("| lengths | mean asked | mean | deviation asked | deviation | least | most |\n| --- |" + " --- |" * 6)
    for text in ("normal:500,100", "normal:500,300", "lognormal:500,300", "lognormal:200,600", "uniform:100-900"):
        lengths = read_lengths(text)
        draw, rng = Drawn(lengths), generator("moments", text)
        drawn = [draw(number, rng) for number in range(count)]
        # Uniform: the deviation of whole numbers from 100 to 900.
        asked = ((801**2 - 1) / 12) ** 0.5 if lengths.kind == "uniform" else lengths.deviation
        mean, deviation = statistics.fmean(drawn), statistics.pstdev(drawn)
        print(
            f"| {text} | {lengths.mean:g} | {mean:.1f} | {asked:.1f} | {deviation:.1f} | {min(drawn)} | {max(drawn)} |"
        )
    print()


def keeping(chunks: int, rounds: int) -> None:
    """Print the exchange's CPU a chunk, with the answer's text kept and without."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    reads = []
    for number in range(1000):
        choice = {"index": 0, "delta": {"content": f" word{number}"}, "finish_reason": None}
        event = b"data: " + json.dumps(base | {"choices": [choice]}).encode() + b"\n\n"
        reads.append(memoryview(b"%x\r\n%b\r\n" % (len(event), event)))

    def a_chunk(*, keep_text: bool) -> float:
        spent = 0.0
        for _ in range(chunks // len(reads)):
            exchange = Exchange(stream=True, finish=lambda: None, keep_text=keep_text)
            began = time.process_time()
            exchange.receive(memoryview(_HEAD), 1, 2)
            for read in reads:
                exchange.receive(read, 1, 2)
            if keep_text:
                assert (exchange.chat.text or "").endswith("word999")
            spent += time.process_time() - began
            exchange.release()
        return spent / chunks

    # In turn, so that a machine whose speed drifts is the same to both.
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for keep_text, list_ in times.items():
            list_.append(a_chunk(keep_text=keep_text))
    without, kept = (min(times[keep_text]) * 1e6 for keep_text in (False, True))
    print(f"CPU a chunk in the exchange: {without:.2f} µs, with the text kept (and put together) {kept:.2f} µs")


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=200.0, help="of the file (default: 200)")
    parser.add_argument("--prompts", type=int, default=2000, help="made up of each kind (default: 2000)")
    parser.add_argument("--chunks", type=int, default=200_000, help="received each round (default: 200000)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the best counts (default: 5)")
    options = parser.parse_args()
    opening(options.megabytes)
    made_up(options.prompts)
    moments(100_000)
    keeping(options.chunks, options.rounds)


if __name__ == "__main__":
    main()
