"""Labelled lines: a structured answer as plain text, ``label: value``, a line each.

Why: a small model cannot write JSON but can fill in lines. The lines are made from the pydantic
type of the answer; case, order, bullets, bold and other lines do not matter when they are read.
"""

import re
import typing
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mentalarena.errors import ParseError


@dataclass(frozen=True, slots=True)
class Line:
    """One labelled line: where its value goes and what it may hold."""

    label: str
    path: tuple[str | int, ...]
    hint: str
    number: bool = False
    low: int | None = None
    high: int | None = None
    many: bool = False
    """A line that may be repeated and belongs to the line before it (quotes)."""
    optional: bool = False
    options: tuple[str, ...] = ()
    """The only values a line may hold; empty for free text."""


@cache
def lines_of(answer_type: type[BaseModel]) -> tuple[Line, ...]:
    """The lines of a type, in order: what a nested model holds under its own label."""
    lines: list[Line] = []
    for name, info in answer_type.model_fields.items():
        inner, repeat = _inner(info)
        if inner is None:
            lines.append(_scalar(name, (name,), info, name))
        elif repeat:
            for index in range(repeat):
                lines += _nested(name.removesuffix("s"), (name, index), inner, f" {index + 1}")
        else:
            lines += _nested(name, (name,), inner, "")
    return tuple(lines)


def _nested(
    name: str, path: tuple[str | int, ...], inner: type[BaseModel], suffix: str
) -> list[Line]:
    """A nested model: its first field under the outer name, the others under their own."""
    lines: list[Line] = []
    for position, (key, info) in enumerate(inner.model_fields.items()):
        if typing.get_origin(info.annotation) is tuple:
            singular = key.removesuffix("s")
            hint = "exact words, or leave out"
            lines.append(Line(singular, (*path, key), hint, many=True, optional=True))
        else:
            label = name + suffix if position == 0 else key + suffix
            lines.append(_scalar(label, (*path, key), info, key))
    return lines


def _scalar(label: str, path: tuple[str | int, ...], info: FieldInfo, name: str) -> Line:
    kinds = typing.get_args(info.annotation) or (info.annotation,)
    bounds = list(info.metadata)
    for kind in kinds:
        if typing.get_origin(kind) is typing.Annotated:
            base, *extra = typing.get_args(kind)
            kinds = (*kinds, base)
            for item in extra:
                bounds += item.metadata if isinstance(item, FieldInfo) else [item]
    number = int in kinds
    choices: tuple[str, ...] = ()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Enum):
        choices = tuple(str(item.value) for item in info.annotation)
    words = name.replace("_", " ")
    hint = words if words != "reason" else "one sentence"
    low = high = None
    if number:
        low = next((int(b.ge) for b in bounds if isinstance(b, Ge)), None)  # type: ignore[call-overload]
        low = next((int(b.gt) + 1 for b in bounds if isinstance(b, Gt)), low)  # type: ignore[call-overload]
        high = next((int(b.le) for b in bounds if isinstance(b, Le)), None)  # type: ignore[call-overload]
        high = next((int(b.lt) - 1 for b in bounds if isinstance(b, Lt)), high)  # type: ignore[call-overload]
        hint = "a whole number"
        hint += f" from {low}" if low is not None else ""
        hint += f" to {high}" if high is not None else ""
    return Line(
        label.replace("_", " "),
        path,
        hint,
        number=number,
        low=low,
        high=high,
        optional=not info.is_required(),
        options=choices,
    )


def _inner(info: FieldInfo) -> tuple[type[BaseModel] | None, int]:
    """The nested model of a field, and how many of them (0 for a single one)."""
    kind = info.annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind, 0
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and isinstance(arguments[0], type):
        if not issubclass(arguments[0], BaseModel):
            return None, 0
        limit = next((b.max_length for b in info.metadata if isinstance(b, MaxLen)), 1)
        return arguments[0], limit
    return None, 0


def labelled_format(answer_type: type[BaseModel]) -> str:
    """The lines to fill in, one a row: ``score: <a whole number from 1 to 10>``."""
    return "\n".join(f"{line.label}: <{line.hint}>" for line in lines_of(answer_type))


def to_labelled(value: BaseModel) -> str:
    """A value as labelled lines; :func:`read` reads it back."""
    data = value.model_dump(mode="json")
    rows: list[str] = []
    for line in lines_of(type(value)):
        found = found_in(data, line)
        if line.many:
            rows += [f"{line.label}: {' '.join(str(item).split())}" for item in found or ()]
        elif found is not None and (found != "" or not line.optional):
            rows.append(f"{line.label}: {' '.join(str(found).split())}")
    return "\n".join(rows)


def found_in(data: Any, line: Line) -> Any:
    """What a line holds; None where there is nothing."""
    for part in line.path:
        try:
            data = data[part]
        except (IndexError, KeyError):
            return None
    return data


_LEAD = re.compile(r"^\s*(?:[-*•>#+]+\s+|#+|\(?\d{1,2}[.)]\s+)*")
_MARKS = "*_`"


