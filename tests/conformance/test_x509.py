"""azure-iot-device provisions with certificates, and connects to its hub with the same ones."""

import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import uuid

import pytest
from azure.iot.device import IoTHubDeviceClient, Message, ProvisioningDeviceClient, X509
from conftest import eventually


class Workshop:
    """A folder of certificates, made with `azimuth certs` or with OpenSSL, and the DPS they are told to."""

    def __init__(self, simulator, folder):
        self.simulator, self.folder = simulator, folder
        self.tls = ssl.create_default_context(cafile=simulator.ca)

    def certs(self, *words):
        self.simulator.command("certs", *words[:-1], "--out", str(self.folder / words[-1]))

    def openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def text(self, name):
        return (self.folder / name).read_text()

    def ask(self, method, path, body=None):
        dps = self.simulator.connect["dps"]
        fields = dict(part.split("=", 1) for part in dps["connection_string"].split(";"))
        token = sas(dps["address"], fields["SharedAccessKeyName"], fields["SharedAccessKey"])
        request = urllib.request.Request(
            f"https://{dps['address']}{path}?api-version=2021-10-01", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": token, "Content-Type": "application/json", "If-Match": "*"})
        try:
            with urllib.request.urlopen(request, context=self.tls) as response:
                return json.loads(response.read() or "null")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{error.code} {error.read().decode()}") from error

    def enroll_group(self, x509):
        group = f"group-{uuid.uuid4()}"
        self.ask("PUT", f"/enrollmentGroups/{group}",
                 {"enrollmentGroupId": group, "attestation": {"type": "x509", "x509": x509}})
        return group

    def enroll(self, device, pem):
        return self.ask("PUT", f"/enrollments/{device}", {
            "registrationId": device, "attestation": {
                "type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": pem}}}}})

    def prove(self, root):
        """Uploads a CA certificate and proves possession, as a user would."""
        self.ask("PUT", f"/azimuth/certificates/{root}", {"certificate": self.text(f"{root}.pem")})
        challenge = self.ask("POST", f"/azimuth/certificates/{root}/generateVerificationCode")
        self.certs("verification", challenge["properties"]["verificationCode"],
                   "--issuer", str(self.folder / root), "proof")
        proven = self.ask("POST", f"/azimuth/certificates/{root}/verify", {"certificate": self.text("proof.pem")})
        assert proven["properties"]["isVerified"]

    def register(self, device, chain, key):
        client = ProvisioningDeviceClient.create_from_x509_certificate(
            provisioning_host=self.simulator.connect["dps"]["address"], registration_id=device,
            id_scope=self.simulator.connect["dps"]["id_scope"], x509=self.x509(chain, key),
            server_verification_cert=self.simulator.ca_pem)
        return client.register()

    def x509(self, chain, key):
        return X509(cert_file=str(self.folder / chain), key_file=str(self.folder / key))

    def say_hello(self, result, chain, key):
        """With the certificate, at the hub that the DPS named."""
        state = result.registration_state
        device = IoTHubDeviceClient.create_from_x509_certificate(
            self.x509(chain, key), state.assigned_hub, state.device_id,
            server_verification_cert=self.simulator.ca_pem)
        device.connect()
        device.send_message(Message("with a certificate"))
        device.shutdown()
        assert eventually(lambda: self.simulator.events(state.device_id))[0]["body"] == "with a certificate"


