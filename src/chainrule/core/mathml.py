"""The LaTeX that formulas are written in, translated to MathML.

A small subset: what the notation of the primitives, names and the explanation's equations use.
An unknown command is an error, so that a new notation is noticed by the tests and not by readers.
"""

from __future__ import annotations

import html
import re

_TOKEN = re.compile(r"\\[A-Za-z]+ ?|\\.|\d+(?:\.\d+)?|\s+|.", re.DOTALL)

_OPERATORS = {
    r"\cdot": "·", r"\star": "⋆", r"\land": "∧", r"\lor": "∨", r"\lnot": "¬", r"\veebar": "⊻", r"\oplus": "⊕",
    r"\odot": "⊙", r"\ne": "≠", r"\le": "≤", r"\ge": "≥", r"\ll": "≪", r"\gg": "≫", r"\bmod": "mod", r"\sum": "∑",
    r"\prod": "∏", r"\bigwedge": "⋀", r"\bigvee": "⋁", r"\top": "⊤", r"\lfloor": "⌊", r"\rfloor": "⌋",
    r"\lceil": "⌈", r"\rceil": "⌉", r"\partial": "∂", r"\in": "∈", r"\to": "→", r"\sim": "∼", r"\dots": "…",
    r"\{": "{", r"\}": "}", r"\%": "%", r"\&": "&", r"\#": "#", r"\$": "$", r"\_": "_", r"\backslash": "\\",
    r"\times": "×", r"\langle": "⟨", r"\rangle": "⟩", r"\|": "‖", r"\pm": "±", r"\approx": "≈",
}  # fmt: skip
_IDENTIFIERS = {
    r"\infty": "∞", r"\pi": "π", r"\sigma": "σ", r"\mu": "μ", r"\delta": "δ", r"\gamma": "γ", r"\beta": "β",
    r"\alpha": "α", r"\epsilon": "ϵ", r"\zeta": "ζ", r"\eta": "η", r"\theta": "θ", r"\kappa": "κ", r"\lambda": "λ",
    r"\nu": "ν", r"\xi": "ξ", r"\rho": "ρ", r"\tau": "τ", r"\phi": "ϕ", r"\chi": "χ", r"\psi": "ψ", r"\omega": "ω",
    r"\varepsilon": "ε", r"\Gamma": "Γ", r"\Phi": "Φ", r"\ell": "ℓ",
}  # fmt: skip
_FUNCTIONS = frozenset(
    [
        r"\ln",
        r"\log",
        r"\sin",
        r"\cos",
        r"\tan",
        r"\arcsin",
        r"\arccos",
        r"\arctan",
        r"\sinh",
        r"\cosh",
        r"\tanh",
        r"\max",
        r"\min",
        r"\exp",
        r"\det",
        r"\gcd",
        r"\arg",
    ]
)
_SPACES = {r"\,": "0.17em", r"\;": "0.28em", r"\ ": "0.33em", r"\quad": "1em"}
_ACCENTS = {r"\bar": "¯", r"\overline": "¯", r"\hat": "^", r"\tilde": "~"}
_FONTS = {
    r"\mathcal": {"F": "ℱ", "L": "ℒ"},
    r"\mathbb": {"R": "ℝ", "C": "ℂ"},
}


class UnknownLatex(ValueError):
    """The formula uses a command that is not translated."""


def mathml(latex: str) -> str:
    r"""LaTeX as a fragment of MathML: `\frac{1}{x}` becomes `<mfrac><mn>1</mn><mi>x</mi></mfrac>`.

    Characters of the private use area (gaps of templates) and everything else without a
    meaning in LaTeX stay as they are; `<`, `>` and `&` are escaped.

    Raises:
        UnknownLatex: a command is not known, or braces do not match.
    """
    reader = _Reader(latex)
    row = reader.row(None)
    return row[0] if len(row) == 1 else f"<mrow>{''.join(row)}</mrow>"


