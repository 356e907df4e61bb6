"""Parts of messages in the shape of the GenAI conventions' JSON schemas, from what a chat request or answer says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

__all__ = [
    "Part",
    "as_mapping",
    "content_parts",
    "input_message",
    "items_of",
    "parsed",
    "tool_call",
    "tool_definition",
    "without_data",
]

_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,([A-Za-z0-9+/=_-]*)", re.IGNORECASE)
_MIME_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}\Z")

Part = dict[str, Any]


def items_of(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else ()


def as_mapping(value: Any) -> Mapping[str, Any]:
    """A message or a tool: a dict, or an object of openai's."""
    if isinstance(value, Mapping):
        return value
    dump = getattr(value, "model_dump", None)
    dumped = dump() if dump is not None else None
    return dumped if isinstance(dumped, dict) else {}


def _optional(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def input_message(message: Mapping[str, Any]) -> Part:
    role = message.get("role")
    parts: list[Part] = []
    if isinstance(reasoning := message.get("reasoning_content") or message.get("reasoning"), str):
        parts.append({"type": "reasoning", "content": reasoning})
    if role in ("tool", "function"):
        texts = [part.get("content", "") for part in content_parts(message.get("content"))]
        identity = message.get("tool_call_id") or message.get("name")
        parts.append({"type": "tool_call_response", "id": _optional(identity), "response": "".join(texts)})
    else:
        parts += content_parts(message.get("content"))
    if isinstance(refusal := message.get("refusal"), str):
        parts.append({"type": "text", "content": refusal})
    calls = [as_mapping(call) for call in items_of(message.get("tool_calls"))]
    if message.get("function_call"):
        calls.append({"function": message["function_call"]})
    for call in calls:
        function = as_mapping(call.get("function") or call.get("custom"))
        arguments = function.get("arguments", function.get("input"))
        parts.append(tool_call(_optional(call.get("id")), _optional(function.get("name")), _optional(arguments)))
    found: Part = {"role": role if role in _ROLES else "other", "parts": parts}
    if (name := _optional(message.get("name"))) is not None and role not in ("tool", "function"):
        found["name"] = name
    return found


def content_parts(content: Any) -> list[Part]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    return [_part(part) for part in map(as_mapping, items_of(content))]


def _part(part: Mapping[str, Any]) -> Part:
    kind = part.get("type")
    if isinstance(text := part.get("text") or part.get("refusal"), str):
        return {"type": "text", "content": text}
    if kind == "image_url":
        image = part.get("image_url")
        return _medium("image", as_mapping(image).get("url") if not isinstance(image, str) else image)
    if kind == "input_audio":
        audio = as_mapping(part.get("input_audio"))
        return _blob("audio", f"audio/{audio.get('format')}", audio.get("data"))
    if kind == "video_url":
        return _medium("video", as_mapping(part.get("video_url")).get("url"))
    if kind == "file":
        file = as_mapping(part.get("file"))
        if isinstance(file.get("file_id"), str):
            return {"type": "file", "modality": "document", "file_id": file["file_id"]}
        return _medium("document", file.get("file_data"))
    return {"type": kind if kind in ("image", "audio", "video", "document") else "other"}


def _medium(modality: str, url: Any) -> Part:
    """An image or the like: where it lies, or how large it is."""
    if not isinstance(url, str):
        return {"type": "blob", "modality": modality}
    if inside := _DATA_URL.match(url):
        return _blob(modality, inside[1], inside[2])
    if not url.lower().startswith(("http://", "https://")):
        return _blob(modality, None, url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return {"type": "uri", "modality": modality}
    # Without what may let one in: a password, a signature.
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return {"type": "uri", "modality": modality, "uri": where}


def _blob(modality: str, mime_type: str | None, data: Any) -> Part:
    found: Part = {"type": "blob", "modality": modality}
    if mime_type and _MIME_TYPE.match(mime_type):
        found["mime_type"] = mime_type
    if isinstance(data, str):
        found["size"] = _size(data)
    return found


def _size(encoded: str) -> int:
    """Bytes that a text in base64 stands for."""
    return len(encoded.rstrip("=")) * 3 // 4


def without_data(text: str) -> str:
    """A text with the kind and the size of what stands in it as base64."""
    return _DATA_URL.sub(_told_size, text)


def _told_size(found: re.Match[str]) -> str:
    return f"[{found[1] or 'data'}, {_size(found[2])} bytes]"


def tool_call(identity: str | None, name: str | None, arguments: str | None) -> Part:
    return {"type": "tool_call", "id": identity, "name": name or "", "arguments": arguments}


def tool_definition(tool: Mapping[str, Any]) -> Part:
    kind = _optional(tool.get("type"))
    function = as_mapping(tool.get("function") or tool.get("custom"))
    kind = kind if kind in ("function", "custom") else "other"
    found: Part = {"type": kind, "name": _optional(function.get("name")) or ""}
    if (about := _optional(function.get("description"))) is not None:
        found["description"] = about
    if (parameters := function.get("parameters")) is not None:
        # In JSON, as which it is redacted and shortened, and by which it cannot change any more.
        found["parameters"] = json.dumps(parameters, ensure_ascii=False, default=lambda _: None)
    return found


def parsed(text: Any) -> Any:
    """JSON as what it says; what is none, for it was cut, as the text that it is."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    if not isinstance(text, str):
        return text
    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text
