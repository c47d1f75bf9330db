"""azure-iot-device provisions with the tutorial's id scope, ids and keys."""

import os
import subprocess
import sys
import uuid

import pytest
from azure.iot.device import IoTHubDeviceClient, Message, ProvisioningDeviceClient
from conftest import eventually

KEYS = {
    "contoso-simdevice-east": "p3w2DQr9WqEGBLUSlFi1jPQ7UWQL4siAGy75HFTFbf8=",
    "contoso-simdevice-west": "J5n4NY2GiBYy7Mp4lDDa5CbEe6zDU/c62rhjCuFWxnc=",
}
REGIONS = [("contoso-simdevice-east", "127.0.1.7", "eastus"), ("contoso-simdevice-west", "127.0.2.7", "westus")]


def provision(simulator, host, registration_id, key, **more):
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=host, registration_id=registration_id,
        id_scope=simulator.connect["dps"]["id_scope"], symmetric_key=key,
        server_verification_cert=simulator.ca_pem, **more)
    return client.register()


@pytest.mark.parametrize("registration_id, source, region", REGIONS)
def test_a_device_lands_in_the_hub_of_its_region_by_address(simulator, source_address, registration_id, source, region):
    source_address(source)
    result = provision(simulator, simulator.connect["dps"]["address"], registration_id, KEYS[registration_id])
    assert result.status == "assigned"
    assert result.registration_state.device_id == registration_id
    assert result.registration_state.assigned_hub == simulator.hub(region)["address"]

    device = IoTHubDeviceClient.create_from_symmetric_key(
        KEYS[registration_id], result.registration_state.assigned_hub, registration_id,
        server_verification_cert=simulator.ca_pem)
    device.connect()
    device.send_message(Message(f"hello from {region}"))
    device.shutdown()
    words = simulator.command("events", "--hub", simulator.hub(region)["name"], "--device", registration_id,
                              "--from", "start", "--once")
    assert f"hello from {region}" in words


@pytest.mark.parametrize("registration_id, source, region", REGIONS)
def test_a_device_that_dialled_a_name_is_given_a_name(simulator, names, source_address, registration_id, source, region):
    source_address(source)
    result = provision(simulator, "global.azure-devices-provisioning.net", registration_id, KEYS[registration_id])
    assert result.registration_state.assigned_hub == simulator.hub(region)["host_name"]
    device = IoTHubDeviceClient.create_from_symmetric_key(
        KEYS[registration_id], result.registration_state.assigned_hub, registration_id,
        server_verification_cert=simulator.ca_pem)
    device.connect()
    assert device.connected
    device.shutdown()


def test_a_second_registration_keeps_hub_and_key(simulator):
    host = simulator.connect["dps"]["address"]
    first = provision(simulator, host, "contoso-simdevice-east", KEYS["contoso-simdevice-east"])
    second = provision(simulator, host, "contoso-simdevice-east", KEYS["contoso-simdevice-east"])
    assert second.registration_state.assigned_hub == first.registration_state.assigned_hub
    assert second.registration_state.created_date_time == first.registration_state.created_date_time


@pytest.mark.parametrize("registration_id, key, kind", [
    ("contoso-simdevice-east", KEYS["contoso-simdevice-west"], "unknown-registration"),
    ("nobody-knows-me", KEYS["contoso-simdevice-west"], "unknown-registration"),
    ("contoso-simdevice-east",
     "rLuyBPpIJ+hOre2SFIP9Ajvdty3j0EwSP/WvTVH9eZAw5HpDuEmf13nziHy5RRXmuTy84FCLpOnhhBPASSbHYg==", "group-key"),
])
def test_a_wrong_key_is_answered_with_401_and_explained(simulator, registration_id, key, kind):
    with pytest.raises(Exception) as refused:
        provision(simulator, simulator.connect["dps"]["address"], registration_id, key)
    text = f"{refused.value} {refused.value.__cause__}"
    assert "register request returned a service error status code 401" in text
    records = simulator.refusals(registration_id)
    assert kind in [record["kind"] for record in records], records


def test_an_unknown_id_scope_is_refused_at_connect(simulator):
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=simulator.connect["dps"]["address"], registration_id="contoso-simdevice-east",
        id_scope="0ne0000DEAD", symmetric_key=KEYS["contoso-simdevice-east"],
        server_verification_cert=simulator.ca_pem)
    with pytest.raises(Exception):
        client.register()
    assert "CONNACK 3" in [record["answer"] for record in simulator.refusals("contoso-simdevice-east")]


SAMPLE = """
import os
from azure.iot.device import IoTHubDeviceClient, Message, ProvisioningDeviceClient
registered = ProvisioningDeviceClient.create_from_symmetric_key(
    provisioning_host=os.environ["PROVISIONING_HOST"],
    registration_id=os.environ["PROVISIONING_REGISTRATION_ID"],
    id_scope=os.environ["PROVISIONING_IDSCOPE"],
    symmetric_key=os.environ["PROVISIONING_SYMMETRIC_KEY"],
).register()
assert registered.status == "assigned", registered
provisioned = IoTHubDeviceClient.create_from_symmetric_key(
    os.environ["PROVISIONING_SYMMETRIC_KEY"], registered.registration_state.assigned_hub,
    registered.registration_state.device_id)
provisioned.send_message(Message("provisioned"))
provisioned.shutdown()
known = IoTHubDeviceClient.create_from_connection_string(os.environ["IOTHUB_DEVICE_CONNECTION_STRING"])
known.send_message(Message("known"))
known.shutdown()
"""


def test_the_pasted_environment_block_runs_an_unmodified_device(simulator):
    device = f"pasted-{uuid.uuid4()}"
    block = simulator.command("env", "--device", device)
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")}
    script = f'eval "$BLOCK"\n"{sys.executable}" - <<\'PYTHON\'\n{SAMPLE}\nPYTHON\n'
    done = subprocess.run(["bash", "-c", script], env={**environment, "BLOCK": block},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [event["body"] for event in eventually(lambda: simulator.events(device))] == ["provisioned", "known"]
