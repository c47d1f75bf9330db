"""Twins as azure-iot-hub writes them and azure-iot-device lives by them, and many identities at once."""

import json
import queue
import signal
import threading
import uuid

import pytest
from azure.iot.device import IoTHubDeviceClient
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import ExportImportDevice, Twin, TwinProperties
from conftest import eventually
from msrest.exceptions import HttpOperationError
from wire import Device, packet, text

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def patch(**properties):
    return Twin(properties=TwinProperties(desired=properties))


@pytest.fixture
def client(simulator, device):
    client = IoTHubDeviceClient.create_from_connection_string(
        device.connection_string, server_verification_cert=simulator.ca_pem)
    client.connect()
    yield client
    client.shutdown()


def test_a_service_reads_merges_and_replaces(registry, device):
    first = registry.get_twin(device.id)
    assert (first.etag, first.version, first.tags) == ("AAAAAAAAAAE=", 2, None)
    assert first.device_etag == registry.get_device(device.id).etag
    merged = registry.update_twin(device.id, Twin(tags={"floor": 3, "wing": "b"}, properties=TwinProperties(
        desired={"interval": 60, "mode": {"fan": "on"}})))
    assert merged.tags == {"floor": 3, "wing": "b"}
    assert merged.properties.desired["$version"] == 2
    merged = registry.update_twin(device.id, patch(mode={"fan": None, "light": 1}), merged.etag)
    assert merged.properties.desired["mode"] == {"light": 1}
    assert merged.properties.desired["$metadata"]["mode"]["light"]["$lastUpdatedVersion"] == 3
    with pytest.raises(HttpOperationError) as stale:
        registry.update_twin(device.id, patch(a=1), first.etag)
    assert stale.value.response.status_code == 412
    replaced = registry.replace_twin(device.id, Twin(tags={"only": True}))
    assert replaced.tags == {"only": True}
    assert set(replaced.properties.desired) == {"$metadata", "$version"}
    assert replaced.properties.desired["$version"] == 4
    assert registry.get_twin(device.id).as_dict() == replaced.as_dict()


def test_a_twin_goes_with_its_device(registry, device):
    registry.update_twin(device.id, Twin(tags={"old": 1}))
    registry.delete_device(device.id)
    with pytest.raises(HttpOperationError) as gone:
        registry.get_twin(device.id)
    assert gone.value.response.headers["iothub-errorcode"] == "DeviceNotFound"
    registry.create_device_with_sas(device.id, KEY, KEY, "enabled")
    assert registry.get_twin(device.id).tags is None


def test_what_azure_refuses_is_refused_and_recorded(simulator, registry, device):
    for wrong in [{"a.b": 1}, {"a": [1, None]}, {"n": 2 ** 52}, {"s": "x" * 4097}]:
        with pytest.raises(HttpOperationError) as refused:
            registry.update_twin(device.id, patch(**wrong))
        assert refused.value.response.status_code == 400
        assert refused.value.response.headers["iothub-errorcode"] == "ArgumentInvalid"
    assert registry.get_twin(device.id).version == 2


def test_a_device_reads_reports_and_hears(registry, device, client):
    registry.update_twin(device.id, Twin(tags={"hidden": 1}, properties=TwinProperties(desired={"a": 1})))
    assert client.get_twin() == {"desired": {"a": 1, "$version": 2}, "reported": {"$version": 1}}
    client.patch_twin_reported_properties({"fw": {"version": "1.2", "beta": False}, "on": [1, 1.5]})
    client.patch_twin_reported_properties({"fw": {"beta": None}})
    reported = registry.get_twin(device.id).properties.reported
    assert (reported["fw"], reported["on"], reported["$version"]) == ({"version": "1.2"}, [1, 1.5], 3)
    assert "$lastUpdatedVersion" not in reported["$metadata"]["fw"]

    heard = queue.Queue()
    client.on_twin_desired_properties_patch_received = heard.put
    client.get_twin()  # the subscription is in force once this is answered
    registry.update_twin(device.id, patch(a=None, b={"c": 2}))
    assert heard.get(timeout=10) == {"a": None, "b": {"c": 2}, "$version": 3}
    registry.replace_twin(device.id, patch(d=4))
    assert heard.get(timeout=10) == {"d": 4, "$version": 4}
    registry.update_twin(device.id, Twin(tags={"nobody": "is told"}))
    registry.bulk_create_or_update_devices([ExportImportDevice(
        id=device.id, import_mode="updateTwin", properties={"desired": {"e": 5}})])
    assert heard.get(timeout=10) == {"e": 5, "$version": 5}
    assert heard.empty()
    assert client.get_twin()["desired"] == {"d": 4, "e": 5, "$version": 5}


