"""From a seat spec to a live seat, once a process; and cheap checks before anything runs.

Why: configurations hold strings, because they are hashed, stored and shown in a form. One model is
one client and one copy of the weights, however many seats it holds.
"""

import difflib
import http.client
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, Self, get_args, overload

from agents.ask import Answerer, Ask
from agents.seats import JudgeSeat, ManagerSeat, PatientSeat, Seat, TherapistSeat
from mentalarena.config import ArenaConfig
from mentalarena.errors import ConfigurationError, ProviderError
from mentalarena.models import ModelSpec, check_model, server_url, shown_url, spec_identity
from mentalarena.provider import ModelClient

if TYPE_CHECKING:
    from agents.human import Human

AnySeat = PatientSeat | TherapistSeat | ManagerSeat | JudgeSeat
Kind = Literal["rules", "openai", "huggingface", "local", "human"]
SEATS: tuple[Seat, ...] = ("patient", "therapist", "manager", "judge")
POSSIBLE = (
    "rules, openai:NAME, huggingface:PATH[,adapter=PATH], local[:FILE.gguf] or human (models also: "
    "answers=json, answers=labelled or answers=small; therapist also: rules,misread=0.2 and "
    "rules,misread=0.2,wording=check)"
)


@dataclass(frozen=True, slots=True)
class SeatSpec:
    """A parsed seat spec."""

    kind: Kind
    text: str
    """As it was given; this is what is stored."""
    misread: float | None = None
    """Rate of injected intent biases (``rules`` therapist only); None for the default."""
    held_out: bool = False
    """Whether they are worded with the templates kept for checks (``wording=check``)."""
    model: ModelSpec | None = None

    @classmethod
    def parse(cls, text: str, seat: Seat | None = None) -> Self:
        """Read a spec; with a seat, also whether it may sit there.

        Raises:
            ConfigurationError: one line that names the seat and what is possible.
        """
        given = text.strip()
        kind = re.split(r"[:,]", given, maxsplit=1)[0]
        where = f"{seat or 'seat'} {given!r}"
        if kind not in get_args(Kind):
            near = difflib.get_close_matches(kind.lower(), get_args(Kind), n=1)
            hint = f"did you mean {near[0] + given[len(kind) :]}? " if near else ""
            raise ConfigurationError(f"{where} is unknown: {hint}possible are {POSSIBLE}")
        if kind == "rules":
            rate = _misread(given, where, seat)
            held_out = given.endswith(",wording=check")
            return cls(kind="rules", text=given, misread=rate, held_out=held_out)
        if kind == "human":
            if given != "human":
                raise ConfigurationError(f"{where}: human takes no name and no option")
            return cls(kind="human", text=given)
        try:
            model = ModelSpec.parse(given)
        except ConfigurationError as error:
            raise ConfigurationError(f"{seat or 'seat'}: {error}") from None
        return cls(kind=model.provider, text=given, model=model)


def _misread(given: str, where: str, seat: Seat | None) -> float | None:
    if given == "rules":
        return None
    match = re.fullmatch(r"rules,misread=([0-9.]+)(?:,wording=check)?", given)
    if not match:
        raise ConfigurationError(f"{where}: rules takes only misread=RATE, e.g. rules,misread=0.2")
    if seat not in (None, "therapist"):
        raise ConfigurationError(f"{where}: only the therapist takes misread")
    try:
        rate = float(match[1])
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise ConfigurationError(f"{where}: misread must be a rate from 0 to 1")
    return rate


def is_rules(spec: str) -> bool:
    """Whether a seat spec names a rule-based simulator."""
    return SeatSpec.parse(spec).kind == "rules"


def is_human(spec: str) -> bool:
    """Whether a seat spec names a person."""
    return SeatSpec.parse(spec).kind == "human"


_seats: dict[tuple[object, ...], AnySeat] = {}
_clients: dict[tuple[object, ...], ModelClient] = {}


@overload
def seat(role: Literal["patient"], spec: str, config: ArenaConfig) -> PatientSeat: ...
@overload
def seat(role: Literal["therapist"], spec: str, config: ArenaConfig) -> TherapistSeat: ...
@overload
def seat(role: Literal["manager"], spec: str, config: ArenaConfig) -> ManagerSeat: ...
@overload
def seat(role: Literal["judge"], spec: str, config: ArenaConfig) -> JudgeSeat: ...
@overload
def seat(role: Seat, spec: str, config: ArenaConfig) -> AnySeat: ...
def seat(role: Seat, spec: str, config: ArenaConfig) -> AnySeat:
    """The live seat of a spec; the same object for the same role, spec and model settings.

    Raises:
        ConfigurationError: the spec is wrong, or names something that is not there.
    """
    parsed = SeatSpec.parse(spec, role)
    key = (role, parsed, *_settings(config)) if parsed.model else (role, parsed)
    if key not in _seats:
        _seats[key] = (
            _rule_seat(role, parsed)
            if parsed.kind == "rules"
            else _model_seat(role, parsed, config)
        )
    return _seats[key]


