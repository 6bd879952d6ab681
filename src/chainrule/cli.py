"""The command `chainrule`: a thin layer over recipes, data and lessons.

Exit codes: 0 success, 1 failure, 2 wrong usage, 128 + n after signal n (130 after Ctrl-C).
An error is one message on standard error, without a traceback; CHAINRULE_DEBUG=1 shows it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import io
import json
import os
import signal
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from . import __version__, commands
from .commands import UsageError
from .core.errors import ChainruleError
from .recipes import RECIPES, UnknownName, find_recipe, require_known
from .recipes.settings import CommonSettings, Settings

app = typer.Typer(
    name="chainrule",
    help="Train networks, get data, and learn how backpropagation works.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def main(arguments: list[str] | None = None) -> int:
    """Run the command with `arguments` (those of the process if left out); the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # ∂ is "?" on a terminal that cannot show it
    arguments = sys.argv[1:] if arguments is None else arguments
    command = next(c for c in app.registered_commands if c.name == "train")
    command.callback = _with_settings(train, [a for a in arguments[1:] if a in RECIPES and arguments[0] == "train"])
    try:
        app(arguments)
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 1
    return 0


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what goes wrong in a command into one message and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            code, message = 128 + signal.SIGINT, "interrupted"
        except BrokenPipeError:
            # The reader (head, a pager) has left; Python must not fail again when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code, message = 128 + 13, ""
        except ChainruleError as error:
            code, message = _code(error), str(error)
        except Exception as error:
            if os.environ.get("CHAINRULE_DEBUG"):
                raise
            code, message = 1, f"{type(error).__name__}: {error} (CHAINRULE_DEBUG=1 shows where)"
        if os.environ.get("CHAINRULE_DEBUG") and code == 1:
            import traceback

            traceback.print_exc()
        if message:
            print(f"chainrule: {message}", file=sys.stderr)
        raise typer.Exit(code)

    return run


def _code(error: ChainruleError) -> int:
    if isinstance(error, UnknownName | UsageError):
        return 2
    stopped_by = getattr(error, "signal", None)
    return 128 + stopped_by if isinstance(stopped_by, int) else 1


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"chainrule {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train networks, get data, and learn how backpropagation works."""


def _with_settings(command: Callable[..., Any], recipes: list[str]) -> Callable[..., Any]:
    """`train` with the settings of the recipes that were named as options besides its own."""
    kinds = [find_recipe(name).Settings for name in recipes] or [CommonSettings]
    added = {f.name: _option(f, kind) for kind in reversed(kinds) for f in dataclasses.fields(kind)}
    hints = get_type_hints(command, include_extras=True)
    hints = {name: hint for name, hint in hints.items() if name not in ("settings", "return")} | added
    defaults = {name: p.default for name, p in inspect.signature(command).parameters.items()}

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        given = {name: values.pop(name) for name in added}
        return command(settings={name: value for name, value in given.items() if value is not None}, **values)

    run.__annotations__ = hints
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=hint)
            for name, hint in hints.items()
        ]
    )
    return run


def _option(f: dataclasses.Field[Any], kind: type[Settings]) -> Any:
    """A field of a recipe's settings as the annotation of an option."""
    declared = get_type_hints(kind)[f.name]
    default = "" if f.default is None or declared is bool else f" [default: {f.default}"
    if default:
        default += f"; {kind.FAST[f.name]} with --fast]" if f.name in kind.FAST else "]"
    choices = f" One of {', '.join(map(str, f.metadata['choices']))}." if f.metadata["choices"] else ""
    flag = f"--{f.name.replace('_', '-')}"
    if declared is bool and f.default:
        flag += f"/--no-{f.name.replace('_', '-')}"
    return Annotated[
        declared | None,
        typer.Option(flag, help=f.metadata["help"] + choices + default, min=f.metadata["minimum"], show_default=False),
    ]


