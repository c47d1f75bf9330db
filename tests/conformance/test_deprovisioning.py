"""Devices taken out of service: what Azure's how-to for deprovisioning says, sentence by sentence, for symmetric keys.

A simulator of its own runs beside the shared one, on other addresses.
"""

import base64
import hashlib
import hmac
import itertools
import json
import os
import socket
import ssl
import subprocess
import time

import pytest
from conftest import BINARY, Simulator, eventually
from test_allocation import Rest
from wire import Device, packet, sas, text

DPS, EAST, WEST = (f"127.0.0.{last}" for last in (60, 61, 62))
CONFIG = f"""
[dps]
name = "gone-dps"
address = "{DPS}"
allocation = "hashed"
retry-after = 1
assigning-polls = 0

[[hub]]
name = "gone-east"
region = "eastus"
address = "{EAST}"

[[hub]]
name = "gone-west"
region = "westus"
address = "{WEST}"
"""
COUNT = itertools.count(1)


def new_key():
    return base64.b64encode(os.urandom(32)).decode()


def derived(key, registration_id):
    digest = hmac.new(base64.b64decode(key), registration_id.encode(), hashlib.sha256)
    return base64.b64encode(digest.digest()).decode()


class Asked(Rest):
    """Over a connection for each request: devices take longer than a service waits for the next one."""

    def __call__(self, *what, **headers):
        self.line = None
        return super().__call__(*what, **headers)


class Applicant(Device):
    """A device at the DPS, after SUBACK."""

    def __init__(self, system, registration_id, key):
        scope = system.connect["dps"]["id_scope"]
        context = ssl.create_default_context(cafile=system.ca)
        dps = system.connect["dps"]["address"]
        self.socket = context.wrap_socket(socket.create_connection((dps, 8883)), server_hostname=dps)
        self.socket.settimeout(10)
        resource = f"{scope}/registrations/{registration_id}"
        self.socket.sendall(packet(0x10, text("MQTT") + bytes([4, 0b1100_0010, 0, 60]) + text(registration_id)
                                   + text(f"{resource}/api-version=2021-06-01")
                                   + text(sas(resource, key, policy="registration"))))
        assert self.read(4)[3] == 0
        assert self.subscribe("$dps/registrations/res/#", qos=0) == 0

    def ask(self, topic, body=""):
        self.socket.sendall(packet(0x30, text(f"$dps/registrations/{topic}") + body.encode()))
        first, answer = self.packet()
        assert first & 0xf0 == 0x30
        length = int.from_bytes(answer[:2], "big") + 2
        return int(answer[2:length].decode().split("/")[3]), json.loads(answer[length:])


class System(Simulator):
    def __init__(self, folder, config=CONFIG):
        (folder / "azimuth.toml").write_text(config)
        super().__init__(folder, "--config", str(folder / "azimuth.toml"))
        self.dps = Asked(self.connect["dps"]["address"], self.connect["dps"]["connection_string"], self.ca)
        self.rest = {hub["host_name"]: Asked(hub["address"], hub["connection_string"], self.ca)
                     for hub in self.connect["hubs"]}

    def azimuth(self, *words):
        """`azimuth dps …`: exit status, and all it says."""
        command = [BINARY, "--data", str(self.folder / "data"), "dps", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def done(self, *words):
        status, said = self.azimuth(*words)
        assert status == 0, said
        return said

    def register(self, registration_id, key):
        """What the device is told at last: the status of the answer, and its body."""
        applicant = Applicant(self, registration_id, key)
        status, body = applicant.ask("PUT/iotdps-register/?$rid=1", json.dumps({"registrationId": registration_id}))
        while status == 202:
            time.sleep(0.05)
            operation = body["operationId"]
            status, body = applicant.ask(f"GET/iotdps-get-operationstatus/?$rid=2&operationId={operation}")
        applicant.close()
        return status, body

    def lands(self, registration_id, key):
        """Provisions a device; the name of its hub."""
        status, body = self.register(registration_id, key)
        assert (status, body.get("status")) == (200, "assigned"), body
        return body["registrationState"]["assignedHub"]

    def assigned(self, registration_id, key):
        """Provisions a device, which then is in its hub; the name of the hub, and the device on the line."""
        address = self.lands(registration_id, key)
        return self.state(registration_id)["assignedHub"], Device(self.ca, address, registration_id, key)

    def unknown(self, registration_id, key):
        status, body = self.register(registration_id, key)
        assert (status, body.get("errorCode")) == (401, 401002), body

    def disabled(self, registration_id, key):
        status, body = self.register(registration_id, key)
        assert (status, body.get("status")) == (200, "disabled"), body
        assert "assignedHub" not in body["registrationState"]

    def state(self, registration_id):
        status, state = self.dps("GET", f"/registrations/{registration_id}")
        return state if status == 200 else None

    def identity(self, hub, device):
        """The status of a device in its hub; None when it is not there."""
        status, identity = self.rest[hub]("GET", f"/devices/{device}")
        return identity["status"] if status == 200 else None

    def enrollment(self, *flags):
        name, key = f"own-{next(COUNT)}", new_key()
        self.done("enrollment", "create", name, "--primary-key", key, *flags)
        return name, key

    def group(self, *flags):
        name, key = f"group-{next(COUNT)}", new_key()
        self.done("group", "create", name, "--primary-key", key, *flags)
        return name, key


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("deprovisioning"))
    yield system
    system.stop()


