"""Many devices over hubs of their own: who gets which hub, and hubs that come, go and fail meanwhile.

A DPS and its hubs run as processes of their own beside the shared simulator, on other addresses. Names
decide under `hashed`, so a run comes out like the one before.
"""

import base64
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time

import pytest
from conftest import BINARY, eventually
from wire import sas

DPS, EAST, WEST, LATE = (f"127.0.0.{last}" for last in (40, 41, 42, 43))
CONFIG = f"""
[dps]
name = "alloc-dps"
address = "{DPS}"
allocation = "hashed"
retry-after = 1
assigning-polls = 0

[[hub]]
name = "alloc-east"
region = "eastus"
address = "{EAST}"

[[hub]]
name = "alloc-west"
region = "westus"
address = "{WEST}"

[regions]
default = "eastus"
network = [
    {{ cidr = "127.0.1.0/24", region = "eastus" }},
    {{ cidr = "127.0.2.0/24", region = "westus" }},
    {{ cidr = "127.0.3.0/24", region = "uksouth" }},
]
# Built in, eastus is the nearer.
latency = [{{ from = "uksouth", to = "westus", milliseconds = 5 }}]
"""
NEVER = {"updateHubAssignment": False, "migrateDeviceData": False}
UPDATE = {"updateHubAssignment": True, "migrateDeviceData": True}


def name(hub):
    return f"alloc-{hub}.azure-devices.net"


class Rest:
    """A service's REST API over one connection."""

    def __init__(self, address, connection_string, ca):
        self.parts = dict(part.split("=", 1) for part in connection_string.split(";"))
        self.context = ssl.create_default_context(cafile=ca)
        self.address = address
        self.line = None

    def __call__(self, method, path, body=None, **headers):
        headers["Authorization"] = sas(self.parts["HostName"], self.parts["SharedAccessKey"],
                                       policy=self.parts["SharedAccessKeyName"])
        headers = {word.replace("_", "-"): value for word, value in headers.items()}
        self.line = self.line or http.client.HTTPSConnection(self.address, timeout=30, context=self.context)
        self.line.request(method, f"{path}?api-version=2021-10-01", json.dumps(body) if body else None, headers)
        answer = self.line.getresponse()
        text = answer.read()
        return answer.status, json.loads(text or b"null")


class Part:
    """One service as a process."""

    def __init__(self, system, *words):
        self.system, self.words = system, words
        self.start()

    def start(self):
        self.log = open(self.system.folder / f"{self.words[-1]}.log", "ab")
        self.process = subprocess.Popen([BINARY, *self.system.flags, *self.words], stdout=subprocess.PIPE,
                                        stderr=self.log, text=True)
        self.printed = ""
        for line in self.process.stdout:
            self.printed += line
            if line.startswith("Ready"):
                return
        pytest.fail(f"{self.words} did not start: {open(self.log.name).read()}")

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(10)
        self.process.stdout.close()
        self.log.close()

    @property
    def connection_string(self):
        return re.search(r"connection string +(\S+)", self.printed)[1]


class System:
    def __init__(self, folder):
        self.folder = folder
        (folder / "azimuth.toml").write_text(CONFIG)
        self.flags = ["--data", str(folder / "data"), "--config", str(folder / "azimuth.toml")]
        self.parts = {}
        for part, *words in [("east", "hub", "alloc-east"), ("west", "hub", "alloc-west"), ("dps", "dps")]:
            self.parts[part] = Part(self, *words)
        self.ca = str(folder / "data" / "certs" / "ca.pem")
        self.dps = Rest(DPS, self.parts["dps"].connection_string, self.ca)

    def hub(self, part, address):
        return Rest(address, self.parts[part].connection_string, self.ca)

    def run(self, *words):
        return subprocess.run([BINARY, *self.flags, *words], capture_output=True, text=True, timeout=60)

    def command(self, *words):
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def weights(self, **weights):
        for hub, weight in weights.items():
            status, answer = self.dps("PATCH", f"/azimuth/linkedHubs/{name(hub)}", {"allocationWeight": weight})
            assert (status, answer["allocationWeight"]) == (200, weight), answer

    def group(self, group_id, **terms):
        return Group(self, group_id, terms)


