"""A few lines of MQTT 3.1.1, for tests that need to see each acknowledgement as it comes."""

import base64
import hashlib
import hmac
import socket
import ssl
import time
import urllib.parse

GROUP_KEY = "rLuyBPpIJ+hOre2SFIP9Ajvdty3j0EwSP/WvTVH9eZAw5HpDuEmf13nziHy5RRXmuTy84FCLpOnhhBPASSbHYg=="


def sas(resource, key, seconds=3600, policy=None):
    """A shared access signature as Azure's documentation makes it."""
    expiry = int(time.time()) + seconds
    resource = urllib.parse.quote(resource, safe="")
    digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    token = (f"SharedAccessSignature sr={resource}&sig={urllib.parse.quote(base64.b64encode(digest), safe='')}"
             f"&se={expiry}")
    return token + (f"&skn={policy}" if policy else "")


def derived(registration_id):
    """The key of a device in the tutorial's enrollment group."""
    digest = hmac.new(base64.b64decode(GROUP_KEY), registration_id.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


def packet(kind, body):
    length, rest = b"", len(body)
    while True:
        rest, byte = rest // 128, rest % 128
        length += bytes([byte | (0x80 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


class Device:
    """A device on a TLS socket, after CONNACK 0."""

    def __init__(self, ca, hub, device_id, key, keep_alive=60, clean=True, seconds=3600):
        context = ssl.create_default_context(cafile=ca)
        self.id = device_id
        self.socket = context.wrap_socket(socket.create_connection((hub, 8883)), server_hostname=hub)
        self.socket.settimeout(10)
        flags = 0b1100_0000 | (2 if clean else 0)
        self.socket.sendall(packet(0x10, text("MQTT") + bytes([4, flags]) + keep_alive.to_bytes(2, "big")
                                   + text(device_id) + text(f"{hub}/{device_id}/?api-version=2021-04-12")
                                   + text(sas(f"{hub}/devices/{device_id}", key, seconds))))
        self.connack = self.read(4)
        assert self.connack[3] == 0, self.connack

    def read(self, count):
        data = b""
        while len(data) < count:
            chunk = self.socket.recv(count - len(data))
            if not chunk:
                raise ConnectionError("closed")
            data += chunk
        return data

    def publish(self, packet_id, body):
        self.socket.sendall(packet(0x32, text(f"devices/{self.id}/messages/events/") + packet_id.to_bytes(2, "big")
                                   + body.encode()))

    def acknowledged(self):
        """The packet id of the next PUBACK."""
        answer = self.read(4)
        assert answer[:2] == b"\x40\x02", answer
        return int.from_bytes(answer[2:], "big")

    def subscribe(self, topic_filter, qos=1):
        """The SUBACK code, or None when the connection was closed instead."""
        self.socket.sendall(packet(0x82, b"\0\7" + text(topic_filter) + bytes([qos])))
        try:
            answer = self.read(5)
        except OSError:
            return None
        assert answer[:4] == b"\x90\x03\0\7", answer
        return answer[4]

    def say(self, topic, body="", qos=1):
        """Publishes anything anywhere; whether the connection lives on."""
        try:
            self.socket.sendall(packet(0x30 | qos << 1, text(topic) + (b"\0\1" if qos else b"") + body.encode()))
            return self.ping()
        except OSError:
            return False

    def ping(self):
        """Whether the server answers, whatever else it says before."""
        try:
            self.socket.sendall(b"\xc0\0")
            while self.packet()[0] != 0xd0:
                pass
            return True
        except OSError:
            return False

    def packet(self):
        """The next packet: its first byte and its body."""
        first, length, shift = self.read(1)[0], 0, 0
        while True:
            byte = self.read(1)[0]
            length |= (byte & 0x7f) << shift
            shift += 7
            if not byte & 0x80:
                break
        return first, self.read(length) if length else b""

    def heard(self):
        """Topics of all messages that came until the server answers a ping."""
        self.socket.sendall(b"\xc0\0")
        topics = []
        while True:
            first, body = self.packet()
            if first == 0xd0:
                return topics
            if first & 0xf0 == 0x30:
                length = int.from_bytes(body[:2], "big")
                topics.append(body[2:2 + length].decode())

    def close(self):
        self.socket.close()
