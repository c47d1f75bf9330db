"""docker compose up: regions, names, published ports, the image, and what is refused."""

import json
import subprocess
import sys

from conftest import HUBS, PROJECT, ROOT, docker, eventually, run, secrets

TUTORIAL_KEY = "rLuyBPpIJ+hOre2SFIP9Ajvdty3j0EwSP/WvTVH9eZAw5HpDuEmf13nziHy5RRXmuTy84FCLpOnhhBPASSbHYg=="

DEVICE = """
import os
from azure.iot.device import IoTHubDeviceClient, Message, ProvisioningDeviceClient
result = ProvisioningDeviceClient.create_from_symmetric_key(
    os.environ["PROVISIONING_HOST"], os.environ["PROVISIONING_REGISTRATION_ID"],
    os.environ["PROVISIONING_IDSCOPE"], os.environ["PROVISIONING_SYMMETRIC_KEY"]).register()
state = result.registration_state
device = IoTHubDeviceClient.create_from_symmetric_key(
    os.environ["PROVISIONING_SYMMETRIC_KEY"], state.assigned_hub, state.device_id)
device.send_message(Message("hello from " + state.device_id))
device.shutdown()
print(state.assigned_hub)
"""


def provisioning(compose, device, *words):
    variables = compose.variables("--device", device, *words)
    return {name: value for name, value in variables.items() if name.startswith("PROVISIONING_")}


def test_devices_of_each_subnet_land_in_their_regions_hub(compose):
    compose("up", "-d", timeout=180)
    for region in ("east", "west"):
        device = f"contoso-simdevice-{region}-1"
        hub = compose.registry(f"contoso-{region}-hub")
        eventually(lambda: hub.get_device(device).connection_state == "Connected")
        assert eventually(lambda: compose.events(f"hub-{region}", "--device", device))
    compose("stop", "device-sim-east", "device-sim-west")


def test_an_sdk_in_a_container_needs_the_ca_and_nothing_else(compose, sdk):
    for region, hub in (("eastus", "contoso-east-hub"), ("westus", "contoso-west-hub")):
        device = f"sdk-{region}"
        names = provisioning(compose, device, "--names")
        assert names["PROVISIONING_HOST"] == "global.azure-devices-provisioning.net"
        assert sdk(region, DEVICE, **names).split() == [f"{hub}.azure-devices.net"]
        service = "hub-" + region[:4]
        assert f"hello from {device}" in [event["body"] for event in compose.events(service, "--device", device)]


def test_a_device_outside_docker_comes_in_by_the_published_ports(compose):
    variables = compose.variables("--device", "outside")
    assert variables["PROVISIONING_HOST"] == compose.environment["AZIMUTH_DPS_ADDRESS"]
    printed = run(sys.executable, "-W", "ignore", "-c", DEVICE, env=variables).stdout
    assert printed.split() == [compose.environment["AZIMUTH_EAST_ADDRESS"]]
    assert compose.events("hub-east", "--device", "outside")


def test_keys_are_made_and_reach_no_log(compose):
    keys = secrets(compose)
    assert len(keys) == 4 and TUTORIAL_KEY not in keys
    for service in ("hub-east", "hub-west", "dps"):
        container = docker("logs", compose.container(service)) + run("docker", "logs", compose.container(service)).stderr
        assert "Ready" in container
        assert not [key for key in keys if key in container]
        for line in container.splitlines():
            assert json.loads(line)["level"] in ("INFO", "WARN", "ERROR")


def test_the_image_is_small_and_the_container_locked(compose):
    image, base = (json.loads(docker("image", "inspect", name))[0]
                   for name in ("azimuth", "gcr.io/distroless/cc-debian12:nonroot"))
    assert image["Config"]["User"] == "65532:65532"
    assert image["RootFS"]["Layers"][:len(base["RootFS"]["Layers"])] == base["RootFS"]["Layers"]
    # Uncompressed, so compressed it is smaller still.
    assert image["Size"] - base["Size"] < 40_000_000
    container = json.loads(docker("inspect", compose.container("hub-east")))[0]
    assert container["HostConfig"]["ReadonlyRootfs"] and container["HostConfig"]["CapDrop"] == ["ALL"]
    shell = run("docker", "exec", compose.container("dps"), "sh", "-c", "true", check=False)
    assert shell.returncode != 0


def test_a_second_hub_of_one_name_is_refused(compose):
    second = run("docker", "run", "--rm", "--network", compose.network("eastus"), "-v", f"{PROJECT}_connect:/connect",
                 "-v", f"{PROJECT}_certs:/certs", "-v", f"{ROOT}/compose.toml:/etc/azimuth.toml:ro",
                 "-e", "AZIMUTH_CONFIG=/etc/azimuth.toml", "-e", "AZIMUTH_CONNECT=/connect", "-e", "AZIMUTH_CERTS=/certs",
                 "-e", "AZIMUTH_LISTEN=0.0.0.0", "azimuth", "hub", "contoso-east-hub", check=False)
    assert second.returncode == 1
    assert "a service called contoso-east-hub already runs with the folder /connect" in second.stderr


def test_replicas_of_a_fleet_never_share_a_device(compose):
    compose("up", "-d", "--scale", "device-sim-east=3", "device-sim-east", timeout=180)
    hub = compose.registry()
    devices = [f"contoso-simdevice-east-{n}" for n in (1, 2, 3)]
    eventually(lambda: [device for device in devices if device in {one.device_id for one in hub.get_devices()}] == devices)
    eventually(lambda: all(hub.get_device(device).connection_state == "Connected" for device in devices))
    # A replica that is killed gives its devices to its successor.
    killed = compose("ps", "-q", "device-sim-east").split()[1]
    docker("kill", killed)
    eventually(lambda: sum(hub.get_device(device).connection_state == "Connected" for device in devices) == 2)
    docker("start", killed)
    eventually(lambda: all(hub.get_device(device).connection_state == "Connected" for device in devices))
    compose("rm", "-f", "-s", "device-sim-east")


def test_sigterm_ends_each_service_within_a_second(compose):
    for service in ("hub-east", "hub-west", "dps"):
        container = compose.container(service)
        # After one second docker kills, and the exit code would be 137.
        docker("stop", "-t", "1", container)
        assert docker("inspect", "-f", "{{.State.ExitCode}}", container).strip() == "0"
        docker("start", container)
    compose.healthy("hub-east", "hub-west", "dps")
