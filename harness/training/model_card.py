"""The model card of an exported run: what it is, how to use it, and its configuration."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from harness.config.private import Scrub
from harness.config.schema import Config, OptimConfig
from harness.evaluation.kinds import metric_of, shown_name
from harness.runs.directory import RunDirectory
from harness.runs.files import read_yaml
from harness.runs.result import Result


def model_card(run: RunDirectory, config: Config, result: Result, *, prompt: Sequence[str], adapter: bool) -> str:
    """Markdown, with the run's configuration; it goes to a hub, so nothing private is in it. prompt: names of the soft prompt's tokens."""
    scrub = Scrub.of_this_machine()
    metrics = "\n".join(f"| {shown_name(name, value)} | {value:.4f} |" for name, value in result.metrics.items() if metric_of(name))
    written = yaml.safe_dump(scrub.config(read_yaml(run.config)), sort_keys=False)
    return f"""# {scrub.text(run.name)}

Trained by harness {result.versions.get("harness", "")}: {result.step} steps, {result.tokens.trained:,} tokens.{_averaged(config.optim)}

{_usage(config, prompt, base=scrub.path(config.model.path or ""), adapter=adapter)}| metric | value |
|---|---|
{metrics}

Losses are nats per token; forgetting is a rise of the loss since step 0, change a fall. The run's configuration:

```yaml
{written}```
"""


def _usage(config: Config, prompt: Sequence[str], *, base: str, adapter: bool) -> str:
    """How to load it, where that differs from any other model."""
    tokens = len(prompt)
    if adapter and config.adapter.name == "soft_prompt":
        return f"""A soft prompt of {tokens} tokens for `{base}`, in peft's format, which puts it before every text:

```python
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "this directory")
```

"""
    text = ""
    if adapter:
        text += f"""LoRA for `{base}`, in peft's format. The first line makes room for tokens that the base model lacks:

```python
model = AutoPeftModelForCausalLM.from_pretrained("this directory")
tokenizer = AutoTokenizer.from_pretrained("this directory")
```

"""
    if tokens:
        text += f"""A soft prompt of {tokens} tokens, {prompt[0]} … {prompt[-1]}, belongs before every text, before a beginning-of-text
token too. The tokenizer puts it there (`tokenizer(text)`, unless `add_special_tokens=False`), and so does a chat template.

It was trained to be read, never to be written: `suppress_tokens` of the generation configuration keeps it out of what is generated.

"""
    return text


def _averaged(optim: OptimConfig) -> str:
    """Which weights are exported, where they are not the last ones."""
    if optim.ema_decay is not None:
        return f"\nThe weights are an exponential moving average of those under training (decay {optim.ema_decay})."
    return "\nThe weights are the average that schedule-free training keeps." if optim.name == "schedule_free" else ""
