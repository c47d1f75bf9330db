"""azure-iot-hub's IoTHubRegistryManager and the live state it sees."""

import subprocess
import time

import pytest
import requests
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, Message
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.protocol.models import ExportImportDevice
from azure.iot.hub.sastoken import SasToken
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


def test_times_and_reasons_move_with_what_they_are_about(registry, device):
    keys = device.primary_key, device.secondary_key
    made = registry.get_device(device.id)
    never = made.status_updated_time
    assert (never.year, made.status_reason, made.last_activity_time) == (1, None, never)
    assert made.connection_state_updated_time == never
    longest = "é" * 128
    kept = registry.update_device_with_sas(device.id, made.etag, *keys, "enabled", status_reason=longest)
    assert (kept.status_reason, kept.status_updated_time) == (longest, never)
    with pytest.raises(HttpOperationError) as refused:
        registry.update_device_with_sas(device.id, kept.etag, *keys, "enabled", status_reason="x" * 129)
    assert refused.value.response.status_code == 400
    assert refused.value.response.headers["iothub-errorcode"] == "ArgumentInvalid"
    disabled = registry.update_device_with_sas(device.id, kept.etag, *keys, "disabled")
    assert disabled.status_updated_time > never and disabled.status_reason is None
    again = registry.update_device_with_sas(device.id, disabled.etag, *keys, "disabled", status_reason="still")
    assert again.status_updated_time == disabled.status_updated_time
    assert registry.get_twin(device.id).status_update_time == again.status_updated_time
    assert again.generation_id == made.generation_id


def test_a_list_has_as_many_as_it_is_asked_for(registry):
    ids = [f"top-{number}" for number in range(12)]
    devices = [ExportImportDevice(id=one, import_mode="create", status="enabled") for one in ids]
    assert registry.bulk_create_or_update_devices(devices).is_successful
    assert len(registry.get_devices(5)) == 5
    assert {device.device_id for device in registry.get_devices()} >= set(ids)
    gone = [ExportImportDevice(id=one, import_mode="delete") for one in ids]
    assert registry.bulk_create_or_update_devices(gone).is_successful


@pytest.mark.parametrize("module", [None, "m"])
def test_renewed_keys_let_in_and_old_ones_do_not(simulator, registry, device, module):
    """What `az iot hub device-identity renew-key` sends; the SDK has no call for it."""
    if module:
        registry.create_module_with_sas(device.id, module, "", device.primary_key, device.secondary_key)
    string = dict(part.split("=", 1) for part in simulator.hub()["connection_string"].split(";"))
    authorization = str(SasToken(string["HostName"], string["SharedAccessKey"], string["SharedAccessKeyName"]))
    target = {"id": device.id} | ({"moduleId": module} if module else {})
    answer = requests.post(f"https://{string['HostName']}/devices/keys/regenerate?api-version=2024-03-31",
                           headers={"Authorization": authorization},
                           json={"policyKey": "primaryKey", "devices": [target]}, timeout=10)
    assert answer.status_code == 200
    rotated, = answer.json()["rotatedKeys"]
    assert rotated["secondaryKey"] == device.secondary_key and rotated["primaryKey"] != device.primary_key
    kind = IoTHubModuleClient if module else IoTHubDeviceClient
    for key, enters in [(device.primary_key, False), (rotated["primaryKey"], True), (device.secondary_key, True)]:
        who = f"DeviceId={device.id}" + (f";ModuleId={module}" if module else "")
        client = kind.create_from_connection_string(
            f"HostName={device.hub};{who};SharedAccessKey={key}", server_verification_cert=simulator.ca_pem,
            connection_retry=False)
        if enters:
            client.connect()
        else:
            with pytest.raises(Exception):
                client.connect()
        client.shutdown()


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
