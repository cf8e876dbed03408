"""Prompts: package data under ``agents/prompts``, filled in by pure functions, hashed.

Why: a prompt is part of an experiment. Its template's hash is stored with every call, and a stored
episode can be rendered again from the same views to check what a seat was really shown. Layouts
only ever append: fixed text in the system message, then the dialogue, then the instruction, so
that a server with a prefix cache reads each turn once. A small model gets the same system text and
the dialogue as turns of a chat, with a cue of a few words: long instructions it reads back.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from string import Template

from agents.seats import Attempt, Formulation, Line, PlanKind, Speaker
from mentalarena.case import COMPONENTS, Component
from mentalarena.journal import digest

SEPARATOR = "\n---\n"
GREETING = "What brings you here today?"
NAMES = {
    "patient": ("open", "speak", "small_open", "small_speak", "confirm", "respond"),
    "therapist": (
        "ask",
        "probe",
        "small_ask",
        "small_probe",
        "formulate",
        "diagnose",
        "treatment",
        "medication",
    ),
    "manager": ("principle", "probe"),
    "judge": ("score", "compare"),
}
"""Every prompt, by seat: ``<seat>.system.md`` and ``<seat>.<name>.md``."""
SPOKEN = {"open", "speak", "small_open", "small_speak", "ask", "probe", "small_ask", "small_probe"}
"""Where a seat speaks: ``<seat>.manner.md``, how it does so, ends the system text. What is written
in between is not paid for with rules of speaking, and shares the beginning all the same."""


@lru_cache(maxsize=128)
def _hash(text: str) -> str:
    """Kept: templates are few, and each is asked for its hash with every call."""
    return digest(text)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A seat's system text and one of its instructions, as written."""

    name: str
    system: str
    instruction: str

    @property
    def text(self) -> str:
        """Both parts, as they are stored and hashed."""
        return self.system + SEPARATOR + self.instruction

    @property
    def hash(self) -> str:
        """SHA-256 of the text."""
        return _hash(self.text)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One rendered prompt."""

    template: PromptTemplate
    system: str
    user: str
    lines: tuple[Line, ...] = ()
    """The dialogue that the user message begins with, or that stands before it as a chat."""
    chat: tuple[tuple[str, str], ...] = ()
    """Turns between system text and user message: (role, text)."""

    def messages(self, tail: str = "") -> list[dict[str, str]]:
        """The messages to send; ``tail`` is appended to the user's."""
        user = f"{self.user}\n\n{tail}" if tail else self.user
        turns = (("system", self.system), *self.chat, ("user", user))
        return [{"role": role, "content": text} for role, text in turns]


_stored: ContextVar[Mapping[str, str] | None] = ContextVar("_stored", default=None)
STYLES = "patient.styles"
"""What every patient's prompt takes a line from."""


@contextmanager
def stored_texts(texts: Mapping[str, str]) -> Iterator[None]:
    """Render with these texts, by template name, in place of the package's files."""
    token = _stored.set(texts)
    try:
        yield
    finally:
        _stored.reset(token)


def template(seat: str, name: str) -> PromptTemplate:
    """The template of one prompt."""
    stored = _stored_text(f"{seat}.{name}")
    if stored is None:
        return _package_template(seat, name)
    system, _, instruction = stored.partition(SEPARATOR)
    return PromptTemplate(f"{seat}.{name}", system, instruction)


def styles_text() -> str:
    """How each conversational style is explained to a patient, a line each."""
    return _stored_text(STYLES) or read_text(f"{STYLES}.md")


def _stored_text(name: str) -> str | None:
    return (_stored.get() or {}).get(name)


@cache
def _package_template(seat: str, name: str) -> PromptTemplate:
    system = read_text(f"{seat}.system.md")
    if name in SPOKEN and seat in ("patient", "therapist"):
        system += "\n\n" + read_text(f"{seat}.manner.md")
    return PromptTemplate(f"{seat}.{name}", system, read_text(f"{seat}.{name}.md"))


@cache
def read_text(file: str) -> str:
    """A file of the package's prompts."""
    return resources.files("agents").joinpath("prompts", file).read_text(encoding="utf-8").strip()


