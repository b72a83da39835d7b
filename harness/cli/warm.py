"""For the warm server: builds the validators of the configuration once for all attempts (0.1 s), and imports what reads one (0.2 s)."""

import omegaconf  # noqa: F401

from harness.config.schema import Config
from harness.config.validate import to_plain, to_section

to_section(Config, to_plain(Config()))
