"""What an adapter, the tokenizer and the objective must agree on."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.checks.trainer import trains
from harness.config.locations import in_home
from harness.config.schema import Config
from harness.config.steering_controls import draws_pairs


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
    if adapter.name == "steering":
        yield from _steering_problems(config)


def _steering_problems(config: Config) -> Iterator[str]:
    adapter = config.adapter
    if adapter.pairs is None and adapter.vector is None:
        yield "adapter.pairs: required with adapter=steering, a file of contrast pairs; or adapter.vector, what harness steer wrote"
    if adapter.pairs is not None and adapter.vector is not None:
        yield f"adapter.vector={adapter.vector}: not beside adapter.pairs={adapter.pairs}; give one of them"
    if adapter.pairs is not None and not in_home(adapter.pairs).is_file():
        yield f"adapter.pairs={adapter.pairs}: no such file; valid: jsonl of rows {{prompt, positive, negative}}"
    if adapter.vector is not None:
        if not in_home(adapter.vector).is_dir():
            yield f"adapter.vector={adapter.vector}: no such directory; valid: what harness steer wrote"
        for key, value in (("method", adapter.method), ("reading", adapter.reading)):
            if value not in (None, "random"):
                valid = f"adapter.pairs, or no such key (of a study: ~space.adapter.{key})"
                yield f"adapter.{key}={value}: not with adapter.vector, which was extracted already; valid: {valid}"
        if draws_pairs(adapter):
            yield f"adapter.draw={adapter.draw}: not with adapter.vector, which has no pairs to draw from; valid: 0"
    if adapter.control == "prompt" and not any(one.instruction for one in config.data.contrast.values()):
        yield (
            "adapter.control=prompt: nothing asks for the trait in words; valid: data.contrast.<name>.instruction=TEXT, or another control "
            "(of a study: space.adapter.control.choices=[null,nothing,random])"
        )
    if adapter.operation == "ablate":
        of_adding = {"width": adapter.width or None, "positions": adapter.positions, "sign": None if adapter.sign == 1 else adapter.sign}
        for name, given in of_adding.items():
            if given is not None:
                yield f"adapter.{name}={given}: not with adapter.operation=ablate, which acts everywhere; valid: without it"
        if trains(config.trainer):
            yield "adapter.operation=ablate: has nothing to train; valid: trainer.max_steps=0, or adapter.operation=add"
