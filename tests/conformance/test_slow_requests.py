"""Thousands of slow HTTPS clients starve nobody and are all ended.

AZIMUTH_TEST_SLOW_REQUESTS says how many; 10,000 need twice a limit of 10,300 open files.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import threading

from azure.iot.hub import IoTHubRegistryManager
from conftest import eventually
from wire import Device, sas

SLOW = int(os.environ.get("AZIMUTH_TEST_SLOW_REQUESTS", "2000"))
CROWDS = 2


def more_files():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def lines_of(crowd):
    """Reads what a crowd prints, meanwhile."""
    found = []
    def read():
        for row in crowd.stdout:
            found.append(row)
    threading.Thread(target=read, daemon=True).start()
    return found


def test_slow_requests_starve_neither_devices_nor_back_ends(simulator, device, registry):
    hub = simulator.hub()
    fields = dict(part.split("=", 1) for part in hub["connection_string"].split(";"))
    token = sas(hub["address"], fields["SharedAccessKey"], policy=fields["SharedAccessKeyName"])
    script = pathlib.Path(__file__).with_name("slow_crowd.py")
    crowds = [subprocess.Popen([sys.executable, script, hub["address"], simulator.ca, str(SLOW // CROWDS), token],
                               stdout=subprocess.PIPE, text=True, preexec_fn=more_files) for _ in range(CROWDS)]
    said = [lines_of(crowd) for crowd in crowds]
    line = Device(simulator.ca, device.hub, device.id, device.primary_key)
    line.socket.settimeout(60)
    sent = rounds = 0
    try:
        # As long as they come, and until the service has ended the last of them.
        while not all(len(lines) == 2 for lines in said):
            assert all(crowd.poll() in (None, 0) for crowd in crowds), "a crowd did not come in, or was not ended"
            for _ in range(20):
                sent += 1
                line.publish(sent % 60000 + 1, f"message {sent}")
                assert line.acknowledged() == sent % 60000 + 1
            # A connection of its own for each, as a back end that was started just now.
            fresh = IoTHubRegistryManager(hub["connection_string"])
            assert fresh.get_device(device.id).connection_state == "Connected"
            rounds += 1
    finally:
        for crowd in crowds:
            crowd.kill()
    most = sum(int(lines[1].split()[1]) for lines in said)
    memory = next(row for row in open(f"/proc/{simulator.process.pid}/status") if row.startswith("VmHWM"))
    print(f"{SLOW} slow clients, {most} at once at most; {sent} messages, {rounds} requests; {memory.strip()}")
    assert most > SLOW / 2
    kinds = {record["kind"] for record in all_refusals(simulator)}
    assert "request-timeout" in kinds
    stored = eventually(lambda: [event for event in simulator.events(device.id)][-1:])
    assert stored[0]["body"] == f"message {sent}"


def all_refusals(simulator):
    said = simulator.command("why", "--service", "hub", "--json").splitlines()
    return [json.loads(row) for row in said]