def _mrow(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"<mrow>{''.join(parts)}</mrow>"


class _Reader:
    def __init__(self, latex: str) -> None:
        self.latex = latex
        self.tokens = [t.rstrip(" ") if re.match(r"\\[A-Za-z]", t) else t for t in _TOKEN.findall(latex)]
        self.at = 0

    def peek(self) -> str | None:
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def next(self) -> str:
        token = self.peek()
        if token is None:
            raise UnknownLatex(f"the formula ends too early: {self.latex}")
        self.at += 1
        return token

    def expect(self, wanted: str) -> None:
        token = self.next()
        if token != wanted:
            raise UnknownLatex(f"expected {wanted} before {token!r} in {self.latex}")

    def row(self, end: str | None, *stops: str) -> list[str]:
        """Elements up to `end` (taken away), or up to one of `stops` (left)."""
        parts: list[str] = []
        while True:
            token = self.peek()
            if token is None:
                if end is not None:
                    raise UnknownLatex(f"{end} is missing in {self.latex}")
                return parts
            if token == end:
                self.at += 1
                return parts
            if token in stops:
                return parts
            if token in ("^", "_"):
                self.at += 1
                base = parts.pop() if parts else "<mrow></mrow>"
                tag = "msup" if token == "^" else "msub"
                script = self.argument()
                follows = self.peek()
                if follows in ("^", "_") and follows != token:
                    self.at += 1
                    other = self.argument()
                    below, above = (script, other) if token == "_" else (other, script)
                    parts.append(f"<msubsup>{base}{below}{above}</msubsup>")
                else:
                    parts.append(f"<{tag}>{base}{script}</{tag}>")
                continue
            parts.append(self.element())

    def argument(self) -> str:
        if self.peek() == "{":
            self.at += 1
            return _mrow(self.row("}"))
        return self.element()

    def element(self) -> str:
        token = self.next()
        if token == "{":
            return _mrow(self.row("}"))
        if not token.startswith("\\"):
            return _character(token)
        if token in _OPERATORS:
            return f"<mo>{html.escape(_OPERATORS[token])}</mo>"
        if token in _IDENTIFIERS:
            return f"<mi>{_IDENTIFIERS[token]}</mi>"
        if token in _FUNCTIONS:
            return f"<mi>{token[1:]}</mi><mo>&#x2061;</mo>"
        if token in _SPACES:
            return f'<mspace width="{_SPACES[token]}"/>'
        if token in _ACCENTS:
            return f'<mover accent="true">{self.argument()}<mo>{_ACCENTS[token]}</mo></mover>'
        if token == r"\frac":
            return f"<mfrac>{self.argument()}{self.argument()}</mfrac>"
        if token == r"\sqrt":
            return f"<msqrt>{self.argument()}</msqrt>"
        if token in (r"\mathrm", r"\text", r"\mathbin", r"\operatorname"):
            return self.words(token)
        if token in _FONTS:
            self.expect("{")
            letter = self.next()
            self.expect("}")
            return f"<mi>{_FONTS[token].get(letter, letter)}</mi>"
        if token == r"\left":
            opening = self.delimiter()
            parts = self.row(r"\right")
            return f"<mrow>{opening}{''.join(parts)}{self.delimiter()}</mrow>"
        if token == r"\begin":
            return self.cases()
        raise UnknownLatex(f"{token} is not translated to MathML (in {self.latex})")

    def delimiter(self) -> str:
        token = self.next()
        text = _OPERATORS.get(token, token)
        return f'<mo stretchy="true">{html.escape(text)}</mo>' if text != "." else ""

    def words(self, command: str) -> str:
        """The text of \\mathrm{…}: one upright word."""
        self.expect("{")
        text, depth = "", 1
        while True:
            if self.at >= len(self.tokens):
                raise UnknownLatex(f"}} is missing in {self.latex}")
            token = self.tokens[self.at]
            self.at += 1
            if token == "{":
                depth += 1
            elif token == "}":
                depth -= 1
                if not depth:
                    break
            elif token.startswith("\\"):
                text += {r"\ ": " ", r"\,": " ", r"\hat": "^"}.get(token) or _OPERATORS.get(token, token[1:])
            else:
                text += token
        tag = {r"\mathbin": "mo", r"\text": "mtext"}.get(command, "mi")
        upright = ' mathvariant="normal"' if tag == "mi" and len(text) == 1 else ""
        return f"<{tag}{upright}>{html.escape(text)}</{tag}>"

    def cases(self) -> str:
        for wanted in "{cases}":
            self.expect(wanted)
        rows, cells = [], []
        while True:
            cells.append(f"<mtd>{_mrow(self.row(None, '&', chr(92) * 2, chr(92) + 'end'))}</mtd>")
            token = self.next()
            if token != "&":
                rows.append(f"<mtr>{''.join(cells)}</mtr>")
                cells = []
            if token == r"\end":
                break
        for wanted in "{cases}":
            self.expect(wanted)
        return f'<mrow><mo stretchy="true">{{</mo><mtable columnalign="left left">{"".join(rows)}</mtable></mrow>'


def _character(token: str) -> str:
    if token[0].isdigit():
        return f"<mn>{token}</mn>"
    if token.isalpha() or "\ue000" <= token <= "\uf8ff":
        return f"<mi>{token}</mi>"
    if token == "-":
        token = "−"
    return f"<mo>{html.escape(token)}</mo>"