class Group:
    """An enrollment group, and the devices that come with its key."""

    def __init__(self, system, group_id, terms):
        self.system, self.id = system, group_id
        self.key = base64.b64encode(os.urandom(64)).decode()
        self.put(terms)

    def put(self, terms):
        body = {"enrollmentGroupId": self.id, **terms, "attestation": {
            "type": "symmetricKey", "symmetricKey": {"primaryKey": self.key, "secondaryKey": self.key}}}
        status, answer = self.system.dps("PUT", f"/enrollmentGroups/{self.id}", body, If_Match="*")
        assert status == 200, answer

    def register(self, count, *flags):
        """Devices provision, connect to the hub they were told, and have one message acknowledged there."""
        done = self.system.run("device-sim", "--count", str(count), "--name", f"{self.id}-{{n}}", "--group-key", self.key,
                               "--heartbeat", "0.1", "--messages", "1", "--give-up-after", "1", "--json", *flags)
        assert done.returncode == 0, done.stdout
        report = json.loads(done.stdout)
        assert (report["devices"]["provisioned"], report["messages"]["acknowledged"]) == (count, count), report
        return self.hubs(count)

    def hubs(self, count):
        """The hub of each device, as the DPS keeps it."""
        states = [self.system.dps("GET", f"/registrations/{self.id}-{n}")[1] for n in range(1, count + 1)]
        assert {state["status"] for state in states} == {"assigned"}
        return [state["assignedHub"] for state in states]


def near(count, of, share):
    """Within three standard deviations of a share of so many."""
    return abs(count - of * share) <= 3 * (of * share * (1 - share)) ** 0.5


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    system = System(tmp_path_factory.mktemp("allocation"))
    yield system
    for part in system.parts.values():
        part.stop()


@pytest.fixture(autouse=True)
def even(system):
    system.weights(east=1, west=1)


def identities(hub):
    """The ids in a hub that begin with a name; a hub lists a thousand at most."""
    status, devices = hub("GET", "/devices")
    assert status == 200 and len(devices) < 1000
    return {device["deviceId"] for device in devices}


def test_hashed_spreads_evenly_and_devices_keep_their_hub_unless_their_enrollment_lets_them_move(system):
    group = system.group("even", reprovisionPolicy=NEVER)
    first = group.register(600)
    assert set(first) == {name("east"), name("west")}
    assert near(first.count(name("east")), 600, 1 / 2), first.count(name("east"))
    for part, address in [("east", EAST), ("west", WEST)]:
        expected = {f"even-{n}" for n, hub in enumerate(first, 1) if hub == name(part)}
        assert identities(system.hub(part, address)) >= expected

    system.weights(east=3)
    assert group.register(600) == first, "an enrollment that never re-provisions keeps its hubs"

    group.put({"reprovisionPolicy": UPDATE})
    second = group.register(600)
    moved = {(a, b) for a, b in zip(first, second) if a != b}
    assert moved == {(name("west"), name("east"))}, "nobody leaves the hub whose share grew"
    assert near(second.count(name("east")), 600, 3 / 4), second.count(name("east"))
    left = {f"even-{n}" for n, (a, b) in enumerate(zip(first, second), 1) if a != b}
    assert not left & identities(system.hub("west", WEST)), "who moved is not in the old hub"
    assert group.register(600) == second, "without a reason nobody moves"


def test_hashed_spreads_by_weight(system):
    system.weights(east=1, west=3)
    hubs = system.group("weighted").register(600)
    assert near(hubs.count(name("west")), 600, 3 / 4), hubs.count(name("west"))


@pytest.mark.parametrize("network, hub", [("127.0.1.0/24", "east"), ("127.0.2.0/24", "west"), ("127.0.3.0/24", "west")])
def test_geo_latency_follows_the_table_and_the_configuration_overrides_it(system, network, hub):
    group = system.group(f"geo-{network.split('.')[2]}", allocationPolicy="geoLatency")
    assert set(group.register(200, "--source", network)) == {name(hub)}


def test_static_obeys_the_enrollment_over_the_policy_of_the_service(system):
    group = system.group("fixed", allocationPolicy="static", iotHubs=[name("west")])
    assert set(group.register(100)) == {name("west")}