def sas(host, name, key):
    import base64
    import hashlib
    import hmac
    import urllib.parse
    expiry = int(time.time()) + 600
    resource = urllib.parse.quote(host, safe="")
    signed = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    signature = urllib.parse.quote(base64.b64encode(signed), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={name}"


@pytest.fixture
def workshop(simulator, tmp_path):
    return Workshop(simulator, tmp_path)


def fresh(word):
    return f"{word}-{uuid.uuid4().hex[:12]}"


def refused(workshop, device, kind, sentence, chain, key):
    with pytest.raises(Exception) as error:
        workshop.register(device, chain, key)
    text = f"{error.value} {error.value.__cause__}"
    assert "register request returned a service error status code 401" in text
    records = workshop.simulator.refusals(device)
    assert kind in [record["kind"] for record in records], records
    assert sentence in json.dumps(records), records


@pytest.mark.parametrize("key", ["p256", "rsa2048"])
def test_an_individual_enrollment_by_a_certificate_that_signed_itself(workshop, key):
    device = fresh("x509-self")
    workshop.certs("leaf", device, "--key", key, "device")
    enrollment = workshop.enroll(device, workshop.text("device.pem"))
    primary = enrollment["attestation"]["x509"]["clientCertificates"]["primary"]
    assert primary["info"]["subjectName"] == f"CN={device}" and "certificate" not in primary
    result = workshop.register(device, "device.chain.pem", "device.key")
    assert result.status == "assigned"
    workshop.say_hello(result, "device.chain.pem", "device.key")


def test_a_certificate_made_with_openssl_also_of_version_1(workshop):
    device = fresh("x509-openssl")
    workshop.openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "device.key",
                     "-subj", f"/CN={device}", "-out", "device.csr")
    workshop.openssl("x509", "-req", "-in", "device.csr", "-signkey", "device.key", "-days", "30",
                     "-out", "device.pem")
    workshop.enroll(device, workshop.text("device.pem"))
    result = workshop.register(device, "device.pem", "device.key")
    workshop.say_hello(result, "device.pem", "device.key")


@pytest.mark.parametrize("anchor", ["root", "intermediate"])
def test_a_group_by_root_and_by_intermediate(workshop, anchor):
    root, device = fresh("root"), fresh("x509-group")
    workshop.certs("root", "Contoso Root", root)
    workshop.certs("intermediate", "Contoso Line 7", "--issuer", str(workshop.folder / root), "line")
    workshop.certs("leaf", device, "--issuer", str(workshop.folder / "line"), "device")
    workshop.prove(root)
    group = workshop.enroll_group(
        {"caReferences": {"primary": root}} if anchor == "root" else
        {"signingCertificates": {"primary": {"certificate": workshop.text("line.pem")}}})
    result = workshop.register(device, "device.chain.pem", "device.key")
    assert result.status == "assigned"
    workshop.say_hello(result, "device.chain.pem", "device.key")
    state = workshop.ask("GET", f"/registrations/{device}")
    assert state["x509"] == {"enrollmentGroupId": group}


def test_expired_unproven_and_unknown_are_refused_and_explained(workshop):
    root = fresh("root")
    workshop.certs("root", "Fabrikam Root", root)

    def device(word, *more):
        # A name for each: the SDK of a device that was refused stays on the line.
        name = fresh(f"x509-{word}")
        workshop.certs("leaf", name, "--issuer", str(workshop.folder / root), *more, name)
        return name, f"{name}.chain.pem", f"{name}.key"

    name, *files = device("unknown")
    refused(workshop, name, "unknown-ca", "which is not among the certificates at hand", *files)
    workshop.ask("PUT", f"/azimuth/certificates/{root}", {"certificate": workshop.text(f"{root}.pem")})
    workshop.enroll_group({"caReferences": {"primary": root}})
    name, *files = device("unproven")
    refused(workshop, name, "unverified-ca", "has not proven to hold its key", *files)
    workshop.prove(root)
    name, *files = device("proven")
    assert workshop.register(name, *files).status == "assigned"
    name, *files = device("expired", "--days", "0")
    refused(workshop, name, "expired-certificate", "expired at", *files)


def test_a_certificate_of_another_name_does_not_connect(workshop):
    device = fresh("x509-other")
    workshop.certs("leaf", "somebody-else", "device")
    with pytest.raises(Exception):
        workshop.register(device, "device.chain.pem", "device.key")
    record = workshop.simulator.refusals(device)[-1]
    assert (record["kind"], record["answer"]) == ("common-name-mismatch", "CONNACK 5")
