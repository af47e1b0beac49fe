"""Tokenizers that no engine should take: the small vocabulary with one thing wrong in its keys."""

from typing import Any

from falsifiers.small_vocabulary import small_vocabulary

SMALL = small_vocabulary()
TOKENS, TYPES, MERGES = (SMALL[f"tokenizer.ggml.{k}"] for k in ("tokens", "token_type", "merges"))
COUNT = len(TOKENS)


def _swapped(values: list[Any], index: int, value: Any) -> list[Any]:
    return [*values[:index], value, *values[index + 1 :]]


# What is wrong -> the key that the error names, and the keys that are changed (None: taken away).
BAD_METADATA: dict[str, tuple[str, dict[str, Any]]] = {
    "no model": ("model", {"model": None}),
    "another model": ("model", {"model": "llama"}),
    "a model that is a list": ("model", {"model": ["gpt2"]}),
    "no pre-tokenizer": ("pre", {"pre": None}),
    "another pre-tokenizer": ("pre", {"pre": "gpt-4o"}),
    "no tokens": ("tokens", {"tokens": None}),
    "an empty list of tokens": ("tokens", {"tokens": [], "token_type": []}),
    "tokens that are one text": ("tokens", {"tokens": "".join(TOKENS)}),
    "a token that is a number": ("tokens", {"tokens": _swapped(TOKENS, 3, 3)}),
    "a token twice": ("tokens", {"tokens": _swapped(TOKENS, -1 % COUNT, TOKENS[5])}),
    "no token for a byte": ("tokens", {"tokens": _swapped(TOKENS, 0, "none")}),
    "half a surrogate pair": ("tokens", {"tokens": _swapped(TOKENS, -1 % COUNT, "\ud83d")}),
    "a byte token without a byte": (
        "tokens",
        {"tokens": [("<0xZZ>" if token == "<0xE4>" else token) for token in TOKENS]},
    ),
    "no types": ("token_type", {"token_type": None}),
    "a type too few": ("token_type", {"token_type": TYPES[:-1]}),
    "a type too many": ("token_type", {"token_type": [*TYPES, 1]}),
    "a type that is unknown": ("token_type", {"token_type": _swapped(TYPES, 9, 7)}),
    "a type that is negative": ("token_type", {"token_type": _swapped(TYPES, 9, -1)}),
    "a type that is a boolean": ("token_type", {"token_type": _swapped(TYPES, 9, True)}),
    "no merges": ("merges", {"merges": None}),
    "merges that are numbers": ("merges", {"merges": [1, 2]}),
    "a merge of an unknown token": ("merges", {"merges": _swapped(MERGES, 3, "a nowhere")}),
    "a merge that makes no token": ("merges", {"merges": [*MERGES, "q q"]}),
    "a merge of one token": ("merges", {"merges": _swapped(MERGES, 3, "a")}),
    "a merge of three tokens": ("merges", {"merges": _swapped(MERGES, 3, "a a a")}),
    "a merge twice": ("merges", {"merges": [*MERGES, MERGES[0]]}),
    "a surrogate in a merge": ("merges", {"merges": [*MERGES, "a \udfff"]}),
    **{
        f"{key} is {value!r}": (key, {key: value})
        for key, value in [
            ("eos_token_id", COUNT),
            ("eos_token_id", -1),
            ("eos_token_id", "2"),
            ("eos_token_id", 2.0),
            ("eos_token_id", True),
            ("eot_token_id", 2**32 - 1),
            ("eom_token_id", [1]),
            ("bos_token_id", COUNT),
            ("padding_token_id", COUNT),
            ("unknown_token_id", 1e9),
            ("eos_token_ids", [1, COUNT]),
            ("eos_token_ids", [1, "2"]),
            ("eos_token_ids", 1),
        ]
    },
}