def closed(line):
    return eventually(lambda: not line.ping())


def test_a_disabled_entry_revokes_access_for_a_time_and_a_deleted_one_for_good(system):
    name, key = system.enrollment()
    hub, line = system.assigned(name, key)
    system.done("enrollment", "update", name, "--status", "disabled")
    system.disabled(name, key)
    eventually(lambda: system.state(name)["status"] == "disabled")
    assert line.ping() and system.identity(hub, name) == "enabled", "the DPS alone cuts nobody off"

    system.done("enrollment", "update", name, "--status", "enabled")
    again, other = system.assigned(name, key)
    assert again == hub
    other.close()

    said = system.done("enrollment", "delete", name)
    assert f"its device stays in {hub}" in said
    assert system.state(name) is None, "the record goes with the entry"
    system.unknown(name, key)
    assert system.identity(hub, name) == "enabled"


def test_both_steps_for_one_device_with_an_entry_of_its_own(system):
    name, key = system.enrollment()
    hub, line = system.assigned(name, key)
    said = system.done("deprovision", "--registration", name)
    assert f"dps  disabled the enrollment {name}" in said and f"hub  disabled {name} in {hub}" in said, said
    assert closed(line) and system.identity(hub, name) == "disabled"
    system.disabled(name, key)
    with pytest.raises((AssertionError, OSError)):
        Device(system.ca, {"gone-east": EAST, "gone-west": WEST}[hub.split(".")[0]], name, key)
    said = system.done("deprovision", "--registration", name)
    assert "was disabled already" in said and f"{name} was disabled already in {hub}" in said, said

    said = system.done("deprovision", "--registration", name, "--delete")
    assert f"dps  deleted the enrollment {name}" in said and f"hub  deleted {name} in {hub}" in said, said
    assert system.identity(hub, name) is None
    system.unknown(name, key)
    status, said = system.azimuth("deprovision", "--registration", name)
    assert status == 1 and f"azimuth dps enrollment create {name} --status disabled" in said, said


def test_a_deleted_entry_lets_a_device_back_in_through_a_group_and_a_disabled_one_does_not(system):
    group, group_key = system.group()
    name, own_key = system.enrollment()
    from_group = derived(group_key, name)
    hub, line = system.assigned(name, own_key)
    line.close()
    system.done("enrollment", "update", name, "--status", "disabled")
    system.disabled(name, own_key)
    system.unknown(name, from_group)
    eventually(lambda: system.state(name)["status"] == "disabled")

    said = system.done("deprovision", "--registration", name, "--delete")
    assert f"{name} may come back by the group {group}, which is enabled" in said, said
    assert system.identity(hub, name) is None
    back, line = system.assigned(name, from_group)
    assert system.identity(back, name) == "enabled"
    line.close()


