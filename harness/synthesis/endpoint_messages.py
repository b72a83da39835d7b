"""What an OpenAI-compatible endpoint is asked, and how its answers are read (POST chat/completions, or completions)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from harness.config.documents import parse_json
from harness.config.schema import SamplingConfig
from harness.config.synth_schema import EngineName
from harness.generation.serving import Served, for_llama_cpp, for_openai, for_vllm
from harness.synthesis.row import Finish, Tokens

OURS = ("model", "messages", "prompt", "seed", "max_tokens", "stop", "n", "stream", "response_format")
"""Fields of a request that teachers.<name>.extra_body cannot say, besides those of the sampling."""
TEMPLATE_TOKENS = 256
"""What a server's chat template may put around messages, at most, as far as we reserve: marks of turns, a default system message."""
MOST_CONTEXT_TOKENS = 1 << 20
"""How far back penalties look that look at everything, where a server wants a number."""
SHOWN = 200
"""Characters of what a server says, in messages."""


@dataclass(frozen=True)
class Request:
    """One text that is asked for."""

    id: str
    prompt: str
    """What the user says; of an endpoint that is not asked in conversations, what it goes on from."""
    system: str | None = None

    @property
    def most_prompt_tokens(self) -> int:
        """Hardly ever reached: no tokenizer makes more tokens than there are UTF-8 bytes."""
        return len(self.prompt.encode()) + len((self.system or "").encode()) + TEMPLATE_TOKENS


@dataclass(frozen=True)
class Answer:
    """A text that a server wrote."""

    id: str
    text: str
    finish: Finish
    tokens: Tokens
    served: dict[str, Any]
    """What the server says of itself: model, fingerprint; and counted, where it did not say how many tokens there were."""
    lost_attempts: int = 0
    """Sent before, and not answered in time or in whole: the server may have charged for each."""


@dataclass(frozen=True)
class Failure:
    """A request that its server refuses, however often it is sent."""

    id: str
    reason: str
    tokens: Tokens = field(default_factory=Tokens)
    """That the server counted all the same."""
    lost_attempts: int = 0


class UnreadableError(ValueError):
    """Bytes that are no answer; the message says what they are."""


def served_by(engine: EngineName, sampling: SamplingConfig) -> Served:
    """The fields of the sampling by the engine's names, all of them said, and what it does otherwise than we do."""
    match engine:
        case "openai":
            return for_openai(sampling)
        case "vllm":
            return for_vllm(sampling)
        case "llama_cpp":
            return for_llama_cpp(sampling, context_tokens=MOST_CONTEXT_TOKENS)
        case _:
            assert_never(engine)


def seed_of(seed: int, request_id: str) -> int:
    """The seed of a request, 31 bits: a function of the sampling's seed and of the row."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{request_id}".encode(), digest_size=4).digest(), "little") >> 1


def body_of(
    request: Request,
    *,
    model: str,
    chat: bool,
    sampling: Mapping[str, Any],
    seed: int,
    max_tokens: int,
    stop: Sequence[str],
    schema: Mapping[str, Any] | None,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """The JSON of a request. sampling: by the engine's names; schema: of JSON that the answer is to be; extra: further fields."""
    asked: dict[str, Any] = {"prompt": request.prompt}
    if chat:
        system = [] if request.system is None else [{"role": "system", "content": request.system}]
        asked = {"messages": [*system, {"role": "user", "content": request.prompt}]}
    body = {"model": model, **asked, **sampling, "seed": seed, "max_tokens": max_tokens, "n": 1, "stream": False, **extra}
    if stop:
        body["stop"] = list(stop)
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema), "strict": True}}
    return body


def read_answer(request: Request, content: bytes, *, chat: bool, max_tokens: int) -> Answer | Failure:
    """What a server answered (200). Raises UnreadableError for what is no such answer."""
    try:
        document = parse_json(content)
    except UnicodeEncodeError:
        return Failure(request.id, "a text with half a surrogate pair, which is not Unicode")
    except (ValueError, RecursionError):
        raise UnreadableError(f"no JSON: {in_line(content)}") from None
    try:
        choice = document["choices"][0]
        text, finish = (choice["message"]["content"] if chat else choice["text"]), choice["finish_reason"]
    except (KeyError, IndexError, TypeError):
        raise UnreadableError(f"no choices[0] with a text and finish_reason: {in_line(content)}") from None
    if not (text is None or isinstance(text, str)):
        raise UnreadableError(f"a text that is none: {in_line(content)}")
    tokens, counted = _usage(document.get("usage"), request, text or "", max_tokens)
    if finish not in ("stop", "length") or (text is None and finish == "stop"):
        refusal = choice["message"].get("refusal") if chat else None
        return Failure(request.id, f"no text: finish_reason {finish!r}{f', {str(refusal)[:SHOWN]}' if refusal else ''}", tokens)
    named = {"model": document.get("model"), "fingerprint": document.get("system_fingerprint")}
    served = {name: value for name, value in named.items() if isinstance(value, str)}
    return Answer(request.id, text or "", finish, tokens, {**served, **({} if counted else {"counted": False})})


def _usage(usage: Any, request: Request, text: str, max_tokens: int) -> tuple[Tokens, bool]:
    """What a server counted; else what there were at most: a token has at least a byte. And whether it counted."""
    if isinstance(usage, dict):
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        whole = [count for count in counts if isinstance(count, int) and not isinstance(count, bool) and count >= 0]
        if len(whole) == len(counts):
            return Tokens(*whole), True
    return Tokens(request.most_prompt_tokens, min(max_tokens, len(text.encode()) + 1)), False


def in_line(content: bytes | str) -> str:
    """The beginning of what a server said, in one line."""
    text = content.decode(errors="replace") if isinstance(content, bytes) else content
    return " ".join(text.split())[:SHOWN] or "nothing"
