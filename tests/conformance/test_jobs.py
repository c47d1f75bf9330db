"""Import and export jobs as azure-iot-hub asks for them, with blobs as azure-storage-blob keeps them."""

import json
import signal
import uuid

import pytest
from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import ExportImportDevice, JobProperties, Twin, TwinProperties
from conftest import eventually
from msrest.exceptions import HttpOperationError
from storage_account import StorageAccount
from wire import Device

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
MANY = 4000


@pytest.fixture
def account():
    account = StorageAccount()
    yield account
    account.close()


@pytest.fixture
def jobs(simulator):
    return IoTHubJobManager(simulator.hub()["connection_string"])


def export(container, **more):
    return JobProperties(type="export", output_blob_container_uri=container, **more)


def import_(container, output=None, **more):
    return JobProperties(type="import", input_blob_container_uri=container,
                         output_blob_container_uri=output or container, **more)


def over(jobs, made, seconds=120):
    return eventually(lambda: (job := jobs.get_import_export_job(made.job_id)).status in (
        "completed", "failed", "cancelled") and job, seconds)


def completed(jobs, properties):
    made = jobs.create_import_export_job(properties)
    assert (made.status, made.progress) == ("enqueued", 0) and made.start_time_utc
    job = over(jobs, made)
    assert (job.status, job.progress, job.failure_reason) == ("completed", 100, None)
    assert job.end_time_utc >= job.start_time_utc
    return job


def refused(jobs, properties, status, code, sentence):
    with pytest.raises(HttpOperationError) as raised:
        jobs.create_import_export_job(properties)
    answer = raised.value.response
    assert (answer.status_code, answer.headers["iothub-errorcode"]) == (status, code)
    message = answer.json()["Message"]
    assert message.startswith(f"ErrorCode:{code};{sentence}"), message
    assert "sig=" not in message


def line(device, mode=None, **more):
    return json.dumps({"id": device, "status": "enabled", **({"importMode": mode} if mode else {}), **more})


def keys(primary=KEY):
    return {"type": "sas", "symmetricKey": {"primaryKey": primary, "secondaryKey": KEY}}


def many(prefix, count=MANY):
    return "".join(line(f"{prefix}{n:06}", authentication=keys(), tags={"n": n}) + "\n" for n in range(count))


def test_one_hub_moves_into_another(simulator, registry, jobs, account):
    ours = f"move-{uuid.uuid4().hex[:8]}"
    registry.create_device_with_sas(f"{ours}-a", KEY, KEY, "disabled", status_reason="moves")
    registry.create_device_with_x509(f"{ours}-b", "A" * 40, "b" * 40, "enabled")
    registry.update_twin(f"{ours}-a", Twin(tags={"floor": 3}, properties=TwinProperties(desired={"a": {"b": 1.0}})))
    made = completed(jobs, export(account.container()))
    assert made.job_id in [job.job_id for job in jobs.get_import_export_jobs()]
    lines = [json.loads(text) for text in account.get("devices.txt").splitlines()]
    assert [row["id"] for row in lines] == sorted(row["id"] for row in lines)
    mine = [row for row in lines if row["id"].startswith(ours)]
    assert mine[0]["properties"]["desired"]["$metadata"]["a"]["$lastUpdatedVersion"] == 2
    assert (mine[0]["eTag"], mine[0]["twinETag"]) == (registry.get_device(f"{ours}-a").etag, "AAAAAAAAAAI=")

    west = simulator.hub("westus")["connection_string"]
    account.put("mine.txt", "".join(json.dumps(row) + "\n" for row in mine))
    completed(IoTHubJobManager(west), import_(account.container(permission="r"), account.container("logs"),
                                              input_blob_name="mine.txt"))
    assert account.get("importErrors.log", "logs") == ""
    other = IoTHubRegistryManager(west)
    for name in ("a", "b"):
        before, after = registry.get_device(f"{ours}-{name}"), other.get_device(f"{ours}-{name}")
        assert (after.authentication, after.status, after.status_reason) == (
            before.authentication, before.status, before.status_reason)
        before, after = registry.get_twin(f"{ours}-{name}"), other.get_twin(f"{ours}-{name}")
        assert (after.tags, after.properties) == (before.tags, before.properties)