def test_a_group_shows_its_devices_each_with_its_hub(system):
    group, key = system.group("--allocation", "static", "--hub", "gone-west")
    names = [f"{group}-{n}" for n in (1, 2)]
    for name in names:
        system.assigned(name, derived(key, name))[1].close()
    rows = [line.split() for line in system.done("registration", "list", "--group", group).splitlines()]
    west = "gone-west.azure-devices.net"
    assert [row[:4] for row in rows[1:]] == [[name, "assigned", west, name] for name in names]
    listed = json.loads(system.done("registration", "list", "--group", group.upper(), "--json"))
    assert [state["assignedHub"] for state in listed] == [west, west]
    system.done("registration", "delete", names[0])
    listed = json.loads(system.done("registration", "list", "--group", group, "--json"))
    assert [state["registrationId"] for state in listed] == names[1:]
    assert system.identity(west, names[0]) == "enabled", "the device stays in its hub"


def test_all_devices_of_a_group(system):
    group, key = system.group()
    names = [f"{group}-{n}" for n in (1, 2, 3)]
    places = {name: system.assigned(name, derived(key, name)) for name in names}
    said = system.done("deprovision", "--group", group)
    assert f"dps  disabled the group {group}" in said and "hub  3 of 3 devices done" in said, said
    for name, (hub, line) in places.items():
        assert f"hub  disabled {name} in {hub}" in said
        assert closed(line) and system.identity(hub, name) == "disabled"
    for name in (names[0], f"{group}-new"):
        system.disabled(name, derived(key, name))
    # After the devices, the group may be deleted; their registrations stay.
    said = system.done("deprovision", "--group", group, "--delete")
    assert f"dps  deleted the group {group}" in said, said
    assert [system.identity(hub, name) for name, (hub, _) in places.items()] == [None] * 3
    assert system.state(names[1])["registrationId"] == names[1]
    status, said = system.azimuth("registration", "list", "--group", group)
    assert status == 1 and "group list" in said
    system.unknown(names[0], derived(key, names[0]))


def test_a_deleted_group_leaves_its_devices_to_another_group_whose_key_they_hold(system):
    first, second = system.group(), system.group()
    name = f"both-{next(COUNT)}"
    hub, line = system.assigned(name, derived(first[1], name))
    said = system.done("deprovision", "--group", first[0], "--delete")
    assert f"the group {second[0]} is enabled" in said and closed(line)
    system.unknown(name, derived(first[1], name))
    back, line = system.assigned(name, derived(second[1], name))
    assert system.identity(back, name) == "enabled"
    line.close()


@pytest.mark.parametrize("flags, fate", [([], "disabled"), (["--delete"], None)])
def test_one_device_of_a_group(system, flags, fate):
    group, key = system.group()
    gone, stays = f"{group}-gone", f"{group}-stays"
    (hub, line), (other_hub, other) = [system.assigned(name, derived(key, name)) for name in (gone, stays)]
    said = system.done("deprovision", "--registration", gone, *flags)
    assert f"created a disabled enrollment {gone}" in said and "lets it back in" in said, said
    assert closed(line) and system.identity(hub, gone) == fate
    # Its own entry is all that counts now, and nobody holds the keys of that.
    system.unknown(gone, derived(key, gone))
    assert other.ping() and system.lands(stays, derived(key, stays))
    assert system.identity(other_hub, stays) == "enabled"

    # "Do not delete the disabled individual enrollment for the device."
    system.done("enrollment", "delete", gone)
    assert system.lands(gone, derived(key, gone))


