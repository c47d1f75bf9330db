"""azure-iot-hub's IoTHubRegistryManager and the live state it sees."""

import subprocess
import time

import pytest
from azure.iot.device import IoTHubDeviceClient, Message
from azure.iot.hub import IoTHubRegistryManager
from conftest import BINARY, eventually
from msrest.exceptions import HttpOperationError
from wire import Device


def test_create_get_list_disable_delete(registry):
    made = registry.create_device_with_sas("registry-1", "MDEyMzQ1Njc4OWFiY2RlZg==", "ZmVkY2JhOTg3NjU0MzIxMA==",
                                           "enabled")
    try:
        assert made.authentication.symmetric_key.primary_key == "MDEyMzQ1Njc4OWFiY2RlZg=="
        found = registry.get_device("registry-1")
        assert (found.etag, found.generation_id) == (made.etag, made.generation_id)
        assert "registry-1" in [device.device_id for device in registry.get_devices(1000)]
        before = registry.get_device_registry_statistics()

        updated = registry.update_device_with_sas("registry-1", found.etag, "MDEyMzQ1Njc4OWFiY2RlZg==",
                                                  "ZmVkY2JhOTg3NjU0MzIxMA==", "disabled", status_reason="why not")
        assert (updated.status, updated.status_reason) == ("disabled", "why not")
        after = registry.get_device_registry_statistics()
        assert after.disabled_device_count == before.disabled_device_count + 1
        assert after.total_device_count == before.total_device_count

        with pytest.raises(HttpOperationError) as stale:
            registry.delete_device("registry-1", found.etag)
        assert stale.value.response.status_code == 412
        with pytest.raises(HttpOperationError) as twice:
            registry.create_device_with_sas("registry-1", "", "", "enabled")
        assert twice.value.response.status_code == 409
    finally:
        registry.delete_device("registry-1")
    with pytest.raises(HttpOperationError) as gone:
        registry.get_device("registry-1")
    assert gone.value.response.status_code == 404
    assert gone.value.response.headers["iothub-errorcode"] == "DeviceNotFound"


def test_a_wrong_policy_key_is_answered_with_401(simulator):
    string = simulator.hub()["connection_string"].rsplit("SharedAccessKey=", 1)[0]
    wrong = IoTHubRegistryManager(string + "SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    with pytest.raises(HttpOperationError) as refused:
        wrong.get_device("whoever")
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["iothub-errorcode"] == "IotHubUnauthorizedAccess"


def test_connection_state_follows_the_device(simulator, registry, device):
    state = lambda: registry.get_device(device.id)
    assert state().connection_state == "Disconnected"
    client = IoTHubDeviceClient.create_from_connection_string(
        device.connection_string, server_verification_cert=simulator.ca_pem)
    client.connect()
    connected = eventually(lambda: (lambda d: d.connection_state == "Connected" and d)(state()))
    assert registry.get_service_statistics().connected_device_count >= 1
    time.sleep(0.05)
    client.send_message(Message("alive"))
    active = state()
    assert active.last_activity_time > connected.last_activity_time
    assert active.connection_state_updated_time == connected.connection_state_updated_time
    client.shutdown()
    gone = eventually(lambda: (lambda d: d.connection_state == "Disconnected" and d)(state()))
    assert gone.connection_state_updated_time > connected.connection_state_updated_time


@pytest.mark.parametrize("how", ["disable", "delete"])
def test_a_disabled_or_deleted_device_is_thrown_off_the_line(simulator, registry, device, how):
    client = IoTHubDeviceClient.create_from_connection_string(
        device.connection_string, server_verification_cert=simulator.ca_pem, connection_retry=False)
    client.connect()
    if how == "delete":
        registry.delete_device(device.id)
    else:
        registry.update_device_with_sas(device.id, registry.get_device(device.id).etag, device.primary_key,
                                        device.secondary_key, "disabled")
    eventually(lambda: not client.connected)
    with pytest.raises(Exception):
        client.connect()
    kinds = [record["kind"] for record in simulator.refusals(device.id)]
    assert kinds == ["removed", "disabled-device" if how == "disable" else "unknown-device"]
    client.shutdown()


def test_devices_of_a_hub_are_managed_from_the_command_line(simulator, registry, device):
    def row():
        listed = simulator.command("hub", "device", "list").splitlines()
        return next((line.split() for line in listed if line.startswith(device.id)), None)
    assert row()[:4] == [device.id, "enabled", "Disconnected", "sas"]
    line = Device(simulator.ca, device.hub, device.id, device.primary_key)
    eventually(lambda: row()[2] == "Connected")
    listed = simulator.command("hub", "device", "list", "--json")
    assert device.id in listed and device.primary_key not in listed
    assert device.primary_key not in simulator.command("hub", "device", "show", device.id)
    assert device.primary_key in simulator.command("hub", "device", "show", device.id, "--json")

    said = simulator.command("hub", "device", "update", device.id, "--status", "disabled")
    assert f"{device.id} is disabled and cut off in contoso-east-hub" in said
    eventually(lambda: not line.ping())
    assert registry.get_device(device.id).status == "disabled"
    simulator.command("hub", "device", "update", device.id, "--status", "enabled")
    Device(simulator.ca, device.hub, device.id, device.primary_key).close()
    simulator.command("hub", "device", "delete", device.id, "--hub", "contoso-east-hub")
    assert row() is None
    words = [BINARY, "--data", str(simulator.folder / "data"), "hub", "device", "delete", device.id]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "hub device list" in done.stderr, done.stderr
