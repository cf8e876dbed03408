"""Errors that name the boundary they crossed.

Why: a researcher who reads ``errors`` in the store, or one line in a terminal, must know at once
whether the provider failed, the model's answer could not be read, a case is malformed, the store
refused, or the configuration is wrong. Each class also inherits the standard class it stands in
for, so ``except ValueError`` written by a user keeps working.
"""

from typing import ClassVar, Literal

Boundary = Literal["provider", "parse", "case", "store", "configuration", "worker"]


class MentalArenaError(Exception):
    """Root of every error this project raises on purpose."""

    boundary: ClassVar[Boundary] = "configuration"


class ConfigurationError(MentalArenaError, ValueError):
    """A flag, environment variable, recipe or threshold file that cannot be used as given."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed; the message carries the pip line."""


class CaseError(MentalArenaError, ValueError):
    """A case or principle file that does not hold what it should."""

    boundary: ClassVar[Boundary] = "case"


class UnknownCaseError(CaseError, LookupError):
    """A case id that neither the built-in roster, the given file nor the store holds."""


class StoreError(MentalArenaError, OSError):
    """The SQLite file cannot be opened, read or written."""

    boundary: ClassVar[Boundary] = "store"


class ProviderError(MentalArenaError, RuntimeError):
    """A model could not be reached or refused the request.

    ``fatal`` says that no later call can succeed either (wrong key, unknown model, bad request,
    nothing listening), so that a run stops instead of failing episode by episode.
    """

    boundary: ClassVar[Boundary] = "provider"

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal

    def __reduce__(self) -> tuple[object, ...]:
        # Exception pickles only its args; keyword-only state would be lost between processes.
        return (_rebuild_provider_error, (str(self), self.fatal))


def _rebuild_provider_error(message: str, fatal: bool) -> ProviderError:
    return ProviderError(message, fatal=fatal)


class ParseError(MentalArenaError, ValueError):
    """An answer that could not be read as the type that was asked for."""

    boundary: ClassVar[Boundary] = "parse"


class BudgetError(MentalArenaError, RuntimeError):
    """A budget of the run is used up; what was paid for is kept, a higher budget goes on."""


class ReplayError(StoreError):
    """A journaled call whose prompt hash differs from the prompt that would be sent now."""


class WorkerError(MentalArenaError, RuntimeError):
    """A process or actor that works for this one does not stay alive."""

    boundary: ClassVar[Boundary] = "worker"
