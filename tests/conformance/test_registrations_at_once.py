"""Many clients that register one id at the same time: one identity, one record, an answer for each."""

import threading
import uuid

from azure.iot.hub import IoTHubRegistryManager
from msrest.exceptions import HttpOperationError
from test_allocation import Rest
from test_device_https import Device

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CLIENTS = 24


def is_in(hub, device_id):
    try:
        return IoTHubRegistryManager(hub["connection_string"]).get_device(device_id).device_id == device_id
    except HttpOperationError as error:
        assert error.response.status_code == 404, error
        return False


def test_one_id_from_many_connections_is_one_device_in_the_hub_of_its_record(simulator):
    dps = simulator.connect["dps"]
    rest = Rest(dps["address"], dps["connection_string"], simulator.ca)
    east, west = simulator.hub("eastus"), simulator.hub("westus")
    device_id = f"at-once-{uuid.uuid4()}"

    def enroll(hub):
        status, answer = rest("PUT", f"/enrollments/{device_id}", {
            "registrationId": device_id, "allocationPolicy": "static", "iotHubs": [hub["host_name"]],
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}},
            If_Match="*")
        assert status == 200, answer

    enroll(east)
    outcomes, operations = [], set()
    together = threading.Barrier(CLIENTS + 1)

    def client():
        device = Device(simulator, device_id, KEY)
        together.wait()
        answer, body = device.register()
        operations.add(body["operationId"])
        outcomes.append(device.provision()[1] if answer.status == 202 else body)

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    together.wait()
    # Meanwhile the enrollment sends it here and there.
    for turn in range(30):
        enroll((west, east)[turn % 2])
    for one in clients:
        one.join(60)
    assert len(outcomes) == CLIENTS and {body["status"] for body in outcomes} == {"assigned"}, outcomes
    assert len(operations) == CLIENTS and len({operation[:19] for operation in operations}) == 1
    enroll(west)
    status, body = Device(simulator, device_id, KEY).provision()
    assert body["registrationState"]["assignedHub"] == west["address"]
    state = rest("GET", f"/registrations/{device_id}")[1]
    assert (state["assignedHub"], state["status"]) == (west["host_name"], "assigned")
    assert {body["registrationState"]["createdDateTimeUtc"] for body in outcomes} == {state["createdDateTimeUtc"]}
    assert (is_in(east, device_id), is_in(west, device_id)) == (False, True)
    assert rest("DELETE", f"/enrollments/{device_id}")[0] == 204
