"""The commands of pretrained networks: a language model, sentence embeddings, faces in pictures."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from .core.errors import ChainruleError

_MOST_PIXELS = 2**27


class UsageError(ChainruleError):
    """A command was called in a way that has no meaning."""


def llm(
    prompt: Annotated[
        str | None, typer.Argument(help="Question, or text to continue; a conversation if left out.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="GGUF file or folder of a checkpoint, instead of SmolLM2-135M-Instruct.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text, without the model's chat template.")] = False,
    system: Annotated[str | None, typer.Option(help="What the model is told before the question.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Additions from `chainrule train llm`.")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="The most tokens of an answer.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 always takes the most probable token.")] = 0.2,
    top_k: Annotated[int, typer.Option(help="Draw from so many of the most probable tokens; 0 for all.")] = 40,
    top_p: Annotated[float, typer.Option(help="Draw from the most probable tokens with this share.")] = 0.9,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    compile: Annotated[bool, typer.Option("--compile", help="Read token by token with chainrule.compile.")] = False,
) -> None:
    """Ask a language model, or let it continue a text. `chainrule data smollm2` gets the model."""
    from .pretrained import Adapters, Chat, Reader, Sampling, generate, load_llm, stream

    sampling = Sampling(temperature, top_k, top_p, seed)
    if raw and not prompt:
        raise UsageError("--raw continues a text: give one")
    language = load_llm(model)
    if adapter is not None:
        Adapters.load(language.model, adapter).merge(language.model)
    if raw:
        assert prompt is not None
        read = language.tokenizer.encode(prompt).ids
        reader = Reader(language.model, compile)
        _print_pieces([prompt], stream(language, generate(language, read, tokens, sampling, reader=reader)))
        return
    chat = Chat(language, sampling, tokens, system, compile)
    if prompt is not None:
        _print_pieces([], chat.answer(prompt))
        return
    print("(an empty line or Ctrl-D ends the conversation)", file=sys.stderr)
    while message := _asked("> "):
        _print_pieces([], chat.answer(message))


def embed(
    sentences: Annotated[list[str] | None, typer.Argument(help="Sentences, each in quotes.")] = None,
    file: Annotated[Path | None, typer.Option(help="Text file with one sentence a line; - reads the input.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of a checkpoint, instead of all-MiniLM-L6-v2.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print vectors and cosines as JSON.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the model: for many sentences.")] = False,
) -> None:
    """How near sentences are in meaning: the cosine of each pair. `chainrule data minilm` gets the model."""
    from .pretrained import load_sentence_encoder
    from .train.progress import text_table

    given = list(sentences or []) + ([] if file is None else _lines(file))
    if not given:
        raise UsageError("give sentences, or a file of them with --file")
    vectors = load_sentence_encoder(model, compile=compile).encode(given)
    cosines = vectors @ vectors.T
    if as_json:
        print(json.dumps({"sentences": given, "vectors": vectors.tolist(), "cosines": cosines.tolist()}))
        return
    numbers = [str(i + 1) for i in range(len(given))]
    rows = [
        [n, _shortened(text), *(f"{c:.3f}" for c in row)] for n, text, row in zip(numbers, given, cosines, strict=True)
    ]
    print(text_table(["", "sentence", *numbers], rows, left=2))


def detect_face(
    picture: Annotated[
        Path | None, typer.Argument(help="Picture; scikit-image's photograph of an astronaut if left out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Picture with the boxes; NAME-faces.png if left out.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of the weights, instead of the usual places.")] = None,
    size: Annotated[int, typer.Option(help="Side that the picture is resized to; larger finds smaller faces.")] = 416,
    score: Annotated[float, typer.Option(min=0, max=1, help="The least score of a face.")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the model.")] = False,
) -> None:
    """Find faces in a picture and draw boxes around them. `chainrule data tiny-face` gets the weights."""
    from .data.pictures import astronaut, read_picture, save_boxed
    from .pretrained import detect_faces, load_tiny_face

    detector = load_tiny_face(model, compile=compile)
    source = astronaut() if picture is None else picture
    pixels = read_picture(source)
    found = detect_faces(detector, pixels, size, score)
    drawn = out or Path(f"{source.stem}-faces.png")
    save_boxed(drawn, pixels, found.corners)
    faces: list[dict[str, Any]] = [
        {"box": [round(float(c), 2) for c in box], "score": round(float(s), 4)}
        for box, s in zip(found.corners, found.scores, strict=True)
    ]
    if as_json:
        print(json.dumps({"picture": str(source), "faces": faces, "drawn": str(drawn)}, indent=2))
        return
    for face in faces:
        left, top, right, bottom = face["box"]
        print(f"face with score {face['score']:.3f} from ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f})")
    print(f"{len(faces)} face{'' if len(faces) == 1 else 's'} in {source}; drawn in {drawn}")


def _print_pieces(before: list[str], pieces: Iterable[str]) -> None:
    for piece in itertools.chain(before, pieces):
        print(piece, end="", flush=True)
    print()


def _asked(sign: str) -> str:
    try:
        return input(sign if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _lines(file: Path) -> list[str]:
    from .data import DataError

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not a text in UTF-8 ({error.reason} at byte {error.start:,})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _shortened(text: str, width: int = 48) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