def labelled_data(text: str, answer_type: type[BaseModel]) -> dict[str, Any]:
    """The values of labelled lines, nested as the type has them; not validated.

    Raises:
        ParseError: there is none of them; the message is written for the model.
    """
    wanted = lines_of(answer_type)
    stripped = text.strip()
    values: dict[tuple[str | int, ...], Any] = {}
    open_line: Line | None = None
    owner: tuple[str | int, ...] = ()
    for row in text.splitlines():
        found = _match(row, wanted, owner)
        if found is None:
            if open_line is not None and not open_line.number and row.strip():
                _continue(values, open_line, row.strip())
            continue
        line, value = found
        if not line.many:
            owner = line.path[:-1]
            if line.path in values:
                # A model that goes on after its answer repeats the form; the first one counts.
                open_line = None
                continue
            values[line.path] = value
        elif value:
            values.setdefault(line.path, []).append(_unquoted(value))
        open_line = line
    first = wanted[0]
    begins = _BARE_NUMBER.match(stripped)
    if not values and first.number and begins:
        values[first.path] = begins[1]
    if not values and first.options and _option(stripped, first.options) in first.options:
        values[first.path] = stripped
    if not values:
        labels = ", ".join(f"'{line.label}:'" for line in wanted)
        raise ParseError(f"none of the lines {labels} was found")
    return assembled(values, wanted)


def _option(value: str, options: tuple[str, ...]) -> str:
    """The option that a value means, whatever its case and separators; else the value itself."""
    plain = re.sub(r"[\s_-]+", " ", value.strip(_MARKS + " .\"'")).casefold()
    for option in options:
        if plain == re.sub(r"[\s_-]+", " ", option).casefold():
            return option
    return value


def _match(
    row: str, wanted: tuple[Line, ...], owner: tuple[str | int, ...]
) -> tuple[Line, str] | None:
    lead = _LEAD.match(row)
    rest = row[lead.end() if lead else 0 :]
    bare = rest.lstrip(_MARKS)
    label, separator, value = bare.partition(":")
    if not separator or len(label) > 60:
        return None
    name = re.sub(r"[\s_-]+", " ", label.strip(_MARKS + " ")).casefold()
    if bare != rest:
        # "**label:** value": the closing marks stand after the colon.
        value = value.lstrip(_MARKS)
    value = value.strip()
    candidates = [line for line in wanted if line.label.casefold() == name]
    if name.endswith("s") and not candidates:
        candidates = [line for line in wanted if line.many and line.label + "s" == name]
    # Quotes carry the same label under every heading: they belong to the one above them.
    for line in candidates:
        if not line.many or line.path[:-1] == owner:
            return line, value
    return None


def _continue(values: dict[tuple[str | int, ...], Any], line: Line, row: str) -> None:
    held = values.get(line.path)
    if isinstance(held, str):
        values[line.path] = f"{held} {row}".strip()


def _unquoted(value: str) -> str:
    for left, right in ('""', "''", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb"):
        if len(value) > 1 and value.startswith(left) and value.endswith(right):
            return value[1:-1].strip()
    return value


_NUMBER = re.compile(r"^[\s*_`\[(<]*(-?\d+)(?:\.0+)?(?![\d.]*\d|\w)")
# An answer that begins with the number: alone, of ten, or followed by a mark that ends it. Not
# "1. The plan…" (a list) and not "3 reasons…".
_BARE_NUMBER = re.compile(
    r"^[\s*_`]*(-?\d+)[*_`]*(?:\s*(?:/|out of)\s*10)?[*_`]*\s*(?:\.?\s*$|\.?\n|[,;:\u2013\u2014])"
)


def _is_hint(value: str, line: Line) -> bool:
    """Whether a value is no answer but what the form says there."""
    return value.strip("<> .").casefold() == line.hint.casefold()


def assembled(values: dict[tuple[str | int, ...], Any], wanted: tuple[Line, ...]) -> dict[str, Any]:
    """Nested dictionaries and lists from paths."""
    data: dict[str, Any] = {}
    for line in wanted:
        if line.path not in values:
            continue
        value = values[line.path]
        if line.number:
            digits = _NUMBER.match(value)
            # Left as it is when it is no number: validation then says so.
            value = int(digits[1]) if digits else value
        elif line.options:
            value = _option(value, line.options)
        elif isinstance(value, str) and _is_hint(value, line):
            continue
        elif isinstance(value, list):
            value = [item for item in value if not _is_hint(item, line)]
        node: Any = data
        for part, following in zip(line.path, line.path[1:], strict=False):
            empty: Any = [] if isinstance(following, int) else {}
            if isinstance(part, int):
                while len(node) <= part:
                    node.append({})
                node = node[part]
            else:
                node = node.setdefault(part, empty)
        node[line.path[-1]] = value
    for key, value in data.items():
        if isinstance(value, list):
            data[key] = [item for item in value if item]
    return data
