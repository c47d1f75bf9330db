"""A device with a TPM provisions itself over HTTPS, and speaks to its hub with a key that only its TPM knows.

The device is swtpm with tpm2-tools: what it opens and what it signs, a real TPM 2.0 would.
"""

import base64
import http.client
import json
import signal
import ssl
import time

import paho.mqtt.client as mqtt
import pytest
import swtpm
from conftest import eventually
from wire import sas

VERSION = "api-version=2021-06-01"


@pytest.fixture
def tpms(tmp_path):
    """Makes TPMs."""
    swtpm.require()
    made = []

    def make():
        folder = tmp_path / f"tpm-{len(made)}"
        folder.mkdir()
        made.append(swtpm.Tpm(folder))
        return made[-1]
    yield make
    for tpm in made:
        tpm.stop()


def dps_line(simulator):
    context = ssl.create_default_context(cafile=simulator.ca)
    return http.client.HTTPSConnection(simulator.connect["dps"]["address"], timeout=30, context=context)


def service(simulator, method, path, body=None):
    """A request of the DPS's service API."""
    parts = dict(part.split("=", 1) for part in simulator.connect["dps"]["connection_string"].split(";"))
    line = dps_line(simulator)
    token = sas(parts["HostName"], parts["SharedAccessKey"], policy=parts["SharedAccessKeyName"])
    line.request(method, f"{path}?api-version=2021-10-01", json.dumps(body) if body else None,
                 {"Authorization": token, "Content-Type": "application/json"})
    answer = line.getresponse()
    text = answer.read()
    line.close()
    return answer.status, json.loads(text) if text else None


def enroll(simulator, registration_id, keys, **more):
    body = {"registrationId": registration_id, "attestation": {"type": "tpm", "tpm": keys}, **more}
    status, entry = service(simulator, "PUT", f"/enrollments/{registration_id}", body)
    assert status == 200, entry
    return entry


class Device:
    """What the device's program does; the TPM holds the keys."""

    def __init__(self, simulator, tpm, registration_id=None):
        self.simulator, self.tpm = simulator, tpm
        self.id = registration_id or tpm.registration_id
        self.resource = f"{simulator.connect['dps']['id_scope']}/registrations/{self.id}"
        self.token = None

    def ask(self, method, tail="", body=None):
        line = dps_line(self.simulator)
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = self.token
        line.request(method, f"/{self.resource}{tail}?{VERSION}", body, headers)
        answer = line.getresponse()
        body = json.loads(answer.read())
        line.close()
        return answer, body

    def register(self):
        return self.ask("PUT", "/register", json.dumps({"registrationId": self.id, "tpm": self.tpm.keys}))

    def challenged(self):
        """Registers without a token and opens the key that comes back."""
        self.token = None
        answer, body = self.register()
        assert answer.status == 401, body
        assert sorted(body) == ["authenticationKey", "keyName", "message", "unencryptedAuthenticationKey"]
        assert (body["keyName"], body["unencryptedAuthenticationKey"]) == ("registration", None)
        assert body["message"] == "Authorization required, resend request using supplied key"
        self.tpm.activate(body["authenticationKey"])
        self.token = self.tpm.token(self.resource, "registration")

    def polled(self, answer, body):
        while answer.status == 202:
            assert body["operationId"]
            time.sleep(int(answer.getheader("Retry-After")))
            answer, body = self.ask("GET", f"/operations/{body['operationId']}")
        assert (answer.status, body["status"]) == (200, "assigned"), body
        return body["registrationState"]

    def provision(self):
        self.challenged()
        answer, body = self.register()
        assert answer.status == 202, body
        return self.polled(answer, body)

    def says(self, state, text):
        """Sends a message to its hub with the key it was assigned with."""
        self.tpm.activate(state["tpm"]["authenticationKey"])
        hub, device = state["assignedHub"], state["deviceId"]
        client, codes = mqtt.Client(device, protocol=mqtt.MQTTv311), []
        client.tls_set(self.simulator.ca)
        client.username_pw_set(f"{hub}/{device}/?api-version=2021-04-12", self.tpm.token(f"{hub}/devices/{device}"))
        client.on_connect = lambda client, *more: codes.append(more[-1])
        client.connect(hub, 8883)
        client.loop_start()
        try:
            if eventually(lambda: codes)[0] == 0:
                client.publish(f"devices/{device}/messages/events/", text, qos=1).wait_for_publish(10)
            return codes[0]
        finally:
            client.disconnect()
            client.loop_stop()


