"""Every command that the README shows runs, as it stands there. The pages of the site tell the same story to `make test`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support import pages

README = pages.ROOT / "README.md"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    pages.make_home(tmp_path)
    done = pages.run_page(README, tmp_path, pages.environment())
    assert sum(block.language == "bash" for block in done) >= 7
    assert (tmp_path / "cpt.html").stat().st_size > 1_000_000
    assert (tmp_path / "conf/experiment/best/my_recipe.yaml").exists()


def test_the_commands_run_elsewhere_are_in_the_readme() -> None:
    lines = {line.split("  #")[0].strip() for block in pages.blocks(README) for line in block.text.splitlines()}
    assert set(pages.RUN_ELSEWHERE) <= {re.sub(r"\s+#.*", "", line) for line in lines}


def test_the_readme_shows_the_shipped_sweep_as_it_is() -> None:
    shown = yaml.safe_load(next(block.text for block in pages.blocks(README) if block.language == "yaml"))
    shipped = yaml.safe_load((pages.ROOT / "sweeps/cpt.yaml").read_text())
    assert shown == {key: value for key, value in shipped.items() if key != "launcher"}


def test_every_file_that_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
        assert (pages.ROOT / target).exists(), target