def template_hashes() -> dict[str, str]:
    """Every prompt's name and hash: what a configuration hash needs to know of the wording."""
    hashes = {
        f"{seat}.{name}": _package_template(seat, name).hash
        for seat, names in NAMES.items()
        for name in names
    }
    return hashes | {STYLES: digest(read_text(f"{STYLES}.md"))}


def render(
    seat: str, name: str, lines: tuple[Line, ...] | None = None, /, **values: object
) -> Prompt:
    """A prompt from its template, the dialogue and the values of its placeholders.

    A value is put in as it is: a ``$`` in it is never expanded.

    Args:
        seat: patient, therapist, manager or judge.
        name: The prompt, see :data:`NAMES`.
        lines: The dialogue to begin the user message with; None for a prompt without one.
        **values: Placeholders of both parts.
    """
    found = template(seat, name)
    texts = {key: str(value) for key, value in values.items()}
    instruction = Template(found.instruction).substitute(texts)
    spoken = "" if lines is None else transcript(lines) + "\n\n"
    system = Template(found.system).substitute(texts)
    return Prompt(found, system, spoken + instruction, lines or ())


def render_chat(seat: Speaker, name: str, lines: tuple[Line, ...], /, **values: object) -> Prompt:
    """As :func:`render`, the dialogue as a chat in which the seat is the assistant.

    The other's last line and the instruction are the user message; a patient's opening answers a
    question that nobody has put in words.
    """
    prompt = render(seat, name, **values)
    spoken = [(line.speaker, " ".join(line.text.split())) for line in lines]
    last = f"{spoken.pop()[1]}\n\n" if spoken and spoken[-1][0] != seat else ""
    chat = tuple(("assistant" if who == seat else "user", text) for who, text in spoken)
    if chat and chat[0][0] == "assistant":
        chat = (("user", GREETING), *chat)
    return replace(prompt, user=last + prompt.user, lines=lines, chat=chat)


def transcript(lines: tuple[Line, ...]) -> str:
    """The dialogue, one line a turn; whatever was said cannot begin a turn of its own."""
    if not lines:
        return "(Nothing has been said yet.)"
    return "\n".join(
        f"{line.speaker.capitalize()}: {' '.join(line.text.split())}" for line in lines
    )


def formulation_text(formulation: Formulation | None, only: Component | None = None) -> str:
    """A formulation's statements, one component a line; ``(none yet)`` when there is none.

    Args:
        formulation: What was stated last.
        only: The one component to show; None for all.

    What is not stated is named in one closing line and has no line of its own: words that stand
    there for "empty" come back as a statement, and are then judged as one.
    """
    if formulation is None:
        return "(none yet)"
    rows, missing = [], []
    for component in COMPONENTS if only is None else (only,):
        statement = " ".join(formulation.of(component).statement.split())
        if statement:
            rows.append(f"- {component.label}: {statement}")
        else:
            missing.append(component.label)
    if not rows:
        return "(none yet)"
    if missing:
        rows.append(f"(still to find out: {', '.join(missing)})")
    return "\n".join(rows)


def attempts_text(attempts: tuple[Attempt, ...], kind: PlanKind, longest: int = 70) -> str:
    """Plans tried before, one a line; ``(none)`` when there are none.

    Args:
        attempts: The plans, oldest first.
        kind: Of which kind the next plan is: of the others, see :func:`that_matter`, the name is
            said and not how they went.
        longest: Characters of each response.
    """
    rows = []
    for attempt in that_matter(attempts, kind):
        score = f" (score {attempt.score:.1f} of 10)" if attempt.score else ""
        said = f": {shorten(attempt.response, longest)}" if attempt.kind == kind else ""
        rows.append(f"- {attempt.name}{score}{said}")
    return "\n".join(rows) or "(none)"


def that_matter(attempts: tuple[Attempt, ...], kind: PlanKind) -> tuple[Attempt, ...]:
    """What was tried that a further plan of this kind has to do with.

    Those of the same kind; and of the other only the best-scored one, which is the one that stays.
    """
    others = [one for one in attempts if one.kind != kind and one.score is not None]
    best = max(others, key=lambda one: one.score or 0.0, default=None)
    return tuple(one for one in attempts if one.kind == kind or one is best)


def shorten(text: str, limit: int) -> str:
    """Text on one line, cut at a word when it is longer than ``limit`` characters."""
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    return text[:limit].rsplit(" ", 1)[0] + "…"
