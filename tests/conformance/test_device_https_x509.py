"""The device API over HTTPS with a client certificate, as `requests` sends it: register, poll, look up."""

import time
from types import SimpleNamespace

import pytest
import requests
from test_x509 import Workshop, fresh

VERSION = {"api-version": "2019-03-31"}


@pytest.fixture
def workshop(simulator, tmp_path):
    return Workshop(simulator, tmp_path)


class Device:
    """A device with the files of its certificate."""

    def __init__(self, workshop, registration_id, chain="device.chain.pem", key="device.key"):
        dps = workshop.simulator.connect["dps"]
        self.id, self.url = registration_id, f"https://{dps['address']}/{dps['id_scope']}/registrations/{registration_id}"
        self.line = requests.Session()
        # Else REQUESTS_CA_BUNDLE would decide.
        self.line.trust_env, self.line.verify = False, workshop.simulator.ca
        if chain:
            self.line.cert = (str(workshop.folder / chain), str(workshop.folder / key))

    def ask(self, method, tail="", **more):
        return self.line.request(method, self.url + tail, params=VERSION, timeout=30, **more)

    def register(self):
        return self.ask("PUT", "/register", json={"registrationId": self.id})

    def provision(self):
        """Registers, polls and looks up; the state that both of the last two answer with."""
        answer = self.register()
        assert (answer.status_code, answer.json()["status"]) == (202, "assigning"), answer.text
        assert answer.headers["Location"] == f"{self.url}/register"
        operation = answer.json()["operationId"]
        while answer.status_code == 202:
            time.sleep(int(answer.headers["Retry-After"]))
            answer = self.ask("GET", f"/operations/{operation}")
        assert (answer.status_code, answer.json()["status"]) == (200, "assigned"), answer.text
        assert "Retry-After" not in answer.headers
        state = answer.json()["registrationState"]
        found = self.ask("POST", json={"registrationId": self.id})
        assert (found.status_code, found.json()) == (200, state)
        return state


def refused(workshop, device, message, kind):
    for answer in (device.register(), device.ask("GET", "/operations/5.none"), device.ask("POST", json={})):
        body = answer.json()
        assert (answer.status_code, body["errorCode"], body["message"]) == (401, 401002, message), body
        assert body["trackingId"] == answer.headers["x-ms-request-id"] and "Retry-After" not in answer.headers
    records = [record for record in workshop.simulator.refusals(device.id) if record["who"] == device.id]
    assert [(record["kind"], record["answer"]) for record in records] == [(kind, "HTTP 401 Unauthorized")] * 3


def test_a_leaf_that_is_enrolled_itself(workshop):
    name = fresh("mtls-leaf")
    workshop.certs("leaf", name, "device")
    workshop.enroll(name, workshop.text("device.pem"))
    state = Device(workshop, name).provision()
    assert (state["x509"], state["deviceId"], state["substatus"]) == ({}, name, "initialAssignment")
    told = SimpleNamespace(assigned_hub=state["assignedHub"], device_id=state["deviceId"])
    workshop.say_hello(SimpleNamespace(registration_state=told), "device.chain.pem", "device.key")


def test_a_chain_to_a_group(workshop):
    root, name = fresh("root"), fresh("mtls-chain")
    workshop.certs("root", "Contoso Root", root)
    workshop.certs("intermediate", "Contoso Line 8", "--issuer", str(workshop.folder / root), "line")
    workshop.certs("leaf", name, "--issuer", str(workshop.folder / "line"), "device")
    workshop.prove(root)
    group = workshop.enroll_group({"signingCertificates": {"primary": {"certificate": workshop.text("line.pem")}}})
    state = Device(workshop, name).provision()
    assert state["x509"] == {"enrollmentGroupId": group}
    told = SimpleNamespace(assigned_hub=state["assignedHub"], device_id=state["deviceId"])
    workshop.say_hello(SimpleNamespace(registration_state=told), "device.chain.pem", "device.key")


def test_a_certificate_of_another_name_an_unknown_ca_another_leaf_and_none_at_all(workshop):
    name, other = fresh("mtls-name"), fresh("mtls-other")
    workshop.certs("leaf", name, "device")
    workshop.enroll(name, workshop.text("device.pem"))
    refused(workshop, Device(workshop, other), "Unauthorized", "common-name-mismatch")
    stranger = fresh("mtls-stranger")
    workshop.certs("root", "Nobody Knows It", "nobody")
    workshop.certs("leaf", stranger, "--issuer", str(workshop.folder / "nobody"), "stranger")
    unknown = Device(workshop, stranger, "stranger.chain.pem", "stranger.key")
    refused(workshop, unknown, "Invalid certificate.", "unknown-ca")
    # The same name, and a key of its own.
    workshop.certs("leaf", name, "imitation")
    imitation = Device(workshop, name, "imitation.chain.pem", "imitation.key")
    refused(workshop, imitation, "Unauthorized", "certificate-not-enrolled")
    refused(workshop, Device(workshop, fresh("mtls-nothing"), chain=None), "Unauthorized", "no-credentials")
    assert Device(workshop, name).provision()["deviceId"] == name


def test_an_operation_is_its_devices_alone(workshop):
    names = [fresh("mtls-own"), fresh("mtls-own")]
    for n, name in enumerate(names):
        workshop.certs("leaf", name, f"own{n}")
        workshop.enroll(name, workshop.text(f"own{n}.pem"))
    one, other = (Device(workshop, name, f"own{n}.chain.pem", f"own{n}.key") for n, name in enumerate(names))
    operation = one.register().json()["operationId"]
    answer = other.ask("GET", f"/operations/{operation}")
    assert (answer.status_code, answer.json()["errorCode"]) == (404, 404203)
    # Its own line may not speak for the other device either.
    other.url = one.url
    assert other.ask("GET", f"/operations/{operation}").status_code == 401
