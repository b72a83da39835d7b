"""The site: every block of code of every page runs, as it stands there, and the site is built without a warning and fetches nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import pages
from tests.support.browser import dom_of, needs_chromium
from tests.support.fake_wandb import FakeWandb

DOCS = pages.ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WITH_CODE = [page for page in PAGES if any(block.language not in pages.NOT_RUN for block in pages.blocks(page))]


class MyTeam(FakeWandb):
    """W&B, as the pages call it."""

    entity = "my-team"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every page begins with."""
    home = tmp_path_factory.mktemp("docs")
    pages.make_home(home)
    return home


@pytest.fixture
def needed(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What a page says that it needs, started; the variables by which its commands find it."""
    needs = pages.front_matter(request.param).get("needs", [])
    assert set(needs) <= {"slurm", "wandb"}, request.param
    found = request.getfixturevalue("slurm").environment if "slurm" in needs else {}
    if "wandb" not in needs:
        yield found
        return
    with MyTeam() as backend:
        yield {**found, **backend.environment, "WANDB_ERROR_REPORTING": "false"}


def _of(page: Path) -> Any:
    # What a page asks for is not among the fixtures of its test: see `pytest_collection_modifyitems`.
    marks = [pytest.mark.xdist_group("slurm")] if "slurm" in pages.front_matter(page).get("needs", []) else []
    return pytest.param(page, page, id=page.stem, marks=marks)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("page", "needed"), [_of(page) for page in WITH_CODE], indirect=["needed"])
def test_every_block_of_a_page_runs(page: Path, needed: dict[str, str], home: Path, tmp_path: Path) -> None:
    place = tmp_path / "home"
    shutil.copytree(home, place, symlinks=True, ignore=shutil.ignore_patterns("text"))
    own = {
        "WANDB_CONFIG_DIR": str(tmp_path / "wandb-config"),
        "WANDB_CACHE_DIR": str(tmp_path / "wandb-cache"),
        "NETRC": str(tmp_path / "netrc"),
    }
    assert pages.run_page(page, place, pages.environment(**own, **needed))


def test_no_page_is_without_code_by_mistake() -> None:
    """Else the blocks of a page could fall out of the test above without anybody noticing."""
    assert {page.stem for page in PAGES} - {page.stem for page in WITH_CODE} == {"architecture", "benchmarks", "config", "trust"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site]
    done = subprocess.run(command, cwd=pages.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


@pytest.mark.slow
def test_the_site_has_every_page_and_fetches_nothing(site: Path) -> None:
    for page in PAGES:
        html = (site / page.relative_to(DOCS).with_suffix(".html")).read_text()
        fetched = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^\s>]+", html)
        assert not [tag for tag in fetched if "rel=canonical" not in tag], page
    assert "h.sweep" in (site / "python.html").read_text()


@pytest.mark.slow
@needs_chromium
def test_the_site_is_searched_without_a_server(site: Path, tmp_path: Path) -> None:
    dom = dom_of(f"file://{site}/index.html?q=hyperband", tmp_path / "profile")
    found = re.findall(r'<a href="([^"#?]+)[^"]*" class="md-search-result__link"', dom)
    assert any(page.endswith("guides/searching-well.html") for page in found), found


@pytest.mark.slow
def test_the_reference_of_the_python_api_has_every_name(site: Path) -> None:
    import harness

    html = (site / "python.html").read_text()
    # Of the configuration the reference is docs/config.md.
    assert not [name for name in harness.__all__ if f'id="harness.{name}"' not in html and name != "Config"]


def test_pictures_are_readable_on_light_and_dark() -> None:
    """No background of their own, and nothing nearly white or black but letters within boxes."""
    for picture in (DOCS / "images").glob("*.svg"):
        colours = set(re.findall(r"#[0-9a-f]{6}", picture.read_text()))
        channels = {colour: [int(colour[place : place + 2], 16) for place in (1, 3, 5)] for colour in colours - {"#ffffff"}}
        assert all(max(values) >= 60 and min(values) <= 200 for values in channels.values()), picture