def test_a_tpm_provisions_itself_and_sends(simulator, tpms):
    tpm = tpms()
    device = Device(simulator, tpm)
    keys = tpm.keys
    entry = enroll(simulator, device.id, keys)
    assert entry["attestation"] == {"type": "tpm", "tpm": keys}
    assert service(simulator, "POST", f"/enrollments/{device.id}/attestationmechanism")[1] == entry["attestation"]
    state = device.provision()
    assert (state["deviceId"], state["substatus"]) == (device.id, "initialAssignment")
    assert device.says(state, "from a TPM") == 0
    eventually(lambda: [event for event in simulator.events(device.id) if "from a TPM" in json.dumps(event)])

    # The device finds its registration with the same token; back ends are shown nothing of the key.
    device.tpm.activate(state["tpm"]["authenticationKey"])
    answer, found = device.ask("POST")
    assert (answer.status, found) == (200, state)
    for path in [f"/registrations/{device.id}", f"/enrollments/{device.id}"]:
        shown = json.dumps(service(simulator, "GET", path)[1])
        assert "assigned" in shown and "authenticationKey" not in shown
    assert not simulator.refusals(device.id)


def test_a_tpm_that_registers_again_has_the_key_it_had(simulator, tpms):
    tpm = tpms()
    device = Device(simulator, tpm)
    # The storage root key need not be enrolled.
    enroll(simulator, device.id, {"endorsementKey": tpm.keys["endorsementKey"]})
    first = device.provision()
    tpm.activate(first["tpm"]["authenticationKey"])
    signature = tpm.hmac(b"the same key signs the same")
    again = device.provision()
    assert again["substatus"] == "reprovisionedToInitialAssignment"
    assert again["tpm"] != first["tpm"]
    assert device.says(again, "again") == 0
    assert tpm.hmac(b"the same key signs the same") == signature

    # Once the registration is forgotten, the next one makes another key.
    assert service(simulator, "DELETE", f"/registrations/{device.id}")[0] == 204
    anew = device.provision()
    assert device.says(anew, "anew") == 0
    assert tpm.hmac(b"the same key signs the same") != signature


def test_a_new_owner_of_the_tpm_is_challenged_for_the_new_storage_root_key(simulator, tpms):
    tpm = tpms()
    device = Device(simulator, tpm, "tpm-of-a-new-owner")
    before = tpm.keys
    enroll(simulator, device.id, before)
    device.provision()
    tpm.clear()
    assert tpm.keys["storageRootKey"] != before["storageRootKey"]
    assert tpm.keys["endorsementKey"] == before["endorsementKey"]
    assert device.says(device.provision(), "new owner") == 0


def test_a_stranger_and_a_disabled_tpm_are_told_what_azure_tells_them(simulator, tpms):
    own, other = tpms(), tpms()
    device = Device(simulator, own)
    answer, body = device.register()
    assert (answer.status, body["errorCode"]) == (404, 404201)
    enroll(simulator, device.id, own.keys)
    stranger = Device(simulator, other, device.id)
    answer, body = stranger.register()
    assert (answer.status, body["errorCode"]) == (401, 401002)
    assert simulator.refusals(device.id)[-1]["kind"] == "wrong-endorsement-key"

    # Whoever shows the public keys of another's TPM gets a key that it cannot open.
    stranger.tpm = own
    _, challenge = stranger.register()
    with pytest.raises(AssertionError, match="tpm2_activatecredential"):
        other.activate(challenge["authenticationKey"])

    status, _ = service(simulator, "DELETE", f"/enrollments/{device.id}")
    assert status == 204
    enroll(simulator, device.id, own.keys, provisioningStatus="disabled")
    device.challenged()
    answer, body = device.register()
    assert (answer.status, body["status"], body["operationId"]) == (200, "disabled", "")
    assert "tpm" not in body["registrationState"]


