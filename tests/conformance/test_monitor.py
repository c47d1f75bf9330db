"""`azimuth monitor` beside unmodified devices: who is late, who is back, and what it takes to be neither."""

import http.server
import json
import queue
import signal
import subprocess
import threading
import uuid
from datetime import datetime

import pytest
from azure.iot.device import IoTHubDeviceClient, Message
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin

from conftest import BINARY


class Monitor:
    """A running `azimuth monitor` and the changes that it tells."""

    def __init__(self, simulator, *flags):
        self.process = subprocess.Popen(
            [BINARY, "--data", str(simulator.folder / "data"), "monitor", "--json", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.changes, self.words = queue.Queue(), queue.Queue()
        threading.Thread(target=self.pump, args=(self.process.stdout, self.changes), daemon=True).start()
        threading.Thread(target=self.pump, args=(self.process.stderr, self.words), daemon=True).start()

    @staticmethod
    def pump(lines, into):
        for line in lines:
            into.put(line)

    def next(self, device, seconds=20):
        """The next change of a device."""
        while True:
            change = json.loads(self.changes.get(timeout=seconds))
            if change["deviceId"] == device:
                return change

    def says(self, words, seconds=20):
        """Waits for words in the log."""
        while True:
            line = self.words.get(timeout=seconds)
            if words in line:
                return line

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(20)


@pytest.fixture
def watch(simulator):
    started = []

    def start(*flags, of=simulator):
        started.append(Monitor(of, *flags))
        return started[-1]
    yield start
    for monitor in started:
        if monitor.process.poll() is None:
            monitor.process.kill()
        monitor.process.wait()


@pytest.fixture
def made(own, monkeypatch):
    """Starts a simulator of the test's own and makes devices in it."""
    def start(*flags):
        simulator = own(*flags)
        for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]:
            monkeypatch.setenv(name, simulator.ca)
        hub = simulator.hub()
        registry = IoTHubRegistryManager(hub["connection_string"])

        def make(name):
            identity = registry.create_device_with_sas(name, "", "", "enabled")
            key = identity.authentication.symmetric_key.primary_key
            client = IoTHubDeviceClient.create_from_connection_string(
                f"HostName={hub['address']};DeviceId={name};SharedAccessKey={key}")
            clients.append(client)
            return client
        return simulator, make
    clients = []
    yield start
    for client in clients:
        client.shutdown()


@pytest.fixture
def sender(device):
    client = IoTHubDeviceClient.create_from_connection_string(device.connection_string)
    client.connect()
    yield client
    client.shutdown()


def beat(client, **properties):
    message = Message("")
    message.custom_properties.update(properties)
    client.send_message(message)


def test_a_device_that_stops_is_late_and_is_back_when_it_sends_again(watch, device, sender):
    monitor = watch("--interval", "1s", "--grace", "50%", "--since", "10s")
    beat(sender)
    late = monitor.next(device.id)
    assert (late["change"], late["interval"], late["hub"]) == ("late", 1.0, "contoso-east-hub")
    assert late["silentFor"] >= 1.5
    assert late["lastHeartbeat"] < late["expectedBy"] <= late["at"]
    beat(sender)
    back = monitor.next(device.id)
    assert back["change"] == "back" and back["lastHeartbeat"] > late["lastHeartbeat"]
    assert back["silentFor"] >= 1.5
    assert monitor.next(device.id)["change"] == "late"
    assert monitor.end() == 0
    assert "late so far: 2" in monitor.says("late so far")


def test_old_heartbeats_are_judged_by_when_they_came(watch, device, sender):
    beat(sender)
    monitor = watch("--interval", "1h", "--device", f"{device.id}=1s", "--grace", "0", "--since", "start", "--until-late")
    late = monitor.next(device.id)
    assert late["change"] == "late"
    assert monitor.process.wait(20) == 1, "a late device is what it waited for"


def test_only_messages_with_the_property_are_heartbeats(watch, device, sender):
    monitor = watch("--device", f"{device.id[:20]}*=1s", "--grace", "0s", "--property", "heartbeat=true", "--since", "10s")
    beat(sender, heartbeat="true")
    first = monitor.next(device.id)
    assert first["change"] == "late"
    beat(sender, heartbeat="false")
    beat(sender)
    beat(sender, heartbeat="true")
    back = monitor.next(device.id)
    assert back["change"] == "back"


def test_everything_in_time_ends_with_zero(watch, device, sender):
    beat(sender)
    monitor = watch("--interval", "1h", "--since", "start", "--for", "2s")
    assert monitor.process.wait(20) == 0
    assert "0 of them are late" in monitor.says("late so far")


def test_a_hub_that_was_away_makes_nobody_late(made, watch):
    simulator, make = made()
    monitor = watch("--interval", "4s", "--grace", "0", "--hub", "contoso-east-hub", of=simulator)
    monitor.says("watching the heartbeats")
    here, gone = make("here"), make("gone")
    for client in (here, gone):
        client.connect()
        beat(client)
    simulator.stop(signal.SIGKILL)
    monitor.says("nobody is late until it does")
    simulator.start()
    returned = json.loads(monitor.says("answers again"))["timestamp"]
    beat(here)
    # The other one has its whole time since the return.
    late = json.loads(monitor.changes.get(timeout=20))
    assert (late["deviceId"], late["change"]) == ("gone", "late")
    since_return = datetime.fromisoformat(late["expectedBy"]) - datetime.fromisoformat(returned)
    assert since_return.total_seconds() > 3.5


def test_changes_reach_a_webhook_even_if_it_is_not_ready_at_once(watch, device, sender):
    posts = queue.Queue()
    answers = iter([503])

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            status = next(answers, 200)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()
            posts.put((status, json.loads(body)))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/alarms?code=secret"
        monitor = watch("--interval", "1h", "--device", f"{device.id}=1s", "--since", "10s", "--webhook", url)
        beat(sender)
        told = monitor.next(device.id)
        assert posts.get(timeout=20)[0] == 503
        assert "secret" not in monitor.says("the webhook did not take")
        status, changes = posts.get(timeout=20)
        assert (status, changes) == (200, [told])
        assert monitor.end() == 0
    finally:
        server.shutdown()
        server.server_close()


def test_up_watches_its_devices_when_the_configuration_says_so(made, tmp_path):
    config = tmp_path / "watched.toml"
    config.write_text('[monitor]\ninterval = "1s"\ngrace = "0%"\nsince = "start"\n')
    simulator, make = made("--config", str(config))
    client = make("watched")
    client.connect()
    for news in ["late", "back"]:
        beat(client)
        wanted = f"{news}      watched at contoso-east-hub"
        assert any(wanted in line for line in simulator.process.stdout)


def test_a_key_that_is_refused_is_said_at_once(watch, simulator):
    string = simulator.hub()["connection_string"].split("SharedAccessKey=")[0]
    monitor = watch("--connection-string", f"{string}SharedAccessKey={'A' * 43}=", "--ca", simulator.ca)
    assert monitor.process.wait(20) == 1
    assert "401" in monitor.says("cannot be watched")


def test_a_hub_that_never_answered_is_no_success(watch, simulator):
    # Nobody listens there.
    string = simulator.hub()["connection_string"].replace(simulator.hub()["address"], "127.0.0.99")
    monitor = watch("--connection-string", string, "--ca", simulator.ca, "--for", "2s")
    monitor.says("does not answer")
    assert monitor.process.wait(20) == 1
    assert "has not answered once" in monitor.says("cannot be watched")


# --- what the registry says ------------------------------------------------------------------------


def test_a_tag_says_how_often_a_device_sends(watch, registry, device, sender):
    registry.update_twin(device.id, Twin(tags={"site": {"beat-seconds": 1}}))
    monitor = watch("--interval", "1h", "--tag", "site.beat-seconds", "--since", "10s", "--refresh", "1s")
    beat(sender)
    late = monitor.next(device.id)
    assert (late["change"], late["interval"]) == ("late", 1.0)
    registry.update_twin(device.id, Twin(tags={"site": {"beat-seconds": 2}}))
    beat(sender)
    assert monitor.next(device.id)["change"] == "back"
    late = monitor.next(device.id)
    assert (late["change"], late["interval"]) in {("late", 1.0), ("late", 2.0)}


def test_every_enabled_device_is_expected_if_that_is_asked_for(watch, registry, device):
    off = f"off-{uuid.uuid4()}"
    registry.create_device_with_sas(off, "", "", "disabled")
    monitor = watch("--interval", "1s", "--grace", "0", "--expect-all", "--refresh", "1s", "--hub", "contoso-east-hub")
    late = monitor.next(device.id)
    assert (late["change"], late["lastHeartbeat"]) == ("late", None)
    registry.delete_device(device.id)
    assert monitor.next(device.id)["change"] == "deleted"
    registry.delete_device(off)
    monitor.end()
    seen = [json.loads(line)["deviceId"] for line in list(monitor.changes.queue)]
    assert off not in seen


def test_a_device_that_was_deleted_or_disabled_is_not_late(watch, registry, device, sender):
    other = f"other-{uuid.uuid4()}"
    made = registry.create_device_with_sas(other, "", "", "enabled")
    host = device.connection_string.split(";")[0]
    client = IoTHubDeviceClient.create_from_connection_string(
        f"{host};DeviceId={other};SharedAccessKey={made.authentication.symmetric_key.primary_key}")
    monitor = watch("--device", f"{other}=2s", "--device", f"{device.id}=3s", "--grace", "0", "--since", "10s")
    client.connect()
    beat(client)
    beat(sender)
    client.shutdown()
    registry.delete_device(other)
    assert monitor.next(device.id)["change"] == "late"
    # The other one was due before.
    assert monitor.changes.empty()
