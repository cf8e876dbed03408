"""What a model of the size of the bundled one is held to: GBNF of its answers, and answers in it.

Why: such a model loses the form before it loses the thread. llama.cpp samples only what the grammar
allows, so every answer can be read; what it is taught is written in the same form.
"""

import re
from functools import cache

from pydantic import BaseModel

from agents.labelled import Line, found_in, lines_of
from mentalarena.local_model import Form

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


def _longest(lines: tuple[Line, ...]) -> int:
    """Characters of one text: the whole answer stays within a few hundred tokens."""
    return max(60, min(240, 1400 // len(lines)))


@cache
def labelled_grammar(answer_type: type[BaseModel]) -> Form:
    """GBNF of the labelled lines, for a server that can hold a small model to them.

    It fixes the form only: labels in order, numbers in range, options from their list, and text
    short enough that the whole answer stays within a few hundred tokens.
    """
    lines = lines_of(answer_type)
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
    lines = lines_of(type(value))
    longest = _longest(lines) + 1
    data = value.model_dump(mode="json")
    rows: list[str] = []
    stated = False
    for line in lines:
        found = found_in(data, line)
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
