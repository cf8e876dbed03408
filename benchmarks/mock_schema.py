"""JSON schemas on the mock server: what strict mode refuses, and values that satisfy the rest.

Why: a client's fallbacks can only be tested against a server that honors a schema or refuses it; a
keyword that this module cannot honor is therefore HTTP 400, never ignored.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.mock_words import CLINICAL
from benchmarks.mock_writer import SPOKEN, Writer

Schema = Mapping[str, Any]

_MAX_DEPTH = 32
_SHALLOW = 6
"""Below this depth optional and repeated parts are left out, so that recursive schemas end."""
_FORMATS = {
    "date": "2024-05-17",
    "time": "10:30:00Z",
    "date-time": "2024-05-17T10:30:00Z",
    "duration": "PT45M",
    "email": "someone@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "7d0f4c1e-3b1a-4b6e-9c58-2f4f6a0e9d11",
}
_NAMED: dict[str, Callable[[Writer], str]] = {
    "quote": Writer.quote,
    "quotes": Writer.quote,
    "label": Writer.disorder,
    "diagnosis": Writer.disorder,
    "disorder": Writer.disorder,
    "name": Writer.plan,
}
"""Fields that hold something other than prose."""


class BadRequestError(ValueError):
    """A request that an OpenAI-compatible server refuses with 400."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


def check_strict(node: Any, name: str, path: tuple[str, ...] = ()) -> None:
    """Refuse what strict structured output refuses: open objects and optional properties.

    Raises:
        BadRequestError: naming the place.
    """
    if isinstance(node, list):
        for index, item in enumerate(node):
            check_strict(item, name, (*path, str(index)))
    if not isinstance(node, dict):
        return
    problem = ""
    properties = node.get("properties")
    if node.get("type") == "object" or isinstance(properties, dict):
        missing = sorted(set(properties or {}) - set(node.get("required", ())))
        if node.get("additionalProperties") is not False:
            problem = "'additionalProperties' must be given and be false"
        elif missing:
            problem = f"'required' must name every property; missing {missing[0]!r}"
    if problem:
        raise BadRequestError(
            f"invalid schema for response_format '{name}': in context={path}, {problem}",
            "response_format",
            "invalid_json_schema",
        )
    for key, below in node.items():
        if key in ("properties", "$defs", "definitions") and isinstance(below, dict):
            # The keys of these are names, not keywords.
            for child, schema in below.items():
                check_strict(schema, name, (*path, key, child))
        elif key in ("items", "prefixItems", "anyOf", "oneOf", "allOf"):
            check_strict(below, name, (*path, key))


def _refuse(problem: str) -> BadRequestError:
    return BadRequestError(
        f"invalid schema for response_format: {problem}", "response_format", "invalid_json_schema"
    )


def _resolve(schema: Any, root: Schema) -> dict[str, Any]:
    """The schema with ``$ref`` and ``allOf`` merged into it."""
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        raise _refuse(f"{schema!r} is not a schema")
    merged = dict(schema)
    for _ in range(_MAX_DEPTH):
        if "$ref" in merged:
            target: Any = root
            reference = merged.pop("$ref")
            for step in str(reference).removeprefix("#").strip("/").split("/"):
                if step:
                    step = step.replace("~1", "/").replace("~0", "~")
                    target = target.get(step) if isinstance(target, dict) else None
            if not isinstance(target, dict) or not str(reference).startswith("#"):
                raise _refuse(f"$ref {reference!r} leads nowhere")
            merged = {**target, **merged}
        elif "allOf" in merged:
            for part in merged.pop("allOf"):
                merged = {**_resolve(part, root), **merged}
        else:
            return merged
    raise _refuse("$ref goes in a circle")


def _kinds(schema: Schema) -> list[str]:
    declared = schema.get("type")
    if isinstance(declared, list):
        return declared
    if isinstance(declared, str):
        return [declared]
    if "properties" in schema:
        return ["object"]
    return ["array"] if "items" in schema or "prefixItems" in schema else ["string"]


def count_prose(schema: Any, root: Schema, name: str, depth: int) -> int:
    """How many strings of prose the answer to a schema has, about."""
    schema = _resolve(schema, root)
    if depth > _SHALLOW or "enum" in schema or "const" in schema or name in _NAMED:
        return 0
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return max(count_prose(part, root, name, depth + 1) for part in schema[key])
    kinds = _kinds(schema)
    if "object" in kinds:
        fields = schema.get("properties", {}).items()
        return sum(count_prose(part, root, key, depth + 1) for key, part in fields)
    if "array" in kinds:
        return count_prose(schema.get("items", True), root, name, depth + 1)
    return int("string" in kinds)


