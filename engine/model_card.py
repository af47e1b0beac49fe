"""The README.md of a published model: what it is, what was lost, how to run it, its evidence.

Knows Markdown and the front matter that the Hugging Face Hub reads; every figure in it is handed
in. Format: https://huggingface.co/docs/hub/model-cards
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from engine.evidence_card import Evidence, escaped, table
from engine.publish_gguf import Loss, Plan


@dataclass(frozen=True)
class Card:
    """What the card is made of."""

    name: str
    gguf: str
    plan: Plan
    losses: Sequence[Loss]
    evidence: Sequence[Evidence] = ()
    licence: str | None = None
    base_models: Sequence[str] = ()


def card_text(card: Card) -> str:
    """The whole file."""
    parts = (_front_matter, _head, _losses, _use, _evidence, _files)
    return "\n".join(line for part in parts for line in part(card)) + "\n"


def _front_matter(card: Card) -> Iterator[str]:
    """YAML whose scalars are JSON's, which are YAML's too."""
    yield "---"
    yield "library_name: transformers"
    yield "pipeline_tag: text-generation"
    if card.licence:
        yield f"license: {json.dumps(card.licence)}"
    if card.base_models:
        yield f"base_model: {json.dumps(list(card.base_models))}"
    yield f"tags: {json.dumps(['gguf', card.plan.config.architecture])}"
    yield "---"


def _head(card: Card) -> Iterator[str]:
    config = card.plan.config
    yield f"# {escaped(card.name)}"
    yield ""
    moe = ""
    if config.is_moe:
        used = f"{config.expert_used_count} of {config.expert_count} experts per token, "
        moe = f"{used}{_active(card.plan):,} parameters per token, "
    yield f"A {config.architecture} model: {_parameters(card.plan):,} parameters, {moe}"
    yield f"{config.block_count} layers, {config.vocabulary_size:,} tokens in the vocabulary,"
    yield f"{config.context_length:,} tokens of context."
    if "tokenizer.chat_template" not in card.plan.source.metadata:
        yield "It has no chat template: it continues text."


def _parameters(plan: Plan) -> int:
    return sum(prod(tensor.shape) for tensor in plan.tensors)


def _active(plan: Plan) -> int:
    """Parameters that one token meets: all but the experts that it does not go to."""
    share = plan.config.expert_used_count / plan.config.expert_count
    sizes = [(prod(tensor.shape), len(tensor.shape) == 3) for tensor in plan.tensors]
    return round(sum(size * (share if stacked else 1) for size, stacked in sizes))


def _losses(card: Card) -> Iterator[str]:
    yield "\n## The GGUF file"
    yield ""
    yield f"`{card.gguf}` is in {card.plan.mix}. The error is the root mean square of what the"
    yield "weights differ by from the safetensors', over that of the weights."
    yield ""
    rows = [
        (each.type, f"{each.tensors}", f"{each.parameters:,}", f"{each.error:.2e}")
        for each in card.losses
    ]
    yield from table(("type", "tensors", "parameters", "error"), rows)


def _use(card: Card) -> Iterator[str]:
    yield "\n## Use"
    yield ""
    yield "```python"
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
    yield ""
    yield 'tokenizer = AutoTokenizer.from_pretrained("PATH-OF-THIS-FOLDER")'
    yield 'model = AutoModelForCausalLM.from_pretrained("PATH-OF-THIS-FOLDER")'
    yield "```"
    yield ""
    yield "```console"
    yield f"$ python -m engine run {card.gguf} --prompt Hello"
    yield f"$ llama-cli -m {card.gguf} -p Hello"
    yield "```"


def _evidence(card: Card) -> Iterator[str]:
    yield "\n## Evidence"
    yield ""
    if not card.evidence:
        yield "None was given when this was published: nothing is claimed of its quality."
        return
    yield "What these files say; they lie in `evidence/` whole."
    for each in card.evidence:
        yield f"\n### {escaped(each.name)}"
        yield ""
        yield from table(each.header, each.rows)


def _files(card: Card) -> Iterator[str]:
    yield "\n## Integrity"
    yield ""
    yield "`sha256sum -c SHA256SUMS` checks every file."
