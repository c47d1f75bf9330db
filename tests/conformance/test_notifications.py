"""What a hub tells of its own accord: lifecycle and connection messages in the event log, events to webhooks."""

import http.client
import http.server
import json
import pathlib
import signal
import ssl
import subprocess
import threading
import time
import urllib.request
import uuid

import pytest
from azure.iot.device import IoTHubDeviceClient
from azure.iot.hub import IoTHubRegistryManager
from conftest import HASTY, Simulator, eventually
from wire import sas

SOURCES = '["DeviceLifecycleEvents", "ModuleLifecycleEvents", "DeviceConnectionStateEvents"]'


class Webhook:
    """A webhook that says yes and then whatever it is told to say."""

    def __init__(self, certificate=None, port=0, validates="at once"):
        self.received, self.requests, self.status = [], [], 200
        self.validates, self.validation_url = validates, None
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_OPTIONS(self):
                hook.requests.append(("OPTIONS", dict(self.headers), None))
                self.answer(200, WebHook_Allowed_Origin=self.headers["WebHook-Request-Origin"])

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                kind = self.headers["aeg-event-type"]
                hook.requests.append((kind, {name.lower(): value for name, value in self.headers.items()}, body))
                if kind == "SubscriptionValidation":
                    data = body[0]["data"]
                    hook.validation_url = data["validationUrl"]
                    said = {"validationResponse": data["validationCode"]} if hook.validates == "at once" else {}
                    return self.answer(200, json.dumps(said).encode())
                if hook.status == 200:
                    hook.received += body if isinstance(body, list) else [body]
                self.answer(hook.status)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}/events?code=secret"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def types(self, subject):
        return [event.get("eventType", event.get("type")).removeprefix("Microsoft.Devices.")
                for event in self.received if event["subject"] == subject]


@pytest.fixture
def telling(tmp_path, own, monkeypatch):
    """Starts a simulator whose east hub tells what its table says."""
    def start(table):
        config = tmp_path / "telling.toml"
        hasty = pathlib.Path(HASTY["AZIMUTH_CONFIG"]).read_text()
        config.write_text(f'{hasty}\n[[hub]]\nname = "contoso-east-hub"\nregion = "eastus"\naddress = "127.0.0.11"\n{table}\n')
        monkeypatch.setenv("AZIMUTH_CONFIG", str(config))
        one = own()
        monkeypatch.setenv("SSL_CERT_FILE", one.ca)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", one.ca)
        return one
    yield start
    monkeypatch.undo()


def subscription(hook, **more):
    lines = [f'{name.replace("_", "-")} = {json.dumps(value)}' for name, value in more.items()]
    return "\n".join(['[[hub.event-subscription]]', 'name = "mine"', f'url = "{hook.url}"', *lines])


def ask(simulator, path):
    """GET as the hub's owner."""
    parts = dict(part.split("=", 1) for part in simulator.hub()["connection_string"].split(";"))
    host = parts["HostName"]
    call = urllib.request.Request(f"https://{host}{path}")
    call.add_header("Authorization", sas(host, parts["SharedAccessKey"], policy=parts["SharedAccessKeyName"]))
    context = ssl.create_default_context(cafile=simulator.ca)
    return json.loads(urllib.request.urlopen(call, timeout=10, context=context).read())


def status(simulator):
    [one] = ask(simulator, "/azimuth/eventSubscriptions")
    return one


def make(simulator, device_id=None):
    device_id = device_id or f"told-{uuid.uuid4()}"
    manager = IoTHubRegistryManager(simulator.hub()["connection_string"])
    made = manager.create_device_with_sas(device_id, "", "", "enabled")
    key = made.authentication.symmetric_key.primary_key
    return device_id, f"HostName={simulator.hub()['address']};DeviceId={device_id};SharedAccessKey={key}"


def client(simulator, connection_string):
    return IoTHubDeviceClient.create_from_connection_string(connection_string, server_verification_cert=simulator.ca_pem)


def test_nothing_is_told_by_default(simulator, device):
    sender = client(simulator, device.connection_string)
    sender.send_message("one")
    sender.shutdown()
    assert [event["body"] for event in simulator.events(device.id)] == ["one"]


