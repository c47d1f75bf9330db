"""Pages of docs/ that are run word for word: each command in one shell, and what it prints is what the page shows.

A line `…` in a page stands for any lines, a `…` within a line for any text.
"""

import os
import re
import signal
import subprocess
import time

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


def run(page, folder, environment, before="", seconds=600):
    """Runs a page and holds it against what it shows. What a page left running is ended."""
    done = steps(page)
    assert len(done) > 15
    script = before
    for command, _ in done:
        script += f"{{ {command}\n}} </dev/null 2>&1; code=$?; printf '\\x1e%d\\x1e' $code; [ $code = 0 ] || exit\n"
    shell = subprocess.Popen(["bash", "-c", script], cwd=folder, env=environment, text=True, start_new_session=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        stdout, _ = shell.communicate(timeout=seconds)
    finally:
        end(shell.pid)
    printed = stdout.split("\x1e")
    for (command, expected), output, code in zip(done, printed[0::2], printed[1::2]):
        assert code == "0", f"$ {command}\n{output}"
        # A terminal's carriage returns and colours are not part of the page.
        output = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r", "", output)
        assert pattern(expected).fullmatch(output), f"$ {command}\n{output}\n--- the page shows\n" + "\n".join(expected)
    assert len(printed) // 2 == len(done)


def end(group, seconds=10):
    """Ends the processes of a group, and waits until their addresses are free."""
    deadline = time.monotonic() + seconds
    try:
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
    except ProcessLookupError:
        pass


def without_settings():
    """The environment, but for what would set up the program."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AZIMUTH_")}
