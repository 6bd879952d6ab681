"""Losses of the pretrained networks that no recipe trains, for `chainrule explain NAME`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..array import sum as total
from ..core.tensor import Tensor
from ..data import DataError
from ..data.pictures import astronaut, read_picture
from ..nn import functional as F
from ..pretrained import TinyFaceDetector, load_sentence_encoder, load_tiny_face
from ..pretrained.bert import Bert, BertConfig
from ..pretrained.tiny_face import prepare
from ..random import manual_seed

SENTENCES = "A child plays in the garden.", "The kid is outside, playing."
SMALL = BertConfig(
    vocab_size=256, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
    max_position_embeddings=64, type_vocab_size=2,
)  # fmt: skip
SIDE = 160  # pixels; the detector takes multiples of 32


def embed() -> dict[str, Any]:
    """How far two sentences of one meaning are apart, 1 - cosine, by the sentence encoder."""
    note = ""
    try:
        encoder = load_sentence_encoder()
        model = encoder.model
        read = encoder.tokenizer.encode_batch(list(SENTENCES))
        tokens, real = np.array([r.ids for r in read]), np.array([r.attention_mask for r in read]).astype(bool)
    except DataError as error:
        manual_seed(0)
        model = Bert(SMALL)
        texts = [s.encode() for s in SENTENCES]
        length = max(map(len, texts))
        tokens = np.array([list(t.ljust(length, b"\0")) for t in texts])
        real = tokens > 0
        note = f"A network of MiniLM's kind with {SMALL.weights:,} random weights, which reads bytes. {error}."
    model.requires_grad_(True)
    mask = Tensor(real.astype(np.float32)[..., None])
    vectors = model(Tensor(tokens), Tensor(real))
    sentences = total(vectors * mask, axis=1) / total(mask, axis=1)
    return {"loss": 1 - F.cosine_similarity(sentences[0], sentences[1], dim=0), "model": model, "note": note}


def detect_face() -> dict[str, Any]:
    """How sure the face detector is of its surest box: -ln of its probability, on a photograph."""
    notes = []
    try:
        model = load_tiny_face()
    except DataError as error:
        manual_seed(0)
        model = TinyFaceDetector()
        notes.append(f"The network has random weights. {error}.")
    try:
        pixels = read_picture(astronaut())[:256, 128:384]  # the face and what is around it
    except DataError as error:
        pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3))
        notes.append(f"The picture is noise. {error}.")
    model.requires_grad_(True)
    picture = Tensor(prepare(pixels, SIDE), requires_grad=True)
    scores = model(picture)[..., 4].reshape(-1)
    surest = scores[int(scores.numpy().argmax())]
    return {"loss": F.softplus(-surest), "model": model, "picture": picture, "note": " ".join(notes)}


PRETRAINED: dict[str, Callable[[], dict[str, Any]]] = {"embed": embed, "detect-face": detect_face}