def test_the_event_log_tells_lifecycles_and_connections_among_the_telemetry(telling):
    own = telling(f"events = {SOURCES}")
    device_id, connection_string = make(own)
    sender = client(own, connection_string)
    sender.connect()
    sender.get_twin()
    sender.send_message("one")
    sender.send_message("two")
    sender.shutdown()
    eventually(lambda: len(own.events(device_id)) == 5)
    IoTHubRegistryManager(own.hub()["connection_string"]).delete_device(device_id)

    events = own.events(device_id)
    told = [event["properties"].get("opType", event["body"]) for event in events]
    assert told == ["createDeviceIdentity", "deviceConnected", "one", "two", "deviceDisconnected", "deleteDeviceIdentity"]
    assert len({event["partition"] for event in events}) == 1
    created, connected, *_, disconnected, _ = events
    twin = json.loads(created["body"])
    assert set(twin) == {"deviceId", "etag", "version", "properties"}
    assert (twin["deviceId"], twin["etag"], twin["version"]) == (device_id, "AAAAAAAAAAE=", 2)
    properties = dict(created["properties"])
    assert len(properties.pop("operationTimestamp")) == len("2017-08-13T23:00:00.1234567Z")
    assert properties == {"hubName": "contoso-east-hub", "deviceId": device_id, "opType": "createDeviceIdentity",
                          "iothub-message-schema": "deviceLifecycleNotification"}
    system = created["systemProperties"]
    assert set(system) == {"content-type", "content-encoding", "correlation-id", "user-id", "iothub-connection-device-id",
                           "iothub-enqueuedtime", "iothub-message-source"}
    assert system["iothub-message-source"] == "deviceLifecycleEvents"
    assert connected["systemProperties"]["iothub-message-source"] == "deviceConnectionStateEvents"
    numbers = [json.loads(event["body"])["sequenceNumber"] for event in (connected, disconnected)]
    assert numbers[0] < numbers[1] and {len(number) for number in numbers} == {64}
    # For people they are lines like others.
    assert "opType=deviceConnected" in own.command("events", "--device", device_id, "--from", "start", "--once")


def test_no_answered_creation_is_missing_from_the_log_after_a_kill(telling):
    own = telling(f"events = {SOURCES}")
    manager = IoTHubRegistryManager(own.hub()["connection_string"])
    made, stopped = [], threading.Event()

    def creates(worker):
        try:
            for number in range(10_000):
                device_id = f"kill-{worker}-{number}"
                IoTHubRegistryManager(own.hub()["connection_string"]).create_device_with_sas(device_id, "", "", "enabled")
                made.append(device_id)
        except Exception:  # the hub is gone
            stopped.set()

    assert manager.get_devices() is not None
    threads = [threading.Thread(target=creates, args=(worker,), daemon=True) for worker in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(made) > 30, 60)
    own.stop(signal.SIGKILL)
    for thread in threads:
        thread.join(15)
    own.start()

    def told():
        lines = own.command("events", "--from", "start", "--once", "--json").splitlines()
        return {json.loads(line)["properties"]["deviceId"] for line in lines}
    eventually(lambda: set(made) <= told(), 20)


def test_a_webhook_behind_tls_is_validated_and_told(telling, tmp_path, simulator):
    leaf = tmp_path / "webhook"
    subprocess.run([simulator.binary, "--data", str(tmp_path / "data"), "certs", "server", "--name", "127.0.0.1",
                    "--out", str(leaf)], check=True, capture_output=True)
    hook = Webhook(certificate=(f"{leaf}.pem", f"{leaf}.key"))
    own = telling(subscription(hook))
    device_id, connection_string = make(own)
    sender = client(own, connection_string)
    sender.send_message("one")
    sender.shutdown()
    IoTHubRegistryManager(own.hub()["connection_string"]).delete_device(device_id)
    subject = f"devices/{device_id}"
    expected = ["DeviceCreated", "DeviceConnected", "DeviceDisconnected", "DeviceDeleted"]
    eventually(lambda: len(hook.types(subject)) == 4, 20)
    assert sorted(hook.types(subject)) == sorted(expected)
    assert hook.types(subject)[:2] == expected[:2]

    kind, headers, body = hook.requests[0]
    assert (kind, body[0]["eventType"]) == ("SubscriptionValidation", "Microsoft.EventGrid.SubscriptionValidationEvent")
    kind, headers, body = next(request for request in hook.requests if request[0] == "Notification")
    assert len(body) == 1 and headers["aeg-subscription-name"] == "mine" and headers["aeg-delivery-count"] == "0"
    created = next(event for event in hook.received if event["subject"] == subject)
    assert created["topic"].endswith("/IOTHUBS/CONTOSO-EAST-HUB")
    assert created["data"]["twin"]["deviceEtag"] == "null" and created["data"]["hubName"] == "contoso-east-hub"
    now = status(own)
    assert (now["state"], now["queued"], now["url"]) == ("Active", 0, hook.url.replace("secret", "****").replace("code=", ""))
    hook.stop()


