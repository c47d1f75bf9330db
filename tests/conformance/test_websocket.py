"""MQTT in a WebSocket on 443: the session is that of 8883, only the way there differs."""

import http.client
import ssl

import paho.mqtt.client as mqtt
import pytest
from azure.iot.device import IoTHubDeviceClient, Message, ProvisioningDeviceClient
from conftest import eventually
from wire import Device, sas

PATH = "/$iothub/websocket"
REGISTRATION = "contoso-simdevice-east"
KEY = "p3w2DQr9WqEGBLUSlFi1jPQ7UWQL4siAGy75HFTFbf8="


class Inside:
    """A Paho client in a WebSocket that notes what happens to it."""

    def __init__(self, simulator, host, client_id, user_name, password, path=PATH):
        self.codes, self.ends, self.sent, self.granted, self.answers = [], [], [], [], []
        self.client = mqtt.Client(client_id=client_id, protocol=mqtt.MQTTv311, transport="websockets")
        self.client.ws_set_options(path=path)
        self.client.username_pw_set(user_name, password)
        self.client.tls_set(ca_certs=simulator.ca)
        self.client.on_connect = lambda c, u, flags, code: self.codes.append(code)
        self.client.on_disconnect = lambda c, u, code: self.ends.append(code)
        self.client.on_publish = lambda c, u, mid: self.sent.append(mid)
        self.client.on_subscribe = lambda c, u, mid, granted: self.granted.append(granted)
        self.client.on_message = lambda c, u, message: self.answers.append(message.topic)
        self.client.reconnect_delay_set(30, 60)
        self.client.connect(host, 443)
        self.client.loop_start()
        eventually(lambda: self.codes or self.ends)

    @classmethod
    def at_hub(cls, simulator, device, **more):
        return cls(simulator, device.hub, device.id, f"{device.hub}/{device.id}/?api-version=2021-04-12",
                   sas(f"{device.hub}/devices/{device.id}", device.primary_key), **more)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def bodies(simulator, device_id):
    return [event["body"] for event in simulator.events(device_id)]


def test_the_sdk_provisions_connects_and_sends(simulator, source_address):
    source_address("127.0.1.7")
    result = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=simulator.connect["dps"]["address"], registration_id=REGISTRATION,
        id_scope=simulator.connect["dps"]["id_scope"], symmetric_key=KEY,
        server_verification_cert=simulator.ca_pem, websockets=True).register()
    assert result.status == "assigned"
    client = IoTHubDeviceClient.create_from_symmetric_key(
        KEY, result.registration_state.assigned_hub, REGISTRATION,
        server_verification_cert=simulator.ca_pem, websockets=True)
    client.connect()
    client.send_message(Message("in a WebSocket"))
    client.shutdown()
    assert "in a WebSocket" in eventually(lambda: bodies(simulator, REGISTRATION))


def test_paho_sends_small_and_large(simulator, device):
    inside = Inside.at_hub(simulator, device)
    assert inside.codes == [0]
    sizes = [1, 125, 126, 65_535, 65_536, 200_000]
    for size in sizes:
        inside.client.publish(f"devices/{device.id}/messages/events/", "x" * size, qos=1)
    eventually(lambda: len(inside.sent) == len(sizes))
    inside.close()
    assert [len(body) for body in bodies(simulator, device.id)] == sizes


@pytest.mark.parametrize("path", [PATH, "/", "/mqtt", PATH + "?iothub-no-client-cert=true"])
def test_every_path_of_azures_clients_leads_to_the_dps(simulator, path):
    scope = simulator.connect["dps"]["id_scope"]
    user = f"{scope}/registrations/{REGISTRATION}/api-version=2019-03-31"
    inside = Inside(simulator, simulator.connect["dps"]["address"], REGISTRATION, user,
                    sas(f"{scope}/registrations/{REGISTRATION}", KEY, policy="registration"), path=path)
    assert inside.codes == [0]
    inside.client.subscribe("$dps/registrations/res/#", qos=1)
    eventually(lambda: inside.granted)
    inside.client.publish("$dps/registrations/PUT/iotdps-register/?$rid=1", "", qos=1)
    assert eventually(lambda: inside.answers)[0].startswith("$dps/registrations/res/202/?$rid=1&retry-after=")
    inside.close()


def test_a_websocket_and_a_tls_connection_of_one_device_take_over_from_each_other(simulator, device):
    inside = Inside.at_hub(simulator, device)
    plain = Device(simulator.ca, device.hub, device.id, device.primary_key)
    assert plain.ping()
    eventually(lambda: inside.ends)
    inside.client.loop_stop()
    again = Inside.at_hub(simulator, device)
    assert again.codes == [0]
    assert not plain.ping()
    again.client.publish(f"devices/{device.id}/messages/events/", "mine", qos=1)
    eventually(lambda: again.sent)
    again.close()
    assert [refusal["kind"] for refusal in simulator.refusals(device.id)] == ["taken-over"] * 2


def test_a_device_in_a_websocket_speaks_for_itself_alone(simulator, device):
    inside = Inside.at_hub(simulator, device)
    inside.client.publish("devices/somebody-else/messages/events/", "not mine", qos=1)
    eventually(lambda: inside.ends)
    inside.client.loop_stop()
    assert simulator.refusals(device.id)


def test_a_wrong_token_is_refused_in_a_websocket_too(simulator, device):
    inside = Inside(simulator, device.hub, device.id, f"{device.hub}/{device.id}/?api-version=2021-04-12",
                    sas(f"{device.hub}/devices/{device.id}", KEY))
    assert inside.codes == [5]
    inside.client.loop_stop()


UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
           "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


@pytest.mark.parametrize("path, headers, status, words", [
    (PATH, {}, 426, "Upgrade: websocket"),
    ("/elsewhere", {**UPGRADE, "Sec-WebSocket-Protocol": "mqtt"}, 404, PATH),
    (PATH, UPGRADE, 400, "sub-protocol `mqtt`"),
    (PATH, {**UPGRADE, "Sec-WebSocket-Protocol": "AMQPWSB10"}, 400, "AMQP is not simulated"),
])
def test_a_request_that_becomes_no_websocket_is_told_why(simulator, path, headers, status, words):
    address = simulator.hub()["address"]
    line = http.client.HTTPSConnection(address, context=ssl.create_default_context(cafile=simulator.ca))
    line.request("GET", path, headers=headers)
    answer = line.getresponse()
    assert (answer.status, words in answer.read().decode()) == (status, True)
    line.close()
