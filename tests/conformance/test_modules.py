"""Modules: azure-iot-hub's module calls, and IoTHubModuleClient on the line beside its device."""

import hashlib
import subprocess
import threading
import uuid

import pytest
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, Message, X509
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties
from azure.iot.hub.protocol.models import AuthenticationMechanism, ExportImportDevice, SymmetricKey
from conftest import eventually
from msrest.exceptions import HttpOperationError

KEYS = ("MDEyMzQ1Njc4OWFiY2RlZg==", "ZmVkY2JhOTg3NjU0MzIxMA==")
THUMBPRINT = "A" * 40


def refused(call, *arguments, **named):
    with pytest.raises(HttpOperationError) as told:
        call(*arguments, **named)
    response = told.value.response
    return response.status_code, response.headers["iothub-errorcode"]


def module_client(simulator, device, module, key, **options):
    string = f"HostName={device.hub};DeviceId={device.id};ModuleId={module};SharedAccessKey={key}"
    return IoTHubModuleClient.create_from_connection_string(
        string, server_verification_cert=simulator.ca_pem, **options)


def test_create_get_list_update_delete(registry, device):
    sas = registry.create_module_with_sas(device.id, "sas", "iotEdge", *KEYS)
    assert (sas.module_id, sas.device_id, sas.managed_by) == ("sas", device.id, "iotEdge")
    assert sas.authentication.symmetric_key.primary_key == KEYS[0]
    x509 = registry.create_module_with_x509(device.id, "x509", "me", THUMBPRINT, THUMBPRINT.lower())
    assert x509.authentication.x509_thumbprint.secondary_thumbprint == "a" * 40
    ca = registry.create_module_with_certificate_authority(device.id, "ca", "me")
    assert ca.authentication.type == "certificateAuthority"
    found = registry.get_module(device.id, "sas")
    assert (found.etag, found.generation_id) == (sas.etag, sas.generation_id)
    assert [module.module_id for module in registry.get_modules(device.id)] == ["ca", "sas", "x509"]
    assert device.id in [one.device_id for one in registry.get_devices(1000)]

    updated = registry.update_module_with_sas(device.id, "sas", "", found.etag, *reversed(KEYS))
    assert updated.authentication.symmetric_key.primary_key == KEYS[1]
    registry.update_module_with_x509(device.id, "x509", "", "*", THUMBPRINT, "B" * 64)
    registry.update_module_with_certificate_authority(device.id, "ca", "you", "*")
    assert refused(registry.update_module_with_sas, device.id, "sas", "", found.etag, *KEYS) == (
        412, "PreconditionFailed")
    assert refused(registry.create_module_with_sas, device.id, "sas", "", *KEYS) == (
        409, "ModuleAlreadyExistsOnDevice")
    assert refused(registry.delete_module, device.id, "sas", found.etag) == (412, "PreconditionFailed")
    registry.delete_module(device.id, "sas", updated.etag)
    assert refused(registry.get_module, device.id, "sas") == (404, "ModuleNotFound")
    registry.delete_device(device.id)
    assert refused(registry.get_module, device.id, "ca") == (401, "IotHubUnauthorizedAccess")
    assert refused(registry.get_module_twin, device.id, "ca") == (404, "DeviceNotFound")


def test_names_the_limit_and_devices_that_are_shut(registry, device):
    assert refused(registry.create_module_with_sas, device.id, "$mine", "", *KEYS) == (400, "ArgumentInvalid")
    for number in range(50):
        registry.create_module_with_sas(device.id, f"m{number}", "", *KEYS)
    assert refused(registry.create_module_with_sas, device.id, "one-more", "", *KEYS) == (
        413, "TooManyModulesOnDevice")
    registry.update_device_with_sas(device.id, "*", device.primary_key, device.secondary_key, "disabled")
    assert refused(registry.get_modules, device.id) == (401, "IotHubUnauthorizedAccess")
    assert registry.get_module_twin(device.id, "m0").module_id == "m0"