@app.command("train", no_args_is_help=True)
@guarded
def train(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [RUN]", help=f"Recipe ({', '.join(RECIPES)}); with --resume also a run's folder."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue RUN, or the newest run, exactly where its checkpoint stands.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder that runs are kept in.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run; the time if left out.")] = None,
    save_every: Annotated[float, typer.Option(min=0.0, help="Seconds between checkpoints within an epoch.")] = 30.0,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write event files for TensorBoard.")] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Make the updates with chainrule.compile.")] = False,
    as_json: Json = False,
    settings: dict[str, Any] | None = None,
) -> None:
    """Train a model and show what backpropagation did.

    Everything is saved under OUT/RECIPE/NAME: checkpoints, metrics.jsonl, plots. Ctrl-C saves
    first; a run that was stopped or killed continues with --resume as if nothing had happened.
    `chainrule train RECIPE --help` also lists the settings of that recipe.
    """
    from .train import Job, new_run, reporter_for

    given = settings or {}
    if resume:
        if given or name:
            changed = ", ".join("--" + key.replace("_", "-") for key in [*given, *(["name"] if name else [])])
            raise UsageError(f"a resumed run keeps its settings; leave out {changed}")
        run = _run_to_resume(names or [], out)
        recipe = find_recipe(run.recipe)
        run.require_settings(recipe.Settings)
    else:
        if len(names or []) != 1:
            raise UsageError(f"name one recipe: chainrule train {next(iter(RECIPES))} (known: {', '.join(RECIPES)})")
        recipe_name = (names or [""])[0]
        recipe = find_recipe(recipe_name)
        run = new_run(out, recipe_name, dataclasses.asdict(recipe.Settings.make(given)), name)
    try:
        result = recipe.train(
            Job(run, reporter_for(sys.stderr if as_json else sys.stdout), resume, save_every, tensorboard, compile)
        )
    finally:
        run.remove_if_empty()
    if as_json:
        print(json.dumps(result, indent=2))


def _run_to_resume(names: list[str], out: Path) -> Any:
    from .train import latest_run, open_run

    if len(names) > 2:
        raise UsageError("--resume takes at most a recipe and a run's folder")
    recipe = names[0] if names and names[0] in RECIPES else None
    rest = names[1:] if recipe else names
    if len(rest) > 1:
        require_known(names[0], "recipe", RECIPES)
    if not rest:
        return latest_run(out, recipe)
    folder = Path(rest[0])
    if not folder.exists() and recipe and (out / recipe / rest[0]).exists():
        folder = out / recipe / rest[0]
    run = open_run(folder)
    if recipe not in (None, run.recipe):
        raise UsageError(f"{folder} is a run of {run.recipe}, not of {recipe}")
    return run


