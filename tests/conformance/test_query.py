"""Queries over twins with Microsoft's service SDK, and the texts that explorer, CLI and deployments send."""

import json
import uuid

import pytest
from azure.iot.hub.models import QuerySpecification, Twin, TwinProperties
from azure.iot.device import IoTHubDeviceClient
from conftest import eventually
from msrest.exceptions import HttpOperationError

EXPLORER = """
  SELECT deviceId as DeviceId,
    status as Status,
    lastActivityTime as LastActivityTime,
    statusUpdatedTime as StatusUpdatedTime,
    authenticationType as AuthenticationType,
    cloudToDeviceMessageCount as CloudToDeviceMessageCount,
    connectionState as ConnectionState,
    capabilities.iotEdge as IotEdge,
    modelId as ModelId FROM devices WHERE STARTSWITH(devices.deviceId,'%s')
"""


@pytest.fixture
def few(registry):
    """Five devices under a prefix of their own, with tags and desired properties."""
    prefix = f"query-{uuid.uuid4()}-"
    ids = [f"{prefix}{number}" for number in range(5)]
    for number, device in enumerate(ids):
        registry.create_device_with_sas(device, "", "", "disabled" if number == 4 else "enabled")
        registry.update_twin(device, Twin(
            tags={"site": {"floor": number, "name": prefix}, "my-tag": number % 2},
            properties=TwinProperties(desired={"interval": 10 * number, "list": [number, 443]})))
    yield prefix, ids
    for device in ids:
        registry.delete_device(device)


def ask(registry, text, count=None, token=None):
    return registry.query_iot_hub(QuerySpecification(query=text), token, count)


def raw(registry, text, count=None):
    """The rows of all pages, as they are: the SDK makes twins of everything."""
    rows, token = [], None
    while True:
        answer = registry.protocol.query.get_twins(QuerySpecification(query=text), token, count, raw=True)
        rows += json.loads(answer.response.text)
        token = answer.headers["x-ms-continuation"]
        if not token:
            return rows


def test_a_query_finds_twins_at_once(registry, few):
    prefix, ids = few
    found = ask(registry, f"SELECT * FROM devices WHERE tags.site.name = '{prefix}' AND tags.site.floor > 2")
    assert [twin.device_id for twin in found.items] == ids[3:]
    assert found.items[0].tags["site"] == {"floor": 3, "name": prefix}
    assert found.items[0].properties.desired["interval"] == 30
    assert found.continuation_token is None
    registry.update_twin(ids[0], Twin(tags={"site": {"floor": 7}}))
    found = ask(registry, f"SELECT * FROM devices WHERE tags.site.name = '{prefix}' AND tags.site.floor = 7")
    assert [twin.device_id for twin in found.items] == ids[:1]
    registry.delete_device(ids[0])
    assert ask(registry, f"SELECT * FROM devices WHERE deviceId = '{ids[0]}'").items == []
    registry.create_device_with_sas(ids[0], "", "", "enabled")


def test_pages_are_followed_by_their_tokens(registry, few):
    prefix, ids = few
    text = f"SELECT * FROM devices WHERE STARTSWITH(deviceId, '{prefix}')"
    found, sizes, token = [], [], None
    while True:
        page = ask(registry, text, 2, token)
        found += [twin.device_id for twin in page.items]
        sizes.append(len(page.items))
        token = page.continuation_token
        if token is None:
            break
    assert (found, sizes) == (ids, [2, 2, 1])
    with pytest.raises(HttpOperationError) as refused:
        ask(registry, text, 2, "garbage")
    assert refused.value.response.status_code == 400


def test_what_explorer_cli_and_deployments_send(registry, few, simulator):
    prefix, ids = few
    rows = raw(registry, EXPLORER % prefix, 100)
    assert [row["DeviceId"] for row in rows] == ids
    assert rows[4] == {"DeviceId": ids[4], "Status": "disabled", "LastActivityTime": "0001-01-01T00:00:00Z",
                       "AuthenticationType": "sas", "CloudToDeviceMessageCount": 0,
                       "ConnectionState": "Disconnected", "IotEdge": False, "ModelId": ""}
    begins = f"STARTSWITH(deviceId, '{prefix}')"
    for text, expected in [
        (f"select * from devices where capabilities.iotEdge = true and {begins}", []),
        (f"select deviceId from devices where array_contains(parentScopes, 'ms-azure-iot-edge://x') and {begins}", []),
        (f"select deviceId from devices where configurations.[[cfg]].status = 'Applied' and {begins}", []),
        (f"select deviceId from devices where tags.[[my-tag]] = 1 and {begins}",
         [{"deviceId": ids[1]}, {"deviceId": ids[3]}]),
        (f"SELECT tags.[[my-tag]] AS odd, COUNT() AS numberOfDevices, AVG(properties.desired.interval) AS i "
         f"FROM devices WHERE {begins} GROUP BY tags.[[my-tag]]",
         [{"odd": 0, "numberOfDevices": 3, "i": 20.0}, {"odd": 1, "numberOfDevices": 2, "i": 20.0}]),
        (f"SELECT TOP 1 deviceId FROM devices WHERE {begins} AND properties.desired.list[0] >= 0x2",
         [{"deviceId": ids[2]}]),
        ("SELECT * FROM devices.modules WHERE deviceId in ['d-that-is-not']", []),
        ("SELECT * FROM devices.jobs WHERE devices.jobs.deviceId = 'd-that-is-not'", []),
    ]:
        assert raw(registry, text, 2) == expected, text


def test_who_is_on_the_line_can_be_asked(registry, device, simulator):
    text = f"SELECT connectionState FROM devices WHERE deviceId = '{device.id}' AND connectionState = 'Connected'"
    client = IoTHubDeviceClient.create_from_connection_string(
        device.connection_string, server_verification_cert=simulator.ca_pem)
    assert raw(registry, text) == []
    client.connect()
    assert raw(registry, text) == [{"connectionState": "Connected"}]
    client.shutdown()
    eventually(lambda: raw(registry, text) == [])


def test_a_mistake_is_told_in_azures_words_and_explained_by_why(registry, simulator):
    for text in ["SELECT * FROM device", "SELECT * FROM devices WHERE STARTS_WITH(deviceId,'d')",
                 "SELECT * FROM devices WHERE deviceId IN ('a','b')", "SELECT jobId FROM devices.jobs", ""]:
        with pytest.raises(HttpOperationError) as refused:
            ask(registry, text)
        response = refused.value.response
        assert response.status_code == 400, text
        assert response.headers["iothub-errorcode"] == "ArgumentInvalid"
        assert response.json()["Message"] == "ErrorCode:ArgumentInvalid;BadRequest"
    last = [record for record in simulator.refusals("iothubowner") if record["kind"] == "invalid-query"]
    sentences = [record["sentence"] for record in last]
    assert any("STARTS_WITH is spelled STARTSWITH" in sentence for sentence in sentences), sentences


def test_a_query_needs_its_member(registry):
    with pytest.raises(HttpOperationError) as refused:
        ask(registry, None)
    response = refused.value.response
    assert (response.status_code, response.headers["iothub-errorcode"]) == (400, "ArgumentNull")
