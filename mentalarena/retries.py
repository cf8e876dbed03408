"""What went wrong with a request, and whether and when it is worth asking again.

Why: every server fails in its own words. Here a failure becomes one line that names the server and
the way out, and says whether a later request can succeed. This is also the only place that retries:
the SDK's own retries are off, so that rungs never multiply. Being told to wait is not failing: it
has a patience of its own.
"""

import email.utils
import os
import random
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from mentalarena.errors import ProviderError

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

ATTEMPTS = 4
"""Requests for one answer that may fail, the first included."""
REFUSALS = 12
"""Requests for one answer that may be turned away because the server has too much to do."""
LONGEST_WAIT = 120.0
"""Seconds; a server that asks for more is given up on for now."""
RECONNECT_WAIT = 1.0
"""Seconds before the second request to a server that refused the connection; doubled each time, so
that a server that is being restarted is found again."""


class FailedRequest(Exception):
    """A classified failure, with what the retry ladder needs to know.

    Args:
        message: One line for the user.
        fatal: Whether every later call would fail too.
        transient: Whether the same request may succeed when it is made again.
        wait: Seconds that the server asks to wait; None when it says nothing.
        refused: Nothing listens at the address.
        throttled: The server has too much to do.
        silent: The server did not answer in time.
    """

    def __init__(
        self,
        message: str,
        *,
        fatal: bool,
        transient: bool,
        wait: float | None = None,
        refused: bool = False,
        throttled: bool = False,
        silent: bool = False,
    ) -> None:
        super().__init__(message)
        self.fatal = fatal
        self.transient = transient
        self.wait = wait
        self.refused = refused
        self.throttled = throttled
        self.silent = silent


async def with_retries(request: Callable[[], Awaitable[T]]) -> tuple[T, int]:
    """Make a request, again where that can help; returns the answer and the requests made.

    Raises:
        ProviderError: the last failure.
    """
    try:
        return await request(), 1
    except FailedRequest as error:
        first: FailedRequest | None = error
    # Hardly any request fails, and a ladder for each would take time that all of them pay for.
    from tenacity import AsyncRetrying, retry_if_exception

    made = 0
    turned_away = 0

    def patience_is_over(state: "RetryCallState") -> bool:
        nonlocal turned_away
        error = state.outcome.exception() if state.outcome else None
        turned_away += isinstance(error, FailedRequest) and error.throttled
        return turned_away >= REFUSALS or made - turned_away >= ATTEMPTS

    retrying = AsyncRetrying(
        stop=patience_is_over,
        wait=_wait,
        retry=retry_if_exception(
            lambda error: isinstance(error, FailedRequest) and error.transient
        ),
        reraise=True,
    )
    try:
        async for attempt in retrying:
            with attempt:
                made += 1
                if first is not None:
                    failed, first = first, None
                    raise failed
                answer = await request()
    except FailedRequest as failed:
        tried = f" ({made} attempts)" if made > 1 else ""
        raise ProviderError(f"{failed}{tried}", fatal=failed.fatal) from None
    return answer, made


def _wait(state: "RetryCallState") -> float:
    """Seconds until the next request: what the server asked for, else exponential with jitter."""
    from tenacity import wait_random_exponential

    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, FailedRequest) and error.wait is not None:
        # All who were told the same moment would otherwise come back in the same one.
        return error.wait + random.uniform(0, min(0.1 * error.wait, 1.0))
    if isinstance(error, FailedRequest) and error.refused:
        return RECONNECT_WAIT * 2.0 ** (state.attempt_number - 1)
    return wait_random_exponential(multiplier=0.5, min=0.2, max=20)(state)


def classify(error: Exception, server: str, *, with_schema: bool = False) -> FailedRequest:
    """What a failed request means: one line, whether it is fatal, whether a retry can help."""
    import openai

    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return FailedRequest(
            f"{server} did not answer in time; raise --timeout or lower the number in flight",
            fatal=False,
            transient=True,
            silent=True,
        )
    if isinstance(error, openai.APIConnectionError):
        if _chain_has(error, "ConnectError"):
            return FailedRequest(
                f"nothing answers at {server}: is the server running, and is --base-url right?",
                fatal=True,
                transient=True,
                refused=True,
            )
        return FailedRequest(f"{server} cut the connection", fatal=False, transient=True)
    if isinstance(error, openai.APIStatusError):
        return _classify_status(error, server, with_schema)
    # Anything else was raised while reading the body: langchain and the SDK use plain types here.
    detail = one_line(f"{type(error).__name__}: {error}")
    return FailedRequest(
        f"{server} sent an answer that is no chat completion ({detail})",
        fatal=False,
        transient=True,
    )


def _classify_status(error: Any, server: str, with_schema: bool) -> FailedRequest:
    status: int = error.response.status_code
    detail = one_line(error.message)
    lowered = detail.lower()
    if status == 401 or (status == 403 and "key" in lowered):
        return FailedRequest(
            f"{server} refused the key (HTTP {status}): check OPENAI_API_KEY",
            fatal=True,
            transient=False,
        )
    if status == 404:
        return FailedRequest(
            f"{server} does not know the model or the path (HTTP 404: {detail}): check the name "
            "after openai: and that --base-url ends as the server wants it (often /v1)",
            fatal=True,
            transient=False,
        )
    if status == 429 and "insufficient_quota" in str(error.code or "") + lowered:
        return FailedRequest(
            f"{server}: the account has no quota left (HTTP 429)", fatal=True, transient=False
        )
    if status in (408, 409, 425, 429) or status >= 500:
        wait = retry_after(error.response.headers)
        what = "is over its rate limit" if status == 429 else "failed"
        return FailedRequest(
            f"{server} {what} (HTTP {status}: {detail})",
            fatal=False,
            transient=wait is None or wait <= LONGEST_WAIT,
            wait=wait,
            throttled=status == 429 or (status == 503 and wait is not None),
        )
    if any(word in lowered for word in ("context length", "context window", "context size")) or (
        "context_length" in str(error.code or "")
    ):
        # Fatal for this episode only: another dialogue is shorter.
        return FailedRequest(
            f"{server}: the prompt is longer than the model's context (HTTP {status}: {detail}): "
            "play fewer exchanges or use a model with more context",
            fatal=False,
            transient=False,
        )
    hint = ""
    if with_schema and any(
        word in lowered for word in ("response_format", "json_schema", "schema", "grammar")
    ):
        hint = "; the server may not know JSON schema: add ,answers=labelled to the seat's spec"
    elif "temperature" in lowered:
        hint = "; set --temperature 1"
    return FailedRequest(
        f"{server} refused the request (HTTP {status}: {detail}){hint}", fatal=True, transient=False
    )


def retry_after(headers: Any) -> float | None:
    """Seconds a server asks to wait (``Retry-After``: seconds or a date), or None."""
    value = headers.get("retry-after-ms")
    if value is not None:
        try:
            return max(0.0, float(value) / 1000)
        except ValueError:
            pass
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _chain_has(error: BaseException | None, name: str) -> bool:
    while error is not None:
        if type(error).__name__ == name:
            return True
        error = error.__cause__ or error.__context__
    return False


def one_line(text: str) -> str:
    """A provider's words on one short line, keys blotted out."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if len(key) > 3:
        text = text.replace(key, "[key]")
    text = re.sub(r"\b(sk|key|hf)[-_][\w*.-]{6,}", "[key]", text)
    text = re.sub(r"(?i)\bbearer\s+\S+", "[key]", text)
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:199] + "…"