def test_a_hub_that_is_down_holds_up_its_own_devices_only(system):
    system.parts["west"].stop(signal.SIGKILL)
    waiting = system.group("waiting", allocationPolicy="static", iotHubs=[name("west")])
    # One answer but `assigning` would be a failure: they give up after the first.
    outcome = []
    devices = threading.Thread(target=lambda: outcome.append(waiting.register(30)))
    devices.start()
    eventually(lambda: len(refused(system, "waiting-")) >= 30)
    begun = time.monotonic()
    others = system.group("others", allocationPolicy="static", iotHubs=[name("east")])
    assert set(others.register(200)) == {name("east")}
    assert time.monotonic() - begun < 10
    assert devices.is_alive() and system.dps("GET", "/registrations/waiting-1")[0] == 404
    system.parts["west"].start()
    devices.join(30)
    assert outcome == [[name("west")] * 30]


def refused(system, who):
    lines = system.command("why", who, "--service", "dps", "--json").splitlines()
    records = [json.loads(line) for line in lines]
    return {record["who"] for record in records if record["kind"] == "hub-unreachable"}


def test_a_hub_linked_while_it_runs_receives_its_share_and_one_removed_gets_nobody_new(system):
    before = system.group("before", reprovisionPolicy=NEVER)
    first = before.register(300)
    system.parts["late"] = Part(system, "hub", "alloc-late", "--region", "eastus", "--address", LATE)
    link = system.parts["late"].connection_string.replace(f"HostName={LATE}", f"HostName={name('late')}")
    where = ["--region", "eastus", "--address", LATE]
    add = ["dps", "linked-hub", "add", "--connection-string"]

    wrong = system.run(*add, re.sub("SharedAccessKey=.*", "SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==", link), *where)
    assert wrong.returncode == 1 and "refused the key" in wrong.stderr, wrong.stderr
    assert f"linked {name('late')} (eastus, weight 1)" in system.command(*add, link, *where)
    twice = system.run(*add, link, *where)
    assert twice.returncode == 1 and "already exists" in twice.stderr and "linked-hub update" in twice.stderr
    lines = [line.split() for line in system.command("dps", "linked-hub", "list").splitlines()]
    assert lines == [["NAME", "REGION", "WEIGHT", "APPLIES"], [name("east"), "eastus", "1", "yes"],
                     [name("late"), "eastus", "1", "yes"], [name("west"), "westus", "1", "yes"]]

    share = system.group("share")
    spread = share.register(600)
    for hub in ("east", "west", "late"):
        assert near(spread.count(name(hub)), 600, 1 / 3), (hub, spread.count(name(hub)))
    assert before.register(300) == first

    system.command("dps", "linked-hub", "update", "alloc-late", "--weight", "2")
    listed = json.loads(system.command("dps", "linked-hub", "list", "--json"))
    link = next(hub for hub in listed if hub["name"] == name("late"))
    assert link["allocationWeight"] == 2 and link["connectionString"].endswith("SharedAccessKey=****")
    heavier = system.group("heavier").register(600)
    assert near(heavier.count(name("late")), 600, 1 / 2), heavier.count(name("late"))
    keeps = system.group("keeps", reprovisionPolicy=NEVER)
    kept = keeps.register(100)
    assert name("late") in kept
    system.command("dps", "linked-hub", "update", "alloc-late", "--apply-allocation-policy", "false")
    assert name("late") not in system.group("kept-out").register(100)

    # Of those in it, who may move does; who may not is still told its name. Nobody asks the hub.
    assert system.command("dps", "linked-hub", "remove", "alloc-late") == f"removed {name('late')}\n"
    there = identities(system.hub("late", LATE))
    assert name("late") not in system.group("after").register(300)
    assert keeps.register(100) == kept
    moved = share.register(600)
    assert name("late") not in moved
    assert [(a, b) for a, b in zip(spread, moved) if a != b and a != name("late")] == []
    assert identities(system.hub("late", LATE)) == there


def test_what_was_linked_and_removed_outlives_the_dps(system):
    system.command("dps", "linked-hub", "remove", name("east"))
    system.weights(west=7)
    system.parts["dps"].stop(signal.SIGKILL)
    system.parts["dps"].start()
    system.dps.line = None
    status, linked = system.dps("GET", "/azimuth/linkedHubs")
    assert (status, [(hub["name"], hub["allocationWeight"]) for hub in linked]) == (200, [(name("west"), 7)])
    assert set(system.group("one-left").register(100)) == {name("west")}
    system.command("dps", "linked-hub", "add", "alloc-east")
    assert set(system.group("two-again").register(100)) == {name("east"), name("west")}
