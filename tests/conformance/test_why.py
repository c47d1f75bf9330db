"""`azimuth why --registration` says of each device why it has the hub it has, or none."""

import base64
import hashlib
import hmac
import json
import re
import threading
import uuid
from types import SimpleNamespace

import pytest
from azure.iot.device import ProvisioningDeviceClient
from conftest import eventually
from test_allocation import DPS, WEST, Rest, System, name
from test_custom_allocation import webhook  # noqa: F401  a fixture
from test_device_https import Device as HttpsDevice
from test_x509 import fresh, workshop  # noqa: F401  a fixture
from wire import derived

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER_KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SYMMETRIC = {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": OTHER_KEY}}


@pytest.fixture
def rest(simulator):
    dps = simulator.connect["dps"]
    made = []

    def put(collection, id_member, entry, **terms):
        body = {id_member: entry, "attestation": SYMMETRIC, **terms}
        status, answer = ask("PUT", f"/{collection}/{entry}", body, If_Match="*")
        assert status == 200, answer
        made.append(f"/{collection}/{entry}")
        return entry

    ask = Rest(dps["address"], dps["connection_string"], simulator.ca)
    ask.enroll = lambda entry, **terms: put("enrollments", "registrationId", entry, **terms)
    ask.group = lambda entry, **terms: put("enrollmentGroups", "enrollmentGroupId", entry, **terms)
    yield ask
    for path in made:
        ask("DELETE", path)


def register(simulator, registration_id, key):
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=simulator.connect["dps"]["address"], registration_id=registration_id,
        id_scope=simulator.connect["dps"]["id_scope"], symmetric_key=key,
        server_verification_cert=simulator.ca_pem)
    return client.register()


def why(simulator, registration_id):
    """As JSON and as text; the text says what the JSON holds, and neither holds a key or a token."""
    text = simulator.command("why", "--registration", registration_id)
    told = json.loads(simulator.command("why", "--registration", registration_id, "--json"))
    lines = [line for section in told["sections"] for line in section["lines"]]
    assert text.splitlines()[0] == told["answer"]
    assert [line for line in lines if f"  {line}" not in text.splitlines()] == []
    for secret in (KEY, OTHER_KEY, "sig=", "SharedAccess", "BEGIN "):
        assert secret not in text and secret not in json.dumps(told), secret
    return told["standing"], text, told


def has(text, *sentences):
    missing = [sentence for sentence in sentences if sentence not in text]
    assert not missing, f"{missing} not in\n{text}"


def test_a_device_of_a_group_and_how_it_stays(simulator):
    device = f"why-{uuid.uuid4()}"
    register(simulator, device, derived(device))
    standing, text, told = why(simulator, device.upper())
    assert standing == "assigned" and told["registrationId"] == device
    hub = told["registration"]["assignedHub"]
    has(text, f"{device} was assigned to {hub} at ", f"There was no individual enrollment {device}",
        "The enrollment group contoso-us-devices took the device.",
        f'signed with base64(HMAC-SHA256(primary key of the group, "{device}"))',
        "The policy geoLatency is that of the service", "The device called from 127.0.0.1, which lies in eastus.",
        f"  {hub}  0 ms  weight 1  chosen", "68 ms", "It had no hub: this is its first assignment.",
        f"{hub} made the device {device}.")
    register(simulator, device, derived(device))
    standing, text, _ = why(simulator, device)
    has(text, "the same one was chosen again", f"{hub} had the device {device} already, just as it is to be.")


def test_individual_enrollments_by_either_key_disabled_and_refused(simulator, rest):
    device = rest.enroll(fresh("why-own"))
    register(simulator, device, OTHER_KEY)
    standing, text, _ = why(simulator, device)
    assert standing == "assigned"
    has(text, f"The individual enrollment {device} decided alone", "signed with the secondary key of the individual")

    rest.enroll(device, provisioningStatus="disabled")
    HttpsDevice(simulator, device, KEY).register()
    # That answer does not wait for the record of it.
    eventually(lambda: "is disabled" in simulator.command("why", "--registration", device).splitlines()[0])
    _, text, _ = why(simulator, device)
    has(text, "was told at ", "No hub was looked for: the enrollment is disabled.", "enrollment-disabled")

    rest.enroll(device)
    # Over HTTPS: an SDK whose device was refused stays on the line, and takes the next one's place.
    HttpsDevice(simulator, device, derived(device)).register()
    standing, text, told = why(simulator, device)
    assert standing == "refused" and told["refusals"][-1]["kind"] == "wrong-key"
    has(text, f"{device} was refused at ", "neither key of the individual enrollment", "It still has the hub ",
        "alone decides; groups are not tried", "wrong-key (HTTP 401 Unauthorized)")
    register(simulator, device, KEY)
    assert why(simulator, device)[0] == "assigned"


