"""The whole training of the recipe `gpt` beside PyTorch's: is the validation loss no worse?

Run with `python -m benchmarks.train_gpt --steps 2000`. Both libraries build the network from the
recipe's source, start from the same weights and see the same batches, learning rates and
clipping; chainrule's updates are compiled, PyTorch's eager. Prints the losses as they go, and at
the end the validation losses and the processor time of either's updates.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch

import chainrule as cr
from chainrule import optim
from chainrule.data import DataLoader
from chainrule.recipes import gpt

from .recipe_steps import gpt_parts


def updates(name: str, model: Any, settings: gpt.Settings) -> Callable[[np.ndarray, np.ndarray], float]:
    """An update of a model from codes and their successors, as the recipe makes it; returns the loss."""
    ours = name == "chainrule"
    library, loss = (cr if ours else torch), gpt_parts(name)[1]
    optimizer = library.optim.AdamW(gpt.decay_matrices(model), lr=settings.lr, betas=gpt.BETAS)
    schedule = library.optim.lr_scheduler.LambdaLR(optimizer, gpt.warm_up_then_cosine(settings.steps))
    clip = optim.clip_grad_norm_ if ours else torch.nn.utils.clip_grad_norm_

    def step(codes: Any, target: Any) -> Any:
        optimizer.zero_grad()
        value = loss(model(codes), target)
        value.backward()
        clip(model.parameters(), 1.0)
        optimizer.step()
        return value

    compiled = cr.compile(step) if ours else step
    convert = cr.Tensor if ours else torch.tensor

    def run(codes: np.ndarray, target: np.ndarray) -> float:
        value = compiled(convert(codes), convert(target)).item()
        schedule.step()
        return value

    return run


def validation_loss(name: str, model: Any, batches: list[Any]) -> float:
    """Nats a character over batches of arrays."""
    ours = name == "chainrule"
    loss, convert = gpt_parts(name)[1], cr.Tensor if ours else torch.tensor
    model.eval()
    with (cr if ours else torch).no_grad():
        values = [(loss(model(convert(x)), convert(y)).item(), y.size) for x, y in batches]
    model.train()
    return math.fsum(value * size for value, size in values) / sum(size for _, size in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads")
    parser.add_argument("--steps", type=int, default=gpt.Settings().steps)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = gpt.Settings.make({"steps": args.steps, "seed": args.seed})
    characters, windows, held_out, source = gpt.load(settings)
    cr.manual_seed(settings.seed)
    models = {name: gpt_parts(name)[0](len(characters), settings) for name in ("chainrule", "PyTorch")}
    weights = {name: torch.tensor(t.numpy().copy()) for name, t in models["chainrule"].state_dict().items()}
    models["PyTorch"].load_state_dict(weights)
    run = {name: updates(name, model, settings) for name, model in models.items()}
    loader = DataLoader(windows, settings.batch_size, shuffle=True, drop_last=True)
    seconds, losses = dict.fromkeys(run, 0.0), {}
    print(source)
    for step, batch in zip(range(settings.steps), chain.from_iterable(repeat(loader)), strict=False):
        arrays = [tensor.numpy() for tensor in batch]
        for name in run:
            start = time.process_time()
            losses[name] = run[name](*arrays)
            seconds[name] += time.process_time() - start
        if step % 100 == 99 or step == settings.steps - 1:
            print(f"step {step + 1}: " + ", ".join(f"{name} {loss:.6f}" for name, loss in losses.items()), flush=True)
    batches = [[tensor.numpy() for tensor in batch] for batch in DataLoader(held_out, 50)]
    for name, model in models.items():
        found = validation_loss(name, model, batches)
        cost = f"{seconds[name]:.0f} s of processor time in updates"
        print(f"{name}: validation loss {found:.4f} nats a character, {cost}")


if __name__ == "__main__":
    main()
