"""A webhook chooses hubs and speaks with devices: docs/webhook.py, asked by azure-iot-device's registration."""

import json
import subprocess
import sys
import urllib.request

import pytest
from azure.iot.device import ProvisioningDeviceClient
from conftest import ROOT
from test_allocation import Rest

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture
def webhook():
    """The sample as the documentation has it, on a port that is free."""
    process = subprocess.Popen([sys.executable, str(ROOT / "docs" / "webhook.py"), "0"],
                               stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait(10)
    process.stdout.close()


def test_the_sample_answers_with_a_hub_it_was_offered(webhook):
    for payload, hub in [({"model": "toaster"}, "a-west"), ({"model": "kettle"}, "a-east"), (None, "a-east")]:
        context = {"registrationId": "r"} | ({"payload": payload} if payload else {})
        body = json.dumps({"deviceRuntimeContext": context, "linkedHubs": ["a-east", "a-west"]}).encode()
        answer = json.loads(urllib.request.urlopen(webhook, body).read())
        assert answer == {"iotHubHostName": hub, "payload": {"model": (payload or {}).get("model"), "hub": hub}}


@pytest.mark.parametrize("model, region", [("toaster", "westus"), ("kettle", "eastus")])
def test_a_payload_goes_to_the_webhook_and_its_answer_to_the_device(simulator, webhook, model, region):
    dps = simulator.connect["dps"]
    hubs = {hub["region"]: hub for hub in simulator.connect["hubs"]}
    named = [hubs["eastus"]["host_name"], hubs["westus"]["host_name"]]
    registration_id = f"custom-{model}"
    rest = Rest(dps["address"], dps["connection_string"], simulator.ca)
    status, body = rest("PUT", f"/enrollments/{registration_id}", {
        "registrationId": registration_id,
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
        "allocationPolicy": "custom", "iotHubs": named,
        "customAllocationDefinition": {"webhookUrl": webhook, "apiVersion": "2021-10-01"}})
    assert status == 200, body
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=dps["address"], registration_id=registration_id, id_scope=dps["id_scope"],
        symmetric_key=KEY, server_verification_cert=simulator.ca_pem)
    client.provisioning_payload = {"model": model}
    result = client.register()
    assert result.status == "assigned"
    assert result.registration_state.assigned_hub == hubs[region]["address"]
    returned = result.registration_state.response_payload
    returned = json.loads(returned) if isinstance(returned, str) else returned
    assert returned == {"model": model, "hub": hubs[region]["host_name"]}
    assert rest("DELETE", f"/enrollments/{registration_id}")[0] == 204