def test_many_wishes_at_once_are_heard_in_the_order_of_their_versions(simulator, registry, device):
    """Over a socket: the SDK calls handlers on several threads. Who skips older versions would lose a late one."""
    line = Device(simulator.ca, device.hub, device.id, device.primary_key)
    assert line.subscribe("$iothub/twin/PATCH/properties/desired/#", qos=0) == 0

    def wish(number):
        IoTHubRegistryManager(simulator.hub()["connection_string"]).update_twin(device.id, patch(**{f"k{number}": 1}))

    wishes = [threading.Thread(target=wish, args=(number,)) for number in range(60)]
    for each in wishes:
        each.start()
    topics = []
    for _ in wishes:
        _, message = line.packet()
        topics.append(message[2:int.from_bytes(message[:2], "big") + 2].decode())
    assert topics == [f"$iothub/twin/PATCH/properties/desired/?$version={version}" for version in range(2, 62)]
    for each in wishes:
        each.join(20)


def test_a_device_is_told_what_it_may_not_report(simulator, device, client):
    with pytest.raises(Exception):
        client.patch_twin_reported_properties({"a.b": 1})
    records = eventually(lambda: simulator.refusals(device.id))
    assert [record["kind"] for record in records] == ["invalid-twin"]
    assert "`properties.reported.a.b`: a key may not hold" in records[0]["sentence"]
    client.patch_twin_reported_properties({"a": 1})
    assert client.get_twin()["reported"] == {"a": 1, "$version": 2}


def test_who_does_not_listen_is_not_told_and_who_is_away_misses_the_patch(simulator, registry, device):
    """Over a socket: an SDK subscribes to everything."""
    line = Device(simulator.ca, device.hub, device.id, device.primary_key)
    assert line.subscribe("$iothub/twin/res/#", qos=0) == 0
    registry.update_twin(device.id, patch(a=1))
    line.socket.sendall(packet(0x30, text("$iothub/twin/GET/?$rid=x") + b" "))
    _, answer = line.packet()
    length = int.from_bytes(answer[:2], "big") + 2
    assert answer[2:length] == b"$iothub/twin/res/200/?$rid=x"
    assert json.loads(answer[length:])["desired"] == {"a": 1, "$version": 2}


def test_many_identities_at_once(registry, simulator):
    names = [f"bulk-{uuid.uuid4()}" for _ in range(3)]

    def element(name, mode, **more):
        return ExportImportDevice(id=name, import_mode=mode, status="enabled", authentication={
            "type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}, **more)

    made = registry.bulk_create_or_update_devices([
        element(name, "create", tags={"n": number}, properties={"desired": {"d": number}})
        for number, name in enumerate(names)])
    assert (made.is_successful, made.errors) == (True, [])
    twin = registry.get_twin(names[2])
    assert (twin.tags, twin.properties.desired["d"], twin.properties.desired["$version"]) == ({"n": 2}, 2, 1)
    client = IoTHubDeviceClient.create_from_connection_string(
        f"HostName={simulator.hub()['address']};DeviceId={names[2]};SharedAccessKey={KEY}",
        server_verification_cert=simulator.ca_pem)
    assert client.get_twin()["desired"] == {"d": 2, "$version": 1}
    client.shutdown()

    some = registry.bulk_create_or_update_devices([element(names[0], "create"), element(names[1], "delete")])
    assert not some.is_successful
    assert [(error.device_id, str(error.error_code)) for error in some.errors] == [(names[0], "409001")]
    with pytest.raises(HttpOperationError):
        registry.get_device(names[1])
    registry.bulk_create_or_update_devices([element(name, "delete") for name in (names[0], names[2])])


def test_what_was_acknowledged_of_a_twin_is_there_after_a_kill(own, monkeypatch):
    own = own()
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, own.ca)
    registry = IoTHubRegistryManager(own.hub()["connection_string"])
    registry.create_device_with_sas("kill-twin", KEY, KEY, "enabled")
    client = IoTHubDeviceClient.create_from_connection_string(
        f"HostName={own.hub()['address']};DeviceId=kill-twin;SharedAccessKey={KEY}",
        server_verification_cert=own.ca_pem, connection_retry=False)
    client.connect()
    acknowledged = {"desired": 0, "reported": 0}
    enough = threading.Event()

    def write(section, call):
        try:
            for number in range(1, 100_000):
                call(number)
                acknowledged[section] = number
                if all(count > 20 for count in acknowledged.values()):
                    enough.set()
        except Exception:  # the kill
            pass

    writers = [threading.Thread(target=write, daemon=True, args=arguments) for arguments in [
        ("desired", lambda number: registry.update_twin("kill-twin", patch(n=number))),
        ("reported", lambda number: client.patch_twin_reported_properties({"n": number}))]]
    for writer in writers:
        writer.start()
    assert enough.wait(30)
    own.stop(signal.SIGKILL)
    # The device waits for an answer that never comes; what it was answered before is what counts.
    writers[0].join(15)
    told = dict(acknowledged)
    own.start()
    twin = IoTHubRegistryManager(own.hub()["connection_string"]).get_twin("kill-twin")
    for section, count in told.items():
        stored = getattr(twin.properties, section)
        assert stored["n"] in (count, count + 1), section
        assert stored["$version"] == stored["n"] + 1
    client.shutdown()
