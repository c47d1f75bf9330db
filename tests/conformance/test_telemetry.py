"""What azure-iot-device sends is what `azimuth events` shows."""

from azure.iot.device import IoTHubDeviceClient, Message

ODD = {
    "plain": "value", "space ": " a b ", "slash/and&amp": "x/y&z=1?#", "percent%20": "100%", "plus+": "a+b",
    "ümläut": "€ 😀", "empty": "", "quote'\"": "'\"", "$.looks-like-system": "no", "A": "1", "a": "2",
}


def client(device, simulator):
    return IoTHubDeviceClient.create_from_connection_string(
        device.connection_string, server_verification_cert=simulator.ca_pem)


def test_odd_properties_arrive_unchanged(simulator, device):
    message = Message('{"temperature": 21.50, "text": "äöü"}', message_id="id with space/&=%",
                      content_encoding="utf-8", content_type="application/json;charset=utf-8")
    message.correlation_id = "correlation"
    message.user_id = "user"
    message.custom_properties.update(ODD)
    sender = client(device, simulator)
    sender.send_message(message)
    sender.shutdown()

    [event] = simulator.events(device.id)
    assert event["body"] == '{"temperature": 21.50, "text": "äöü"}'
    assert event["properties"] == ODD
    system = event["systemProperties"]
    assert system["message-id"] == "id with space/&=%"
    assert system["correlation-id"] == "correlation"
    assert system["user-id"] == "user"
    assert system["content-type"] == "application/json;charset=utf-8"
    assert system["content-encoding"] == "utf-8"
    assert system["iothub-connection-device-id"] == device.id
    assert system["iothub-message-source"] == "Telemetry"
    assert system["iothub-connection-auth-method"] == \
        '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}'
    assert system["iothub-connection-auth-generation-id"].isdigit()


def test_bodies_of_every_kind_and_order(simulator, device):
    bodies = ["", "text", "x" * 200_000, *[f"number {n}" for n in range(200)]]
    sender = client(device, simulator)
    for body in bodies:
        sender.send_message(Message(body))
    sender.send_message(Message(bytes(range(256))))
    sender.shutdown()
    events = simulator.events(device.id)
    assert [event["body"] for event in events[:-1]] == bodies
    assert "bodyBase64" in events[-1]
    numbers = [event["sequenceNumber"] for event in events]
    assert len({event["partition"] for event in events}) == 1
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) or numbers == sorted(set(numbers))


def test_an_expired_token_is_refused_and_explained(simulator, device):
    import base64, hashlib, hmac, urllib.parse
    resource = urllib.parse.quote(f"{device.hub}/devices/{device.id}", safe="")
    signature = base64.b64encode(hmac.new(base64.b64decode(device.primary_key),
                                          f"{resource}\n1500000000".encode(), hashlib.sha256).digest())
    token = f"SharedAccessSignature sr={resource}&sig={urllib.parse.quote(signature, safe='')}&se=1500000000"
    # The SDK refuses such a token itself, so a plain client shows it.
    import paho.mqtt.client as mqtt
    codes = []
    plain = mqtt.Client(client_id=device.id, protocol=mqtt.MQTTv311)
    plain.username_pw_set(f"{device.hub}/{device.id}/?api-version=2021-04-12", token)
    plain.tls_set(ca_certs=simulator.ca)
    plain.on_connect = lambda client, userdata, flags, code: (codes.append(code), client.disconnect())
    plain.connect(device.hub, 8883)
    plain.loop_forever(timeout=5, retry_first_connection=False)
    assert codes == [5]
    record = simulator.refusals(device.id)[-1]
    assert record["kind"] == "expired-token"
    assert token.split("sig=")[1][:20] not in str(record)
