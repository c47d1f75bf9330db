"""What was acknowledged is there after `kill -9`: messages, identities, enrollments, registrations."""

import http.client
import json
import pathlib
import signal
import ssl
import threading
import time
import urllib.request

from test_device_https_x509 import Device as CertificateDevice
from test_x509 import Workshop
from wire import Device, sas

GROUP_KEY = "rLuyBPpIJ+hOre2SFIP9Ajvdty3j0EwSP/WvTVH9eZAw5HpDuEmf13nziHy5RRXmuTy84FCLpOnhhBPASSbHYg=="
DEVICE_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def request(own, service, method, path, body=None, api_version="2021-10-01"):
    """A REST call with the service's own connection string; the status, or None when nobody answered."""
    parts = dict(part.split("=", 1) for part in service["connection_string"].split(";"))
    url = f"https://{parts['HostName']}{path}?api-version={api_version}"
    call = urllib.request.Request(url, method=method, data=json.dumps(body).encode() if body else None)
    call.add_header("Authorization", sas(parts["HostName"], parts["SharedAccessKey"], policy=parts["SharedAccessKeyName"]))
    call.add_header("Content-Type", "application/json; charset=utf-8")
    try:
        with urllib.request.urlopen(call, timeout=10, context=ssl.create_default_context(cafile=own.ca)) as answer:
            return answer.status, json.loads(answer.read() or "null")
    except urllib.error.HTTPError as error:
        return error.code, None
    except OSError:
        return None, None


def make_device(own, device_id):
    body = {"deviceId": device_id, "authentication": {"type": "sas", "symmetricKey": {
        "primaryKey": DEVICE_KEY, "secondaryKey": DEVICE_KEY}}}
    return request(own, own.hub(), "PUT", f"/devices/{device_id}", body, "2021-04-12")[0]