def test_module_twins(registry, device):
    registry.create_module_with_sas(device.id, "m", "", *KEYS)
    twin = registry.get_module_twin(device.id, "m")
    assert (twin.module_id, twin.version, twin.tags, twin.capabilities) == ("m", 2, None, None)
    patch = Twin(tags={"a": 1}, properties=TwinProperties(desired={"x": {"y": 1}}))
    patched = registry.update_module_twin(device.id, "m", patch, twin.etag)
    assert (patched.tags, patched.properties.desired["x"]) == ({"a": 1}, {"y": 1})
    assert refused(registry.update_module_twin, device.id, "m", patch, f'"{twin.etag}"') == (
        412, "PreconditionFailed")
    whole = Twin(properties=TwinProperties(desired={"z": 1}))
    replaced = registry.replace_module_twin(device.id, "m", whole, patched.etag)
    assert (replaced.tags, "x" in replaced.properties.desired) == (None, False)
    assert registry.get_twin(device.id).version == 2


def test_bulk(registry, device):
    keys = AuthenticationMechanism(type="sas", symmetric_key=SymmetricKey(primary_key=KEYS[0], secondary_key=KEYS[1]))
    fresh = f"bulk-{uuid.uuid4()}"
    items = [ExportImportDevice(id=fresh, import_mode="create", status="enabled", authentication=keys),
             ExportImportDevice(id=fresh, module_id="m", import_mode="create", status="enabled", authentication=keys)]
    assert registry.bulk_create_or_update_devices(items).is_successful
    assert registry.get_module(fresh, "m").authentication.symmetric_key.primary_key == KEYS[0]
    gone = [ExportImportDevice(id=fresh, module_id="m", import_mode="delete")]
    assert registry.bulk_create_or_update_devices(gone).is_successful
    assert registry.get_modules(fresh) == []
    registry.delete_device(fresh)


def test_edge_devices_and_what_stands_behind_them(registry):
    edge_id, leaf_id = f"edge-{uuid.uuid4()}", f"leaf-{uuid.uuid4()}"
    edge = registry.create_device_with_sas(edge_id, *KEYS, "enabled", iot_edge=True)
    try:
        assert edge.device_scope.startswith(f"ms-azure-iot-edge://{edge_id}-")
        system = registry.get_modules(edge_id)
        assert [module.module_id for module in system] == ["$edgeAgent", "$edgeHub"]
        assert refused(registry.delete_module, edge_id, "$edgeHub") == (
            401, "SystemModuleModifyUnauthorizedAccess")
        registry.create_device_with_sas(leaf_id, *KEYS, "enabled", device_scope=edge.device_scope)
        leaf = registry.get_device(leaf_id)
        assert (leaf.device_scope, leaf.parent_scopes) == (edge.device_scope, [edge.device_scope])
        assert registry.get_twin(leaf_id).parent_scopes == [edge.device_scope]
        assert refused(registry.update_device_with_sas, edge_id, "*", *KEYS, "enabled", iot_edge=True) == (
            400, "ArgumentInvalid")
        registry.update_device_with_sas(edge_id, "*", *KEYS, "enabled", iot_edge=True,
                                        device_scope=edge.device_scope, status_reason="kept")
        assert refused(registry.update_device_with_sas, leaf_id, "*", *KEYS, "enabled", device_scope="x") == (
            400, "InvalidDeviceScope")
    finally:
        registry.delete_device(edge_id)
        registry.delete_device(leaf_id)


@pytest.mark.parametrize("websockets", [False, True])
def test_a_module_sends_and_has_its_twin_beside_its_device(simulator, registry, device, websockets):
    registry.create_module_with_sas(device.id, "m", "", *KEYS)
    beside = IoTHubDeviceClient.create_from_connection_string(
        device.connection_string, server_verification_cert=simulator.ca_pem)
    beside.connect()
    client = module_client(simulator, device, "m", KEYS[1], websockets=websockets)
    client.connect()
    heard, told = [], threading.Event()
    client.on_twin_desired_properties_patch_received = lambda patch: (heard.append(patch), told.set())
    others = []
    beside.on_twin_desired_properties_patch_received = others.append
    assert client.get_twin()["desired"]["$version"] == 1
    client.patch_twin_reported_properties({"seen": 1})
    assert registry.get_module_twin(device.id, "m").properties.reported["seen"] == 1
    registry.update_module_twin(device.id, "m", Twin(properties=TwinProperties(desired={"speed": 5})), "*")
    assert told.wait(10) and heard[0]["speed"] == 5
    assert beside.get_twin()["desired"] == {"$version": 1} and not others

    client.send_message_to_output(Message("from the module"), "out")
    beside.send_message(Message("from the device"))
    module, own = sorted(simulator.events(device.id), key=lambda event: event["body"] != "from the module")
    system = module["systemProperties"]
    assert system["iothub-connection-module-id"] == "m"
    assert system["iothub-outputname"] == "out"
    assert '"scope":"module"' in system["iothub-connection-auth-method"]
    assert "iothub-connection-module-id" not in own["systemProperties"]
    states = [registry.get_device(device.id), registry.get_module(device.id, "m")]
    assert [one.connection_state for one in states] == ["Connected", "Connected"]
    assert states[1].last_activity_time > states[1].connection_state_updated_time
    client.shutdown()
    eventually(lambda: registry.get_module(device.id, "m").connection_state == "Disconnected")
    assert beside.connected
    beside.shutdown()


