"""Regions are apart: a fleet of one region measures the way to the hub of another."""

import json

import pytest

EAST_KEY = "ZWFzdC1lYXN0LWVhc3QtZWFzdC1lYXN0LWVhc3QhIQ=="
WEST_KEY = "d2VzdC13ZXN0LXdlc3Qtd2VzdC13ZXN0LXdlc3QhIQ=="

# Far above what a slow machine needs without it.
MILLISECONDS = 400

CONFIG = f"""
[regions]
simulate-latency = %s
[[regions.latency]]
from = "eastus"
to = "westus"
milliseconds = {MILLISECONDS}

[[enrollment-group]]
id = "to-the-east"
primary-key = "{EAST_KEY}"
hubs = ["contoso-east-hub"]

[[enrollment-group]]
id = "to-the-west"
primary-key = "{WEST_KEY}"
hubs = ["contoso-west-hub"]
"""


@pytest.mark.parametrize("simulated", [True, False])
def test_an_eastern_fleet_waits_for_the_western_hub_by_the_table(own, tmp_path, simulated):
    config = tmp_path / "azimuth.toml"
    config.write_text(CONFIG % str(simulated).lower())
    own = own("--config", str(config))

    def report(name, key):
        # Its source addresses come from 127.0.1.0/24.
        text = own.command("device-sim", "--region", "eastus", "--group-key", key, "--name", name + "-{n}",
                           "--count", "3", "--heartbeat", "0.2", "--messages", "5", "--json")
        report = json.loads(text)
        assert report["messages"]["acknowledged"] == 15, report
        return report

    east, west = report("eastward", EAST_KEY), report("westward", WEST_KEY)
    assert east["telemetry"]["p50"] < MILLISECONDS / 2, east
    if simulated:
        assert west["telemetry"]["p50"] >= MILLISECONDS, west
        assert west["connect"]["p50"] >= 2 * MILLISECONDS, "a round trip of TLS and one of CONNECT"
    else:
        assert west["telemetry"]["p50"] < MILLISECONDS / 2, west
