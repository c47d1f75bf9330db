"""docs/tutorial.md, word for word: each command is run in one shell, and what it prints is what the page shows.

A line `…` in the page stands for any lines, a `…` within a line for any text.
"""

import os
import re
import shutil
import subprocess

from conftest import ROOT, compose_command

FENCE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps(page):
    """Each command with the output that the page shows for it."""
    found = []
    for block in FENCE.findall(page):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found and found[-1][0].endswith("\\") and not found[-1][1]:
                found[-1] = (found[-1][0] + "\n" + line, [])
            else:
                found[-1][1].append(line)
    return found


def pattern(lines):
    parts = [r"(?:.*\n)*?" if line.strip() == "…" else
             r"[^\n]*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n" for line in lines]
    return re.compile("".join(parts))


def test_steps_are_read_as_a_reader_would():
    page = "```console\n$ a \\\n  b\none … two\n…\n$ c\n```\ntext\n```console\n$ d\n```\n"
    assert steps(page) == [("a \\\n  b", ["one … two", "…"]), ("c", []), ("d", [])]
    assert pattern(["one … two", "…"]).fullmatch("one x two\nmore\nlines\n")
    assert not pattern(["one … two"]).fullmatch("one x three\n")
    assert not pattern(["one"]).fullmatch("one\nmore\n")


def test_the_tutorial_does_what_it_shows(tmp_path, built):
    # A folder of its own, so that the project has a name of its own; the image is built already.
    for name in ("docker-compose.yml", "compose.toml", "Dockerfile"):
        shutil.copy(ROOT / name, tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AZIMUTH_")}
    environment["COMPOSE_PROJECT_NAME"] = "azimuth-tutorial"
    words = compose_command()
    script = "" if words[0].endswith("docker") else (
        'docker() { if [ "$1" = compose ]; then shift; docker-compose "$@"; else command docker "$@"; fi; }\n')
    done = steps((ROOT / "docs" / "tutorial.md").read_text())
    assert len(done) > 15
    for command, _ in done:
        script += f"{{ {command}\n}} </dev/null 2>&1; code=$?; printf '\\x1e%d\\x1e' $code; [ $code = 0 ] || exit\n"
    try:
        ran = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, text=True, timeout=600,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    finally:
        subprocess.run([*words, "--profile", "central", "down", "-v", "--remove-orphans"], cwd=tmp_path, env=environment,
                       capture_output=True)
    printed = ran.stdout.split("\x1e")
    for (command, expected), output, code in zip(done, printed[0::2], printed[1::2]):
        assert code == "0", f"$ {command}\n{output}"
        # A terminal's carriage returns and colours are not part of the page.
        output = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r", "", output)
        assert pattern(expected).fullmatch(output), f"$ {command}\n{output}\n--- the page shows\n" + "\n".join(expected)
    assert len(printed) // 2 == len(done)
