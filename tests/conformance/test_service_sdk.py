"""Microsoft's two Python clients of the DPS service API: enrollments, groups, bulk calls, queries, registrations.

`azure-iot-deviceprovisioning` speaks 2021-10-01, `azure-iothub-provisioningserviceclient` an older shape.
"""

import base64
import hashlib
import hmac
import uuid

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.iot.device import ProvisioningDeviceClient
from azure.iot.device.exceptions import ClientError
from azure.iot.deviceprovisioning import DeviceProvisioningClient, generate_sas_token
from conftest import eventually
from provisioningserviceclient import (
    BULKOP_CREATE, BULKOP_DELETE, BulkEnrollmentOperation, ProvisioningServiceClient, ProvisioningServiceError,
    QuerySpecification)
from provisioningserviceclient.models import (
    AttestationMechanism, IndividualEnrollment, InitialTwin, SymmetricKeyAttestation)


def by_address(simulator):
    """The owner's connection string, with the address in place of the name."""
    dps = simulator.connect["dps"]
    fields = dict(part.split("=", 1) for part in dps["connection_string"].split(";"))
    fields["HostName"] = dps["address"]
    return fields


def connection_string(simulator):
    return ";".join(f"{name}={value}" for name, value in by_address(simulator).items())


@pytest.fixture
def service(simulator):
    return DeviceProvisioningClient.from_connection_string(connection_string(simulator))


@pytest.fixture
def older(simulator):
    return ProvisioningServiceClient.create_from_connection_string(connection_string(simulator))


def fresh(kind):
    return f"sdk-{kind}-{uuid.uuid4()}"


def keyed(**more):
    return {"attestation": {"type": "symmetricKey", "symmetricKey": {}}, **more}


def register(simulator, device, key):
    dps = simulator.connect["dps"]
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=dps["address"], registration_id=device, id_scope=dps["id_scope"],
        symmetric_key=key, server_verification_cert=simulator.ca_pem)
    return client.register()


def registered(service, device):
    try:
        return service.device_registration_state.get(device)["status"]
    except ResourceNotFoundError:
        return None


def test_an_enrollment_lives_with_the_newer_client(service, simulator):
    device = fresh("device")
    made = service.enrollment.create_or_update(device, keyed(
        registrationId=device, deviceId=f"{device}-in-hub", capabilities={"iotEdge": False},
        initialTwin={"tags": {"floor": 2}, "properties": {"desired": {"interval": 30}}}))
    assert len(base64.b64decode(made["attestation"]["symmetricKey"]["primaryKey"])) == 64
    assert made["provisioningStatus"] == "enabled"

    shown = service.enrollment.get(device)
    assert "symmetricKey" not in shown["attestation"] and shown["initialTwin"]["tags"] == {"floor": 2}
    secret = service.enrollment.get_attestation_mechanism(device)
    assert secret["symmetricKey"] == made["attestation"]["symmetricKey"]

    with pytest.raises(HttpResponseError) as again:
        service.enrollment.create_or_update(device, keyed(registrationId=device))
    assert again.value.status_code == 409
    with pytest.raises(HttpResponseError) as stale:
        service.enrollment.create_or_update(device, keyed(registrationId=device), if_match='"other"')
    assert stale.value.status_code == 412
    shown["provisioningStatus"] = "disabled"
    shown["attestation"] = secret
    changed = service.enrollment.create_or_update(device, shown, if_match=shown["etag"])
    assert changed["provisioningStatus"] == "disabled" and changed["etag"] != shown["etag"]

    with pytest.raises(ClientError):  # This device client knows no answer `disabled`.
        register(simulator, device, secret["symmetricKey"]["primaryKey"])
    eventually(lambda: registered(service, device) == "disabled")
    service.device_registration_state.delete(device)
    with pytest.raises(ResourceNotFoundError):
        service.device_registration_state.get(device)

    service.enrollment.delete(device)
    with pytest.raises(ResourceNotFoundError):
        service.enrollment.get(device)