def test_a_module_signs_in_with_a_certificate(simulator, registry, device, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                    "/CN=whatever", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    der = subprocess.run(["openssl", "x509", "-in", certificate, "-outform", "DER"], check=True, capture_output=True)
    registry.create_module_with_x509(device.id, "m", "", "B" * 40, hashlib.sha256(der.stdout).hexdigest())
    client = IoTHubModuleClient.create_from_x509_certificate(
        X509(cert_file=str(certificate), key_file=str(key)), device.hub, device.id, "m",
        server_verification_cert=simulator.ca_pem)
    client.connect()
    client.send_message(Message("proven"))
    event, = simulator.events(device.id)
    method = event["systemProperties"]["iothub-connection-auth-method"]
    assert '"scope":"module","type":"x509Certificate"' in method
    client.shutdown()


def test_a_key_of_the_device_opens_no_module(simulator, registry, device):
    registry.create_module_with_sas(device.id, "m", "", *KEYS)
    for module, kind in [("m", "wrong-key"), ("n", "unknown-module")]:
        client = module_client(simulator, device, module, device.primary_key, connection_retry=False)
        with pytest.raises(Exception):
            client.connect()
        client.shutdown()
        assert simulator.refusals(f"{device.id}/{module}")[-1]["kind"] == kind


@pytest.mark.parametrize("how", ["disable", "delete", "delete-module"])
def test_who_is_disabled_or_deleted_leaves_the_line(simulator, registry, device, how):
    registry.create_module_with_sas(device.id, "m", "", *KEYS)
    registry.create_module_with_sas(device.id, "n", "", *KEYS)
    options = {"connection_retry": False}
    beside = IoTHubDeviceClient.create_from_connection_string(
        device.connection_string, server_verification_cert=simulator.ca_pem, **options)
    m = module_client(simulator, device, "m", KEYS[0], **options)
    n = module_client(simulator, device, "n", KEYS[0], **options)
    for client in (beside, m, n):
        client.connect()
    if how == "disable":
        registry.update_device_with_sas(device.id, "*", device.primary_key, device.secondary_key, "disabled")
    elif how == "delete":
        registry.delete_device(device.id)
    else:
        registry.delete_module(device.id, "m")
    eventually(lambda: not m.connected)
    if how == "delete-module":
        n.send_message(Message("still here"))
        beside.send_message(Message("still here"))
    else:
        eventually(lambda: not n.connected and not beside.connected)
    with pytest.raises(Exception):
        m.connect()
    kind = {"disable": "disabled-device", "delete": "unknown-device", "delete-module": "unknown-module"}[how]
    assert simulator.refusals(f"{device.id}/m")[-1]["kind"] == kind
    for client in (beside, m, n):
        client.shutdown()


def test_modules_are_there_after_a_kill(own, monkeypatch):
    simulator = own()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", simulator.ca)
    registry = IoTHubRegistryManager(simulator.hub()["connection_string"])
    registry.create_device_with_sas("d", *KEYS, "enabled", iot_edge=True)
    made = registry.create_module_with_sas("d", "m", "me", *KEYS)
    registry.update_module_twin("d", "m", Twin(tags={"a": 1}), "*")
    simulator.process.kill()
    simulator.process.wait()
    simulator.start()
    found = registry.get_module("d", "m")
    assert (found.etag, found.managed_by) == (made.etag, "me")
    assert registry.get_module_twin("d", "m").tags == {"a": 1}
    assert len(registry.get_modules("d")) == 3
    registry.delete_device("d")
    assert registry.get_device_registry_statistics().total_device_count == 0
