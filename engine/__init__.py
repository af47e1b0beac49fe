"""The engine: Qwen2, Qwen3 and Qwen3's mixtures of experts, from GGUF files and HF folders.

Knows tensors; knows no contract and no test. Shape letters, in every module:

    B  batch                  H  hidden                 V  vocabulary
    T  tokens                 E  experts                D  head
    S  tokens seen so far     K  experts per token      F  feed-forward width
"""

from engine.cache import KVCache
from engine.chat import CHATML, render_chat
from engine.checkpoint import load_tokenizer, open_checkpoint
from engine.config import ModelConfig
from engine.errors import (
    EngineError,
    FormatError,
    PromptError,
    RequestError,
    TemplateError,
    TensorError,
)
from engine.fixture import write_fixture
from engine.generate import generate
from engine.model import Model, load
from engine.tokenizer import Tokenizer

__all__ = [
    "CHATML",
    "EngineError",
    "FormatError",
    "KVCache",
    "Model",
    "ModelConfig",
    "PromptError",
    "RequestError",
    "TemplateError",
    "TensorError",
    "Tokenizer",
    "generate",
    "load",
    "load_tokenizer",
    "open_checkpoint",
    "render_chat",
    "write_fixture",
]