def test_a_hub_that_is_not_known_is_asked_for(system, tmp_path):
    name, key = system.enrollment()
    hub, line = system.assigned(name, key)
    line.close()
    connect = dict(system.connect, hubs=[])
    (tmp_path / "connect.json").write_text(json.dumps(connect))
    command = [BINARY, "--data", str(tmp_path), "dps", "deprovision", "--registration", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "--hub-connection-string" in done.stderr, done.stderr
    assert system.identity(hub, name) == "enabled"
    given = next(one["connection_string"] for one in system.connect["hubs"] if one["host_name"] == hub)
    done = subprocess.run([*command, "--hub-connection-string", given], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and f"disabled {name} in {hub}" in done.stdout, done.stderr
    assert system.identity(hub, name) == "disabled"


def test_entries_are_managed_from_the_command_line(system):
    twin = {"tags": {"room": "12"}, "properties": {"desired": {"interval": 30}}}
    name = f"round:trip.{next(COUNT)}-x"
    made = json.loads(system.done(
        "enrollment", "create", name, "--device-id", "pump", "--allocation", "static", "--hub", "gone-east",
        "--reprovision", "never", "--initial-twin", json.dumps(twin), "--edge", "false", "--json"))
    keys = made["attestation"]["symmetricKey"]
    assert made["iotHubs"] == ["gone-east.azure-devices.net"] and made["initialTwin"] == twin
    assert made["reprovisionPolicy"] == {"updateHubAssignment": False, "migrateDeviceData": False}
    assert "symmetricKey" not in json.loads(system.done("enrollment", "show", name, "--json"))["attestation"]

    system.done("enrollment", "update", name, "--status", "disabled", "--any-hub", "--allocation", "hashed")
    shown = json.loads(system.done("enrollment", "show", name.upper(), "--show-keys", "--json"))
    assert shown["attestation"]["symmetricKey"] == keys, "what no flag names stays"
    assert (shown["provisioningStatus"], shown["deviceId"], shown.get("iotHubs")) == ("disabled", "pump", None)
    key = new_key()
    system.done("enrollment", "update", name, "--primary-key", key)
    assert key in system.done("enrollment", "show", name, "--show-keys")
    row = next(line.split() for line in system.done("enrollment", "list").splitlines() if line.startswith(name))
    assert row == [name, "disabled", "symmetricKey", "hashed", "-", "-"]
    for words, said in [
        (["create", name], "already exists"), (["update", name], "say what to change"),
        (["create", "no blanks"], "not a valid registration id"), (["show", "nobody"], "enrollment list"),
        (["create", "x", "--hub", "nowhere"], "linked are"), (["create", "x", "--primary-key", "short"], "400"),
    ]:
        status, answer = system.azimuth("enrollment", *words)
        assert status == 1 and said in answer, answer
    system.done("enrollment", "delete", name)
    assert name not in system.done("enrollment", "list")

    group, key = system.group("--reprovision", "reset")
    assert system.done("group", "compute-device-key", group, "--registration", "Dev-1").strip() == derived(key, "Dev-1")
    assert system.done("group", "compute-device-key", "--key", key, "--registration", "d").strip() == derived(key, "d")
    system.done("group", "update", group, "--status", "disabled")
    shown = json.loads(system.done("group", "show", group, "--show-keys", "--json"))
    assert shown["attestation"]["symmetricKey"]["primaryKey"] == key and shown["provisioningStatus"] == "disabled"
    system.done("group", "delete", group)
    status, answer = system.azimuth("group", "show", group)
    assert status == 1 and "group list" in answer


def test_a_list_is_read_to_its_last_page(system):
    names = [f"page-{n:03}" for n in range(230)]
    for at in range(0, 230, 10):
        entries = [{"registrationId": name, "attestation": {"type": "symmetricKey", "symmetricKey": {}}}
                   for name in names[at:at + 10]]
        status, answer = system.dps("POST", "/enrollments", {"mode": "create", "enrollments": entries})
        assert (status, answer) == (200, {"isSuccessful": True, "errors": []})
    listed = [line.split()[0] for line in system.done("enrollment", "list").splitlines()]
    assert [name for name in listed if name.startswith("page-")] == names
    listed = json.loads(system.done("enrollment", "list", "--json"))
    assert [one["registrationId"] for one in listed if one["registrationId"].startswith("page-")] == names
    # Who pipes into `head` reads no further, and that is no error.
    for flags in ([], ["--json"]):
        command = [BINARY, "--data", str(system.folder / "data"), "dps", "enrollment", "list", *flags]
        lister = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lister.stdout.readline()
        lister.stdout.close()
        assert (lister.wait(30), lister.stderr.read()) == (0, "")
        lister.stderr.close()
