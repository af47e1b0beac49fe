"""Requests that must be refused: fields out of range, bodies that are no JSON, wrong doors.

`MODEL` is the name of a model that is not served, so that a body which happens to be right is
refused as well.
"""

import json

from hypothesis import strategies as st

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MODEL = "nobody"
GOOD = {
    CHAT: {"messages": [{"role": "user", "content": "Hello"}]},
    COMPLETIONS: {"prompt": "Hello"},
}

# (endpoint, the field that is wrong, what it holds)
FIELDS = [
    *((path, field, value) for path in GOOD for field, value in [
        ("model", 7), ("temperature", 2.5), ("temperature", True), ("temperature", "hot"),
        ("top_p", 0), ("top_p", 1.5), ("top_k", -1), ("min_p", 2), ("max_tokens", 0),
        ("max_tokens", 1.5), ("seed", 2**64), ("stop", ""), ("stop", ["a"] * 5), ("stop", [1]),
        ("stream", "yes"), ("stream_options", {}), ("stream_options", {"include_usage": True}),
        ("n", 2), ("presence_penalty", 1), ("logit_bias", {"5": 1}), ("nonsense", 1),
        ("\ud800", 1), ("x" * 5000, 1),
    ]),
    *((CHAT, field, value) for field, value in [
        ("messages", []), ("messages", "Hello"), ("messages", None), ("messages[0]", [5]),
        ("messages[0].role", [{"role": "king", "content": ""}]),
        ("messages[0].content", [{"role": "user", "content": [{"type": "image_url"}]}]),
        ("messages[0]", [{"role": "user"}]),
        ("messages[0]", [{"role": "user", "content": "", "tool_call_id": "1"}]),
        ("top_logprobs", 3), ("logprobs", 3), ("max_completion_tokens", -1),
        ("response_format.type", {"type": "json_object"}), ("tools", "all"),
        ("tool_choice", "required"),
    ]),
    *((COMPLETIONS, field, value) for field, value in [
        ("prompt", ["one", "two"]), ("prompt", [1, True]), ("prompt", None), ("prompt", {}),
        ("logprobs", 6), ("logprobs", True), ("echo", True), ("suffix", "end"), ("best_of", 3),
    ]),
]  # fmt: skip

DEEP = b"[" * 100_000
BODIES = [
    b"", b"null", b"[]", b'"text"', b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"model": NaN}',
    json.dumps({"model": MODEL}).encode("utf-16"), b'{"model": "\xe9"}', b'{"model": "\\ud800"}',
    DEEP, b'{"a":' * 100_000, b'{"messages": ' + DEEP, b'{"seed": ' + b"9" * 100_000 + b"}",
    b'{"model": "' + b"x" * 100_000 + b'"}',
]  # fmt: skip

# (method, path, headers, status): wrong doors
DOORS = [
    ("GET", CHAT, {}, 405),
    ("DELETE", "/v1/models", {}, 405),
    ("GET", "/nowhere", {}, 404),
    ("GET", "/v1/models/", {}, 404),
    ("GET", "/v1/models/nobody", {}, 404),
    ("POST", f"{CHAT}/", {"content-type": "application/json"}, 404),
    ("POST", CHAT, {}, 415),
    ("POST", CHAT, {"content-type": "text/plain"}, 415),
    ("POST", COMPLETIONS, {"content-type": "application/x-www-form-urlencoded"}, 415),
]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(sorted({field for _, field, _ in FIELDS if field.isascii()} - {"model"}))
ANY_BODIES = st.one_of(
    st.binary(max_size=40),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(NAMES, VALUES, max_size=3).map(
        lambda fields: json.dumps(GOOD[CHAT] | fields | {"model": MODEL}).encode()
    ),
)


def field_of(param: str) -> str:
    """The field of the request that `messages[0].role` is in."""
    return param.partition("[")[0].partition(".")[0]
