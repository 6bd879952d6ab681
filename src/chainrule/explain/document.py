"""The JSON document of an explanation: what `Explanation.to_json` writes and a page reads.

Version 1. One object; indices count from 0 into the lists of the same object. A number that is not
finite is one of the strings "NaN", "Infinity", "-Infinity".

    version     1
    title       text: "∂L/∂fc1.weight"
    note        text: a remark on what is explained, mostly empty
    loss        node index of the loss L
    wrt         node indices of the tensors asked for, in the order they were given
    at          the entry asked for, a list of integers; null for whole tensors
    shown       {"heat": largest number of rows and columns of a heat map; 0 where the graph is too large for any}
    sources     [{"file", "line", "text", "function"}]: lines of the user's code
    modules     [{"path", "name", "kind", "parent", "repr"}], parents before children. `path` is "" for the
                outermost module; `name` is the last part of the path (the class for the outermost);
                `kind` the class; `parent` an index or null; `repr` the one-line constructor call
    names       [{"text", "latex", "mathml"}]: names of values as they stand in formulas
    templates   [{"text", "latex", "mathml"}]: formulas with gaps. The character U+E000 + k stands for the
                k-th argument. Texts, LaTeX and MathML of a template have the same gaps. `mathml` is a
                fragment (no <math> element) with `<`, `>` and `&` escaped; `text` and `latex` are not
    nodes       every value of the graph, in order of creation: a node comes after its inputs
    edges       every product of the chain rule: what one consumer hands back to one of its operands
    steps       the derivatives on the way from the loss to `wrt`, in backward order
    layers      the same way, layer by layer; of graphs with more than 2,000 nodes without the single operations
                that belong to no module
    answers     what the gradient's state gives rise to ask: zero, tiny, huge, NaN, where it came from
    check       null, or what `Explanation.check` found: {"ok", "largest_error",
                "largest_rounding", "whole", "whole_rounding", "sides", "steps", "worst_step"}

Entries of complex numbers in "scalars" are texts ("0.5-1j").
A *formula* (FORMULA below) is a list [template, name, name, …]: fill the gaps of templates[first] with
names[rest].

    node        {"kind":      "operation" | "parameter" | "input" | "constant"
                 "primitive": name of the operation; null for the other kinds
                 "params":    {"axis": "(1,)", …}: static parameters as Python writes them
                 "label":     text, how the value is called: "z", "fc1.weight", "0.5"
                 "about":     text, where the label comes from: "assigned in train.py:12"
                 "module":    index or null;   "source": index or null
                 "shape":     list of integers; null for the joint result of an operation with several outputs
                 "dtype":     "float32"
                 "inputs":    list of node indices
                 "forward":   FORMULA or null: "z = x Wᵀ"
                 "value":     STATISTICS or null
                 "gradient":  STATISTICS or null (null: no gradient flows here)
                 "on_path":   whether a step of `steps` finds this node's derivative}
    edge        {"consumer":  node index;  "operand": node index;  "position": which operand of the consumer
                 "norm":      L2 norm of the product;  "share": its share of the operand's gradient (see below)
                 "formula":   FORMULA or null: "∂L/∂z · (1 - a²)", the product
                 "local":     FORMULA or null: "∂a/∂z = 1 - a²", the local derivative
                 "factor":    STATISTICS or null: the local derivative's numbers, of pointwise operations}
    step        {"node":      whose derivative it finds
                 "edges":     indices of the edges that are added up, in the order they arrived
                 "formula":   FORMULA: "∂L/∂z = ∂L/∂a · (1 - a²)"
                 "sentence":  text: what happened, in words
                 "scalars":   null, or for one entry: {"entry": [..], "value", "terms": [{"edge", "entry",
                              "upstream", "local", "product"}], "rest": {"count", "product"} or null}
                              where value = Σ upstream · local; a term's entry is one of the consumer}
    layer       {"title":     "fc1 = Linear(784, 256)"
                 "module":    index or null;   "source": index or null
                 "equations": [{"formula": FORMULA, "meaning": text}]: the layer's closed form
                 "legend":    [{"symbol": FORMULA, "meaning": text, "shape", "node": index or null}]
                 "agreement": largest difference of closed form and gradient, relative to the gradient; null
                              where the layer has no closed form and is explained by its steps
                 "upstream":  norm of the gradient that came in
                 "result":    norm of the largest gradient handed on towards `wrt`; null where none was
                 "steps":     indices of the steps it consists of
                 "sentence":  text}
    answer      {"question", "text", "evidence": [{"text", "node": index or null}]}
    STATISTICS  {"size", "mean", "std", "min", "max", "norm" (L2), "zeros" (share of entries),
                 "nan" (count), "inf" (count): of complex numbers the statistics are those of the magnitude.
                 "values": flat list of all entries where there are at most 16, else null;
                 "heat":   null or {"rows", "columns", "scale", "data"}: base64 of rows × columns signed bytes,
                           row by row; byte / 127 · scale is the mean of the entries that a cell stands for,
                           -128 says that one of them is not finite}

The share of a product c in the gradient g = Σ c is ⟨c, g⟩ / ⟨g, g⟩: the length of c along g, divided by that
of g. The shares of a sum add up to 1; one is negative where a product pulls against the sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .formulas import Formula, forward_formula, named_mathml, template_mathml
from .names import Name
from .sentences import sentence
from .statistics import number, scalar, statistics
from .steps import local_numbers, norm, share

if TYPE_CHECKING:
    from .explanation import Explanation

VERSION = 1
# Nodes up to which heat maps of so many rows and columns are written.
LARGE = 2000  # nodes beyond which operations of the user's own are left out of "layers"; they are in "steps"
HEAT_SIZES = ((60, 40), (150, 16), (600, 8), (2000, 4))


def document(explanation: Explanation) -> dict[str, Any]:
    """The document of an explanation, as plain dictionaries, lists, strings and numbers."""
    return _Writer(explanation).write()


class _Writer:
    """Writes a document; keeps the tables that its parts refer to by index."""

    def __init__(self, explanation: Explanation) -> None:
        self.e = explanation
        count = len(explanation.trace.values)
        self.heat = next((size for limit, size in HEAT_SIZES if count <= limit), 0)
        self.sources: dict[Any, int] = {}
        self.modules: dict[str, int] = {}
        self.module_rows: list[dict[str, Any]] = []
        self.names: dict[Name, int] = {}
        self.position = {s.node: i for i, s in enumerate(explanation.steps)}
        self.templates: dict[tuple[str, str], int] = {}

    def write(self) -> dict[str, Any]:
        e = self.e
        nodes = [self.node(v) for v in e.trace.values]
        edges = [self.edge(p) for p in e.trace.products]
        steps = [self.step(s) for s in e.steps]
        large = len(e.trace.values) > LARGE
        layers = [self.layer(x) for x in e.layers if not large or x.agreement is not None or x.group.module is not None]
        return {
            "version": VERSION,
            "title": e.title,
            "note": e.note,
            "loss": e.trace.loss.index,
            "wrt": [v.index for v in e.targets],
            "at": None if e.at is None else list(e.at),
            "shown": {"heat": self.heat},
            "sources": [{"file": f, "line": n, "text": t, "function": g} for f, n, t, g in self.sources],
            "modules": self.module_rows,
            "names": [{"text": n.text, "latex": n.latex, "mathml": named_mathml(n)} for n in self.names],
            "templates": [
                {"text": text, "latex": latex, "mathml": template_mathml(latex)} for text, latex in self.templates
            ],
            "nodes": nodes,
            "edges": edges,
            "steps": steps,
            "layers": layers,
            "answers": [
                {
                    "question": a.question,
                    "text": a.text,
                    "evidence": [
                        {"text": x.text, "node": None if x.value is None else x.value.index} for x in a.evidence
                    ],
                }
                for a in e.answers
            ],
            "check": _check(e),
        }

    def formula(self, formula: Formula | None) -> list[int] | None:
        if formula is None:
            return None
        key = (formula.text_template, formula.latex_template)
        template = self.templates.setdefault(key, len(self.templates))
        return [template, *(self.names.setdefault(name, len(self.names)) for name in formula.names)]

    def source(self, location: Any) -> int | None:
        return None if location is None else self.sources.setdefault(tuple(location), len(self.sources))

    def module(self, value: Any) -> int | None:
        scope = value.scope
        if scope is None:
            return None
        chain = []
        while scope is not None:
            chain.append(scope)
            scope = scope[1]
        parent = None
        for scope in reversed(chain):
            module, path = scope[0], self.e.places.path_of(scope)
            key = f"{id(chain[-1][0])}:{path}"
            if key not in self.modules:
                self.modules[key] = len(self.module_rows)
                kind = type(module).__name__
                self.module_rows.append(
                    {
                        "path": path,
                        "name": path.rpartition(".")[2] or kind,
                        "kind": kind,
                        "parent": parent,
                        "repr": f"{kind}({module.extra_repr()})".replace("\n", ", "),
                    }
                )
            parent = self.modules[key]
        return parent

    def node(self, value: Any) -> dict[str, Any]:
        name = self.e.names[value]
        kind = "operation"
        if value.primitive is None:
            kind = "constant" if not value.requires_grad else "parameter" if self.e.is_parameter(value) else "input"
            if kind == "constant" and value.size > 1:
                kind = "input"
        return {
            "kind": kind,
            "primitive": value.primitive.name if value.primitive else None,
            "params": {k: _written(v) for k, v in value.params.items()},
            "label": name.label,
            "about": name.about,
            "module": self.module(value),
            "source": self.source(value.location),
            "shape": None if value.several else list(value.shape),
            "dtype": "" if value.several else str(value.dtype),
            "inputs": [i.index for i in value.inputs],
            "forward": self.formula(forward_formula(value, self.e.names)),
            "value": statistics(value.array(), self.heat),
            "gradient": statistics(value.gradient, self.heat),
            "on_path": self.e.on_path(value),
        }

    def edge(self, product: Any) -> dict[str, Any]:
        local, formula = self.e.product_formulas(product)
        whole = product.operand.gradient
        part = None if product.operand.several or product.array is None else share(product.array, whole)
        return {
            "consumer": product.consumer.index,
            "operand": product.operand.index,
            "position": product.position,
            "norm": 0.0 if product.array is None else number(norm(product.array)),
            "share": 0.0 if product.array is None else 1.0 if part is None else number(part),
            "formula": self.formula(formula),
            "local": self.formula(local),
            "factor": statistics(local_numbers(product), self.heat),
        }

    def layer(self, layer: Any) -> dict[str, Any]:
        return {
            "title": layer.title,
            "module": self.module(layer.group.values[-1]) if layer.group.module is not None else None,
            "source": self.source(layer.location),
            "equations": [{"formula": self.formula(q.formula), "meaning": q.meaning} for q in layer.equations],
            "legend": [
                {
                    "symbol": self.formula(row.symbol),
                    "meaning": row.meaning,
                    "shape": list(row.shape),
                    "node": None if row.value is None else row.value.index,
                }
                for row in layer.legend
            ],
            "agreement": None if layer.agreement is None else number(layer.agreement),
            "upstream": number(layer.upstream),
            "result": None if layer.result is None else number(layer.result),
            "steps": [self.position[s.node] for s in layer.steps],
            "sentence": layer.sentence,
        }

    def step(self, step: Any) -> dict[str, Any]:
        return {
            "node": step.node.index,
            "edges": [t.edge.index for t in step.terms],
            "formula": self.formula(step.formula),
            "sentence": sentence(step, is_loss=step.node is self.e.trace.loss),
            "scalars": _scalars(step.scalars),
        }


def _check(e: Explanation) -> dict[str, Any] | None:
    found = e.checked
    if found is None:
        return None
    worst = found.worst
    return {
        "largest_error": number(found.largest_error),
        "largest_rounding": number(found.largest_rounding),
        "whole": number(found.whole),
        "whole_rounding": number(found.whole_rounding),
        "sides": found.sides,
        "steps": len(found.products),
        "ok": found.ok,
        "worst_step": None if worst is None else f"{worst.primitive}, back to {worst.operand}",
    }


def _scalars(scalars: Any) -> dict[str, Any] | None:
    if scalars is None:
        return None
    count, rest = scalars.rest
    return {
        "entry": list(scalars.entry),
        "value": scalar(scalars.value),
        "terms": [
            {
                "edge": t.edge.index,
                "entry": list(t.entry),
                "upstream": scalar(t.upstream),
                "local": scalar(t.local),
                "product": scalar(t.product),
            }
            for t in scalars.terms
        ],
        "rest": {"count": count, "product": scalar(rest)} if count else None,
    }


def _written(value: Any) -> str:
    text = str(value) if not isinstance(value, str) else value
    return text if len(text) <= 80 else text[:79] + "…"
