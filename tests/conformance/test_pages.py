"""The pages of docs/ that need no containers, word for word."""

import os

import pages
import pytest
from conftest import BINARY, ROOT


@pytest.fixture
def alone(simulator):
    """The addresses of the defaults, which the page's own simulator takes."""
    simulator.stop()
    yield
    simulator.start()


@pytest.mark.parametrize("page", ["provisioning.md", "registry.md"])
def test_the_page_does_what_it_shows(tmp_path, alone, page):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "azimuth").symlink_to(os.path.abspath(BINARY))
    folder = tmp_path / "page"
    folder.mkdir()
    environment = pages.without_settings()
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    environment.pop("SSL_CERT_FILE", None)
    # The page's devices wait three times as long between their polls.
    (tmp_path / "hasty.toml").write_text("[dps]\nretry-after = 1\n")
    environment["AZIMUTH_CONFIG"] = str(tmp_path / "hasty.toml")
    pages.run((ROOT / "docs" / page).read_text(), folder, environment, seconds=240)
