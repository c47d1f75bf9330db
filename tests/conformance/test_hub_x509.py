"""Devices sign in at a hub with certificates: by thumbprint, and below a CA certificate of the hub."""

import json
import shutil
import subprocess
import uuid

import pytest
from azure.iot.device import IoTHubDeviceClient, Message, X509
from conftest import eventually


class Shelf:
    """Certificates made with `azimuth certs`, and the hub they are told to."""

    def __init__(self, simulator, registry, folder):
        self.simulator, self.registry, self.folder = simulator, registry, folder
        self.hub = simulator.hub()

    def certs(self, *words):
        self.simulator.command("certs", *words[:-1], "--out", str(self.folder / words[-1]))

    def certificate(self, *words):
        return self.simulator.command("hub", "certificate", *map(str, words))

    def thumbprint(self, name, kind):
        said = subprocess.run(["openssl", "x509", "-in", self.folder / f"{name}.pem", "-noout", "-fingerprint", f"-{kind}"],
                              check=True, capture_output=True, text=True).stdout
        return said.split("=")[1].strip().replace(":", "")

    def below_a_root(self):
        """A root, an authority below it, and a device with a certificate below both."""
        root, device = fresh("root"), fresh("x509-ca")
        self.certs("root", "Contoso Root", root)
        self.certs("intermediate", "Contoso Line", "--issuer", str(self.folder / root), f"{root}-line")
        self.certs("leaf", device, "--issuer", str(self.folder / f"{root}-line"), device)
        self.registry.create_device_with_certificate_authority(device, "enabled")
        return root, device

    def connect(self, device, files=None, websockets=False):
        files = files or device
        x509 = X509(cert_file=str(self.folder / f"{files}.chain.pem"), key_file=str(self.folder / f"{files}.key"))
        client = IoTHubDeviceClient.create_from_x509_certificate(
            x509, self.hub["address"], device, websockets=websockets, connection_retry=False,
            server_verification_cert=self.simulator.ca_pem)
        client.connect()
        return client

    def says_hello(self, device, auth, **how):
        client = self.connect(device, **how)
        client.send_message(Message("hello"))
        client.shutdown()
        newest = eventually(lambda: self.simulator.events(device))[-1]
        assert newest["body"] == "hello"
        stamped = newest["systemProperties"]["iothub-connection-auth-method"]
        assert json.loads(stamped)["type"] == auth

    def refused(self, device, kind, sentence, **how):
        with pytest.raises(Exception):
            self.connect(device, **how)
        newest = self.simulator.refusals(device)[-1]
        assert (newest["kind"], newest["answer"]) == (kind, "CONNACK 5"), newest
        assert sentence in newest["sentence"], newest


@pytest.fixture
def shelf(simulator, registry, tmp_path):
    return Shelf(simulator, registry, tmp_path)


def fresh(word):
    return f"{word}-{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websocket"])
@pytest.mark.parametrize("slot", ["primary", "secondary"])
@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_a_thumbprint_lets_in(shelf, websockets, slot, kind):
    device = fresh("x509-thumb")
    shelf.certs("leaf", "any name", device)
    shown, other = shelf.thumbprint(device, kind), "AB" * (20 if kind == "sha1" else 32)
    both = (shown, other) if slot == "primary" else (other, shown)
    shelf.registry.create_device_with_x509(device, *both, "enabled")
    shelf.says_hello(device, "x509Certificate", websockets=websockets)


@pytest.mark.parametrize("websockets", [False, True], ids=["mqtt", "websocket"])
def test_a_chain_to_a_proven_ca_lets_in_until_it_is_deleted(shelf, websockets):
    root, device = shelf.below_a_root()
    how = {"websockets": websockets}
    shelf.refused(device, "untrusted-chain", "leads to no verified CA certificate", **how)
    shelf.certificate("upload", root, shelf.folder / f"{root}.pem")
    shelf.refused(device, "unverified-ca", "has not proven to hold its key", **how)
    assert "verified" in shelf.certificate("verify", root, "--issuer", shelf.folder / root)
    shelf.says_hello(device, "x509CertificateAuthority", **how)
    shelf.certificate("delete", root)
    shelf.refused(device, "untrusted-chain", "leads to no verified CA certificate", **how)


