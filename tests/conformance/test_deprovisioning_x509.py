"""Devices with certificates taken out of service: what Azure's how-to for deprovisioning says, sentence by sentence.

The devices are azure-iot-device, each in a process of its own that boots, registers, connects and stays. A simulator of
its own runs beside the shared one, on other addresses.
"""

import itertools
import json
import subprocess
import sys

import pytest
from conftest import BINARY, eventually
from test_deprovisioning import System

DPS, EAST, WEST = (f"127.0.0.{last}" for last in (90, 91, 92))
CONFIG = f"""
[dps]
name = "chain-dps"
address = "{DPS}"
allocation = "hashed"
retry-after = 1
assigning-polls = 0

[[hub]]
name = "chain-east"
region = "eastus"
address = "{EAST}"

[[hub]]
name = "chain-west"
region = "westus"
address = "{WEST}"
"""
COUNT = itertools.count(1)

FIRMWARE = """
import json, sys
from azure.iot.device import IoTHubDeviceClient, Message, ProvisioningDeviceClient, X509
dps, scope, name, chain, key, ca = sys.argv[1:]
x509, trusted = X509(cert_file=chain, key_file=key), open(ca).read()
def tell(**what):
    print(json.dumps(what), flush=True)
try:
    state = ProvisioningDeviceClient.create_from_x509_certificate(
        provisioning_host=dps, registration_id=name, id_scope=scope, x509=x509,
        server_verification_cert=trusted).register().registration_state
except Exception as error:
    tell(error=f"{error} {error.__cause__}")
    sys.exit()
tell(hub=state.assigned_hub, device=state.device_id)
def connected():
    client = IoTHubDeviceClient.create_from_x509_certificate(
        x509, state.assigned_hub, state.device_id, server_verification_cert=trusted, connection_retry=False)
    client.connect()
    return client
client = connected()
for line in sys.stdin:
    try:
        if line.strip() == "reconnect":
            client.shutdown()
            client = connected()
        else:
            client.send_message(Message(line.strip()))
        tell(done=True)
    except Exception as error:
        tell(done=False, error=str(error))
"""