def test_a_group_and_its_devices_with_the_newer_client(service, simulator):
    group, device = fresh("group"), fresh("member")
    made = service.enrollment_group.create_or_update(group, keyed(enrollmentGroupId=group))
    key = base64.b64decode(made["attestation"]["symmetricKey"]["secondaryKey"])
    derived = base64.b64encode(hmac.digest(key, device.encode(), hashlib.sha256)).decode()
    result = register(simulator, device, derived)
    assert result.status == "assigned"

    listed = list(service.device_registration_state.query(group))
    assert [(one["registrationId"], one["status"], one["assignedHub"]) for one in listed] == [
        (device, "assigned", service.device_registration_state.get(device)["assignedHub"])]
    assert group in {one["enrollmentGroupId"]
                     for one in service.enrollment_group.query({"query": "SELECT * FROM enrollmentGroups"})}
    assert service.enrollment_group.get_attestation_mechanism(group)["symmetricKey"] == \
        made["attestation"]["symmetricKey"]
    service.enrollment_group.delete(group)
    with pytest.raises(ResourceNotFoundError):
        service.enrollment_group.get(group)


def test_bulk_and_pages_with_the_newer_client(service):
    devices = [fresh("bulk") for _ in range(5)]
    entries = [keyed(registrationId=device) for device in devices]
    done = service.enrollment.run_bulk_operation({"mode": "create", "enrollments": entries})
    assert done["isSuccessful"] and done["errors"] == []
    again = service.enrollment.run_bulk_operation({"mode": "create", "enrollments": entries[:2]})
    assert not again["isSuccessful"]
    assert [error["errorCode"] // 1000 for error in again["errors"]] == [409, 409]

    pages = list(service.enrollment.query({"query": "SELECT * FROM enrollments"}, top=2).by_page())
    sizes = [len(list(page)) for page in pages]
    found = {one["registrationId"] for one in service.enrollment.query({"query": "*"}, top=2)}
    assert set(devices) <= found and max(sizes) == 2 and len(sizes) > 1
    gone = service.enrollment.run_bulk_operation(
        {"mode": "delete", "enrollments": [{"registrationId": device, **keyed()} for device in devices]})
    assert gone["isSuccessful"], gone


def test_the_ways_the_newer_client_signs_in(simulator):
    fields = by_address(simulator)
    host, name, key = fields["HostName"], fields["SharedAccessKeyName"], fields["SharedAccessKey"]
    for endpoint in (host, f"https://{host}"):
        client = DeviceProvisioningClient(endpoint, AzureNamedKeyCredential(name, key))
        list(client.enrollment_group.query({"query": "*"}))
    wrong = DeviceProvisioningClient(host, AzureNamedKeyCredential(name, base64.b64encode(b"w" * 32).decode()))
    with pytest.raises(HttpResponseError) as refused:
        list(wrong.enrollment_group.query({"query": "*"}))
    assert refused.value.status_code == 401
    assert generate_sas_token(host, name, key).startswith("SharedAccessSignature ")


def test_an_enrollment_lives_with_the_older_client(older):
    device = fresh("older")
    made = older.create_or_update(IndividualEnrollment.create(
        device, AttestationMechanism(type="symmetricKey", symmetric_key=SymmetricKeyAttestation()),
        initial_twin=InitialTwin(tags={"floor": 3})))
    assert made.registration_id == device and made.etag
    found = older.get_individual_enrollment(device)
    assert found.etag == made.etag and found.initial_twin.tags == {"floor": 3}
    assert older.get_individual_enrollment_attestation_mechanism(device).symmetric_key.primary_key
    query = older.create_individual_enrollment_query(QuerySpecification(query="*"), page_size=3)
    seen = set()
    for page in query:
        seen |= {one.registration_id for one in page}
    assert device in seen
    older.delete_individual_enrollment_by_param(device, found.etag)
    with pytest.raises(ProvisioningServiceError, match="404"):
        older.get_individual_enrollment(device)


def test_bulk_with_the_older_client(older):
    def some():
        return [IndividualEnrollment.create(
            device, AttestationMechanism(type="symmetricKey", symmetric_key=SymmetricKeyAttestation()))
            for device in devices]
    devices = [fresh("older-bulk") for _ in range(3)]
    assert older.run_bulk_operation(BulkEnrollmentOperation(mode=BULKOP_CREATE, enrollments=some())).is_successful
    assert older.run_bulk_operation(BulkEnrollmentOperation(mode=BULKOP_DELETE, enrollments=some())).is_successful
