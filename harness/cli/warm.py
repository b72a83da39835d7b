"""For the server from which attempts are forked: builds the validators of the configuration, which else each of them would (0.06 s)."""

from harness.config.schema import Config
from harness.config.validate import to_plain, to_section

to_section(Config, to_plain(Config()))