class Boot:
    """A device that was switched on."""

    def __init__(self, system, name, stem=None):
        self.name = name
        files = [str(system.shelf / f"{stem or name}{ending}") for ending in (".chain.pem", ".key")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", FIRMWARE, DPS, system.connect["dps"]["id_scope"], name, *files, system.ca],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.told = self.hear()

    def hear(self):
        return json.loads(self.process.stdout.readline())

    def __call__(self, order):
        """Whether the device could send, or connect anew."""
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        return self.hear()["done"]

    def off(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()


class Factory(System):
    """A simulator, and a shelf of certificates."""

    def __init__(self, folder):
        self.shelf, self.on = folder / "shelf", []
        self.shelf.mkdir()
        super().__init__(folder, CONFIG)

    def certs(self, *words):
        subprocess.run([BINARY, "certs", *words], cwd=self.shelf, check=True, capture_output=True)

    def line(self):
        """A root that the DPS knows as verified, and a signing certificate below it; the names of both."""
        number = next(COUNT)
        root, line = f"root-{number}", f"line-{number}"
        self.certs("root", root)
        self.certs("intermediate", line, "--issuer", root)
        self.done("certificate", "upload", root, str(self.shelf / f"{root}.pem"))
        self.done("certificate", "verify", root, "--issuer", str(self.shelf / root))
        return root, line

    def leaf(self, issuer=None):
        name = f"device-{next(COUNT)}"
        self.certs("leaf", name, *(["--issuer", issuer] if issuer else []))
        return name

    def pem(self, name):
        return str(self.shelf / f"{name}.pem")

    def group(self, certificate, *flags):
        name = f"group-{next(COUNT)}"
        self.done("group", "create", name, "--certificate", self.pem(certificate), *flags)
        return name

    def boot(self, name):
        """The device after it was assigned and connected; and the name of its hub."""
        device = Boot(self, name)
        self.on.append(device)
        assert "hub" in device.told, device.told
        assert device("hello")
        return device, self.state(name)["assignedHub"]

    def refused(self, name):
        device = Boot(self, name)
        device.off()
        return device.told.get("error", f"it was assigned: {device.told}")

    def bars(self, name):
        """The device is told that its enrollment is disabled."""
        assert "disabled" in self.refused(name)

    def knows_nothing_of(self, name):
        assert "401" in self.refused(name)

    def came_by(self, name):
        """The group through which a device came."""
        return self.state(name)["x509"].get("enrollmentGroupId")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    factory = Factory(tmp_path_factory.mktemp("factory"))
    yield factory
    factory.stop()


@pytest.fixture
def factory(running):
    yield running
    while running.on:
        running.on.pop().off()


def test_an_individual_entry_is_disabled_for_a_time_or_deleted(factory):
    name = factory.leaf()
    factory.done("enrollment", "create", name, "--certificate", factory.pem(name))
    device, hub = factory.boot(name)
    factory.done("enrollment", "update", name, "--status", "disabled")
    factory.bars(name)
    assert device("still here") and factory.identity(hub, name) == "enabled", "the DPS alone cuts nobody off"
    factory.done("enrollment", "update", name, "--status", "enabled")
    _, again = factory.boot(name)
    assert again == hub
    said = factory.done("enrollment", "delete", name)
    assert f"its device stays in {hub}" in said
    factory.knows_nothing_of(name)


def test_two_certificates_count_while_one_takes_over_from_the_other(factory):
    name = factory.leaf()
    factory.certs("leaf", name, "--out", f"{name}-next")
    factory.done("enrollment", "create", name, "--certificate", factory.pem(name))

    def comes_in(stem):
        device = Boot(factory, name, stem)
        device.off()
        return "hub" in device.told
    assert (comes_in(name), comes_in(f"{name}-next")) == (True, False)
    factory.done("enrollment", "update", name, "--secondary-certificate", factory.pem(f"{name}-next"))
    assert (comes_in(name), comes_in(f"{name}-next")) == (True, True)
    factory.done("enrollment", "update", name, "--certificate", factory.pem(f"{name}-next"))
    assert (comes_in(name), comes_in(f"{name}-next")) == (False, True)


def test_deleted_it_may_re_enroll_through_a_group_of_its_chain_and_disabled_it_may_not(factory):
    root, line = factory.line()
    name = factory.leaf(line)
    group = factory.group(line)
    factory.done("enrollment", "create", name, "--certificate", factory.pem(name), "--device-id", f"{name}-own")
    _, hub = factory.boot(name)
    said = factory.done("deprovision", "--registration", name)
    assert f"dps  disabled the enrollment {name}" in said and f"hub  disabled {name}-own in {hub}" in said, said
    # "… regardless of whether an enabled enrollment group exists for one of its signing certificates."
    factory.bars(name)

    said = factory.done("deprovision", "--registration", name, "--delete")
    assert f"dps  deleted the enrollment {name}" in said and f"hub  deleted {name}-own in {hub}" in said, said
    assert f"by the group {group}" in said and f"with `CN={line}` in its chain" in said, said
    _, hub = factory.boot(name)
    assert factory.came_by(name) == group and factory.identity(hub, name) == "enabled"


def test_a_disabled_group_bars_its_signing_certificate_and_cuts_off_nobody(factory):
    root, line = factory.line()
    names = [factory.leaf(line) for _ in range(2)]
    late = factory.leaf(line)
    group = factory.group(line)
    devices = {name: factory.boot(name) for name in names}
    rows = [row.split() for row in factory.done("registration", "list", "--group", group).splitlines()]
    assert [row[:4] for row in rows[1:]] == [[name, "assigned", devices[name][1], name] for name in sorted(names)]

    factory.done("group", "update", group, "--status", "disabled")
    for name in (names[0], late):
        factory.bars(name)
    for name, (device, hub) in devices.items():
        assert device("still here") and device("reconnect") and device("and back")
        assert factory.identity(hub, name) == "enabled"


def test_all_devices_of_a_group(factory):
    root, line = factory.line()
    names = [factory.leaf(line) for _ in range(2)]
    group, above = factory.group(line), factory.group(root)
    devices = {name: factory.boot(name) for name in names}
    assert [factory.came_by(name) for name in names] == [group, group], "the nearer one decides"

    said = factory.done("deprovision", "--group", group)
    assert f"dps  disabled the group {group}" in said and "hub  2 of 2 devices done" in said, said
    assert "its signing certificate lets nobody in" in said and f"the group {above} is enabled" in said, said
    for name, (device, hub) in devices.items():
        assert f"hub  disabled {name} in {hub}" in said and factory.identity(hub, name) == "disabled"
        eventually(lambda: not device("hello"))
        factory.bars(name)

    # "… if there is an enabled enrollment group for a signing certificate higher up …, those devices can re-enroll."
    said = factory.done("deprovision", "--group", group, "--delete")
    assert f"dps  deleted the group {group}" in said, said
    assert f"the group {above} is enabled: a device with `CN={root}` in its chain may come back by it" in said, said
    assert [factory.identity(hub, name) for name, (_, hub) in devices.items()] == [None, None]
    _, hub = factory.boot(names[0])
    assert factory.came_by(names[0]) == above and factory.identity(hub, names[0]) == "enabled"


def test_a_disabled_intermediate_bars_all_below_it_although_the_root_is_enabled(factory):
    root, line = factory.line()
    other = f"line-{next(COUNT)}"
    factory.certs("intermediate", other, "--issuer", root)
    below, beside = factory.leaf(line), factory.leaf(other)
    above = f"group-{next(COUNT)}"
    factory.done("group", "create", above, "--ca-name", root)
    factory.boot(below)
    assert factory.came_by(below) == above
    # Its owner was never trusted with devices: a group for that certificate, disabled, forbids it.
    forbidden = factory.group(line, "--status", "disabled")
    factory.bars(below)
    _, hub = factory.boot(beside)
    assert factory.came_by(beside) == above
    factory.done("group", "delete", forbidden)
    factory.boot(below)
    assert factory.came_by(below) == above


@pytest.mark.parametrize("with_leaf", [True, False])
@pytest.mark.parametrize("flags, fate", [([], "disabled"), (["--delete"], None)])
def test_one_device_of_a_group(factory, flags, fate, with_leaf):
    root, line = factory.line()
    gone, stays = factory.leaf(line), factory.leaf(line)
    group = factory.group(line)
    (lost, hub), (kept, _) = factory.boot(gone), factory.boot(stays)
    leaf = ["--certificate", factory.pem(gone)] if with_leaf else []
    for repeated in range(2):
        said = factory.done("deprovision", "--registration", gone, *flags, *leaf)
        expected = "created a disabled enrollment" if repeated == 0 else "bars this device of its group already" \
            if flags else "was disabled already"
        assert expected in said and "do not delete it" in said, said
        assert factory.identity(hub, gone) == fate
    shown = json.loads(factory.done("enrollment", "show", gone, "--json"))
    assert (shown["attestation"]["type"], shown["provisioningStatus"]) == (
        "x509" if with_leaf else "symmetricKey", "disabled")
    eventually(lambda: not lost("hello"))
    (factory.bars if with_leaf else factory.knows_nothing_of)(gone)
    # "… while still permitting access for other devices that have the enrollment group's signing certificate …"
    assert kept("still here")
    factory.boot(stays)
    factory.boot(factory.leaf(line))

    # "Do not delete the disabled individual enrollment for the device. Doing so will allow the device to re-enroll …"
    factory.done("enrollment", "delete", gone)
    device = Boot(factory, gone)
    device.off()
    assert "hub" in device.told and factory.came_by(gone) == group


def test_a_device_is_barred_before_it_ever_registers(factory):
    root, line = factory.line()
    factory.group(line)
    name = factory.leaf(line)
    status, said = factory.azimuth("deprovision", "--registration", name, "--certificate", factory.pem(line))
    assert status == 1 and f"is a certificate of `{line}`, not of {name}" in said, said
    said = factory.done("deprovision", "--registration", name, "--certificate", factory.pem(name))
    assert f"hub  {name} was never assigned to one" in said, said
    factory.bars(name)
    # "Create a disabled individual enrollment for its leaf (device) certificate."
    name = factory.leaf(line)
    factory.done("enrollment", "create", name, "--certificate", factory.pem(name), "--status", "disabled")
    factory.bars(name)


def test_a_hub_that_disables_or_forgets_a_device_cuts_it_off(factory):
    root, line = factory.line()
    factory.group(line)
    name = factory.leaf(line)
    device, hub = factory.boot(name)
    status, identity = factory.rest[hub]("GET", f"/devices/{name}")
    identity["status"] = "disabled"
    assert factory.rest[hub]("PUT", f"/devices/{name}", identity, If_Match='"*"')[0] == 200
    eventually(lambda: not device("hello"))
    assert not device("reconnect")
    # The DPS does not notice, and does not enable it.
    again = Boot(factory, name)
    again.off()
    assert "hub" in again.told and factory.identity(hub, name) == "disabled"
    assert factory.rest[hub]("DELETE", f"/devices/{name}", If_Match='"*"')[0] == 204
    assert not device("reconnect")
    # Without a step in the DPS it comes back.
    _, hub = factory.boot(name)
    assert factory.identity(hub, name) == "enabled"


def test_what_was_done_and_what_was_not_is_said(factory, tmp_path):
    root, line = factory.line()
    group = factory.group(line)
    names = sorted(factory.leaf(line) for _ in range(2))
    places = {name: factory.boot(name)[1] for name in names}
    # The hubs cannot be asked from a folder that does not know them.
    (tmp_path / "connect.json").write_text(json.dumps(dict(factory.connect, hubs=[])))

    def without_hubs(*words):
        return subprocess.run([BINARY, "--data", str(tmp_path), "dps", "deprovision", *words], capture_output=True,
                              text=True, timeout=60)
    done = without_hubs("--group", group, "--delete")
    assert done.returncode == 1 and "hub  0 of 2 devices done" in done.stdout, done.stdout
    for name, hub in places.items():
        assert f"hub  {name} is not done: the keys of {hub} are not known" in done.stderr, done.stderr
        assert factory.identity(hub, name) == "enabled"
    assert "the group stays disabled, run this again" in done.stderr
    assert json.loads(factory.done("group", "show", group, "--json"))["provisioningStatus"] == "disabled"

    factory.done("group", "update", group, "--status", "enabled")
    done = without_hubs("--registration", names[0])
    assert done.returncode == 1 and f"dps  created a disabled enrollment {names[0]}" in done.stdout, done.stdout
    assert "the step in the DPS is done, the one in the hub is not; run this again" in done.stderr, done.stderr
    said = factory.done("deprovision", "--registration", names[0], "--delete")
    assert "bars this device of its group already" in said and f"hub  deleted {names[0]}" in said, said


def test_ca_certificates_are_managed_from_the_command_line(factory):
    number = next(COUNT)
    root, line, name = f"ca-{number}", f"ca-line-{number}", f"ca-device-{number}"
    factory.certs("root", root)
    factory.certs("intermediate", line, "--issuer", root)
    factory.certs("leaf", name, "--issuer", line)
    subprocess.run(["openssl", "x509", "-in", f"{root}.pem", "-outform", "DER", "-out", f"{root}.cer"],
                   cwd=factory.shelf, check=True)
    said = factory.done("certificate", "upload", root, str(factory.shelf / f"{root}.cer"))
    assert f"{root}, not verified" in said and "certificate verify" in said, said
    group = factory.group(line)
    factory.knows_nothing_of(name)

    code = factory.done("certificate", "verification-code", root).strip()
    factory.certs("verification", code, "--issuer", line, "--out", "wrong")
    factory.certs("verification", code, "--issuer", root, "--out", "proof")
    status, said = factory.azimuth("certificate", "verify", root, str(factory.shelf / "wrong.pem"))
    assert status == 1 and "possession is not proven" in said, said
    assert f"{root}, verified" in factory.done("certificate", "verify", root, str(factory.shelf / "proof.pem"))
    row = next(row.split() for row in factory.done("certificate", "list").splitlines() if row.startswith(f"{root} "))
    assert row[:3] == [root, "yes", root]
    listed = json.loads(factory.done("certificate", "list", "--json"))
    assert [one["properties"]["isVerified"] for one in listed if one["name"] == root] == [True]
    factory.boot(name)
    assert factory.came_by(name) == group

    # The secondary slot is for a change from one signing certificate to the other.
    factory.done("group", "update", group, "--secondary-certificate", factory.pem(root))
    shown = factory.done("group", "show", group)
    assert f"primary certificate   CN={line}, until" in shown and f"secondary certificate CN={root}, until" in shown
    for words, said in [
        (["certificate", "upload", root, factory.pem(root)], "already exists"),
        (["certificate", "upload", "no blanks", factory.pem(root)], "letters, digits"),
        (["certificate", "upload", "x", str(factory.shelf / f"{root}.key")], "is no certificate"),
        (["certificate", "show", "nobody"], "certificate list"),
        (["certificate", "verify", root, "--issuer", "nowhere"], "cannot be read"),
        (["group", "update", group, "--primary-key", "a2V5"], "its attestation is x509"),
        (["group", "create", "x", "--ca-name", root, "--certificate", factory.pem(line)], "exclude each other"),
        (["enrollment", "create", "x", "--certificate", str(factory.shelf / "nowhere.pem")], "cannot be read"),
    ]:
        status, answer = factory.azimuth(*words)
        assert status == 1 and said in answer, answer
    factory.done("certificate", "delete", root)
    factory.knows_nothing_of(name)
