"""Networks whose published weights are loaded: a language model, a sentence encoder, a face detector."""

from .bert import SentenceEncoder, load_sentence_encoder
from .decoding import Reader
from .generation import Chat, Sampling, generate, stream
from .llama import Cache, Llama, LlamaConfig
from .llama_files import LanguageModel, load_llm
from .lora import Adapters
from .tiny_face import TinyFaceDetector, detect_faces, load_tiny_face

__all__ = [
    "Adapters",
    "Cache",
    "Chat",
    "LanguageModel",
    "Llama",
    "LlamaConfig",
    "Reader",
    "Sampling",
    "SentenceEncoder",
    "TinyFaceDetector",
    "detect_faces",
    "generate",
    "load_llm",
    "load_sentence_encoder",
    "load_tiny_face",
    "stream",
]