class SchemaWriter(Writer):
    """Draws values for JSON schemas as well."""

    def value(self, schema: Any, root: Schema, name: str, words: int, depth: int) -> Any:
        """A value that satisfies a schema.

        Raises:
            BadRequestError: the schema is malformed or holds a keyword that cannot be honored.
        """
        schema = _resolve(schema, root)
        if depth > _MAX_DEPTH:
            raise _refuse(f"property {name!r} never ends")
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.option(schema["enum"])
        for key in ("anyOf", "oneOf"):
            if key in schema:
                parts = [_resolve(part, root) for part in schema[key]]
                filled = [part for part in parts if part.get("type") != "null"]
                if not filled or (len(filled) < len(parts) and self._leave_out(depth)):
                    return None
                return self.value(self.random.choice(filled), root, name, words, depth + 1)
        kinds = _kinds(schema)
        filled_kinds = [kind for kind in kinds if kind != "null"]
        if not filled_kinds or (len(filled_kinds) < len(kinds) and self._leave_out(depth)):
            return None
        kind = self.random.choice(filled_kinds)
        if kind == "object":
            if "patternProperties" in schema or schema.get("minProperties"):
                raise _refuse(f"property {name!r}: patternProperties and minProperties")
            return {
                key: self.value(part, root, key, words, depth + 1)
                for key, part in schema.get("properties", {}).items()
            }
        if kind == "array":
            return self._array(schema, root, name, words, depth)
        if kind == "string":
            return self._string(schema, name, words)
        if kind == "boolean":
            return self.random.random() < 0.5
        if kind in ("integer", "number"):
            return self._number(schema, name, whole=kind == "integer")
        raise _refuse(f"property {name!r}: unknown type {kind!r}")

    def _leave_out(self, depth: int) -> bool:
        return depth > _SHALLOW or self.random.random() < 0.15

    def _array(self, schema: Schema, root: Schema, name: str, words: int, depth: int) -> list[Any]:
        fewest, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if fewest > most or "contains" in schema:
            raise _refuse(f"property {name!r}: minItems, maxItems or contains")
        count = int(min(most, max(fewest, 2)))
        if depth > _SHALLOW or (name in ("quotes", "quote") and not self.told):
            count = fewest
        first = schema.get("prefixItems", [])
        items: list[Any] = []
        for _ in range(10 * count if schema.get("uniqueItems") else count + 2):
            if len(items) >= count:
                break
            part = first[len(items)] if len(items) < len(first) else schema.get("items", True)
            item = self.value(part, root, name, words, depth + 1)
            # Two equal quotes say no more than one.
            unique = schema.get("uniqueItems") or (name == "quotes" and len(items) >= fewest)
            if not unique or item not in items:
                items.append(item)
        if len(items) < fewest:
            raise _refuse(f"property {name!r}: no {fewest} different items were found")
        return items

    def _string(self, schema: Schema, name: str, words: int) -> str:
        if "pattern" in schema:
            raise _refuse(f"property {name!r}: the mock server does not support pattern")
        if "format" in schema:
            if schema["format"] not in _FORMATS:
                raise _refuse(f"property {name!r}: format {schema['format']!r} is unknown")
            return _FORMATS[schema["format"]]
        fewest, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        if fewest > most:
            raise _refuse(f"property {name!r}: minLength is above maxLength")
        if name in _NAMED:
            text = _NAMED[name](self)
            if fewest <= len(text) <= most:
                return text
        text = self.prose(words, () if name in SPOKEN else CLINICAL)
        while len(text) < fewest:
            text += " " + self.prose(words, CLINICAL)
        if len(text) > most:
            cut = text[: int(most)]
            at_word = cut.rsplit(" ", 1)[0]
            text = at_word if len(at_word) >= fewest else cut
        return text

    def _number(self, schema: Schema, name: str, *, whole: bool) -> int | float:
        if self._score and name == "score":
            return self._score
        low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
        high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
        span = {"choice": 1, "score": 9, "health": 9}.get(name, 9)
        if low == -math.inf:
            low = 1 if high > 1 else high - span
        if high == math.inf:
            high = low + span + (2 if "exclusiveMinimum" in schema else 0)
        step = schema.get("multipleOf", 1 if whole else 0)
        if step:
            fewest, most = math.ceil(low / step), math.floor(high / step)
            fewest += fewest * step == schema.get("exclusiveMinimum")
            most -= most * step == schema.get("exclusiveMaximum")
            if fewest > most:
                raise _refuse(f"property {name!r}: no number lies between its limits")
            number: float = self.random.randint(fewest, most) * step
            if whole and number != int(number):
                raise _refuse(f"property {name!r}: multipleOf of an integer must be whole")
            return int(number) if whole else number
        if low > high or (low == high and "exclusive" in "".join(schema)):
            raise _refuse(f"property {name!r}: no number lies between its limits")
        return float(low + (high - low) * self.random.uniform(0.05, 0.95))
