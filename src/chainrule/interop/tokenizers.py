"""Tokenisers of pretrained models, through the `tokenizers` library (extra `text`).

A tokeniser comes from a `tokenizer.json`, from a WordPiece vocabulary, or from the vocabulary and
merges inside a GGUF file; it is the library's own `Tokenizer`, with `encode(text).ids` and
`decode(ids)`. Chat templates, which are Jinja programs, run in Jinja's sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError, OperationError
from .text_files import read_text

if TYPE_CHECKING:
    import tokenizers

_SIZE_LIMIT = 2**27
_CONTROL = 3
_USER_DEFINED = 4

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CUTS = {"gpt-2": (_WORDS,), "smollm": (r"\p{N}", _WORDS)}
"""How text is cut before byte-pair encoding, by the name in `tokenizer.ggml.pre`: by each pattern in turn."""


class MissingExtra(OperationError):
    """A library is needed that an extra of chainrule installs."""


def read_tokenizer(path: str | os.PathLike[str]) -> tokenizers.Tokenizer:
    """The tokeniser of a `tokenizer.json`, or of a folder that holds one.

    Raises:
        DataError: the file cannot be read or is no such file.
        MissingExtra: the library is not installed.
    """
    library = _library()
    file = Path(path)
    file = file / "tokenizer.json" if file.is_dir() else file
    text = read_text(file, _SIZE_LIMIT)
    try:
        return library.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more precise
        raise DataError(f"{file}: not a tokeniser ({error})") from error


def gguf_tokenizer(metadata: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """The tokeniser that a GGUF file's `tokenizer.ggml.*` keys describe: byte-level byte-pair encoding.

    Args:
        metadata: `GGUFFile.metadata`.

    Raises:
        DataError: a key is missing or damaged, or the tokeniser is of another kind.
        MissingExtra: the library is not installed.
    """
    library = _library()
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise DataError(f"tokenisers of kind {kind!r} are not read from GGUF files, only 'gpt2' (byte-level BPE)")
    cut = metadata.get("tokenizer.ggml.pre")
    if cut not in _CUTS:
        known = " and ".join(_CUTS)
        raise DataError(f"tokenizer.ggml.pre is {cut!r}, known are {known}; use the model's tokenizer.json instead")
    tokens = _strings(metadata, "tokenizer.ggml.tokens")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens):
        raise DataError("tokenizer.ggml.tokens names a token twice")
    merges = [_pair(merge) for merge in _strings(metadata, "tokenizer.ggml.merges")]
    kinds = metadata.get("tokenizer.ggml.token_type", np.ones(len(tokens)))
    if not isinstance(kinds, np.ndarray) or len(kinds) != len(tokens):
        raise DataError("tokenizer.ggml.token_type does not state a kind for every token")
    try:
        made = library.Tokenizer(library.models.BPE(vocab=vocabulary, merges=merges))
    except Exception as error:  # the library raises nothing more precise
        raise DataError(f"the vocabulary and merges of the GGUF file make no tokeniser ({error})") from error
    pieces = library.pre_tokenizers
    made.pre_tokenizer = pieces.Sequence(
        [
            *(pieces.Split(library.Regex(rule), "isolated") for rule in _CUTS[cut]),
            pieces.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = library.decoders.ByteLevel()
    if metadata.get("tokenizer.ggml.add_bos_token") is True:
        first = token_number(metadata, "bos", len(tokens))
        made.post_processor = library.processors.TemplateProcessing(
            single=f"{tokens[first]} $A", special_tokens=[(tokens[first], first)]
        )
    for special in (_CONTROL, _USER_DEFINED):
        added = [library.AddedToken(tokens[i], normalized=False) for i in np.flatnonzero(kinds == special)]
        (made.add_special_tokens if special == _CONTROL else made.add_tokens)(added)
    return made


def render_chat(template: str, messages: Sequence[Mapping[str, str]], **names: Any) -> str:
    """The text of a conversation, as a model's chat template writes it, up to where the model answers.

    Args:
        template: Jinja source, such as the key `tokenizer.chat_template` of a GGUF file.
        messages: each with `role` ("system", "user", "assistant") and `content`.
        names: more for the template, such as `bos_token`.

    Raises:
        DataError: the template is damaged or refuses the messages.
        MissingExtra: Jinja is not installed.
    """
    try:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise MissingExtra("chat templates need Jinja: pip install 'chainrule[text]'") from error

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    try:
        return environment.from_string(template).render(
            messages=[dict(m) for m in messages], add_generation_prompt=True, **names
        )
    except (TemplateError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"the chat template cannot be used: {error}") from error


def token_number(metadata: Mapping[str, Any], kind: str, count: int) -> int:
    """The number of a special token ("bos", "eos", "eot") by the keys of a GGUF file.

    Raises:
        DataError: it is missing, or not among the `count` tokens.
    """
    key = f"tokenizer.ggml.{kind}_token_id"
    number = metadata.get(key)
    if not isinstance(number, int) or not 0 <= number < count:
        raise DataError(f"{key} is {number!r}, which is no token")
    return number


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra("tokenisers need the library `tokenizers`: pip install 'chainrule[text]'") from error
    return tokenizers


def _strings(metadata: Mapping[str, Any], key: str) -> list[str]:
    found = metadata.get(key)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise DataError(f"the GGUF file has no list of strings {key}")
    return found


def _pair(merge: str) -> tuple[str, str]:
    left, space, right = merge.partition(" ")
    if not (left and space and right):
        raise DataError(f"tokenizer.ggml.merges holds {merge!r}, expected two tokens")
    return left, right
