"""A hub of a tier tells Microsoft's SDKs what Azure's would."""

import pytest
from azure.iot.hub import IoTHubRegistryManager
from conftest import eventually
from wire import Device

CONFIG = """
[[hub]]
name = "contoso-free-hub"
region = "eastus"
address = "127.0.0.11"
tier = "F1"

[[hub]]
name = "contoso-basic-hub"
region = "westus"
address = "127.0.0.12"
tier = "B1"
units = 2
"""


def status_of(refused):
    with pytest.raises(Exception) as error:
        refused()
    return error.value.response.status_code


def test_a_free_and_a_basic_tier(own, tmp_path, monkeypatch):
    config = tmp_path / "azimuth.toml"
    config.write_text(CONFIG)
    simulator = own("--config", str(config))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", simulator.ca)
    free = IoTHubRegistryManager(simulator.hub()["connection_string"])
    made = free.create_device_with_sas("dev", "", "", "enabled")
    key = made.authentication.symmetric_key.primary_key
    line = Device(simulator.ca, simulator.hub()["address"], "dev", key)
    line.publish(1, "hello")
    assert line.acknowledged() == 1
    assert eventually(lambda: simulator.events("dev"))

    basic = IoTHubRegistryManager(simulator.hub("westus")["connection_string"])
    basic.create_device_with_sas("dev", "", "", "enabled")
    assert status_of(lambda: basic.get_twin("dev")) == 403


def test_more_units_than_a_tier_has_are_refused_at_start(own, tmp_path):
    config = tmp_path / "azimuth.toml"
    config.write_text(CONFIG.replace("units = 2", "units = 201"))
    with pytest.raises(SystemExit) as error:
        own("--config", str(config))
    assert "contoso-basic-hub: `units` of B1 are 1 to 200" in str(error.value)
