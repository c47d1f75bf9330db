"""A device registers at the DPS over plain HTTPS: PUT, poll, look up."""

import base64
import hashlib
import hmac
import http.client
import json
import ssl
import time
import uuid

import pytest
from wire import sas

GROUP_KEY = "rLuyBPpIJ+hOre2SFIP9Ajvdty3j0EwSP/WvTVH9eZAw5HpDuEmf13nziHy5RRXmuTy84FCLpOnhhBPASSbHYg=="
OWN_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
VERSION = "api-version=2019-03-31"


def derived(registration_id):
    digest = hmac.new(base64.b64decode(GROUP_KEY), registration_id.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


class Device:
    def __init__(self, simulator, registration_id, key, scope=None):
        dps = simulator.connect["dps"]
        self.line = http.client.HTTPSConnection(dps["address"], timeout=30,
                                                context=ssl.create_default_context(cafile=simulator.ca))
        resource = f"{scope or dps['id_scope']}/registrations/{registration_id}"
        self.path = f"/{resource}"
        self.headers = {"Authorization": sas(resource, key, policy="registration"),
                        "Content-Type": "application/json; charset=utf-8", "Content-Encoding": "utf-8"}
        self.id = registration_id

    def ask(self, method, tail="", body=None):
        self.line.request(method, f"{self.path}{tail}?{VERSION}", body, self.headers)
        answer = self.line.getresponse()
        return answer, json.loads(answer.read())

    def register(self):
        return self.ask("PUT", "/register", json.dumps({"registrationId": self.id, "payload": None}))

    def provision(self):
        """Registers and polls; the last answer."""
        answer, body = self.register()
        assert (answer.status, body["status"]) == (202, "assigning"), body
        assert answer.getheader("Location") == f"https://{self.line.host}{self.path}/register"
        while answer.status == 202:
            time.sleep(int(answer.getheader("Retry-After")))
            answer, body = self.ask("GET", f"/operations/{body['operationId']}", "{}")
        assert answer.getheader("Retry-After") is None
        return answer, body


@pytest.fixture
def enrollment(simulator):
    """Makes individual enrollments with the DPS's own REST API."""
    dps = simulator.connect["dps"]
    parts = dict(part.split("=", 1) for part in dps["connection_string"].split(";"))
    line = http.client.HTTPSConnection(dps["address"], context=ssl.create_default_context(cafile=simulator.ca))
    token = sas(parts["HostName"], parts["SharedAccessKey"], policy=parts["SharedAccessKeyName"])

    def put(status="enabled"):
        registration_id = f"https-{uuid.uuid4()}"
        keys = {"primaryKey": OWN_KEY, "secondaryKey": OWN_KEY}
        body = {"registrationId": registration_id, "provisioningStatus": status,
                "attestation": {"type": "symmetricKey", "symmetricKey": keys}}
        line.request("PUT", f"/enrollments/{registration_id}?api-version=2021-10-01", json.dumps(body),
                     {"Authorization": token, "Content-Type": "application/json"})
        answer = line.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
        return registration_id
    yield put
    line.close()


def check_assigned(simulator, device, answer, body):
    assert (answer.status, body["status"]) == (200, "assigned"), body
    state = body["registrationState"]
    assert state["deviceId"] == device.id
    assert state["assignedHub"] in [hub["address"] for hub in simulator.connect["hubs"]]
    answer, found = device.ask("POST", body=json.dumps({"registrationId": device.id}))
    assert (answer.status, found) == (200, state)


def test_a_device_of_a_group_is_assigned(simulator):
    registration_id = f"https-{uuid.uuid4()}"
    device = Device(simulator, registration_id, derived(registration_id))
    answer, body = device.ask("POST")
    assert (answer.status, body["errorCode"]) == (404, 404202)
    check_assigned(simulator, device, *device.provision())


def test_a_device_with_an_enrollment_of_its_own_is_assigned(simulator, enrollment):
    device = Device(simulator, enrollment(), OWN_KEY)
    check_assigned(simulator, device, *device.provision())


def test_a_disabled_device_is_told_so_at_once(simulator, enrollment):
    device = Device(simulator, enrollment("disabled"), OWN_KEY)
    answer, body = device.register()
    assert (answer.status, body["status"], body["operationId"]) == (200, "disabled", "")
    assert answer.getheader("Retry-After") is None


def test_refusals_are_azures_and_explained(simulator, enrollment):
    own, stranger = enrollment(), f"https-{uuid.uuid4()}"
    for registration_id, key, scope, kind in [
        (own, derived(own), None, "wrong-key"),
        (stranger, OWN_KEY, None, "unknown-registration"),
        (stranger, GROUP_KEY, None, "group-key"),
        (stranger, derived(stranger), "0ne0000DEAD", "unknown-id-scope"),
    ]:
        answer, body = Device(simulator, registration_id, key, scope).register()
        assert (answer.status, body["errorCode"], body["message"]) == (401, 401002, "Unauthorized"), kind
        assert body["trackingId"] == answer.getheader("x-ms-request-id")
        last = simulator.refusals(registration_id)[-1]
        assert (last["kind"], last["answer"]) == (kind, "HTTP 401 Unauthorized")


def test_an_operation_of_somebody_else_is_not_found(simulator):
    ids = [f"https-{uuid.uuid4()}" for _ in range(2)]
    one, other = (Device(simulator, registration_id, derived(registration_id)) for registration_id in ids)
    _, body = one.register()
    answer, body = other.ask("GET", f"/operations/{body['operationId']}")
    assert (answer.status, body["errorCode"], body["message"]) == (404, 404203, "Operation not found.")


def test_a_request_that_cannot_be_read_is_a_bad_one(simulator):
    registration_id = f"https-{uuid.uuid4()}"
    device = Device(simulator, registration_id, derived(registration_id))
    for body in ["{", " " * (96 * 1024 + 1)]:
        answer, error = device.ask("PUT", "/register", body)
        assert (answer.status, error["errorCode"] // 1000) == (400, 400)
        device.line.close()
    answer, _ = device.ask("DELETE", "/register")
    assert answer.status == 405
