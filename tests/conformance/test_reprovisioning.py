"""Registering again, under every policy: what becomes of the identity and its twin, in the old hub and in the new one.

azure-iot-device registers, azure-iot-hub looks. The enrollment is sent to the other hub by what it names.
"""

import os
import uuid

import pytest
from azure.iot.device import IoTHubDeviceClient, ProvisioningDeviceClient
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties
from conftest import Simulator
from msrest.exceptions import HttpOperationError
from test_allocation import Rest

CONFIG = """
[dps]
name = "again-dps"
address = "127.0.0.70"
retry-after = 1
assigning-polls = 0

[[hub]]
name = "again-east"
region = "eastus"
address = "127.0.0.71"

[[hub]]
name = "again-west"
region = "westus"
address = "127.0.0.72"
"""
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
INITIAL = {"tags": {"room": "12"}, "properties": {"desired": {"interval": 30, "mode": {"fan": "off"}}}}
NEW_INITIAL = {"tags": {"room": "13"}, "properties": {"desired": {"interval": 99}}}


def policy(update, migrate):
    return {"updateHubAssignment": update, "migrateDeviceData": migrate}


class Case:
    """One device, its enrollment, and both hubs."""

    def __init__(self, simulator):
        self.simulator = simulator
        self.dps = simulator.connect["dps"]
        self.rest = Rest(self.dps["address"], self.dps["connection_string"], simulator.ca)
        self.id = f"again-{uuid.uuid4()}"
        self.hubs = {region: simulator.hub(region) for region in ("eastus", "westus")}
        self.registries = {region: IoTHubRegistryManager(hub["connection_string"])
                           for region, hub in self.hubs.items()}
        self.made = {self.id}

    def enroll(self, region, **more):
        status, body = self.rest("PUT", f"/enrollments/{self.id}", {
            "registrationId": self.id, "initialTwin": INITIAL, "allocationPolicy": "static",
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
            "iotHubs": [self.hubs[region]["host_name"]], **more}, If_Match="*")
        assert status == 200, body

    def register(self):
        client = ProvisioningDeviceClient.create_from_symmetric_key(
            provisioning_host=self.dps["address"], registration_id=self.id, id_scope=self.dps["id_scope"],
            symmetric_key=KEY, server_verification_cert=self.simulator.ca_pem)
        result = client.register()
        assert result.status == "assigned"
        region = next(region for region, hub in self.hubs.items()
                      if hub["address"] == result.registration_state.assigned_hub)
        return region, self.rest("GET", f"/registrations/{self.id}")[1]["substatus"]

    def twin(self, region, device=None):
        try:
            return self.registries[region].get_twin(device or self.id)
        except HttpOperationError as error:
            assert error.response.status_code == 404
            return None

    def live_in(self, region):
        """The device reports, and a back end has other wishes than at the beginning."""
        self.registries[region].update_twin(self.id, Twin(tags={"room": None, "owner": "me"}, properties=TwinProperties(
            desired={"interval": 60})))
        client = IoTHubDeviceClient.create_from_connection_string(
            f"HostName={self.hubs[region]['address']};DeviceId={self.id};SharedAccessKey={KEY}",
            server_verification_cert=self.simulator.ca_pem)
        client.patch_twin_reported_properties({"fw": "1.2"})
        client.patch_twin_reported_properties({"fw": "1.3", "on": [1]})
        client.shutdown()
        return self.twin(region)

    def connects_to(self, region, device=None):
        client = IoTHubDeviceClient.create_from_connection_string(
            f"HostName={self.hubs[region]['address']};DeviceId={device or self.id};SharedAccessKey={KEY}",
            server_verification_cert=self.simulator.ca_pem)
        client.connect()
        twin = client.get_twin()
        client.shutdown()
        return twin

    def clean(self):
        self.rest("DELETE", f"/enrollments/{self.id}")
        for registry in self.registries.values():
            for device in self.made:
                try:
                    registry.delete_device(device)
                except HttpOperationError:
                    pass


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    """One of its own, which does not let devices wait."""
    folder = tmp_path_factory.mktemp("reprovisioning")
    (folder / "azimuth.toml").write_text(CONFIG)
    simulator = Simulator(folder, "--config", str(folder / "azimuth.toml"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            patch.setitem(os.environ, name, simulator.ca)
        yield simulator
    simulator.stop()


@pytest.fixture
def case(simulator):
    case = Case(simulator)
    yield case
    case.clean()


def same_content(twin, other):
    return (twin.tags, twin.properties.as_dict()) == (other.tags, other.properties.as_dict())


def is_initial(twin, initial=INITIAL):
    desired = {key: value for key, value in twin.properties.desired.items() if not key.startswith("$")}
    return (twin.tags == initial["tags"] and desired == initial["properties"]["desired"]
            and twin.properties.desired["$version"] == 1
            and set(twin.properties.reported) == {"$metadata", "$version"}
            and twin.properties.reported["$version"] == 1)


def test_a_device_begins_with_the_initial_twin(case):
    case.enroll("eastus")
    assert case.register() == ("eastus", "initialAssignment")
    assert is_initial(case.twin("eastus"))
    assert case.twin("westus") is None
    assert case.connects_to("eastus")["desired"] == INITIAL["properties"]["desired"] | {"$version": 1}


@pytest.mark.parametrize("update, migrate", [(True, True), (True, False), (False, False), (False, True), (None, None)])
def test_the_same_hub_again_leaves_the_twin_alone(case, update, migrate):
    chosen = {} if update is None else {"reprovisionPolicy": policy(update, migrate)}
    case.enroll("eastus", **chosen)
    case.register()
    lived = case.live_in("eastus")
    case.enroll("eastus", initialTwin=NEW_INITIAL, **chosen)
    assert case.register() == ("eastus", "reprovisionedToInitialAssignment")
    assert same_content(case.twin("eastus"), lived)
    assert case.twin("eastus").version == lived.version


@pytest.mark.parametrize("update, migrate", [(True, True), (None, None)])
def test_a_device_moves_with_its_twin(case, update, migrate):
    chosen = {} if update is None else {"reprovisionPolicy": policy(update, migrate)}
    case.enroll("eastus", **chosen)
    case.register()
    lived = case.live_in("eastus")
    assert lived.properties.reported["$version"] == 3
    case.enroll("westus", initialTwin=NEW_INITIAL, **chosen)
    assert case.register() == ("westus", "deviceDataMigrated")
    assert case.twin("eastus") is None
    assert same_content(case.twin("westus"), lived)
    assert case.connects_to("westus")["reported"] == {"fw": "1.3", "on": [1], "$version": 3}


def test_a_device_moves_and_begins_anew(case):
    case.enroll("eastus", reprovisionPolicy=policy(True, False))
    case.register()
    case.live_in("eastus")
    case.enroll("westus", reprovisionPolicy=policy(True, False), initialTwin=NEW_INITIAL)
    assert case.register() == ("westus", "deviceDataReset")
    assert case.twin("eastus") is None
    assert is_initial(case.twin("westus"), NEW_INITIAL)


@pytest.mark.parametrize("migrate", [False, True])
def test_a_device_that_never_moves_stays_with_its_twin(case, migrate):
    case.enroll("eastus", reprovisionPolicy=policy(False, migrate))
    case.register()
    lived = case.live_in("eastus")
    case.enroll("westus", reprovisionPolicy=policy(False, migrate), initialTwin=NEW_INITIAL)
    assert case.register() == ("eastus", "reprovisionedToInitialAssignment")
    assert same_content(case.twin("eastus"), lived)
    assert case.twin("westus") is None


def test_after_its_record_was_deleted_a_device_begins_again_and_the_old_one_stays(case):
    case.enroll("eastus")
    case.register()
    lived = case.live_in("eastus")
    assert case.rest("DELETE", f"/registrations/{case.id}")[0] == 204
    case.enroll("westus")
    assert case.register() == ("westus", "initialAssignment")
    assert same_content(case.twin("eastus"), lived)
    assert is_initial(case.twin("westus"))


@pytest.mark.parametrize("region", ["eastus", "westus"])
def test_under_another_device_id_a_device_begins_again_and_the_old_one_stays(case, region):
    case.enroll("eastus")
    case.register()
    lived = case.live_in("eastus")
    other = f"{case.id}-other"
    case.made.add(other)
    case.enroll(region, deviceId=other)
    assert case.register() == (region, "initialAssignment")
    assert same_content(case.twin("eastus"), lived)
    assert is_initial(case.twin(region, other))
    case.connects_to(region, other)


def test_a_device_made_by_hand_keeps_what_the_initial_twin_does_not_name(case):
    registry = case.registries["eastus"]
    registry.create_device_with_sas(case.id, "", "", "enabled")
    registry.update_twin(case.id, Twin(tags={"by": "hand"}))
    case.enroll("eastus", initialTwin={"properties": INITIAL["properties"]})
    assert case.register() == ("eastus", "initialAssignment")
    twin = case.twin("eastus")
    assert twin.tags == {"by": "hand"}
    assert twin.properties.desired["interval"] == 30
    case.connects_to("eastus")


def test_an_initial_twin_that_no_hub_takes_is_refused_at_once(case):
    status, body = case.rest("PUT", f"/enrollments/{case.id}", {
        "registrationId": case.id, "attestation": {"type": "symmetricKey", "symmetricKey": {}},
        "initialTwin": {"tags": {"a b": 1}}})
    assert status == 400
    assert "initialTwin: `tags.a b`: a key may not hold" in body["message"]