def _settings(config: ArenaConfig) -> tuple[object, ...]:
    return (config.base_url, config.temperature, config.answer_tokens, config.timeout)


def _rule_seat(role: Seat, spec: SeatSpec) -> AnySeat:
    from agents import rules

    if role == "therapist":
        if spec.misread is None:
            return rules.RulesTherapist()
        wording: Literal["usual", "check"] = "check" if spec.held_out else "usual"
        return rules.RulesTherapist(misread=spec.misread, wording=wording)
    if role == "patient":
        return rules.RulesPatient()
    return rules.RulesManager() if role == "manager" else rules.RulesJudge()


def _model_seat(role: Seat, spec: SeatSpec, config: ArenaConfig) -> AnySeat:
    if spec.model is None:
        from agents.human import check_terminal

        check_terminal()
        person = _person()
        ask = Ask(person, seat=role, spec=spec.text, answers="form", recall=person.recall)
        return _seated(role, ask)
    return _seated(role, _model_ask(role, spec, spec.model, config))


def _model_ask(role: Seat, spec: SeatSpec, model: ModelSpec, config: ArenaConfig) -> Ask:
    check_model(model, config.base_url)
    client = _client(model, config)
    return Ask(client, seat=role, spec=spec_identity(spec.text), answers=model.answers)


def model_ask(role: Seat, spec: str, config: ArenaConfig) -> Ask:
    """The door to the model of a spec, for what no seat is asked; the model is checked first.

    Raises:
        ConfigurationError: the spec names no model, or one that is not there.
        ProviderError: nothing answers at the server (fatal).
    """
    parsed = SeatSpec.parse(spec, role)
    if parsed.model is None:
        raise ConfigurationError(
            f"--model {spec} is no language model: give openai:NAME or another"
        )
    if parsed.kind == "openai":
        check_reachable(server_url(config.base_url), timeout=min(5.0, config.timeout))
    return _model_ask(role, parsed, parsed.model, config)


def replayed_seat(role: Seat, spec: str, answerer: Answerer) -> AnySeat:
    """The seat of a spec with ``answerer`` in place of its model or person: nothing is reached.

    Raises:
        ConfigurationError: the spec is wrong.
    """
    parsed = SeatSpec.parse(spec, role)
    if parsed.kind == "rules":
        return _rule_seat(role, parsed)
    answers = parsed.model.answers if parsed.model is not None else "form"
    return _seated(role, Ask(answerer, seat=role, spec=parsed.text, answers=answers))


def _seated(role: Seat, ask: Ask) -> AnySeat:
    if role == "patient":
        from agents.patient import ModelPatient

        return ModelPatient(ask)
    if role == "therapist":
        from agents.therapist import ModelTherapist

        return ModelTherapist(ask)
    if role == "manager":
        from agents.manager import ModelManager

        return ModelManager(ask)
    from agents.judge import ModelJudge

    return ModelJudge(ask)


@cache
def _person() -> "Human":
    """The one person at this process's terminal, whatever seats they hold."""
    from agents.human import Human

    return Human()


def _client(model: ModelSpec, config: ArenaConfig) -> ModelClient:
    # How answers are asked for is a matter of the seat; the model behind is the same.
    key = (model.provider, model.name, model.adapter, *_settings(config))
    if key not in _clients:
        _clients[key] = ModelClient(
            model,
            base_url=config.base_url,
            temperature=config.temperature,
            max_tokens=config.answer_tokens,
            timeout=config.timeout,
        )
    return _clients[key]


def check_seats(config: ArenaConfig) -> None:
    """Check all four seats before anything runs: syntax, key, packages, paths, server reachable.

    Raises:
        ConfigurationError: a seat cannot be taken as given.
        ProviderError: nothing answers at the server (fatal).
    """
    parsed = [SeatSpec.parse(getattr(config, role), role) for role in SEATS]
    for spec in dict.fromkeys(parsed):
        if spec.model is not None:
            check_model(spec.model, config.base_url)
        elif spec.kind == "human":
            from agents.human import check_terminal

            check_terminal()
    if any(spec.kind == "openai" for spec in parsed):
        check_reachable(server_url(config.base_url), timeout=min(5.0, config.timeout))


def check_reachable(url: str, timeout: float = 5.0) -> None:
    """Check that some server answers at ``url``; what it answers does not matter.

    Raises:
        ProviderError: nothing answers (fatal).
    """
    try:
        urllib.request.urlopen(f"{url}/models", timeout=timeout).close()
    except urllib.error.HTTPError:
        # Refused without a key, or no such page: a server is there, and calls will tell more.
        return
    except (http.client.HTTPException, ValueError) as error:
        raise ConfigurationError(
            f"--base-url {shown_url(url)[:200]} cannot be used ({type(error).__name__}): give the "
            "address of an OpenAI-compatible server, such as http://localhost:8000/v1"
        ) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ProviderError(
            f"nothing answers at {shown_url(url)} ({reason}): is the server running, and is "
            "--base-url right?",
            fatal=True,
        ) from None
