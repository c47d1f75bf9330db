"""Unmodified clients against a running simulator.

AZIMUTH_BINARY names the program under test; without it the release build is taken. The suite starts
it with the tutorial's defaults on loopback addresses and a data folder of its own.
"""

import collections
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import uuid

import pytest
from azure.iot.hub import IoTHubRegistryManager

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
BINARY = os.environ.get("AZIMUTH_BINARY", str(ROOT / "target" / "release" / "azimuth"))
# The tutorial's defaults, but that devices are told at once what became of them.
HASTY = {"AZIMUTH_CONFIG": str(pathlib.Path(__file__).with_name("hasty.toml"))}


def pytest_addoption(parser):
    parser.addoption("--part", default="1/1", help="one of so many parts of the suite, such as 1/2: whole files, about as many tests in each")


def pytest_collection_modifyitems(config, items):
    part, parts = map(int, config.getoption("part").split("/"))
    tests = collections.Counter(item.path for item in items)
    sizes, place = [0] * parts, {}
    for path, count in sorted(tests.items(), key=lambda file: (-file[1], file[0])):
        place[path] = sizes.index(min(sizes))
        sizes[place[path]] += count
    config.hook.pytest_deselected(items=[item for item in items if place[item.path] != part - 1])
    items[:] = [item for item in items if place[item.path] == part - 1]


class Simulator:
    """A running `azimuth` and what it printed for pasting."""

    def __init__(self, folder, *flags, before=None, binary=BINARY):
        self.folder = folder
        self.binary = str(binary)
        self.flags = flags
        self.before = before
        self.process = None
        self.start()

    def start(self):
        self.log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [self.binary, "--data", str(self.folder / "data"), "up", "--no-devices", *self.flags], env=HASTY | os.environ,
            stdout=subprocess.PIPE, stderr=self.log, text=True, preexec_fn=self.before)
        self.printed = []
        # The line is printed once everything listens.
        for line in self.process.stdout:
            self.log.write(line.encode())
            self.printed.append(line)
            if line.startswith("Ready"):
                break
        else:
            self.log.flush()
            sys.exit(f"azimuth did not start: {(self.folder / 'log').read_text()}")
        self.connect = json.loads((self.folder / "data" / "connect.json").read_text())

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        assert self.process.wait(10) is not None
        self.process.stdout.close()
        self.log.close()

    @property
    def ca(self):
        return self.connect["ca_file"]

    @property
    def ca_pem(self):
        return pathlib.Path(self.ca).read_text()

    def hub(self, region="eastus"):
        return next(hub for hub in self.connect["hubs"] if hub["region"] == region)

    def command(self, *words, check=True):
        """Runs another command of the program against the same data folder."""
        done = subprocess.run([BINARY, "--data", str(self.folder / "data"), *words],
                              capture_output=True, text=True, timeout=60)
        if check:
            assert done.returncode == 0, done.stderr
        return done.stdout

    def events(self, device):
        """All telemetry of a device, oldest first."""
        lines = self.command("events", "--device", device, "--from", "start", "--once", "--json").splitlines()
        return [json.loads(line) for line in lines]

    def refusals(self, who):
        lines = self.command("why", who, "--json").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def simulator(tmp_path_factory):
    simulator = Simulator(tmp_path_factory.mktemp("azimuth"))
    # The service SDK takes the CA from where requests and OpenSSL look.
    os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = simulator.ca
    yield simulator
    simulator.stop()


@pytest.fixture
def own(tmp_path, simulator):
    """Starts a simulator of the test's own, which may be killed. The shared one makes room for it."""
    simulator.stop()
    started = []

    def start(*flags, **more):
        started.append(Simulator(tmp_path, *flags, **more))
        return started[-1]
    yield start
    for one in started:
        one.stop()
    simulator.start()


@pytest.fixture
def registry(simulator):
    return IoTHubRegistryManager(simulator.hub()["connection_string"])


@pytest.fixture
def device(registry, simulator):
    """A fresh device of the east hub: its id, key and connection string."""
    device_id = f"conformance-{uuid.uuid4()}"
    made = registry.create_device_with_sas(device_id, "", "", "enabled")
    key = made.authentication.symmetric_key.primary_key
    host = simulator.hub()["address"]

    class Device:
        id = device_id
        primary_key = key
        secondary_key = made.authentication.symmetric_key.secondary_key
        hub = host
        connection_string = f"HostName={host};DeviceId={device_id};SharedAccessKey={key}"

    yield Device
    try:
        registry.delete_device(device_id)
    except Exception:  # the test may have deleted it
        pass


@pytest.fixture
def source_address(monkeypatch):
    """Lets the process's next connections come from an address: the region a device is in."""
    create_connection = socket.create_connection

    def use(address):
        def from_there(target, timeout=None, source_address=None, **more):
            return create_connection(target, timeout, (address, 0), **more)
        monkeypatch.setattr(socket, "create_connection", from_there)
    return use


@pytest.fixture
def names(monkeypatch, simulator):
    """Lets Azure's names be found at the simulator's addresses, as DNS or a hosts file would."""
    table = {hub["host_name"]: hub["address"] for hub in simulator.connect["hubs"]}
    table["global.azure-devices-provisioning.net"] = simulator.connect["dps"]["address"]
    getaddrinfo = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo",
                        lambda host, *more, **even: getaddrinfo(table.get(host, host), *more, **even))


def eventually(condition, seconds=10):
    """The first true value of `condition`, which others must bring about in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            assert value, "did not happen in time"
            return value
        time.sleep(0.02)
