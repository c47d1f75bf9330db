"""What goes wrong at start and in use says what to do next."""

import os
import shutil
import subprocess
import time

import pytest
from azure.iot.hub import IoTHubRegistryManager
from conftest import BINARY
from wire import Device

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def refused(*words):
    """Runs a command that must fail; what it said."""
    done = subprocess.run([BINARY, *map(str, words)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1, done
    return done.stderr


def test_a_port_in_use_names_the_port_and_the_flag(simulator, tmp_path):
    said = refused("--data", tmp_path, "up", "--no-devices")
    assert ":8883" in said and "--mqtt-port" in said


def test_an_unknown_key_names_its_line_and_the_nearest(tmp_path):
    file = tmp_path / "azimuth.toml"
    file.write_text("[security]\nsas-grce = 1\n")
    said = refused("--config", file, "up")
    assert f"{file}, line 2" in said and "did you mean `sas-grace`" in said


def test_a_corrupt_data_folder_is_refused_and_left_alone(own, tmp_path):
    simulator = own()
    simulator.stop()
    registry = tmp_path / "data" / "contoso-east-hub" / "registry.redb"
    sound = registry.read_bytes()
    registry.write_bytes(b"not a registry" * 1000)
    said = refused("--data", tmp_path / "data", "up", "--no-devices")
    assert "registry.redb" in said and "left untouched" in said
    assert registry.read_bytes() == b"not a registry" * 1000
    registry.write_bytes(sound)
    simulator.start()


def test_a_data_folder_in_use_is_refused_by_a_second_process(simulator):
    """Whatever ports it would use: two of one name would write over each other."""
    for words in (["up", "--no-devices"], ["hub", "contoso-west-hub"], ["dps"]):
        said = refused("--data", simulator.folder / "data", "--mqtt-port", 28883, "--https-port", 20443, *words)
        assert str(simulator.folder / "data") in said, said
        assert "is in use by another process: stop that one, or name another path" in said
    simulator.command("events", "--once")


def test_a_data_folder_of_another_ca_is_explained(own, tmp_path):
    simulator = own()
    simulator.stop()
    log = tmp_path / "log"
    assert "another CA" not in log.read_text()
    shutil.rmtree(tmp_path / "data" / "certs")
    simulator.start()
    said = log.read_text()
    for service in ("contoso-east-hub", "contoso-west-hub", "contoso-dps"):
        assert f"the certificate in {tmp_path / 'data' / service / 'tls'} was issued by another CA (CN=Azimuth" in said
    assert f"must be given {simulator.ca}" in said
    simulator.stop()
    before = len(said)
    simulator.start()
    assert "another CA" not in log.read_text()[before:]


def test_without_the_right_to_port_443_everything_else_starts(own, tmp_path):
    first = int(open("/proc/sys/net/ipv4/ip_unprivileged_port_start").read())
    if os.getuid() != 0 or first <= 443:
        pytest.skip("443 may be bound by everybody here, or nobody's rights cannot be taken")
    for folder in [tmp_path, *tmp_path.parents]:
        if os.stat(folder).st_uid == 0 and str(folder).startswith("/tmp/"):
            os.chmod(folder, 0o777)
    # Where nobody may run it from.
    binary = shutil.copy(BINARY, tmp_path / "azimuth")
    simulator = own(before=lambda: os.setuid(65534), binary=binary)
    printed = "".join(simulator.printed)
    assert "HTTPS is not served on 127.0.0.11:443" in printed and "cap_net_bind_service" in printed
    done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.11:8883", "-CAfile", simulator.ca,
                           "-verify_return_error"], input="", capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


def test_a_token_that_expires_in_use_ends_the_connection(own, tmp_path, monkeypatch):
    file = tmp_path / "azimuth.toml"
    file.write_text("[security]\nsas-grace = 0\nclock-skew = 0\n")
    monkeypatch.setenv("AZIMUTH_CONFIG", str(file))
    simulator = own()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", simulator.ca)
    registry = IoTHubRegistryManager(simulator.hub()["connection_string"])
    registry.create_device_with_sas("expiring", KEY, KEY, "enabled")
    line = Device(simulator.ca, simulator.hub()["address"], "expiring", KEY, seconds=3)
    begin = time.monotonic()
    assert registry.get_device("expiring").connection_state == "Connected"
    assert line.socket.recv(1) == b"", "a bare close: a server has no other word"
    assert 1.5 < time.monotonic() - begin < 4
    assert registry.get_device("expiring").connection_state == "Disconnected"
    assert simulator.refusals("expiring")[-1]["kind"] == "expired-in-use"
