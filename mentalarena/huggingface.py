"""Hugging Face models in this process: weights, LoRA adapter, chat template.

Why: a fine-tuned adapter has to be playable the moment it is written, without a server. Kept apart
from :mod:`mentalarena.models` because everything here needs torch.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mentalarena.errors import ConfigurationError
from mentalarena.models import ModelSpec

if TYPE_CHECKING:
    from langchain_huggingface import ChatHuggingFace


class Generated(NamedTuple):
    """One answer, with exact token counts."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    truncated: bool
    """Stopped by the token limit or the timeout, not by the model."""


@cache
def worker() -> ThreadPoolExecutor:
    """The one thread that generates: the seed is global, and two threads share no cores well."""
    return ThreadPoolExecutor(1, thread_name_prefix="huggingface")


@cache
def leave_a_core() -> None:
    """Let torch have one core less than there are, unless ``OMP_NUM_THREADS`` says how many.

    The sentence encoder, in a process of its own, works while the model does. Threads of torch wait
    for each other by spinning: one that shares its core makes all of them many times slower.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))


def load(
    spec: ModelSpec, *, temperature: float, max_tokens: int, timeout: float
) -> "ChatHuggingFace":
    """A chat model on a local folder or a hub name, with its adapter merged in.

    Raises:
        ConfigurationError: cannot be loaded, or its tokenizer has no chat template.
    """
    from langchain_huggingface import ChatHuggingFace, HuggingFacePipeline
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
    from transformers.utils import logging

    leave_a_core()
    # A bar for every weight file would be drawn across the transcript.
    logging.disable_progress_bar()
    path = Path(spec.name).expanduser()
    source = str(path) if path.exists() else spec.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(
            f"huggingface model {spec.name} cannot be loaded: {' '.join(str(error).split())[:200]}"
        ) from error
    if not tokenizer.chat_template:
        raise ConfigurationError(
            f"huggingface model {spec.name}: its tokenizer has no chat template; use an "
            "instruction-tuned model"
        )
    if spec.adapter:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, str(Path(spec.adapter).expanduser()))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ConfigurationError(
                f"huggingface adapter {spec.adapter} does not fit {spec.name}: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        model = model.merge_and_unload()
    model.eval()
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
    llm = HuggingFacePipeline(
        pipeline=pipeline("text-generation", model=model, tokenizer=tokenizer),
        model_id=source,
        pipeline_kwargs={
            **sampling,
            "max_new_tokens": max_tokens,
            "max_time": timeout,
            "return_full_text": False,
            # The chat template writes the special tokens; a second start token would be wrong.
            "add_special_tokens": False,
        },
    )
    return ChatHuggingFace(llm=llm, tokenizer=tokenizer, model_id=source)


def generate(
    model: "ChatHuggingFace", messages: list[dict[str, str]], seed: int | None
) -> Generated:
    """One answer. Blocking: call it on :func:`worker`."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    lengths: list[int] = []
    last: list[int] = []

    class Meter(StoppingCriteria):  # type: ignore[misc]
        """Counts tokens as they are made; re-tokenizing the text would not give the same count."""

        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            lengths.append(int(input_ids.shape[1]))
            last[:] = [int(input_ids[0, -1])]
            return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    if seed is not None:
        torch.manual_seed(seed)
    answer = model.invoke(
        _with_template(model, messages),
        pipeline_kwargs={
            **(model.llm.pipeline_kwargs or {}),
            "stopping_criteria": StoppingCriteriaList([Meter()]),
        },
    )
    ends = model.llm.pipeline.model.generation_config.eos_token_id
    ended = set(ends) if isinstance(ends, list) else {ends}
    ended.add(model.tokenizer.eos_token_id)
    return Generated(
        text=str(answer.content),
        prompt_tokens=lengths[0] - 1,
        completion_tokens=lengths[-1] - lengths[0] + 1,
        truncated=last[0] not in ended,
    )


def _with_template(model: "ChatHuggingFace", messages: list[dict[str, str]]) -> Any:
    """The messages, with the system text folded into the user's where a template has no system."""
    from jinja2.exceptions import TemplateError

    if messages[0]["role"] != "system":
        return messages
    try:
        model.tokenizer.apply_chat_template(messages, tokenize=False)
    except TemplateError:
        system, first, *rest = messages
        return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]
    return messages
