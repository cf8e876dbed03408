"""How a structured answer is asked for and read: JSON schema, or labelled lines of plain text.

Why: a strong server enforces a schema; a small model cannot write JSON but can fill in lines. Both
ways start from one pydantic type and end in it, and nothing is guessed: a number counts only where
it was asked for, never because it is the first one found somewhere.
"""

import json
import re
import typing
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import NoneType
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mentalarena.errors import ParseError
from mentalarena.local_model import Form

A = TypeVar("A", bound=BaseModel)

# --- JSON ----------------------------------------------------------------------------------------


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
        data = _labelled_data(text, answer_type) if labelled else _json_data(text)
    except ParseError:
        first = _lines(answer_type)[0]
        if not partial or first.number or first.options or not text.strip():
            raise
        head, _, rest = text.strip().partition("\n")
        data = _assembled({first.path: head[:500].strip()}, (first,))
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


# --- labelled lines ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
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
def _lines(answer_type: type[BaseModel]) -> tuple[_Line, ...]:
    lines: list[_Line] = []
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
) -> list[_Line]:
    """A nested model: its first field under the outer name, the others under their own."""
    lines: list[_Line] = []
    for position, (key, info) in enumerate(inner.model_fields.items()):
        if typing.get_origin(info.annotation) is tuple:
            singular = key.removesuffix("s")
            hint = "exact words, or leave out"
            lines.append(_Line(singular, (*path, key), hint, many=True, optional=True))
        else:
            label = name + suffix if position == 0 else key + suffix
            lines.append(_scalar(label, (*path, key), info, key))
    return lines


