"""docs/tutorial.md, word for word."""

import shutil
import subprocess

import pages
from conftest import ROOT, compose_command


def test_steps_are_read_as_a_reader_would():
    page = "```console\n$ a \\\n  b\none … two\n…\n$ c\n```\ntext\n```console\n$ d\n```\n"
    assert pages.steps(page) == [("a \\\n  b", ["one … two", "…"]), ("c", []), ("d", [])]
    assert pages.pattern(["one … two", "…"]).fullmatch("one x two\nmore\nlines\n")
    assert not pages.pattern(["one … two"]).fullmatch("one x three\n")
    assert not pages.pattern(["one"]).fullmatch("one\nmore\n")


def test_the_tutorial_does_what_it_shows(tmp_path, built):
    # A folder of its own, so that the project has a name of its own; the image is built already.
    for name in ("docker-compose.yml", "compose.toml", "Dockerfile"):
        shutil.copy(ROOT / name, tmp_path)
    environment = dict(pages.without_settings(), COMPOSE_PROJECT_NAME="azimuth-tutorial")
    words = compose_command()
    before = "" if words[0].endswith("docker") else (
        'docker() { if [ "$1" = compose ]; then shift; docker-compose "$@"; else command docker "$@"; fi; }\n')
    try:
        pages.run((ROOT / "docs" / "tutorial.md").read_text(), tmp_path, environment, before)
    finally:
        subprocess.run([*words, "--profile", "central", "down", "-v", "--remove-orphans"], cwd=tmp_path, env=environment,
                       capture_output=True)
