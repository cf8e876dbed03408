"""How a question is put: as text to be continued, or as a chat.

Why: a likelihood means something beside a published one only under the same text, so the plain
prompts are word for word those of lm-evaluation-harness (a test compares them); what the harness
does not have follows its nearest neighbor. A chat asks for one label and nothing else.
"""

from enum import Enum
from functools import cache
from typing import Literal

from pydantic import create_model

from agents.ask import Mode, form_of
from agents.seats import Answer
from mentalarena.journal import digest
from training.tasks.items import Item

Style = Literal["question", "choices", "mmlu", "abstract", "post", "bbh"]

SYSTEM = (
    "You are taking an examination. Choose the one best answer to the question. This is a test of "
    "a language model: nobody is treated by what you answer, and every question has an answer."
)


def _options(shown: Item) -> str:
    if shown.words:
        return ""
    pairs = zip(shown.labels, shown.options, strict=True)
    return "".join(f"{label}. {text}\n" for label, text in pairs)


def plain(shown: Item, style: Style, subject: str = "") -> str:
    """The text that a label continues."""
    question, options = shown.question, _options(shown)
    if style == "mmlu":
        head = "The following are multiple choice questions (with answers) about "
        return f"{head}{subject}.\n\n{question.strip()}\n{options}Answer:"
    if style == "choices":
        return f"Question: {question}\nChoices:\n{options}Answer:"
    if style == "bbh":
        listed = "".join(
            f"\n({label}) {text}" for label, text in zip(shown.labels, shown.options, strict=True)
        )
        return f"Q: {question}" + ("" if shown.words else f"\nOptions:{listed}") + "\nA:"
    if style == "abstract" and shown.context:
        return f"Abstract: {shown.context}\nQuestion: {question}\nAnswer:"
    if style == "post":
        return f"{shown.context}\nQuestion: {question}\n{options}Answer:"
    return f"Question: {question}\n{options}Answer:"


def continuations(shown: Item, style: Style) -> tuple[str, ...]:
    """What is scored after :func:`plain`, one a label."""
    if style == "bbh" and not shown.words:
        return tuple(f" ({label})" for label in shown.labels)
    return tuple(f" {label}" for label in shown.labels)


@cache
def answer_type(labels: tuple[str, ...]) -> type[Answer]:
    """The type of an answer that names one of ``labels``."""
    choices = Enum("Label", [(label, label) for label in labels], type=str)  # type: ignore[misc]
    return create_model("Choice", __base__=Answer, answer=(choices, ...))


def chat(shown: Item, style: Style, answers: Mode) -> list[dict[str, str]]:
    """The messages that ask for one label."""
    body = plain(shown, style).removesuffix("A:" if style == "bbh" else "Answer:").rstrip()
    if style == "mmlu":
        body = body.partition("\n\n")[2]
    labels = ", ".join(shown.labels)
    ask = f"Answer with one of these and nothing else: {labels}."
    form = form_of(answer_type(shown.labels), answers)
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"{body}\n\n{ask}\n\n{form}"},
    ]


def prompts_hash() -> str:
    """What every prompt of this version is known by; a changed word is another evaluation."""
    probe = Item("q", ("a", "b"), 0, "c")
    word = Item("q", ("yes", "no"), 0, "c", words=True)
    made: list[object] = [SYSTEM]
    for style in ("question", "choices", "mmlu", "abstract", "post", "bbh"):
        for item in (probe, word):
            made += [plain(item, style, "s"), continuations(item, style)]
            made += [chat(item, style, mode) for mode in ("json", "labelled")]
    return digest(made, 16)