def test_a_device_that_moves(simulator, rest):
    east, west = (simulator.hub(region)["host_name"] for region in ("eastus", "westus"))
    device = rest.enroll(fresh("why-moves"), allocationPolicy="static", iotHubs=[east])
    register(simulator, device, KEY)
    _, text, _ = why(simulator, device)
    has(text, "The policy static is that of its enrollment: the one hub in iotHubs.", f"  {east}  chosen",
        f"  {west}  excluded: the enrollment names other hubs in iotHubs")
    rest.enroll(device, allocationPolicy="static", iotHubs=[west])
    register(simulator, device, KEY)
    _, text, _ = why(simulator, device)
    has(text, f"It moves from {east}, since another hub was chosen", f"It was removed from {east}.",
        f"{west} made the device {device}.")
    rest.enroll(device, allocationPolicy="static", iotHubs=[east],
                reprovisionPolicy={"updateHubAssignment": False, "migrateDeviceData": False})
    register(simulator, device, KEY)
    _, text, _ = why(simulator, device)
    has(text, f"It keeps {west}, although {east} was chosen", "updateHubAssignment false")


def test_hashed_and_the_hubs_that_are_kept_out(simulator, rest):
    east, west = (simulator.hub(region)["host_name"] for region in ("eastus", "westus"))
    device = rest.enroll(fresh("why-hashed"), allocationPolicy="hashed")
    _, text, _ = why(simulator, device)
    foreseen = east if f"It would get {east}." in text else west
    has(text, "never registered here", f"It would get {foreseen}.")
    register(simulator, device, KEY)
    _, text, _ = why(simulator, device)
    has(text, "each hub by its weight, and the same device always alike", f"  {foreseen}  weight 1  chosen")
    assert rest("PATCH", f"/azimuth/linkedHubs/{foreseen}", {"applyAllocationPolicy": False})[0] == 200
    try:
        other = rest.enroll(fresh("why-hashed"), allocationPolicy="hashed")
        register(simulator, other, KEY)
        _, text, _ = why(simulator, other)
        has(text, f"  {foreseen}  excluded: its link has applyAllocationPolicy false")
    finally:
        rest("PATCH", f"/azimuth/linkedHubs/{foreseen}", {"applyAllocationPolicy": True})


def test_custom_allocation_by_a_webhook_that_answers_and_one_that_is_not_there(simulator, rest, webhook):  # noqa: F811
    east = simulator.hub()["host_name"]
    custom = {"allocationPolicy": "custom", "iotHubs": [east]}
    there = {"webhookUrl": f"{webhook}?code=its-key", "apiVersion": "2021-10-01"}
    device = rest.enroll(fresh("why-custom"), **custom, customAllocationDefinition=there)
    register(simulator, device, KEY)
    _, text, told = why(simulator, device)
    has(text, f"the hub that {webhook}?**** says", f"  {east}  chosen")
    assert "its-key" not in json.dumps(told)
    nowhere = {"webhookUrl": "http://127.0.0.85:9/", "apiVersion": "2021-10-01"}
    device = rest.enroll(fresh("why-custom"), **custom, customAllocationDefinition=nowhere)
    assert HttpsDevice(simulator, device, KEY).provision()[1]["status"] == "failed"
    standing, text, _ = why(simulator, device)
    assert standing == "failed"
    has(text, f"The registration of {device} failed at ", "with 400207: Custom allocation failed",
        "webhook-failed (response 200): the webhook http://127.0.0.85:9/")


def test_who_was_never_seen_is_told_what_would_happen(simulator, rest):
    nobody = fresh("why-nobody")
    standing, text, _ = why(simulator, nobody)
    assert standing == "neverSeen"
    has(text, f"{nobody} never registered here", f"There is no individual enrollment {nobody}.", "contoso-us-devices",
        f'base64(HMAC-SHA256(group key, "{nobody}"))')
    off = rest.enroll(fresh("why-off"), provisioningStatus="disabled")
    _, text, _ = why(simulator, off)
    has(text, "signed with its primary or secondary key", "It is disabled: the device would be answered `disabled`")


