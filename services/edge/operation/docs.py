"""The API's description as a page: made here from the OpenAPI document, without scripts and without an outside host."""

from __future__ import annotations

import html
import json
import re
from typing import Any

STYLE = """\
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { overflow-wrap: anywhere; white-space: pre-wrap; padding: 0.75rem; border: 1px solid #8884; border-radius: 6px; }
details { border: 1px solid #8884; border-radius: 6px; margin: 0.5rem 0; padding: 0.4rem 0.8rem; }
summary { cursor: pointer; }
summary b { display: inline-block; min-width: 4rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #8884; padding: 0.25rem 0.5rem; text-align: left; vertical-align: top; }
.lock::after { content: " (access token)"; opacity: 0.7; font-size: 0.85em; }
"""

_REF = "#/components/schemas/"
_CODE = re.compile("`([^`]+)`")
_AS_CODE = r"<code>\1</code>"


def render(document: dict[str, Any]) -> str:
    """Returns the page as HTML."""
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["Other"])[0]
            by_tag.setdefault(tag, []).append(_operation(method, path, operation))
    sections = "".join(f"<h2>{_text(tag)}</h2>{''.join(items)}" for tag, items in by_tag.items())
    schemas = "".join(
        f'<details id="{_text(name)}"><summary><code>{_text(name)}</code></summary>{_schema(schema)}</details>'
        for name, schema in document["components"]["schemas"].items()
    )
    title = _text(f"{document['info']['title']} {document['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs/style.css">'
        f"<h1>{title}</h1>{_markdown(document['info'].get('description', ''))}"
        '<p>For machines: <a href="/openapi.json">/openapi.json</a></p>'
        f"{sections}<h2>Shapes</h2>{schemas}"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lock = ' class="lock"' if operation.get("security") else ""
    parts = [
        f"<details><summary><b>{method.upper()}</b> <code{lock}>{_text(path)}</code> {_text(operation.get('summary', ''))}</summary>",
        _markdown(operation.get("description", "")),
    ]
    if parameters := operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{_text(one['name'])}</code></td><td>{_text(one['in'])}</td><td>{_type(one['schema'])}</td>"
            f"<td>{_markdown(one.get('description', ''))}</td></tr>"
            for one in parameters
        )
        parts.append(f"<h4>Parameters</h4><table>{rows}</table>")
    if body := operation.get("requestBody"):
        parts.append("<h4>Body</h4>" + _content(body["content"]))
    rows = "".join(
        f"<tr><td>{status}</td><td>{_markdown(answer['description'])}{_content(answer.get('content', {}))}</td></tr>"
        for status, answer in operation["responses"].items()
    )
    parts.append(f"<h4>Answers</h4><table>{rows}</table></details>")
    return "".join(parts)


def _content(content: dict[str, Any]) -> str:
    parts = []
    for media_type, shape in content.items():
        parts.append(f"<div><code>{_text(media_type)}</code> {_shape(shape)}</div>")
        if "example" in shape:
            parts.append(f"<pre>{_text(shape['example'])}</pre>")
    return "".join(parts)


def _shape(shape: dict[str, Any]) -> str:
    item = shape.get("itemSchema")
    return f"stream of {_type(item)}" if item else _type(shape.get("schema", {}))


def _schema(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{_text(name)}</code>{'' if name in required else ' (optional)'}</td><td>{_type(field)}</td>"
        f"<td>{_markdown(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    )
    example = f"<pre>{_text(json.dumps(schema['example'], indent=2))}</pre>" if "example" in schema else ""
    return f"{_markdown(schema.get('description', ''))}<table>{rows}</table>{example}"


def _type(schema: dict[str, Any]) -> str:
    if ref := schema.get("$ref"):
        name = _text(ref.removeprefix(_REF))
        return f'<a href="#{name}">{name}</a>'
    if options := schema.get("anyOf"):
        return " or ".join(_type(option) for option in options)
    if values := schema.get("enum"):
        return " | ".join(f"<code>{_text(json.dumps(value))}</code>" for value in values)
    if "const" in schema:
        return f"<code>{_text(json.dumps(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    rules = {
        "format": "",
        "minLength": "at least ",
        "maxLength": "at most ",
        "minimum": "from ",
        "maximum": "to ",
    }
    told = [f"{words}{schema[name]}" for name, words in rules.items() if name in schema]
    name = schema.get("title", "object") if schema.get("properties") else schema.get("type", "any")
    return _text(name) + (f" ({_text(', '.join(told))})" if told else "")


def _markdown(text: str) -> str:
    paragraphs = [part for part in text.split("\n\n") if part.strip()]
    return "".join(f"<p>{_CODE.sub(_AS_CODE, _text(part))}</p>" for part in paragraphs)


def _text(value: object) -> str:
    return html.escape(str(value))
