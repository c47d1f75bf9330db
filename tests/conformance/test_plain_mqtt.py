"""Paho and the mosquitto clients with SAS tokens, as Azure's page on MQTT teaches, and OpenSSL for TLS."""

import socket
import subprocess
import time

import paho.mqtt.client as mqtt
import pytest
from conftest import eventually
from wire import sas


class Plain:
    """A Paho client that notes what happens to it."""

    def __init__(self, simulator, device, password=None, clean=True, will=None, client_id=None, keepalive=60):
        self.codes, self.ends, self.present, self.granted = [], [], [], []
        self.client = mqtt.Client(client_id=client_id or device.id, clean_session=clean, protocol=mqtt.MQTTv311)
        self.client.username_pw_set(f"{device.hub}/{device.id}/?api-version=2021-04-12",
                                    password or sas(f"{device.hub}/devices/{device.id}", device.primary_key))
        self.client.tls_set(ca_certs=simulator.ca)
        if will:
            self.client.will_set(*will)
        self.client.on_connect = lambda c, u, flags, code: (self.present.append(flags["session present"]),
                                                            self.codes.append(code))
        self.client.on_disconnect = lambda c, u, code: self.ends.append(code)
        self.client.on_subscribe = lambda c, u, mid, granted: self.granted.append(granted)
        self.client.reconnect_delay_set(30, 60)
        self.client.connect(device.hub, 8883, keepalive)
        self.client.loop_start()
        eventually(lambda: self.codes or self.ends)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def test_a_device_publishes_with_a_sas_token(simulator, device):
    plain = Plain(simulator, device)
    sent = plain.client.publish(f"devices/{device.id}/messages/events/$.ct=text%2Fplain&level=high", "hello", qos=1)
    sent.wait_for_publish(5)
    plain.close()
    [event] = simulator.events(device.id)
    assert (event["body"], event["properties"]) == ("hello", {"level": "high"})
    assert event["systemProperties"]["content-type"] == "text/plain"


def test_the_secondary_key_and_a_policy_key_work_as_well(simulator, device):
    key = simulator.hub()["connection_string"].split("SharedAccessKey=")[1]
    for password in (sas(f"{device.hub}/devices/{device.id}", device.secondary_key),
                     sas(device.hub, key, policy="iothubowner")):
        plain = Plain(simulator, device, password=password)
        assert plain.codes == [0]
        plain.close()


