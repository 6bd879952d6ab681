"""`chainrule train llm`: fine-tune a pretrained language model on a text by LoRA, small additions to its layers.

The model is SmolLM2-135M-Instruct unless another of the Llama type is named. Afterwards
`chainrule llm --adapter RUN/lora.safetensors` writes with the additions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import optim
from ..core.tensor import Tensor
from ..data import DataError, DataLoader, TensorDataset, read_text
from ..nn import functional as F
from ..pretrained import Adapters, Llama, LlamaConfig, Reader, Sampling, generate, load_llm, stream
from ..random import manual_seed
from ..train import Job, evaluate
from .settings import Settings as BaseSettings
from .settings import setting

_VALIDATED = 16  # windows
SMALL = LlamaConfig(
    vocab_size=256, hidden_size=72, intermediate_size=192, num_hidden_layers=2, num_attention_heads=9,
    num_key_value_heads=3, head_dim=8, max_position_embeddings=256, tie_word_embeddings=True,
)  # fmt: skip
"""SmolLM2 in small: as many heads of queries and keys, of a width of 8."""


@dataclass(frozen=True)
class Settings(BaseSettings):
    """What can be chosen about a run."""

    FAST: ClassVar = {"steps": 2, "length": 16, "batch_size": 2}

    model: str | None = setting(None, "GGUF file or folder of a checkpoint, instead of SmolLM2-135M-Instruct.")
    text: str = setting("moby-dick", "moby-dick, shakespeare, or the path of a text file to train on.")
    steps: int = setting(100, "Updates.", minimum=1)
    batch_size: int = setting(4, "Windows of text an update.", minimum=1)
    length: int = setting(128, "Tokens a window.", minimum=2)
    lr: float = setting(5e-4, "Learning rate.", minimum=0)
    rank: int = setting(8, "Rank of the additions.", minimum=1)
    alpha: float = setting(16.0, "Scale of the additions, divided by the rank.", minimum=0)
    targets: str = setting("q_proj,v_proj", "Names of the layers that get additions.")
    checkpointed: bool = setting(False, "Compute layers twice instead of keeping their values: less memory.")
    prompt: str = setting("Call me Ishmael.", "Text to continue before and after.")


def windows(tokens: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Training windows and validation windows of length + 1 tokens: the last tenth of the text validates.

    Raises:
        DataError: the text is too short for one of each.
    """
    cut = len(tokens) * 9 // 10
    parts = [part[: len(part) // (length + 1) * (length + 1)] for part in (tokens[:cut], tokens[cut:])]
    if not all(map(len, parts)):
        raise DataError(
            f"the text has {len(tokens):,} tokens, too few for windows of {length + 1} to train and validate"
        )
    training, validation = (part.reshape(-1, length + 1) for part in parts)
    return training, validation[:: max(1, len(validation) // _VALIDATED)][:_VALIDATED]


def next_token_loss(model: Llama, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of every token of (batch, length + 1) but the first, given those before it."""
    scores = model(tokens[:, :-1])
    return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), tokens[:, 1:].reshape(-1))


def build(settings: Settings) -> dict[str, Any]:
    """The loss of a first, small batch for `chainrule explain llm`; larger where the settings say so.

    Without the weights on this machine, that of a small network of the same kind that knows nothing.
    """
    text, _ = read_text(settings.text, settings.data)
    note = ""
    manual_seed(settings.seed)
    rows, length = (_asked(settings, name) for name in ("batch_size", "length"))
    count = rows * (length + 1)
    text = text[: max(4096, 12 * count)]
    try:
        language = load_llm(settings.model)
        model, tokens = language.model, language.tokenizer.encode(text, add_special_tokens=False).ids
    except DataError as error:
        if settings.model is not None:
            raise
        model, tokens = Llama(SMALL), list(text.encode())
        note = (
            f"A network of SmolLM2's kind with {SMALL.num_hidden_layers} layers and {SMALL.weights:,} random weights, "
            f"which reads bytes. {error}."
        )
    adapters = Adapters(model, settings.targets.split(","), settings.rank, settings.alpha)
    if len(tokens) < count:
        raise DataError(f"the text has {len(tokens)} tokens; {rows} windows of {length} need {count}")
    batch = Tensor(np.array(tokens[:count]).reshape(rows, length + 1))
    return {"loss": next_token_loss(model, batch), "model": model, "adapters": adapters, "note": note}


def _asked(settings: Settings, name: str) -> int:
    """A setting that was chosen, or that of a fast run in place of the default."""
    value: int = getattr(settings, name)
    return Settings.FAST[name] if value == getattr(Settings, name) else value


def train(job: Job) -> dict[str, Any]:
    """Train as the run's settings say, report, and return the results."""
    settings = Settings(**job.run.settings)
    text, source = read_text(settings.text, settings.data)
    language = load_llm(settings.model)
    model = language.model
    model.model.checkpointed = settings.checkpointed
    tokens = np.array(language.tokenizer.encode(text, add_special_tokens=False).ids)
    training, validation = windows(tokens, settings.length)
    manual_seed(settings.seed)
    adapters = Adapters(model, settings.targets.split(","), settings.rank, settings.alpha)
    loader = DataLoader(TensorDataset(Tensor(training)), settings.batch_size, shuffle=True)
    held_out = DataLoader(TensorDataset(Tensor(validation)), settings.batch_size)
    optimizer = optim.AdamW(adapters.parameters(), lr=settings.lr, weight_decay=0.0)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=settings.steps)
    count = sum(p.size for p in adapters.parameters())
    job.say(
        f"{language.path.name}: {model.config.weights:,} weights, fixed; {count:,} in additions of rank {settings.rank}"
    )
    job.say(f"{source}: {len(tokens):,} tokens; {len(validation)} windows of {settings.length} validate")

    def objective(_: Any, batch: Any) -> Tensor:
        return next_token_loss(model, batch[0])

    reader = Reader(model, job.compile)

    def sample() -> str:
        read = language.tokenizer.encode(settings.prompt).ids
        return settings.prompt + "".join(stream(language, generate(language, read, 40, Sampling(0.7), reader=reader)))

    before = evaluate(adapters, held_out, objective=objective, compile=job.compile)["loss"]
    job.say(f"validation loss before training {before:.4f}\n\n{sample()}\n")
    done = job.fit(
        adapters, loader, optimizer, objective=objective, steps=settings.steps, scheduler=schedule, clip_norm=1.0,
        validation=held_out, validate_every=max(1, settings.steps // 4), unit="windows", probes=0,
    )  # fmt: skip
    after = done.validation["loss"]
    saved = job.run.folder / "lora.safetensors"
    adapters.save(saved)
    job.say(f"\n{sample()}\n\nvalidation loss {before:.4f} before, {after:.4f} after {done.steps} steps")
    job.say(f"saved {saved}; `chainrule llm --raw --adapter {saved} PROMPT` writes with it")
    return {
        "recipe": job.run.recipe,
        "run": str(job.run.folder),
        "model": str(language.path),
        "text": str(source),
        "weights": model.config.weights,
        "trained_weights": count,
        "steps": done.steps,
        "validation_loss_before": before,
        "validation_loss": after,
        "seconds": done.seconds,
        "adapter": str(saved),
    }