def test_keys_that_are_none_are_refused_with_the_reason(simulator, tpms):
    tpm = tpms()
    # A P-256 endorsement key, which no client of Azure's uses.
    tpm.tool("createek", "-c", "ecc.ctx", "-G", "ecc", "-u", "ecc.pub", "-f", "tss")
    ecc = base64.b64encode((tpm.folder / "ecc.pub").read_bytes()).decode()
    for keys, words in [({"endorsementKey": ecc}, "ECC"), ({"endorsementKey": "ATo="}, "ends too early"),
                        ({"endorsementKey": "?"}, "not base64"), ({}, "endorsementKey"),
                        ({**tpm.keys, "storageRootKey": "AAAA"}, "storageRootKey")]:
        status, error = service(simulator, "PUT", "/enrollments/no-tpm", {
            "registrationId": "no-tpm", "attestation": {"type": "tpm", "tpm": keys}})
        assert (status, words in error["message"]) == (400, True), error
    status, error = service(simulator, "PUT", "/enrollmentGroups/no-tpms", {
        "enrollmentGroupId": "no-tpms", "attestation": {"type": "tpm", "tpm": tpm.keys}})
    assert (status, "one by one" in error["message"]) == (400, True), error


def test_a_kill_at_any_moment_leaves_a_device_that_can_go_on(own, tpms):
    own, tpm = own(), tpms()
    device = Device(own, tpm)
    enroll(own, device.id, tpm.keys)

    # Between the challenge and the token: the key is gone with the process, and the device is told so.
    device.challenged()
    own.stop(signal.SIGKILL)
    own.start()
    answer, body = device.register()
    assert (answer.status, body["errorCode"]) == (401, 401002)
    assert "register without a token" in own.refusals(device.id)[-1]["sentence"]

    # Between register and the poll: begun anew, it ends well.
    device.challenged()
    answer, body = device.register()
    assert answer.status == 202
    own.stop(signal.SIGKILL)
    own.start()
    device.challenged()
    answer, body = device.ask("GET", f"/operations/{body['operationId']}")
    assert (answer.status, body["status" if answer.status == 200 else "errorCode"]) in [(200, "assigned"), (404, 404203)]
    state = device.provision()
    assert device.says(state, "alive") == 0
    tpm.activate(state["tpm"]["authenticationKey"])
    signature = tpm.hmac(b"which key")

    # After the end: what was delivered stays so, and can be polled and delivered again.
    own.stop(signal.SIGKILL)
    own.start()
    device.challenged()
    answer, found = device.ask("POST")
    assert (answer.status, found["tpm"]) == (200, state["tpm"])
    assert device.says(found, "still alive") == 0
    state = device.provision()
    tpm.activate(state["tpm"]["authenticationKey"])
    assert tpm.hmac(b"which key") == signature


def test_a_fleet_of_software_tpms_registers_and_sends(simulator, tmp_path):
    folder = tmp_path / "tpms"
    printed = simulator.command("tpm", "create", "--folder", str(folder), "--count", "3").splitlines()
    commands = [line.split()[1:] for line in printed if line.startswith("azimuth dps enrollment create ")]
    assert len(commands) == 3 and printed[-1] == f"Then: azimuth device-sim --tpm {folder}"
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    fleet = ["device-sim", "--tpm", str(folder), "--messages", "2", "--heartbeat", "0.1", "--give-up-after", "1", "--json"]
    # Nobody is enrolled: the report says so.
    report = json.loads(simulator.command(*fleet, check=False))
    assert [row["kind"] for row in report["faults"]] == ["provisioning-404"], report
    for command in commands:
        assert "registers: over HTTPS" in simulator.command(*command)
    shown = simulator.command("dps", "enrollment", "show", commands[0][3], "--json")
    assert json.loads(shown)["attestation"] == {"type": "tpm", "tpm": {"endorsementKey": commands[0][5]}}
    # The second time they are told the keys they have.
    for _ in range(2):
        report = json.loads(simulator.command(*fleet))
        assert not report["faults"], report
    for command in commands:
        assert len(simulator.events(command[3])) == 4