def test_keys_stay_here_where_they_are_not_wanted(simulator, registry, jobs, account, device):
    completed(jobs, export(account.container(), exclude_keys_in_export=True, output_blob_name="a/b.txt"))
    text = account.get("a/b.txt")
    assert device.primary_key not in text and text.startswith("Warning")
    row = next(json.loads(row) for row in text.splitlines()[1:] if device.id in row)
    assert row["authentication"] == {"type": "sas", "symmetricKey": {"primaryKey": None, "secondaryKey": None},
                                     "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None}}


def test_a_job_is_completed_whatever_single_lines_do(registry, jobs, account, device):
    new = f"line-{uuid.uuid4()}"
    account.put("devices.txt", "\n".join([
        line(device.id, "create"), line(new, "create", authentication=keys()), "gibberish with a key",
        line(new, "updateTwin", tags={"a": 1}), line("nobody", "update"), json.dumps({"id": new}),
        line(device.id, "deleteIfMatchETag", eTag="MQ=="), line(device.id, "delete")]))
    completed(jobs, import_(account.container()))
    told = [json.loads(row) for row in account.get("importErrors.log").splitlines()]
    assert [(row.get("deviceId"), row["errorCode"]) for row in told] == [
        (device.id, 409001), (None, 400012), ("nobody", 404001), (None, 400012), (device.id, 412001)]
    assert all(row["errorStatus"] for row in told) and "with a key" not in str(told)
    assert registry.get_twin(new).tags == {"a": 1}
    with pytest.raises(HttpOperationError):
        registry.get_device(device.id)
    registry.bulk_create_or_update_devices([ExportImportDevice(id=new, import_mode="delete", status="enabled")])


def test_what_a_container_does_not_allow_is_told_at_once(simulator, jobs, account):
    for permission, what in [("rd", "write to"), ("cwd", "read from"), ("rcw", "delete from")]:
        refused(jobs, export(account.container(permission=permission)), 400, "BlobContainerValidationError",
                f"Unauthorized to {what} output blob container")
    account.put("devices.txt", "")
    refused(jobs, import_(account.container(permission="w"), account.container()), 400,
            "BlobContainerValidationError", "Unauthorized to read from input blob container")
    refused(jobs, import_(account.container("empty")), 400, "BlobContainerValidationError",
            "Unable to read from input blob container: it has no blob `devices.txt`")
    refused(jobs, export(account.container(hours=-1)), 400, "BlobContainerValidationError", "Unauthorized to write")
    refused(jobs, export("http://127.0.0.1:9/x?sig=secret"), 400, "BlobContainerValidationError",
            "Unable to write to output blob container: Connection refused")
    refused(jobs, export("file:///etc"), 400, "BlobContainerValidationError", "Unable to access output blob container")
    refused(jobs, export(account.container(), storage_authentication_type="identityBased"), 400, "ArgumentInvalid",
            "`storageAuthenticationType` identityBased")
    refused(jobs, import_(account.container(), include_configurations=True), 404, "FeatureNotSupported", "importing conf")
    refused(jobs, JobProperties(type="backup"), 400, "ArgumentInvalid", "`type` must be")
    said = simulator.command("why", "iothubowner", "--json")
    assert "Unauthorized to delete from output blob container" in said and "sig=" not in said and "secret" not in said
    assert "sig=" not in (simulator.folder / "log").read_text()


def test_one_job_at_a_time_which_can_be_cancelled(jobs, account):
    account.put("devices.txt", line("cancelled"))
    account.hold("GET devices.txt")
    made = jobs.create_import_export_job(import_(account.container()))
    assert "sig" in made.input_blob_container_uri
    refused(jobs, export("file:other"), 403, "JobQuotaExceeded", "")
    eventually(lambda: "GET devices.txt" in account.asked)
    running = jobs.get_import_export_job(made.job_id)
    assert (running.status, running.input_blob_container_uri, running.output_blob_container_uri) == ("running", None, "")
    jobs.cancel_import_export_job(made.job_id)
    assert jobs.get_import_export_job(made.job_id).status == "cancelled"
    jobs.cancel_import_export_job(made.job_id)
    for ask in (jobs.get_import_export_job, jobs.cancel_import_export_job):
        with pytest.raises(HttpOperationError) as raised:
            ask("nope")
        assert raised.value.response.headers["iothub-errorcode"] == "JobNotFound"
    completed(jobs, export("file:other"))
    newest, before = jobs.get_import_export_jobs()[:2]
    assert (newest.type, before.job_id) == ("export", made.job_id)


def test_folders_stand_for_containers(simulator, registry, jobs, device):
    folder = simulator.folder / "data" / simulator.hub()["name"] / "jobs" / "back up"
    completed(jobs, export("file:back%20up", include_configurations=True))
    assert device.id in (folder / "devices.txt").read_text()
    assert (folder / "configurations.txt").read_text() == ""
    assert (folder / "devices.txt").stat().st_mode & 0o077 == 0
    registry.delete_device(device.id)
    row = next(row for row in (folder / "devices.txt").read_text().splitlines() if device.id in row)
    (folder / "one.txt").write_text(row)
    completed(jobs, import_(f"file://{folder}".replace(" ", "%20"), input_blob_name="one.txt"))
    assert registry.get_device(device.id).authentication.symmetric_key.primary_key == device.primary_key


def test_blobs_behind_tls_of_this_simulators_authority(simulator, jobs, tmp_path):
    simulator.command("certs", "server", "--name", "127.0.0.1", "--out", str(tmp_path / "blobs"))
    account = StorageAccount(tls=(tmp_path / "blobs.pem", tmp_path / "blobs.key"))
    completed(jobs, export(account.container()))
    assert account.blobs["box", "devices.txt"]
    account.close()


def test_devices_on_the_line_do_not_wait_for_an_import(simulator, registry, jobs, account, device):
    prefix = f"many-{uuid.uuid4().hex[:6]}-"
    account.put("devices.txt", many(prefix))
    on_the_line = Device(simulator.ca, device.hub, device.id, device.primary_key)
    before = registry.get_service_statistics() and registry.get_device_registry_statistics().total_device_count
    made = jobs.create_import_export_job(import_(account.container()))
    heard = 0
    while (status := jobs.get_import_export_job(made.job_id).status) in ("enqueued", "running"):
        heard += 1
        on_the_line.publish(heard, "still here")
        assert on_the_line.acknowledged() == heard
    assert status == "completed" and heard > 2
    assert account.get("importErrors.log") == ""
    assert registry.get_device_registry_statistics().total_device_count == before + MANY
    account.put("devices.txt", "".join(line(f"{prefix}{n:06}", "delete") + "\n" for n in range(MANY)))
    completed(jobs, import_(account.container()))
    assert registry.get_device_registry_statistics().total_device_count == before


def test_an_import_that_was_killed_says_how_far_it_came_and_can_be_done_again(own, monkeypatch):
    own, account = own(), StorageAccount()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", own.ca)
    account.put("devices.txt", many("k"))
    jobs = IoTHubJobManager(own.hub()["connection_string"])
    registry = IoTHubRegistryManager(own.hub()["connection_string"])
    made = jobs.create_import_export_job(import_(account.container()))
    eventually(lambda: jobs.get_import_export_job(made.job_id).progress >= 20, 60)
    own.stop(signal.SIGKILL)
    own.start()
    job = jobs.get_import_export_job(made.job_id)
    assert job.status == "failed" and job.end_time_utc, job
    done = int(job.failure_reason.split("the first ")[1].split(" lines")[0])
    there = registry.get_device_registry_statistics().total_device_count
    assert done <= there < MANY and there - done <= 3 * 512, (done, there)
    for device in registry.get_devices(1000)[:200]:
        assert device.authentication.symmetric_key.primary_key == KEY
        assert registry.get_twin(device.device_id).tags == {"n": int(device.device_id[1:])}
    completed(jobs, import_(account.container()))
    assert registry.get_device_registry_statistics().total_device_count == MANY
    assert account.get("importErrors.log") == ""
    account.close()


def test_an_export_that_was_killed_or_stopped_leaves_what_was_there(own, tmp_path, monkeypatch):
    own = own()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", own.ca)
    folder = tmp_path / "data" / own.hub()["name"] / "jobs"
    folder.mkdir(exist_ok=True)
    (folder / "in.txt").write_text(many("e"))
    jobs = IoTHubJobManager(own.hub()["connection_string"])
    completed(jobs, import_("file:", input_blob_name="in.txt"))
    (folder / "devices.txt").write_text("before")
    for how in (signal.SIGKILL, signal.SIGTERM):
        made = jobs.create_import_export_job(export("file:"))
        eventually(lambda: jobs.get_import_export_job(made.job_id).progress > 0, 60)
        own.stop(how)
        assert (folder / "devices.txt").read_text() == "before"
        own.start()
        job = jobs.get_import_export_job(made.job_id)
        assert (job.status, job.failure_reason) == (
            "failed", "the hub stopped while this job ran; nothing was exported")
    completed(jobs, export("file:"))
    assert len((folder / "devices.txt").read_text().splitlines()) == MANY
    assert sorted(path.name for path in folder.iterdir()) == ["devices.txt", "importErrors.log", "in.txt"]
