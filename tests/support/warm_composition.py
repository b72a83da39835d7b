"""For warm.py: a configuration is composed once, so that what Hydra imports, and its parser learns, is there for all."""

from harness.config.compose import compose
from harness.config.schema import Config

compose("config", Config, ["model=llama_1m", "optim.lr=1e-3", "data.sources.text={path: text.txt, weight: 1.0}"])
