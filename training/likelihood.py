"""Log-likelihoods of labels, by way of lm-evaluation-harness.

Why: a model too small, or not trained, to say "B" on request may still know; and published numbers
of base models are likelihoods. The harness knows how a context and its continuation are tokenized,
cut and batched, and loads adapters: ``huggingface:`` models are its own ``HFLM``. The bundled
model's server tells probabilities of a next token only, never of a prompt's own tokens, which the
harness's client for llama.cpp wants; so it is a small model class of ours on the harness's
interface, which steps through a continuation.
"""

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from mentalarena.errors import ConfigurationError, ProviderError
from mentalarena.models import ModelSpec, check_model, require

LIKELY = 200
"""Next tokens that the server is asked for at first."""


class Scorer(Protocol):
    """Whatever tells log-likelihoods of continuations."""

    name: str
    """What answers, as it is stored."""

    def scores(self, prompts: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
        """Log-likelihoods of each prompt's continuations, in their order."""
        ...


class HarnessScorer:
    """A model of lm-evaluation-harness; not thread safe, one batch at a time."""

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self.name = name

    def scores(self, prompts: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
        """See :class:`Scorer`."""
        from lm_eval.api.instance import Instance

        requests = [
            Instance("loglikelihood", {}, (prompt, continuation), 0)
            for prompt, continuations in prompts
            for continuation in continuations
        ]
        found = iter(self._model.loglikelihood(requests, disable_tqdm=True))
        return [[float(next(found)[0]) for _ in continuations] for _, continuations in prompts]


def check_scorer(spec: ModelSpec) -> None:
    """Cheap validation: loads nothing.

    Raises:
        ConfigurationError: the model tells no likelihoods, or is not there.
        MissingExtraError: a package is not installed.
    """
    if spec.provider == "openai":
        raise ConfigurationError(
            f"--scoring likelihood cannot be had of openai:{spec.name}: servers do not tell the "
            "probabilities of given words; use --scoring generation, or huggingface:PATH"
        )
    require("lm_eval", "mentalarena[evaluate]")
    check_model(spec)


def scorer(spec: ModelSpec, timeout: float) -> HarnessScorer:
    """The scorer of a model. Blocks: loads weights, or starts the bundled server.

    Args:
        spec: ``huggingface:`` or ``local``.
        timeout: Seconds after which a request to the bundled server is given up.

    Raises:
        ConfigurationError: the model cannot be loaded.
        MissingExtraError: a package is not installed.
    """
    check_scorer(spec)
    if spec.provider == "local":
        from mentalarena.local_model import model_name

        return HarnessScorer(_local_model(spec.name, timeout), model_name(spec.name))
    return HarnessScorer(_weights(spec), spec.name + (f"+{spec.adapter}" if spec.adapter else ""))


def _weights(spec: ModelSpec) -> Any:
    """The harness's own model on a local folder or a hub name, its adapter on top."""
    # It reports every step of loading on the root of its loggers.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    path = Path(spec.name).expanduser()
    source = str(path) if path.exists() else spec.name
    adapter = str(Path(spec.adapter).expanduser()) if spec.adapter else None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return HFLM(pretrained=source, peft=adapter, device=device, batch_size=4, dtype="auto")
    # Anything that a wrong file can make half a dozen libraries raise.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigurationError(f"huggingface model {spec.name} cannot be loaded: {reason}") from (
            error
        )


def _local_model(name: str, timeout: float) -> Any:
    """The bundled model, or a GGUF file, as a model of the harness."""
    from lm_eval.api.model import TemplateLM

    from mentalarena.local_model import local_server

    class LlamaServer(TemplateLM):  # type: ignore[misc]
        """A llama.cpp server on the harness's interface, by probabilities of next tokens."""

        def __init__(self, server: "LlamaClient") -> None:
            super().__init__()
            self._server = server

        @property
        def eot_token_id(self) -> int:
            """What stands for an empty context; every prompt here has words."""
            return self._server.tokens("", special=True)[0]

        def tok_encode(
            self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
        ) -> list[int]:
            """Tokens of a text."""
            return self._server.tokens(string)

        def _loglikelihood_tokens(
            self, requests: list[Any], **kwargs: Any
        ) -> list[tuple[float, bool]]:
            found: dict[tuple[int, ...], dict[int, float]] = {}
            results = []
            for _, context, continuation in requests:
                total, greedy = 0.0, True
                for place, token in enumerate(continuation):
                    before = tuple(context) + tuple(continuation[:place])
                    told = found.setdefault(before, {})
                    if token not in told:
                        told |= self._server.next_tokens(before, token)
                    total += told[token]
                    greedy = greedy and told[token] == max(told.values())
                results.append((total, greedy))
            return results

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
            """Not there: no task of ours asks for it."""
            raise NotImplementedError("the server tells next tokens only")

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
            """Not there: generation goes through the project's own client."""
            raise NotImplementedError("generation goes through mentalarena.provider")

    server = local_server(name)
    return LlamaServer(LlamaClient(server.url.removesuffix("/v1"), server.key, timeout))


class LlamaClient:
    """The two pages of a llama.cpp server that likelihoods need."""

    def __init__(self, address: str, key: str, timeout: float) -> None:
        self._address = address
        self._key = key
        self._timeout = timeout

    def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text."""
        found = self._post("/tokenize", {"content": text, "add_special": special})
        return [int(token) for token in found["tokens"]]

    def next_tokens(self, before: Sequence[int], wanted: int) -> dict[int, float]:
        """Log-probabilities of likely next tokens, ``wanted`` among them; all tokens if need be.

        Raises:
            ProviderError: no answer, or none with ``wanted`` in it.
        """
        for count in (LIKELY, 1_000_000):
            told = self._post(
                "/completion",
                {
                    "prompt": list(before),
                    "n_predict": 1,
                    "n_probs": count,
                    "temperature": 0,
                    "cache_prompt": True,
                },
            )
            listed = told["completion_probabilities"][0]["top_logprobs"]
            found = {int(item["id"]): float(item["logprob"]) for item in listed}
            if wanted in found:
                return found
        raise ProviderError(f"local model: no probability of token {wanted}")

    def _post(self, page: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self._address + page,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        # Loopback only: a proxy from the environment must not stand between.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=self._timeout) as answer:
                told: dict[str, Any] = json.load(answer)
                return told
        except urllib.error.HTTPError as error:
            detail = " ".join(error.read(400).decode(errors="replace").split())
            raise ProviderError(f"local model: HTTP {error.code}: {detail[:200]}") from error
        except (OSError, ValueError) as error:
            raise ProviderError(f"local model: {type(error).__name__}: {error}") from error
