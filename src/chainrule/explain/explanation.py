"""`explain`: why a tensor has the gradient it has."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core.autodiff import cotangent_like
from ..core.errors import DTypeError, GradientError, IndexingError, located
from ..core.source import is_user_code
from ..core.tensor import Tensor, new_tensor
from ..nn.parameter import Parameter
from .blackboard import Scalars, follow
from .check import Check, check_products
from .formulas import Formula, local_formula, product_formula
from .layers import Layer, layers_of
from .names import Name, Places, name_values
from .questions import answers
from .questions.answer import Answer, together
from .questions.none import why_none
from .questions.not_finite import why_not_finite
from .questions.ways import paths, why_size
from .questions.zero import why_zero
from .steps import Step, gradient_tensor, step_of
from .trace import Product, Trace, Value, trace, without_graph


def explain(
    loss: Any,
    wrt: Any = None,
    *,
    at: Any = None,
    args: tuple[Any, ...] = (),
    gradient: Any = None,
    names: Mapping[str, Any] | None = None,
    note: str = "",
) -> Explanation:
    """Explain the gradient of `loss` with respect to `wrt`, step by step, with the numbers of this very graph.

    Nothing is computed again but the backward pass, once. The graph must not have been released
    by an optimiser's step; `loss.backward()` before is fine. Where there is no gradient, the
    explanation has none either, and `why()` says where the way was cut.

    Args:
        loss: a scalar, or any tensor together with its own `gradient`; or a function that
            `cr.compile` made, which is then run eagerly once with `args`, and whose changes of
            weights and other state are undone.
        wrt: a tensor, a sequence of them, or names such as "fc1.weight"; every leaf that
            receives a gradient if left out.
        at: an index of one entry of `wrt`: the explanation follows this entry with scalars.
        args: the arguments for a compiled function.
        gradient: the gradient of `loss` itself, of its shape; 1 for a scalar.
        names: variables to take names from; those of the caller if left out.
        note: a remark on what is explained, shown below the title.

    Raises:
        GradientError: the graph was released, nothing in it has the given name, or `loss` is
            no scalar and `gradient` is missing.
        IndexingError: `at` names no single entry.
        DTypeError: `loss` or `wrt` is no tensor.
    """
    if hasattr(loss, "function") and type(loss).__module__.startswith("chainrule.compiler"):
        from .eager import loss_of

        loss = loss_of(loss, args)
    if not isinstance(loss, Tensor):
        raise DTypeError(located(f"explain: the loss is a tensor, got {type(loss).__name__}"))
    graph = trace(loss, cotangent_like(loss, gradient, "explain")) if loss.requires_grad else without_graph(loss)
    return Explanation(graph, wrt, at, _caller_names() if names is None else names, note)


def _caller_names() -> dict[str, Any]:
    frame = sys._getframe(2)
    while frame is not None:
        if is_user_code(frame.f_code.co_filename):
            return {**frame.f_globals, **frame.f_locals}
        frame = frame.f_back  # type: ignore[assignment]
    return {}


class Explanation:
    """The chain rule from a loss back to the asked tensors, with all numbers.

    Attributes:
        trace: the graph and every product of the backward pass.
        targets: the asked values, as far as the loss depends on them.
        missing: the asked tensors that it does not depend on.
        names: what every value is called.
        note: a remark on what is explained.
        checked: what `check` found, once it was called.
    """

    def __init__(self, graph: Trace, wrt: Any, at: Any, namespace: Mapping[str, Any], note: str = "") -> None:
        self.trace = graph
        self.note = note
        self.places = Places()
        self.names: dict[Value, Name] = name_values(graph, namespace)
        self._single = isinstance(wrt, Tensor | str)
        self.missing: list[Tensor] = []
        self._asked = self._resolve(wrt)
        self.targets = [v for v in self._asked if v is not None]
        self.at = None if at is None else self._entry(at)
        self._leads = graph.leading_to(self.targets)
        self._steps: list[Step] | None = None
        self._layers: list[Layer] | None = None
        self.checked: Check | None = None
        self._answers: list[Answer] | None = None

    def _resolve(self, wrt: Any) -> list[Value | None]:
        if wrt is None:
            return [v for v in self.trace.values if v.primitive is None and v.requires_grad]
        asked = [wrt] if self._single else list(wrt)
        return [self._by_name(w) if isinstance(w, str) else self._by_tensor(w) for w in asked]

    def _by_tensor(self, tensor: Any) -> Value | None:
        if not isinstance(tensor, Tensor):
            raise DTypeError(located(f"explain: wrt is a tensor or a name, got {type(tensor).__name__}"))
        value = self.trace.value_of(tensor)
        if value is None or not value.requires_grad:
            self.missing.append(tensor)
            return None
        return value

    def _by_name(self, name: str) -> Value | None:
        if not self.trace.loss.requires_grad:
            return None
        known = {self.names[v].label: v for v in self.trace.values if v.requires_grad and not v.several}
        if name in known:
            return known[name]
        import difflib

        leaves = [self.names[v].label for v in self.trace.values if v.primitive is None and v.requires_grad]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(leaves[:12])}"
        raise GradientError(f"explain: nothing in this graph is called {name!r}; {hint}")

    def _entry(self, at: Any) -> tuple[int, ...]:
        entry = tuple(at) if isinstance(at, tuple | list) else (at,)
        if len(self._asked) != 1:
            raise IndexingError(located(f"explain: at= needs one tensor to point into, wrt has {len(self._asked)}"))
        if not self.targets:
            return entry
        shape = self.targets[0].shape
        if len(entry) != len(shape) or not all(
            isinstance(i, int | np.integer) and -n <= i < n for i, n in zip(entry, shape, strict=True)
        ):
            raise IndexingError(located(f"explain: at={at!r} is no entry of a tensor of shape {shape}"))
        return tuple(int(i) % n for i, n in zip(entry, shape, strict=True))

    @property
    def gradient(self) -> Any:
        """The gradient, exactly as autodiff computes it: a tensor, or a tuple of them for several.

        With `at=`, the entry asked for, as a 0-d tensor. None where the loss does not depend on
        what was asked.
        """
        found = [None if v is None else gradient_tensor(v) for v in self._asked]
        if self.at is not None and found[0] is not None:
            return new_tensor(np.asarray(found[0].numpy()[self.at]), None)
        return found[0] if self._single else tuple(found)

    @property
    def steps(self) -> list[Step]:
        """The derivatives from the loss back to the asked tensors, in the order in which they are found."""
        if self._steps is None:
            scalars = self._follow()
            self._steps = [
                step_of(v, self.names, self.places.path(v), scalars.get(v), is_loss=v is self.trace.loss)
                for v in reversed(self.trace.values)
                if v in self._leads and (v.gradient is not None or v in self.targets)
            ]
        return self._steps

    @property
    def title(self) -> str:
        """What is explained, as text: `∂L/∂fc1.weight[3, 5]`."""
        entry = "" if self.at is None else f"[{', '.join(map(str, self.at))}]"
        names = [self.names[v].label for v in self.targets[:3]]
        more = ", …" if len(self.targets) > 3 else ""
        if not names:
            return "no gradient"
        return f"∂L/∂{names[0]}{entry}" if len(self.targets) == 1 else f"∂L/∂({', '.join(names)}{more})"

    def on_path(self, value: Value) -> bool:
        """Whether the gradient passes a value on its way from the loss to the asked tensors."""
        return value in self._leads

    def is_parameter(self, value: Value) -> bool:
        """Whether a value is a trained parameter of a module."""
        return isinstance(value.node.owner, Parameter)

    def product_formulas(self, product: Product) -> tuple[Formula | None, Formula | None]:
        """The local derivative and the product of one edge, as formulas."""
        return local_formula(product, self.names), product_formula(product, self.names)

    def step(self, of: Tensor | str) -> Step:
        """The step that finds the derivative of a tensor, or of what is called by a name.

        Raises:
            GradientError: the gradient does not pass it on its way to what was asked.
        """
        value = self.trace.value_of(of) if isinstance(of, Tensor) else self._by_name(of)
        for step in self.steps:
            if step.node is value:
                return step
        name = of if isinstance(of, str) else "this tensor"
        raise GradientError(located(f"explain: the way from the loss to what was asked does not pass {name}"))

    def _follow(self) -> dict[Value, Scalars]:
        """The scalars of every step: of the entry asked for, or of everything where there are numbers only."""
        if self.at is not None:
            return follow(self.trace, self._leads, self.targets[0], self.at) if self.targets else {}
        found: dict[Value, Scalars] = {}
        if all(not v.several and v.size == 1 for v in self._leads):
            for target in self.targets:
                found |= follow(self.trace, self._leads, target, (0,) * len(target.shape))
        return found

    @property
    def layers(self) -> list[Layer]:
        """The same way layer by layer: each with the closed form of its derivative where there is one."""
        if self._layers is None:
            self._layers = layers_of(self.trace, self.steps, self.names, self.places)
        return self._layers

    def why(self) -> Answer:
        """What the state of the gradient gives rise to ask, answered: why None, zero, not finite, or whence it came."""
        return self.answers[0] if len(self.answers) == 1 else together(self.answers)

    @property
    def answers(self) -> list[Answer]:
        """The questions that the state of the gradient gives rise to, with their answers."""
        if self._answers is None:
            self._answers = answers(self)
        return self._answers

    def why_none(self) -> Answer:
        """Where the way between the loss and the asked tensor was cut, and by which line."""
        return why_none(self)

    def why_zero(self) -> Answer:
        """Which operations stopped the gradient, at which units, for what share of the batch."""
        return why_zero(self) if self.targets else why_none(self)

    def why_not_finite(self) -> Answer:
        """The first operation that made NaN or infinity, with its inputs."""
        return why_not_finite(self) if self.targets else why_none(self)

    def why_size(self) -> Answer:
        """Which layers shrink the gradient on its way and which grow it."""
        return why_size(self) if self.targets else why_none(self)

    def paths(self) -> Answer:
        """By which ways the gradient came, and how much by each: skip connections, blocks, heads."""
        return paths(self) if self.targets else why_none(self)

    def check(self, tolerance: float = 1e-5) -> Check:
        """Compare every step with finite differences in float64, and the whole chain with those of the loss.

        The result says the largest errors; it is true if all are below `tolerance`.
        """
        products = [t.edge for s in self.steps for t in s.terms]
        self.checked = check_products(products, self.targets, self.trace, lambda v: self.names[v].label, tolerance)
        return self.checked

    def to_latex(self) -> str:
        """The steps as LaTeX, one equation a line, in an `aligned` environment."""
        lines = [s.formula.latex.replace(" = ", " &= ", 1) for s in self.steps]
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def to_json(self, indent: int | None = None) -> str:
        """The whole explanation as a JSON document; `chainrule.explain.document` describes it."""
        from .document import document

        return json.dumps(document(self), indent=indent, ensure_ascii=False, allow_nan=False)

    def save(self, path: Path | str, *, course: Mapping[str, Any] | None = None) -> Path:
        """Write the explanation as a page: one HTML file that opens in any browser and loads nothing.

        Args:
            path: the file, replaced if it is there.
            course: `chainrule.train.course(folder)` of a training run, which the page then shows, too.

        Raises:
            OutputError: the file cannot be written.
        """
        from ..data.files import write_atomically
        from .page import render

        file = Path(path)
        write_atomically(file, [render(self, course).encode()])
        return file

    def _repr_html_(self) -> str:
        from .page import frame

        return frame(self)

    def __str__(self) -> str:
        from .terminal import text

        return text(self)

    def text(self, *, steps: bool = False, colour: bool | None = None) -> str:
        """What `print` shows; `steps=True` opens the layers into every operation.

        Coloured if standard output is a terminal, unless `colour` says.
        """
        from .terminal import text

        return text(self, steps=steps, colour=colour)

    def __repr__(self) -> str:
        asked = ", ".join(self.names[v].label for v in self.targets[:3])
        more = f" and {len(self.targets) - 3} more" if len(self.targets) > 3 else ""
        return f"<Explanation of ∂L/∂({asked}{more}): {len(self.steps)} steps>"