def test_a_chain_past_two_groups(simulator, workshop):  # noqa: F811
    root, device = fresh("root"), fresh("why-chain")
    workshop.certs("root", "Contoso Root", root)
    workshop.certs("intermediate", "Contoso Plant", "--issuer", str(workshop.folder / root), "plant")
    workshop.certs("intermediate", "Contoso Line 7", "--issuer", str(workshop.folder / "plant"), "line")
    workshop.certs("leaf", device, "--issuer", str(workshop.folder / "line"), "device")
    workshop.prove(root)
    above = workshop.enroll_group({"caReferences": {"primary": root}})
    nearest = workshop.enroll_group({"signingCertificates": {"primary": {"certificate": workshop.text("plant.pem")}}})
    assert workshop.register(device, "device.chain.pem", "device.key").status == "assigned"
    standing, text, _ = why(simulator, device)
    assert standing == "assigned"
    has(text, f"Met without a group: CN={device}, CN=Contoso Line 7.",
        f"The enrollment group {nearest} is anchored at CN=Contoso Plant, and decided.",
        f"Not asked, since the nearest to the device decides: {above}.",
        f"signed by the next: CN={device} < CN=Contoso Line 7 < CN=Contoso Plant < CN=Contoso Root.",
        f"The last is the CA certificate `{root}`, whose owner has proven to hold its key.")
    own = fresh("why-leaf")
    workshop.certs("leaf", own, "own")
    workshop.enroll(own, workshop.text("own.pem"))
    workshop.register(own, "own.chain.pem", "own.key")
    _, text, _ = why(simulator, own)
    has(text, f"CN={own} is the primary certificate of the individual enrollment.")
    stranger = fresh("why-stranger")
    workshop.certs("leaf", stranger, "stranger")
    with pytest.raises(Exception):
        workshop.register(stranger, "stranger.chain.pem", "stranger.key")
    standing, text, _ = why(simulator, stranger)
    assert standing == "refused"
    has(text, f"{stranger} was refused at ", "unknown-ca (response 401)", "Groups by certificate: ")


def test_only_who_may_read_enrollments_is_told(simulator):
    dps = simulator.connect["dps"]
    stranger = Rest(dps["address"], dps["connection_string"].replace("SharedAccessKey=", "SharedAccessKey=AAAA"),
                    simulator.ca)
    status, body = stranger("GET", "/azimuth/why/registrations/contoso-simdevice-east")
    assert (status, body["errorCode"]) == (401, 401002)


def refused_by_a_hub(system):
    """A hub that was not there when it was linked, with a key that it does not take."""
    link = system.parts["west"].connection_string
    wrong = re.sub("SharedAccessKey=.*", f"SharedAccessKey={OTHER_KEY}", link)
    system.parts["west"].stop()
    status, answer = system.dps("PUT", f"/azimuth/linkedHubs/{name('west')}", {
        "connectionString": wrong.replace(f"HostName={WEST}", f"HostName={name('west')}"),
        "location": "westus", "dialAddress": WEST}, If_Match="*")
    assert status == 200 and "cannot be reached" in answer["warning"], answer
    system.parts["west"].start()
    group = system.group("wrong", allocationPolicy="static", iotHubs=[name("west")])
    device = SimpleNamespace(ca=system.ca, connect={"dps": {"address": DPS, "id_scope": "0ne00002193"}})
    digest = hmac.new(base64.b64decode(group.key), b"wrong-1", hashlib.sha256).digest()
    _, body = HttpsDevice(device, "wrong-1", base64.b64encode(digest).decode()).provision()
    state = body["registrationState"]
    assert (body["status"], state["errorCode"]) == ("failed", 401002)
    # The hub's own words, as JSON in a text: the form in which Azure hands them on.
    words = json.loads(state["errorMessage"])
    assert list(words) == ["Message", "ExceptionMessage"]
    assert words["Message"].startswith("ErrorCode:IotHubUnauthorizedAccess;")
    assert words["ExceptionMessage"].startswith("Tracking ID:")
    text = system.command("why", "--registration", "wrong-1")
    has(text, "The registration of wrong-1 failed at ", f"{name('west')} refused the key of its link (401).",
        "hub-key-refused (response 200)")
    assert OTHER_KEY not in text


def test_a_hub_that_is_down_is_named_as_long_as_it_is(tmp_path):
    system = System(tmp_path)
    try:
        group = system.group("down", allocationPolicy="static", iotHubs=[name("west")])
        kept = system.group("kept", allocationPolicy="static", iotHubs=[name("east")])
        assert kept.register(1) == [name("east")]
        system.parts["west"].stop()

        def told(device):
            return system.command("why", "--registration", device)
        outcome = []
        devices = threading.Thread(target=lambda: outcome.append(group.register(1)))
        devices.start()
        waiting = eventually(lambda: told("down-1") if "waits for" in told("down-1") else None)
        has(waiting, f"down-1 is being assigned, and waits for {name('west')}.", f"{name('west')} cannot be reached: ",
            "The policy static is that of its enrollment", "hub-unreachable (response 202)")
        system.parts["west"].start()
        devices.join(60)
        assert outcome == [[name("west")]]
        has(told("down-1"), f"down-1 was assigned to {name('west')} at ", "It was asked ", " times in ")
        refused_by_a_hub(system)
        # What is kept of a registration is there when the DPS comes back.
        before = told("kept-1")
        system.parts["dps"].stop(9)
        system.parts["dps"].start()
        assert told("kept-1") == before
    finally:
        for part in system.parts.values():
            part.stop()
