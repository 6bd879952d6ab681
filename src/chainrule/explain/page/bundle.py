"""One HTML file from the page's sources: styles and modules inlined, nothing loaded from anywhere.

A large document is packed (gzip in base64), which the browser unpacks; a small one is readable JSON.

The scripts are ES modules that use named imports and exports only. Each becomes a function
that returns its exports; they are called in the order of their imports, so the file needs no
loader. The browser is told by a content security policy to run exactly this script and style
and to load nothing.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

from ...core.errors import ChainruleError

FOLDER = Path(__file__).parent
PACKED = 100_000  # characters of JSON from which a document is packed

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.-]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)
_LEFT_OVER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


class BundleError(ChainruleError):
    """A script of the page uses a form of import or export that the bundle does not know."""


def page(document: dict[str, Any], title: str, connect: str = "'none'") -> str:
    """The page that shows `document`, complete in itself.

    Args:
        document: plain values, put into the page as JSON.
        title: of the browser's window; any text.
        connect: what the script may connect to, in the words of a content security policy;
            a saved page connects to nothing.
    """
    style, script = styles(), scripts()
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            "img-src data: blob:",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    parts = {
        "policy": html.escape(policy, quote=False),
        "title": html.escape(title),
        "style": style,
        "document": _embedded(document),
        "script": script,
    }
    template = (FOLDER / "template.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _embedded(document: dict[str, Any]) -> str:
    """The element that holds the document."""
    text = embedded_json(document)
    if len(text) <= PACKED:
        return f'<script type="application/json" id="document">{text}</script>'
    # The time is left out of the header: equal explanations give equal files.
    packed = base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode("ascii")
    return f'<script type="application/gzip" id="document">{packed}</script>'


def embedded_json(value: Any) -> str:
    """JSON that may stand inside a script element: `<` is written so that no tag can begin."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@functools.cache
def styles() -> str:
    """All style sheets, in the order of their names."""
    return "\n".join(p.read_text(encoding="utf-8") for p in sorted((FOLDER / "style").glob("*.css")))


@functools.cache
def scripts(entry: str = "main.js") -> str:
    """All modules that `entry` needs, as one script."""
    sources = {p.name: p.read_text(encoding="utf-8") for p in sorted((FOLDER / "script").glob("*.js"))}
    ordered: list[str] = []
    _visit(entry, sources, ordered, ())
    wrapped = [_wrap(name, sources[name]) for name in ordered]
    return '"use strict";\nconst modules = {};\n' + "\n".join(wrapped)


def _visit(name: str, sources: dict[str, str], ordered: list[str], above: tuple[str, ...]) -> None:
    if name in ordered:
        return
    if name in above or name not in sources:
        problem = "imports itself through" if name in above else "is imported but missing:"
        raise BundleError(f"{name} {problem} {' → '.join([*above, name])}")
    for found in _IMPORT.finditer(sources[name]):
        _visit(found[2], sources, ordered, (*above, name))
    ordered.append(name)


def _wrap(name: str, source: str) -> str:
    body = _IMPORT.sub(lambda found: f'const {{{found[1].replace(" as ", ": ")}}} = modules["{found[2]}"];\n', source)
    exported = [found[1] for found in _EXPORT.finditer(body)]
    body = _EXPORT.sub("", body)
    left = _LEFT_OVER.search(body)
    if left:
        raise BundleError(f"{name}: the bundle does not know {left[0]!r}")
    return f'modules["{name}"] = (() => {{\n{body}return {{ {", ".join(exported)} }};\n}})();'


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
