"""How a structured answer is asked for and read: JSON schema, or labelled lines of plain text.

Why: a strong server enforces a schema; a small model cannot write JSON but can fill in lines
(:mod:`agents.labelled`). Both ways start from one pydantic type and end in it, and nothing is
guessed: a number counts only where it was asked for, never because it is the first one found
somewhere.
"""

import json
import typing
from functools import cache
from types import NoneType
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from agents.labelled import assembled, labelled_data, lines_of
from mentalarena.errors import ParseError

A = TypeVar("A", bound=BaseModel)


@cache
def json_schema(answer_type: type[BaseModel]) -> dict[str, Any]:
    """A strict ``json_schema`` response format: every key required, no other key allowed."""
    schema = answer_type.model_json_schema()
    _make_strict(schema)
    return {"name": answer_type.__name__, "schema": schema, "strict": True}


# What a strict server refuses (lengths) or a model need not see; pydantic checks lengths after.
_LEFT_OUT = ("default", "title", "description", "minLength", "maxLength")


def _make_strict(node: dict[str, Any]) -> None:
    for key in _LEFT_OUT:
        node.pop(key, None)
    # Null stands for "could not be read"; a model is never offered it.
    options = [item for item in node.get("anyOf", ()) if item.get("type") != "null"]
    if len(options) == 1:
        del node["anyOf"]
        node.update(options[0])
    for group in ("properties", "$defs"):
        for child in node.get(group, {}).values():
            _make_strict(child)
    if "items" in node:
        _make_strict(node["items"])
    if node.get("type") == "object":
        node["additionalProperties"] = False
        node["required"] = list(node.get("properties", {}))


def read(text: str, answer_type: type[A], *, labelled: bool, partial: bool = False) -> A:
    """An answer as the type.

    Args:
        text: What the model said.
        answer_type: What it was asked for.
        labelled: Whether labelled lines were asked for, and not JSON.
        partial: Take what is there: a field that may be None and cannot be read is None, and
            text without any label is the first field, where that is text.

    Raises:
        ParseError: it cannot be read; the message is written for the model.
    """
    try:
        # A model that was asked for lines and answers with an object is taken at its word.
        plain = labelled and not text.lstrip().startswith(("{", "```json"))
        data = labelled_data(text, answer_type) if plain else _json_data(text)
    except ParseError:
        first = lines_of(answer_type)[0]
        if not partial or first.number or first.options or not text.strip():
            raise
        head, _, rest = text.strip().partition("\n")
        data = assembled({first.path: head[:500].strip()}, (first,))
        if rest.strip() and "rationale" in answer_type.model_fields:
            data["rationale"] = " ".join(rest.split())
    if partial and isinstance(data, dict):
        for name, info in answer_type.model_fields.items():
            nullable = NoneType in typing.get_args(info.annotation)
            if nullable and not (name in data and _fits(answer_type, name, data[name])):
                data[name] = None
    return _validated(data, answer_type)


def _json_data(text: str) -> object:
    start = text.find("{")
    if start < 0:
        raise ParseError("the answer is not a JSON object")
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError) as error:
        raise ParseError(f"the answer is not a whole JSON object ({error})") from error
    return value


def _fits(answer_type: type[BaseModel], name: str, value: object) -> bool:
    info = answer_type.model_fields[name]
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[info.annotation, info])  # type: ignore[arg-type]
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _validated(value: object, answer_type: type[A]) -> A:
    try:
        return answer_type.model_validate(value)
    except ValidationError as error:
        raise ParseError(
            "; ".join(
                f"{'.'.join(str(part) for part in item['loc']) or 'answer'}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False)[:4]
            )
        ) from error