def _scalar(label: str, path: tuple[str | int, ...], info: FieldInfo, name: str) -> _Line:
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
    return _Line(
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
    return "\n".join(f"{line.label}: <{line.hint}>" for line in _lines(answer_type))


_WORDS = """word ::= " " [a-zA-Z] [a-z]{0,13} ending? ","?
last ::= " " [a-zA-Z] [a-z]{1,13} ending?
ending ::= "'" ("t" | "s" | "m" | "d" | "re" | "ve" | "ll")
"""
SPOKEN_GRAMMARS = {
    "patient": r"""root ::= sentence (" " sentence)?
sentence ::= start word{2,36} last "."
start ::= ("I" | "I'm" | "I've" | "I was" | "I feel" | "I think" | "I just" | "My" | "When I"
  | "It" | "Then I" | "Sometimes I" | "Well, I" | "Because I" | "No, I" | "Yes, I")
"""
    + _WORDS,
    "therapist": r"""root ::= (heard word{2,30} last ". ")? question word{1,24} last "?"
heard ::= "You said that" | "You feel" | "So you" | "I hear that you" | "It sounds as if you"
question ::= ("What did you" | "What do you" | "What happened" | "What went through your mind"
  | "What would" | "How did you" | "How do you" | "When did you" | "Who was" | "Can you tell me"
  | "What makes you")
"""
    + _WORDS,
}
"""GBNF of a spoken turn of a small model, by speaker: a patient's one or two sentences about
itself, a therapist's question with a few words before it. It fixes how sentences begin and how
long they are; what they say is the model's. The limits are wide: a model that is cut short in the
middle of a sentence goes on inside the word."""


def _longest(lines: "tuple[_Line, ...]") -> int:
    """Characters of one text: the whole answer stays within a few hundred tokens."""
    return max(60, min(240, 1400 // len(lines)))


@cache
def labelled_grammar(answer_type: type[BaseModel]) -> Form:
    """GBNF of the labelled lines, for a server that can hold a small model to them.

    It fixes the form only: labels in order, numbers in range, options from their list, and text
    short enough that the whole answer stays within a few hundred tokens.
    """
    lines = _lines(answer_type)
    longest = _longest(lines)
    rows: list[str] = []
    for line in lines:
        value = "text"
        if line.options:
            value = "(" + " | ".join(f'"{option}"' for option in line.options) + ")"
        elif line.number and line.low is not None and line.high is not None:
            value = "(" + " | ".join(f'"{n}"' for n in range(line.low, line.high + 1)) + ")"
        elif line.number:
            value = "[1-9]"
        # No break after the last line: the answer ends there, as what was learned from does.
        start = f'"\\n{line.label}:' if rows else f'"{line.label}:'
        if line.many:
            # A quote of nothing that was stated would be none: it follows a text only.
            owner = rows.pop()
            close = ")?" if owner.endswith(")?") else ""
            rows.append(f'{owner.removesuffix(close)} ({start} " {value})?{close}')
        elif line.optional:
            rows.append(f'{start}" (" " {value})?')
        else:
            rows.append(f'{start} " {value}')
    return Form(f"root ::= {' '.join(rows)}\ntext ::= [A-Za-z] [^<>\\n\\r]{{2,{longest}}}\n")


_NO_LETTER = re.compile(r"^[^A-Za-z]+|[<>]")


def to_small_form(value: BaseModel) -> str:
    """A value as :func:`labelled_grammar` would have it: every line, one quote each, short texts.

    What a small model is taught: one that has learned to leave lines out fills them with anything
    when it is held to a form that has them. :func:`read` reads it back, cut where it was too long.
    """
    lines = _lines(type(value))
    longest = _longest(lines) + 1
    data = value.model_dump(mode="json")
    rows: list[str] = []
    stated = False
    for line in lines:
        found = _found(data, line)
        if line.many:
            items = (found or ())[:1] if stated else ()
        else:
            items = () if found is None else (found,)
        texts = [" ".join(str(item).split()) for item in items]
        if not (line.options or line.number):
            texts = [_cut(_NO_LETTER.sub("", text), longest) for text in texts]
            texts = [text for text in texts if len(text) > 2]
        stated = stated if line.many else bool(texts)
        if texts:
            rows += [f"{line.label}: {text}" for text in texts]
        elif not line.many:
            rows.append(f"{line.label}:")
    return "\n".join(rows)


def _cut(text: str, longest: int) -> str:
    """The beginning of a text, up to the end of a word."""
    return text if len(text) <= longest else text[: longest + 1].rpartition(" ")[0]


def to_labelled(value: BaseModel) -> str:
    """A value as labelled lines; :func:`read` reads it back."""
    data = value.model_dump(mode="json")
    rows: list[str] = []
    for line in _lines(type(value)):
        found = _found(data, line)
        if line.many:
            rows += [f"{line.label}: {' '.join(str(item).split())}" for item in found or ()]
        elif found is not None and (found != "" or not line.optional):
            rows.append(f"{line.label}: {' '.join(str(found).split())}")
    return "\n".join(rows)


def _found(data: Any, line: "_Line") -> Any:
    """What a line holds; None where there is nothing."""
    for part in line.path:
        try:
            data = data[part]
        except (IndexError, KeyError):
            return None
    return data


_LEAD = re.compile(r"^\s*(?:[-*•>#+]+\s+|#+|\(?\d{1,2}[.)]\s+)*")
_MARKS = "*_`"


def _labelled_data(text: str, answer_type: type[BaseModel]) -> object:
    """The values of labelled lines; case, order, bullets, bold and other lines do not matter."""
    wanted = _lines(answer_type)
    stripped = text.strip()
    if stripped.startswith(("{", "```json")):
        return _json_data(stripped)
    values: dict[tuple[str | int, ...], Any] = {}
    open_line: _Line | None = None
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
    return _assembled(values, wanted)


def _option(value: str, options: tuple[str, ...]) -> str:
    """The option that a value means, whatever its case and separators; else the value itself."""
    plain = re.sub(r"[\s_-]+", " ", value.strip(_MARKS + " .\"'")).casefold()
    for option in options:
        if plain == re.sub(r"[\s_-]+", " ", option).casefold():
            return option
    return value


def _match(
    row: str, wanted: tuple[_Line, ...], owner: tuple[str | int, ...]
) -> tuple[_Line, str] | None:
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


def _continue(values: dict[tuple[str | int, ...], Any], line: _Line, row: str) -> None:
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


def _is_hint(value: str, line: _Line) -> bool:
    """Whether a value is no answer but what the form says there."""
    return value.strip("<> .").casefold() == line.hint.casefold()


def _assembled(
    values: dict[tuple[str | int, ...], Any], wanted: tuple[_Line, ...]
) -> dict[str, Any]:
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
