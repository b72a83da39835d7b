"""For the warm server: builds the validators of the configuration once for all attempts (0.06 s)."""

from harness.config.schema import Config
from harness.config.validate import to_plain, to_section

to_section(Config, to_plain(Config()))