@pytest.mark.parametrize("change", ["key", "device", "client id"])
def test_what_does_not_fit_is_refused_with_code_5(simulator, device, change):
    password = {"key": sas(f"{device.hub}/devices/{device.id}", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
                "device": sas(f"{device.hub}/devices/another", device.primary_key)}.get(change)
    plain = Plain(simulator, device, password=password, client_id="another" if change == "client id" else None)
    assert plain.codes == [5]
    plain.close()


@pytest.mark.parametrize("topic, qos", [
    ("devices/another/messages/events/", 1), ("foo/bar", 1), ("devices/{id}/messages/events/", 2)])
def test_a_foreign_topic_or_qos_2_closes_the_connection(simulator, device, topic, qos):
    plain = Plain(simulator, device)
    plain.client.publish(topic.format(id=device.id), "x", qos=qos)
    eventually(lambda: plain.ends)
    plain.close()
    assert simulator.events(device.id) == []


def test_subscriptions_outlive_the_connection_without_clean_session(simulator, device):
    plain = Plain(simulator, device, clean=False)
    plain.client.subscribe([(f"devices/{device.id}/messages/devicebound/#", 2), ("$iothub/methods/POST/#", 0)])
    eventually(lambda: plain.granted)
    assert plain.granted == [(1, 0)]
    plain.close()
    assert plain.present == [0]
    for clean, present in ((False, [1]), (True, [0]), (False, [0])):
        plain = Plain(simulator, device, clean=clean)
        assert plain.present == present
        plain.close()


def test_a_will_is_published_when_the_socket_breaks_and_not_after_disconnect(simulator, device):
    topic = f"devices/{device.id}/messages/events/mark=will"
    plain = Plain(simulator, device, will=(topic, "gone", 1, False))
    plain.close()
    assert simulator.events(device.id) == []
    plain = Plain(simulator, device, will=(topic, "gone", 1, False))
    plain.client._sock.shutdown(socket.SHUT_RDWR)
    [event] = eventually(lambda: simulator.events(device.id))
    assert event["body"] == "gone"
    assert event["properties"] == {"mark": "will", "iothub-MessageType": "Will"}
    plain.client.loop_stop()


def test_the_newest_connection_wins(simulator, device):
    first = Plain(simulator, device)
    second = Plain(simulator, device)
    eventually(lambda: first.ends)
    assert second.codes == [0] and not second.ends
    first.client.loop_stop()
    second.close()


def test_silence_is_noticed_after_one_and_a_half_keep_alives(simulator, registry, device):
    import ssl
    context = ssl.create_default_context(cafile=simulator.ca)
    raw = context.wrap_socket(socket.create_connection((device.hub, 8883)), server_hostname=device.hub)
    text = lambda value: len(value).to_bytes(2, "big") + value.encode()
    variable = (text("MQTT") + bytes([4, 0b1100_0010]) + (1).to_bytes(2, "big") + text(device.id)
                + text(f"{device.hub}/{device.id}/?api-version=2021-04-12")
                + text(sas(f"{device.hub}/devices/{device.id}", device.primary_key)))
    length, rest = b"", len(variable)
    while True:
        rest, byte = rest // 128, rest % 128
        length += bytes([byte | (0x80 if rest else 0)])
        if not rest:
            break
    # A SUBSCRIBE in the same write: it may precede CONNACK.
    subscribe = bytes([0, 9]) + text(f"devices/{device.id}/messages/devicebound/#") + b"\1"
    raw.sendall(b"\x10" + length + variable + b"\x82" + bytes([len(subscribe)]) + subscribe)
    begin = time.monotonic()
    raw.settimeout(5)
    answer = b""
    while chunk := raw.recv(100):
        answer += chunk
    assert answer == bytes([0x20, 2, 0, 0, 0x90, 3, 0, 9, 1])
    assert 1.4 < time.monotonic() - begin < 2.5
    assert registry.get_device(device.id).connection_state == "Disconnected"
    assert simulator.refusals(device.id)[-1]["kind"] == "keep-alive"


def test_mosquitto_pub_and_sub(simulator, device):
    access = ["-h", device.hub, "-p", "8883", "-i", device.id, "-V", "mqttv311", "--cafile", simulator.ca,
              "-u", f"{device.hub}/{device.id}/?api-version=2021-04-12",
              "-P", sas(f"{device.hub}/devices/{device.id}", device.primary_key)]
    done = subprocess.run(["mosquitto_pub", *access, "-q", "1", "-t", f"devices/{device.id}/messages/events/a=b",
                           "-m", "from mosquitto", "-d"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert "received PUBACK" in done.stdout
    assert [event["body"] for event in simulator.events(device.id)] == ["from mosquitto"]
    done = subprocess.run(["mosquitto_sub", *access, "-q", "1", "-t", f"devices/{device.id}/messages/devicebound/#",
                           "-d", "-W", "1"], capture_output=True, text=True, timeout=20)
    assert "received SUBACK" in done.stdout, done
    wrong = [*access[:-1], sas(f"{device.hub}/devices/{device.id}", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")]
    done = subprocess.run(["mosquitto_pub", *wrong, "-t", "x", "-m", "x"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 5, done


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("algorithms, kind", [("ECDSA+SHA256", "EC"), ("RSA+SHA256:RSA-PSS+SHA256", "RSA")])
def test_openssl_verifies_either_server_key_by_name_and_address(simulator, version, algorithms, kind):
    hub = simulator.hub()
    for check in (["-verify_ip", hub["address"]], ["-verify_hostname", hub["host_name"]]):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"{hub['address']}:8883", version, "-sigalgs", algorithms,
             "-CAfile", simulator.ca, "-verify_return_error", "-x509_strict", *check],
            input="", capture_output=True, text=True, timeout=20)
        assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr
        # A certificate is asked for and not demanded.
        assert "No client certificate CA names sent" in done.stdout
        assert f"Peer signature type: {'ECDSA' if kind == 'EC' else 'RSA-PSS' if version == '-tls1_3' else 'RSA'}" \
            in done.stdout
    done = subprocess.run(["openssl", "s_client", "-connect", f"{hub['address']}:8883", version,
                           "-CAfile", simulator.ca, "-verify_return_error", "-verify_hostname", "elsewhere.example"],
                          input="", capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and "certificate verify failed" in done.stderr


def test_tls_1_1_and_plain_text_are_refused_with_a_reason(simulator):
    hub = simulator.hub()
    done = subprocess.run(["openssl", "s_client", "-connect", f"{hub['address']}:8883", "-tls1_1",
                           "-cipher", "ALL:@SECLEVEL=0"], input="", capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    plain = mqtt.Client("plain")
    plain.connect(hub["address"], 8883)
    plain.loop_start()
    time.sleep(0.5)
    plain.loop_stop()
    kinds = {line.split('"kind":"')[1].split('"')[0]
             for line in simulator.command("why", "--json").splitlines() if '"handshake"' in line}
    assert "not-tls" in kinds and "tls-version" in kinds, kinds
