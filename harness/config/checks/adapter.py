"""What an adapter, the tokenizer and the objective must agree on."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.schema import Config


def adapter_problems(config: Config) -> Iterator[str]:
    adapter, new_tokens = config.adapter, config.tokenizer.new_tokens
    repeated = sorted({token for token in new_tokens if new_tokens.count(token) > 1})
    if repeated:
        yield f"tokenizer.new_tokens: {', '.join(repeated)} stands there twice"
    if adapter.name == "soft_prompt" and adapter.tokens == 0:
        yield "adapter.tokens=0: a soft prompt needs at least one token"
    if adapter.init_text is not None and adapter.tokens == 0:
        yield f"adapter.init_text={adapter.init_text}: there is no soft prompt to begin as it; give adapter.tokens=16, say"
    if adapter.name == "soft_prompt" and new_tokens:
        yield f"tokenizer.new_tokens={new_tokens}: adapter=soft_prompt would not train them; valid: adapter=lora adapter.tokens=N, or none"
    if adapter.tokens >= config.data.context_length - 1:
        yield f"adapter.tokens={adapter.tokens}: leaves no room for text in rows of data.context_length={config.data.context_length}"