def test_possession_is_proven_with_a_code_signed_elsewhere(shelf):
    root, device = shelf.below_a_root()
    shelf.certificate("upload", root, shelf.folder / f"{root}.pem")
    code = shelf.certificate("verification-code", root).strip()
    shelf.certs("verification", code, "--issuer", str(shelf.folder / root), "proof")
    shelf.certificate("verify", root, shelf.folder / "proof.pem")
    shown = json.loads(shelf.certificate("show", root, "--json"))
    assert shown["properties"]["isVerified"] and shown["properties"]["subject"] == "Contoso Root"
    assert shown["properties"]["thumbprint"] == shelf.thumbprint(root, "sha1")
    row = next(line for line in shelf.certificate("list").splitlines() if line.startswith(root))
    assert row.split()[1] == "yes"
    # An owner may also say at once that nobody has to prove anything.
    shelf.certificate("upload", f"{root}-again", shelf.folder / f"{root}.pem", "--verified")
    shelf.says_hello(device, "x509CertificateAuthority")
    for name in (root, f"{root}-again"):
        shelf.certificate("delete", name)


def test_another_name_an_expired_leaf_and_a_key_are_refused(shelf):
    root, device = shelf.below_a_root()
    shelf.certificate("upload", root, shelf.folder / f"{root}.pem", "--verified")
    upper = device.upper()
    shelf.registry.create_device_with_certificate_authority(upper, "enabled")
    shelf.refused(upper, "wrong-common-name", f"is `{device}`, it must be `{upper}`", files=device)
    shelf.certs("leaf", device, "--issuer", str(shelf.folder / f"{root}-line"), "--days", "0", "old")
    shelf.refused(device, "expired-certificate", "expired at", files="old")
    with pytest.raises(Exception):
        key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
        client = IoTHubDeviceClient.create_from_connection_string(
            f"HostName={shelf.hub['address']};DeviceId={device};SharedAccessKey={key}", connection_retry=False,
            server_verification_cert=shelf.simulator.ca_pem)
        client.connect()
    newest = shelf.simulator.refusals(device)[-1]
    assert newest["kind"] == "wrong-authentication" and "certificateAuthority" in newest["sentence"]
    shelf.certificate("delete", root)


@pytest.mark.skipif(not shutil.which("mosquitto_pub"), reason="mosquitto_pub is not installed")
def test_mosquitto_with_a_chain_made_by_openssl(shelf):
    device, root = fresh("x509-openssl"), fresh("root")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=shelf.folder, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.pem",
            "-subj", "/CN=Fabrikam Root", "-days", "30")
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "device.key", "-out", "device.csr",
            "-subj", f"/O=Fabrikam/CN={device}")
    openssl("x509", "-req", "-in", "device.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial",
            "-out", "device.pem", "-days", "30")
    shelf.registry.create_device_with_certificate_authority(device, "enabled")
    shelf.certificate("upload", root, shelf.folder / "root.pem", "--verified")
    hub = shelf.hub["address"]
    done = subprocess.run(
        ["mosquitto_pub", "-h", hub, "-p", "8883", "--cafile", shelf.simulator.ca, "--cert", "device.pem", "--key", "device.key",
         "-i", device, "-u", f"{hub}/{device}/?api-version=2021-04-12", "-q", "1",
         "-t", f"devices/{device}/messages/events/", "-m", "from mosquitto"],
        cwd=shelf.folder, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: shelf.simulator.events(device))[0]["body"] == "from mosquitto"
    shelf.certificate("delete", root)