def test_what_waits_survives_a_kill_and_is_tried_again(telling):
    hook = Webhook()
    own = telling(subscription(hook, types=["Microsoft.Devices.DeviceCreated"], max_events_per_batch=10))
    eventually(lambda: status(own)["state"] == "Active")
    hook.status = 503
    first, _ = make(own)
    eventually(lambda: "503" in status(own).get("why", ""))
    second, _ = make(own)
    eventually(lambda: sum(kind == "Notification" for kind, *_ in hook.requests) >= 2)
    assert status(own)["queued"] == 2
    assert any("503" in record["sentence"] for record in own.refusals("mine"))
    own.stop(signal.SIGKILL)
    hook.status = 200
    asked = len(hook.requests)
    own.start()
    # After 10 seconds, as Azure does it; the webhook is not validated once more.
    eventually(lambda: {event["subject"] for event in hook.received} == {f"devices/{first}", f"devices/{second}"}, 30)
    assert all(kind == "Notification" for kind, *_ in hook.requests[asked:])
    assert max(int(headers["aeg-delivery-count"]) for _, headers, _ in hook.requests[asked:]) >= 1
    eventually(lambda: status(own)["queued"] == 0)
    hook.stop()


def test_what_cannot_be_delivered_is_a_dead_letter(telling, tmp_path):
    hook = Webhook()
    folder = tmp_path / "dead"
    own = telling(subscription(hook, types=["Microsoft.Devices.DeviceCreated"], dead_letter_folder=str(folder)))
    eventually(lambda: status(own)["state"] == "Active")
    hook.status = 400
    device_id, _ = make(own)
    [file] = eventually(lambda: list(folder.rglob("*.json")))
    [dead] = eventually(lambda: json.loads(file.read_text() or "null"))
    assert dead["subject"] == f"devices/{device_id}" and dead["eventType"] == "Microsoft.Devices.DeviceCreated"
    assert (dead["deadLetterReason"], dead["deliveryAttempts"], dead["lastDeliveryOutcome"]) == \
        ("UndeliverableDueToHttpBadRequest", 1, "BadRequest")
    assert dead["publishTime"] <= dead["lastDeliveryAttemptTime"]
    eventually(lambda: status(own)["deadLettered"] == 1 and status(own)["queued"] == 0)
    assert any("dead letter" in record["sentence"] for record in own.refusals("mine"))
    hook.stop()


def test_a_webhook_may_be_validated_by_hand_and_filters_hold(telling):
    hook = Webhook(validates="by hand")
    own = telling(subscription(hook, subject_begins_with="devices/line1-", types=["Microsoft.Devices.DeviceCreated"]))
    eventually(lambda: status(own)["state"] == "AwaitingManualAction")
    make(own, "line2-oven")
    make(own, "line1-oven")
    assert not hook.received
    context = ssl.create_default_context(cafile=own.ca)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(hook.validation_url + "0", context=context)
    assert urllib.request.urlopen(hook.validation_url, context=context).status == 200
    eventually(lambda: [event["subject"] for event in hook.received] == ["devices/line1-oven"])
    assert status(own)["state"] == "Active"
    hook.stop()


def test_cloud_events(telling):
    hook = Webhook()
    own = telling(subscription(hook, schema="cloudEvents"))
    device_id, _ = make(own)
    [event] = eventually(lambda: hook.received)
    assert hook.requests[0][0] == "OPTIONS"
    assert (event["specversion"], event["type"], event["subject"]) == \
        ("1.0", "Microsoft.Devices.DeviceCreated", f"devices/{device_id}")
    assert hook.requests[-1][1]["content-type"] == "application/cloudevents+json; charset=utf-8"
    hook.stop()
