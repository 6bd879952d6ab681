"""Weights, tokenisers and arrays from other libraries and to them; nothing in a file is ever executed."""

from .gguf import GGUFFile
from .safetensors import SafetensorsFile, ShardedSafetensors, open_safetensors, save_safetensors
from .tensor_file import TensorFile
from .tfjs import read_tfjs
from .tokenizers import MissingExtra, gguf_tokenizer, read_tokenizer, render_chat
from .torch import from_torch, to_torch

__all__ = [
    "GGUFFile",
    "MissingExtra",
    "SafetensorsFile",
    "ShardedSafetensors",
    "TensorFile",
    "from_torch",
    "gguf_tokenizer",
    "open_safetensors",
    "read_tfjs",
    "read_tokenizer",
    "render_chat",
    "save_safetensors",
    "to_torch",
]