@app.command(no_args_is_help=True)
@guarded
def explain(
    what: Annotated[
        str, typer.Argument(metavar="RECIPE_OR_SCRIPT", help="The name of a recipe or network, or a Python file.")
    ],
    wrt: Annotated[
        list[str] | None, typer.Option(help="Whose gradient: a parameter or variable, such as fc1.weight. Repeatable.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="One entry of it, such as 3,5: followed number by number.")] = None,
    chosen: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the recipe. Repeatable.")
    ] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Every operation instead of whole layers.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare every step with finite differences.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write the explanation as a page (HTML) to this file.")] = None,
    run: Annotated[Path | None, typer.Option(help="A training run's folder: the page shows its course, too.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Explain a gradient: the chain rule from the loss back to it, with the numbers of this very network.

    Every recipe can be explained, and the pretrained networks embed and detect-face.
    A script sets the variable `loss` at its top level (and, to have its name, `model`), or defines
    build(), which returns loss, (loss, model) or a dictionary with "loss". It runs under the name
    __chainrule__, so what stands under `if __name__ == "__main__":` does not run.
    """
    from .explain.explanation import explain as explained

    names = explained_names(what, chosen or [])
    entry = None if at is None else _entry(at)
    asked: Any = None if not wrt else wrt[0] if len(wrt) == 1 else wrt
    found = explained(names["loss"], asked, at=entry, names=names, note=names.get("note", ""))
    checked = found.check() if check else None
    if run is not None and save is None and not open_page:
        raise UsageError("--run is shown on the page: add --save FILE or --open")
    if open_page or save is not None:
        from .train import course

        shown = None if run is None else course(run)
        page = found.save(save or Path(tempfile.mkdtemp(prefix="chainrule-")) / "explanation.html", course=shown)
        print(f"saved {page}", file=sys.stderr)
        if open_page and not webbrowser.open(page.resolve().as_uri()):
            print("chainrule: there is no browser to open it with", file=sys.stderr)
    if as_json:
        print(found.to_json(indent=2))
    elif not open_page:
        print(found.text(steps=steps))
        if checked is not None:
            print(f"\n{checked}")
    if checked is not None and not checked.ok:
        raise ChainruleError("not all steps agree with finite differences")


def explained_names(what: str, given: list[str]) -> dict[str, Any]:
    """The loss that `explain` is asked about, and what lends its names: of a recipe, a network or a script."""
    from .explain.script import load
    from .recipes.settings import settings_from

    if what in RECIPES:
        from .train.first import first_loss

        recipe = find_recipe(what)
        chosen = settings_from(recipe.Settings, given)
        if hasattr(recipe, "build"):
            built: dict[str, Any] = recipe.build(chosen)
            return built
        loss, model = first_loss(recipe, what, dataclasses.asdict(chosen))
        return {"loss": loss, "model": model}
    if given:
        raise UsageError("--set is for the settings of recipes")
    if Path(what).exists() or what.endswith(".py"):
        return load(what)
    from .recipes.explained import PRETRAINED

    require_known(what, "recipe or script", [*RECIPES, *PRETRAINED])
    return PRETRAINED[what]()


def _entry(at: str) -> tuple[int, ...]:
    try:
        return tuple(int(i) for i in at.split(",") if i.strip())
    except ValueError:
        raise UsageError(f"--at takes integers such as 3,5, got {at!r}") from None


@app.command()
@guarded
def data(
    name: Annotated[str | None, typer.Argument(help="Data set; all that are known if left out.")] = None,
    address: Annotated[str | None, typer.Option(help="Download from this address instead of the usual ones.")] = None,
    as_json: Json = False,
) -> None:
    """Get a data set: check what is there, download what is missing into the cache folder.

    Files are checked against pinned SHA-256 sums. Nothing else in chainrule uses the network.
    """
    from .data.sets import DATA_SETS, fetch, inspect

    if name is None:
        found = [inspect(known) for known in DATA_SETS]
        places = [f"used now: {s['folder']} ({s['origin']})" if s["folder"] else s["origin"] for s in found]
        lines = [f"{s['name']}: {s['description']}\n  {place}" for s, place in zip(found, places, strict=True)]
        print(json.dumps(found, indent=2) if as_json else "\n".join(lines))
        return
    require_known(name, "data set", DATA_SETS)
    state = fetch(name, address, lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(state, indent=2) if as_json else f"{name}: complete and checked in {state['folder']}")


@app.command()
@guarded
def studio(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[PROBLEM_OR_SCRIPT]",
            help="neuron, xor, moons, circle, quarters, clouds, spiral, slope, hills, digits, cnn; or a Python file.",
        ),
    ] = "moons",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 0,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser.")] = True,
) -> None:
    """Change and train a small network in the browser, and watch its gradients follow.

    The page is served to this machine only, at an address with a token. A script of your own
    defines `model` and a function `forward()` that returns the loss. Ctrl-C ends it.
    """
    from .studio.problems import PROBLEMS
    from .studio.server import serve
    from .studio.session import Session

    own = None
    if what.endswith(".py") or Path(what).is_file():
        from .studio.script import own_network

        own = own_network(what)
    else:
        require_known(what, "problem or script", PROBLEMS)

    def ready(address: str) -> None:
        print(f"the studio is at {address}", flush=True)
        if open_page:
            webbrowser.open(address)

    serve(lambda: Session(own=own) if own else Session(what), port, ready)


@app.command()
@guarded
def learn(
    lesson: Annotated[str | None, typer.Argument(help="Lesson; the list of them if left out.")] = None,
    answer: Annotated[
        list[str] | None, typer.Option(help="Answer to an exercise, such as 1=0.42. Repeatable; asked for if left out.")
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="cost: small sizes, done in a few seconds.")] = False,
    plot: Annotated[Path | None, typer.Option(help="cost: where to save the plot (PNG or SVG).")] = None,
    as_json: Json = False,
) -> None:
    """Learn how backpropagation works, with real numbers on this machine.

    A lesson shows its text, its code and what the code prints here, and checks your answers to
    two exercises. The same pages stand in docs/guide.
    """
    from .learn import LESSONS

    if lesson is None:
        width = max(map(len, LESSONS))
        print(json.dumps(LESSONS) if as_json else "\n".join(f"{k:{width}}  {v}" for k, v in LESSONS.items()))
        return
    require_known(lesson, "lesson", LESSONS)
    out = sys.stderr if as_json else sys.stdout
    result = _cost(out, fast, plot) if lesson == "cost" else _lesson(lesson, answer or [], out)
    if as_json:
        print(json.dumps(result, indent=2))
    if any(exercise["right"] is False for exercise in result.get("exercises", [])):
        raise typer.Exit(1)


def _cost(out: Any, fast: bool, plot: Path | None) -> dict[str, Any]:
    from .learn.cost import run

    def say(line: str = "") -> None:
        print(line, file=out, flush=True)

    return run(say, fast=fast, plot=plot)


def _lesson(name: str, given: list[str], out: Any) -> dict[str, Any]:
    from .learn.guide import parse_answers, read_lesson, run
    from .learn.terminal import ask, shower

    answers = parse_answers(given)
    lesson = read_lesson(name)
    typed = sys.stdin.isatty() and out.isatty() and not answers
    print(f"{lesson.title}\n{'═' * len(lesson.title)}", file=out)
    return run(lesson, shower(out), ask if typed else None, answers, lambda line: print(line, file=out, flush=True))


for pretrained in (commands.llm, commands.embed, commands.detect_face):
    app.command(no_args_is_help=pretrained is commands.embed)(guarded(pretrained))
