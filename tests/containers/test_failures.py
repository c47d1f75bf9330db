"""Containers killed and networks cut while devices send."""

import collections
import json
import time

from conftest import PROJECT, docker, eventually, report, run


def numbers(events, prefix):
    """Message numbers by device, in the order of the log."""
    found = collections.defaultdict(list)
    for event in events:
        device = event["systemProperties"]["iothub-connection-device-id"]
        if device.startswith(prefix):
            found[device].append(json.loads(event["body"])["messageId"])
    return found


def test_a_hub_killed_while_500_devices_send(compose):
    fleet = compose.fleet("eastus", "--name", "kill-{n}", "--count", "500", "--ramp", "200", "--heartbeat", "1",
                          "--duration", "30", name="fleet-kill")
    hub = compose.container("hub-east")
    registry = compose.registry()
    eventually(lambda: registry.get_service_statistics().connected_device_count >= 500)
    docker("kill", hub)
    time.sleep(3)
    docker("start", hub)
    compose.healthy("hub-east")
    eventually(lambda: registry.get_service_statistics().connected_device_count >= 500)
    seen = report(fleet)
    assert seen["devices"]["connected"] == 500 and seen["devices"]["failed"] == 0
    assert seen["devices"]["reconnects"] >= 500 and seen["outages"]["devices"] == 500
    assert seen["outages"]["lasting"] == 0
    assert seen["messages"]["outstanding"] == 0
    stored = numbers(compose.events("hub-east"), "kill-")
    assert len(stored) == 500
    for device, found in stored.items():
        # Each acknowledged message is there, in order; a message resent may be there twice.
        assert sorted(set(found)) == list(range(max(found) + 1)), device
    assert sum(len(set(found)) for found in stored.values()) == seen["messages"]["acknowledged"]


def test_a_dps_killed_during_a_rush(compose):
    fleet = compose.fleet("westus", "--name", "rush-{n}", "--count", "500", "--ramp", "100", "--heartbeat", "0",
                          "--duration", "25", name="fleet-rush")
    registry = compose.registry("contoso-west-hub")
    rushed = lambda: sum(device.device_id.startswith("rush-") for device in registry.get_devices(1000))
    eventually(lambda: rushed() >= 100)
    dps = compose.container("dps")
    docker("kill", dps)
    time.sleep(3)
    docker("start", dps)
    seen = report(fleet)
    assert seen["devices"]["provisioned"] == 500 and seen["devices"]["connected"] == 500
    assert rushed() == 500
    compose.healthy("dps")


def test_a_network_cut_and_healed(compose):
    keep_alive = 6
    fleet = compose.fleet("westus", "--name", "cut-{n}", "--count", "20", "--heartbeat", "1", "--keep-alive", str(keep_alive),
                          "--duration", "45", name="fleet-cut")
    registry = compose.registry("contoso-west-hub")
    states = lambda: collections.Counter(registry.get_device(f"cut-{n}").connection_state for n in range(1, 21))
    eventually(lambda: all(registry.get_devices(1000)) and rushed(registry, "cut-") == 20)
    eventually(lambda: states() == {"Connected": 20})
    docker("network", "disconnect", compose.network("westus"), fleet)
    cut = time.monotonic()
    eventually(lambda: states() == {"Disconnected": 20}, seconds=keep_alive * 1.5 + 5)
    # A message that was on its way at the cut counts as the last sign of life.
    assert time.monotonic() - cut < keep_alive * 1.5 + 5
    docker("network", "connect", compose.network("westus"), fleet)
    eventually(lambda: states() == {"Connected": 20}, seconds=60)
    seen = report(fleet)
    assert seen["devices"]["reconnects"] >= 20 and seen["outages"]["devices"] == 20
    assert seen["outages"]["lasting"] == 0
    assert seen["messages"]["outstanding"] == 0


def rushed(registry, prefix):
    return sum(device.device_id.startswith(prefix) for device in registry.get_devices(1000))


def test_a_fleet_that_cannot_reach_the_dps_says_what_failed(compose):
    # The default network knows none of the names.
    lost = run("docker", "run", "--rm", "-v", f"{PROJECT}_connect:/connect:ro", "-e", "AZIMUTH_CONNECT=/connect",
               "azimuth", "device-sim", "--give-up-after", "1", check=False)
    assert lost.returncode == 1
    assert "the name global.azure-devices-provisioning.net cannot be resolved" in lost.stdout
