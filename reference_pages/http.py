"""The page of the HTTP interface, from the application's own OpenAPI description."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from profiler_service.app import create_app
from profiler_service.settings import Settings
from reference_pages.markdown import cell, code, table

INTRODUCTION = """\
# HTTP

The running service shows the same description at `/docs`, where you can try it, and as OpenAPI at
`/openapi.json`. Latencies are seconds a call. Every error is `application/problem+json` ([RFC
9457](https://www.rfc-editor.org/rfc/rfc9457)); its `type` is the path of one of the [problem
pages](../problems/index.md), and its `hint` says what to do. [How the contract
changes](../explanation/contract.md) says what a client may rely on.

"""
METHODS = ("get", "post", "put", "patch", "delete")


@functools.cache
def describe_api() -> dict[str, Any]:
    """The OpenAPI description of the service. The service isn't started for it."""
    return create_app(Settings()).openapi()


def operations() -> list[tuple[str, str, Mapping[str, Any]]]:
    """Method, path and description of every operation, in the order of the routes."""
    return [
        (method, path, operation)
        for path, methods in describe_api()["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]


def type_of(schema: Mapping[str, Any]) -> str:
    """The type that a schema describes, as Markdown: a link if it is one of ours."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(code(value) for value in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(type_of(each) for each in schema[key])
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(type_of(each) for each in schema['prefixItems'])}]"
        return f"list of {type_of(schema.get('items', {}))}"
    if "additionalProperties" in schema and isinstance(schema["additionalProperties"], Mapping):
        return f"object of {type_of(schema['additionalProperties'])}"
    name = str(schema.get("type", "anything"))
    return str(schema.get("format", name)) if name == "string" else name


def _bounds(schema: Mapping[str, Any]) -> str:
    found = [
        f"{sign} {schema[key]}".removesuffix(".0")
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    return f", {', '.join(found)}" if found else ""


def _parameters(parameters: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for each in parameters:
        schema = each["schema"]
        default = schema.get("default")
        wanted = "required" if each.get("required") else code("" if default is None else default)
        where = "" if each["in"] == "query" else f" (in the {each['in']})"
        rows.append(
            (
                code(each["name"]) + where,
                type_of(schema) + _bounds(schema),
                wanted,
                each.get("description", ""),
            )
        )
    return table(("parameter", "type", "default", "meaning"), rows)


def _responses(responses: Mapping[str, Any]) -> str:
    rows = []
    for status, response in responses.items():
        kinds = []
        for media_type, content in response.get("content", {}).items():
            schema = content.get("schema", {})
            ours = type_of(schema) if "$ref" in schema else ""
            kinds.append(" ".join(part for part in (code(media_type), ours) if part))
        headers = ", ".join(code(name) for name in response.get("headers", {}))
        rows.append((status, response["description"], "<br>".join(kinds), headers))
    return table(("status", "meaning", "body", "headers"), rows)


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    text = f"### {name}\n\n{schema.get('description', '').strip()}\n\n"
    if "enum" in schema:
        return text + f"One of {', '.join(map(code, schema['enum']))}.\n\n"
    rows = []
    for field, described in schema.get("properties", {}).items():
        default = described.get("default")
        rows.append(
            (
                code(field),
                type_of(described) + _bounds(described),
                "required"
                if field in schema.get("required", ())
                else code("" if default is None else default),
                described.get("description", ""),
            )
        )
    return text + (table(("field", "type", "default", "meaning"), rows) if rows else "")


def http_page() -> str:
    """Every route with its parameters and responses, then every model in a request or response."""
    described = describe_api()
    summaries = [
        (f"[`{method.upper()} {path}`](#{operation['operationId']})", cell(operation["summary"]))
        for method, path, operation in operations()
    ]
    text = INTRODUCTION + table(("route", "what it does"), summaries)
    for method, path, operation in operations():
        text += f"## `{method.upper()} {path}` {{ #{operation['operationId']} }}\n\n"
        text += f"**{operation['summary']}**\n\n{operation.get('description', '').strip()}\n\n"
        if operation.get("parameters"):
            text += _parameters(operation["parameters"])
        body = operation.get("requestBody")
        if body:
            (content,) = body["content"].values()
            text += f"Body: {type_of(content['schema'])}, as JSON.\n\n"
        text += _responses(operation["responses"])
    text += "## Models\n\n"
    schemas = described["components"]["schemas"]
    return text + "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