def killed_in_mid_flow(own, workers, seconds):
    """Runs workers until the process is killed under them."""
    threads = [threading.Thread(target=worker, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    own.stop(signal.SIGKILL)
    for thread in threads:
        thread.join(15)
    own.start()


def test_every_acknowledged_message_stands_where_its_sequence_says(own):
    own = own()
    devices = [f"kill-{n}" for n in range(40)]
    for device in devices:
        assert make_device(own, device) == 200
    acknowledged = {device: [] for device in devices}

    def publisher(device):
        def run():
            try:
                line = Device(own.ca, own.hub()["address"], device, DEVICE_KEY)
                sent = done = 0
                while True:
                    while sent - done < 10:
                        sent += 1
                        line.publish(sent % 65535 or 65535, f"{device} {sent}")
                    assert line.acknowledged() == ((done + 1) % 65535 or 65535), "in order"
                    done += 1
                    acknowledged[device].append(f"{device} {done}")
            except OSError:
                pass
        return run

    killed_in_mid_flow(own, [publisher(device) for device in devices], 2)
    total = sum(map(len, acknowledged.values()))
    assert total > 1000, "the kill came too early to mean anything"

    lines = own.command("events", "--from", "start", "--once", "--json").splitlines()
    events = [json.loads(line) for line in lines]
    stored, next_number = {device: [] for device in devices}, {}
    for event in events:
        partition, number = event["partition"], event["sequenceNumber"]
        assert number == next_number.get(partition, 0), "sequence numbers have no gaps"
        next_number[partition] = number + 1
        stored[event["systemProperties"]["iothub-connection-device-id"]].append(event["body"])
    for device in devices:
        count = len(acknowledged[device])
        assert stored[device][:count] == acknowledged[device], f"{device}: acknowledged is stored, once, in order"
    for event in events[:: max(1, len(events) // 20)]:
        again = own.command("events", "--partition", str(event["partition"]), "--from",
                            f"sequence:{event['sequenceNumber']}", "--once", "--count", "1", "--json")
        assert json.loads(again) == event


def test_every_answered_identity_enrollment_and_registration_is_there(own):
    own = own()
    made = {"devices": [], "enrollments": [], "registrations": []}

    def identities(worker):
        def run():
            for n in range(10_000):
                if make_device(own, f"identity-{worker}-{n}") != 200:
                    return
                made["devices"].append(f"identity-{worker}-{n}")
        return run

    def enrollments():
        for n in range(10_000):
            body = {"registrationId": f"enrolled-{n}", "attestation": {"type": "symmetricKey", "symmetricKey": {}}}
            if request(own, own.connect["dps"], "PUT", f"/enrollments/enrolled-{n}", body)[0] != 200:
                return
            made["enrollments"].append(f"enrolled-{n}")

    def registrations():
        import base64, hashlib, hmac
        from azure.iot.device import ProvisioningDeviceClient
        for n in range(10_000):
            name = f"registered-{n}"
            key = base64.b64encode(hmac.new(base64.b64decode(GROUP_KEY), name.encode(), hashlib.sha256).digest())
            try:
                result = ProvisioningDeviceClient.create_from_symmetric_key(
                    own.connect["dps"]["address"], name, own.connect["dps"]["id_scope"], key.decode(),
                    server_verification_cert=own.ca_pem).register()
            except Exception:
                return
            made["registrations"].append((name, result.registration_state.assigned_hub))

    killed_in_mid_flow(own, [identities(0), identities(1), enrollments, registrations], 5)
    assert all(len(names) > 0 for names in made.values()), {kind: len(names) for kind, names in made.items()}
    for device in made["devices"]:
        assert request(own, own.hub(), "GET", f"/devices/{device}", api_version="2021-04-12")[0] == 200, device
    for enrollment in made["enrollments"]:
        assert request(own, own.connect["dps"], "GET", f"/enrollments/{enrollment}")[0] == 200, enrollment
    for name, hub in made["registrations"]:
        status, record = request(own, own.connect["dps"], "GET", f"/registrations/{name}")
        assert status == 200 and record["status"] == "assigned", (name, record)
        [section] = [section for section in own.connect["hubs"] if section["address"] == hub]
        assert request(own, section, "GET", f"/devices/{name}", api_version="2021-04-12")[0] == 200, name


def test_certificates_groups_and_entries_made_in_bulk_are_there_as_they_were_answered(own, tmp_path):
    own = own()
    workshop = Workshop(own, tmp_path)
    roots = [f"root-{n}" for n in range(8)]
    for root in roots:
        workshop.certs("root", f"Contoso {root}", root)
        workshop.certs("leaf", f"of-{root}", "--issuer", str(workshop.folder / root), f"of-{root}")
    made = {"uploaded": {}, "verified": {}, "groups": {}, "leaves": {}, "bulk": {}}

    def until_killed(work):
        def run():
            try:
                work()
            except (OSError, http.client.HTTPException):
                pass
        return run

    def certificates():
        for root in roots:
            answer = workshop.ask("PUT", f"/azimuth/certificates/{root}", {"certificate": workshop.text(f"{root}.pem")})
            made["uploaded"][root] = answer["properties"]["thumbprint"]
            workshop.prove(root)
            made["verified"][root] = True
            group = workshop.ask("PUT", f"/enrollmentGroups/by-{root}", {
                "enrollmentGroupId": f"by-{root}",
                "attestation": {"type": "x509", "x509": {"caReferences": {"primary": root}}}})
            made["groups"][root] = group["etag"]

    def leaves():
        pem = workshop.text("of-root-0.pem")
        for n in range(10_000):
            answer = workshop.enroll(f"leaf-{n}", pem)
            made["leaves"][f"leaf-{n}"] = (answer["etag"], answer["attestation"]["x509"])

    def bulk():
        for n in range(10_000):
            entries = [{"registrationId": f"bulk-{n}-{m}", "attestation": {"type": "symmetricKey", "symmetricKey": {}}}
                       for m in range(10)]
            answer = workshop.ask("POST", "/enrollments", {"mode": "create", "enrollments": entries})
            assert answer["isSuccessful"], answer
            made["bulk"].update({entry["registrationId"]: None for entry in entries})

    killed_in_mid_flow(own, [until_killed(work) for work in (certificates, leaves, bulk)], 4)
    assert all(made.values()), {kind: len(things) for kind, things in made.items()}
    for root, thumbprint in made["uploaded"].items():
        there = workshop.ask("GET", f"/azimuth/certificates/{root}")["properties"]
        assert there["thumbprint"] == thumbprint, root
        assert there["isVerified"] or root not in made["verified"], root
    for root, etag in made["groups"].items():
        group = workshop.ask("GET", f"/enrollmentGroups/by-{root}")
        assert (group["etag"], group["attestation"]["x509"]["caReferences"]["primary"]) == (etag, root)
    listed = json.loads(own.command("dps", "enrollment", "list", "--json"))
    there = {one["registrationId"]: (one["etag"], one["attestation"].get("x509")) for one in listed}
    for leaf, answered in made["leaves"].items():
        assert there[leaf] == answered, leaf
    assert made["bulk"].keys() <= there.keys()
    # And they do what they are for.
    for root in made["groups"]:
        device = CertificateDevice(workshop, f"of-{root}", f"of-{root}.chain.pem", f"of-{root}.key")
        assert device.provision()["x509"] == {"enrollmentGroupId": f"by-{root}"}


def test_a_torn_tail_is_cut_with_a_sentence_and_the_rest_is_kept(own):
    own = own()
    assert make_device(own, "torn") == 200
    line = Device(own.ca, own.hub()["address"], "torn", DEVICE_KEY)
    for n in range(1, 11):
        line.publish(n, f"message {n}")
        assert line.acknowledged() == n
    own.stop(signal.SIGKILL)
    folder = own.folder / "data" / own.hub()["name"] / "events"
    segments = [path for path in pathlib.Path(folder).rglob("*") if path.is_file() and path.stat().st_size > 1000]
    [last] = sorted(segments)[-1:]
    with open(last, "r+b") as segment:
        segment.truncate(last.stat().st_size - 7)
    own.start()
    assert [event["body"] for event in own.events("torn")] == [f"message {n}" for n in range(1, 10)]
    assert last.name in (own.folder / "log").read_text()
