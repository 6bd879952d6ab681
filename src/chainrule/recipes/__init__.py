"""The models that chainrule brings along, each runnable with `chainrule train NAME`.

How a recipe is written. `cnn` is the module `cnn.py` here (`-` in a name is `_` in the
module's), with one line in `RECIPES` below. It holds, in the order a reader wants them:

1. A docstring whose first sentence says what is trained on what.
2. `Settings`, a frozen dataclass derived from `recipes.settings.Settings`:

       @dataclass(frozen=True)
       class Settings(BaseSettings):
           FAST: ClassVar = {"epochs": 1, "width": 8}   # defaults under --fast: seconds on one core
           epochs: int = setting(5, "How often to go through the data.", minimum=1)
           width: int = setting(32, "Channels of the first stage.", minimum=1)

   `seed`, `fast` and `data` are inherited. Every field is an option (`--width`), with its
   type, help, choices and smallest value; wrong values are refused with a message. They are
   kept in `run.json`, so `--resume` finds them again.
3. The network: `nn.Module`s, under 60 lines.
4. `load(settings)`: the data. Where it cannot be found, a `DataError` says where it was
   looked for and how to get it.
5. `train(job)`, which is handed a `chainrule.train.Job` and returns the results as a dict of
   plain values, which `--json` prints:

       def train(job: Job) -> dict[str, Any]:
           settings = Settings(**job.run.settings)
           images, test = load(settings)
           manual_seed(settings.seed)                # before the model and the loader are made
           model = Network(settings.width)
           loader = DataLoader(images, settings.batch_size, shuffle=True)
           optimizer = optim.AdamW(model.parameters(), lr=settings.lr)
           job.say("what is trained on what, and how many weights")
           done = job.fit(model, loader, optimizer, loss=F.cross_entropy, metrics={"accuracy": accuracy},
                          validation=DataLoader(test, 1000), validation_name="test", epochs=settings.epochs)
           picture = save_plot(job.run, "title", job.reporter)      # recipes.report
           return {"recipe": job.run.recipe, "run": str(job.run.folder), **done.validation}

   `job.fit` is `chainrule.train.fit` with the run's folder, checkpoints, `--resume`, Ctrl-C,
   logs and progress; where a model or loss is not (input, target), give it `objective=`, a
   function of model and batch. Pictures and samples go to `job.run.folder`. A recipe that
   does not train by `fit` saves with `save_checkpoint(job.run.last, …)` and reports with
   `job.say`.

Results are stated in docs/recipes.md. Each recipe has a test that trains it with `--fast`.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from ..core.errors import ChainruleError

RECIPES = {
    "fashion-mnist": "an MLP on 28×28 images of clothing, 10 classes",
    "cnn": "a residual convolutional network on the same images",
    "rnn": "an LSTM or GRU that tells nine speakers apart by a vowel",
    "gpt": "a transformer that learns to write like a book",
    "diffusion": "a U-Net that draws clothing of the class asked for",
    "detector": "finds garments on photographs, or tree crowns on aerial ones",
    "llm": "LoRA fine-tuning of a pretrained language model on a text",
    "depth": "deep networks with and without what makes depth trainable: gradients by layer",
    "rl": "agents in CartPole and LunarLander, by PPO or deep Q-learning (extra: rl)",
}


class UnknownName(ChainruleError, KeyError):
    """A name that nothing goes by; the message suggests near ones."""

    def __str__(self) -> str:
        return str(self.args[0])


def find_recipe(name: str) -> Any:
    """The module of a recipe.

    Raises:
        UnknownName: there is none of that name.
    """
    require_known(name, "recipe", RECIPES)
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def require_known(name: str, kind: str, known: Any) -> None:
    """Raise `UnknownName` with suggestions unless `name` is among `known`."""
    if name not in known:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        raise UnknownName(f"there is no {kind} {name!r}; {hint}")
