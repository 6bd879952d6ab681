"""Networks whose published weights are loaded: a language model, a sentence encoder, a face detector."""

from .generation import Chat, Sampling, generate, stream
from .llama import Cache, Llama, LlamaConfig
from .llama_files import LanguageModel, load_llm
from .lora import Adapters

__all__ = [
    "Adapters",
    "Cache",
    "Chat",
    "LanguageModel",
    "Llama",
    "LlamaConfig",
    "Sampling",
    "generate",
    "load_llm",
    "stream",
]
