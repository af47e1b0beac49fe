"""Checkpoints as training leaves them: folders that HF transformers wrote, with a state beside.

The weights are a fixture's, the tokenizer and the template are HF's own files of the same text.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import engine
from engine.fixture import FixtureShape
from falsifiers.sample_models import write_model

SMALL = FixtureShape(
    hidden=256,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=64,
    dense_width=256,
    vocabulary=400,
    experts=6,
    experts_used=3,
    gain=0.7,
    mix="F32",
)
# No size is another's; qwen2 is tied and has tokens that no text has.
CHECKPOINTS = {
    "qwen2": replace(SMALL, tied=True, padded_vocabulary=416, rope_base=1e4),
    "qwen3": replace(SMALL, head_dim=32, rms_epsilon=1e-5),
    "qwen3moe": replace(SMALL, kv_heads=4),
}
TEMPLATE = engine.CHATML.replace("{% if", "\n\n{% if")  # nobody's default, and with a line's end
STATE = {"optimiser.pt": b"\x80\x04", "state.json": b"{}", "metrics.jsonl": b"{}\n"}


def write_checkpoint(folder: Path, architecture: str, shape: FixtureShape) -> Path:
    """The folder `checkpoint` in `folder`."""
    from transformers.utils import logging

    from falsifiers.hf_oracle import hf_model
    from falsifiers.tokenizer_oracles import HuggingFace

    logging.disable_progress_bar()
    gguf, path = write_model(folder, architecture, shape), folder / "checkpoint"
    hf_model(gguf).save_pretrained(path)
    tokenizer = HuggingFace(engine.open_checkpoint(gguf).metadata).tokenizer
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    for name, data in STATE.items():
        (path / name).write_bytes(data)
    return path


def saved_model(folder: Path) -> Any:
    """HF's model of a folder, in float32; a weight that is missing or left over is an error."""
    import torch
    from transformers import AutoModelForCausalLM

    model, found = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(found[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()
