//! Import and export jobs, in a storage account and in folders.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use azimuth_wire::job::JobBody;
use serde_json::{Value, json};

use crate::desk::{Desk, KEY, OTHER_KEY, Reply, VERSION};
use crate::storage_account::{SIGNATURE, StorageAccount};

async fn create(desk: &Desk, body: Value) -> Reply {
    let path = format!("/jobs/create{VERSION}");
    desk.ask(Method::POST, &path, None, &body.to_string()).await
}

async fn job(desk: &Desk, id: &str) -> Value {
    let path = format!("/jobs/{id}{VERSION}");
    desk.ask(Method::GET, &path, None, "").await.json().await
}

/// The job that `body` asks for, when it is over.
async fn over(desk: &Desk, body: Value) -> Value {
    let reply = create(desk, body).await;
    let status = reply.status;
    let made = reply.json().await;
    assert_eq!(status, 200, "{made}");
    assert_eq!(
        (&made["status"], &made["progress"]),
        (&json!("enqueued"), &json!(0))
    );
    desk.jobs.idle().await;
    job(desk, made["jobId"].as_str().unwrap()).await
}

async fn completed(desk: &Desk, body: Value) {
    let over = over(desk, body).await;
    assert_eq!(
        (&over["status"], &over["progress"]),
        (&json!("completed"), &json!(100)),
        "{over}"
    );
    assert_eq!(over["failureReason"], Value::Null);
}

fn export(container: &str) -> Value {
    json!({ "type": "export", "outputBlobContainerUri": container })
}

fn import(container: &str) -> Value {
    json!({ "type": "import", "inputBlobContainerUri": container, "outputBlobContainerUri": container })
}

/// All identities with their twins, without what each hub gives itself.
async fn everything(desk: &Desk) -> Vec<(Value, Value)> {
    let read = async |path: String| desk.ask(Method::GET, &path, None, "").await.json().await;
    let devices = read(format!("/devices{VERSION}")).await;
    let mut all = Vec::new();
    for device in devices.as_array().unwrap() {
        let id = device["deviceId"].as_str().unwrap();
        let twin = read(format!("/twins/{id}{VERSION}")).await;
        all.push((device.clone(), twin));
        let modules = read(format!("/devices/{id}/modules{VERSION}")).await;
        // Of a disabled device it is refused.
        for module in modules.as_array().into_iter().flatten() {
            let name = module["moduleId"].as_str().unwrap();
            let twin = read(format!("/twins/{id}/modules/{name}{VERSION}")).await;
            all.push((module.clone(), twin));
        }
    }
    for (identity, twin) in &mut all {
        for own in ["etag", "generationId", "statusUpdatedTime"] {
            identity.as_object_mut().unwrap().remove(own);
        }
        for own in ["etag", "deviceEtag", "version", "statusUpdateTime"] {
            twin.as_object_mut().unwrap().remove(own);
        }
        if identity["authentication"]["type"] == "none" {
            // The hub makes it, when it makes the device.
            let desired = twin["properties"]["desired"]["routes"].clone();
            *twin = desired;
        }
    }
    all
}

async fn furnished() -> Desk {
    let desk = Desk::new();
    desk.make("plain").await;
    let keys = json!({ "symmetricKey": { "primaryKey": KEY, "secondaryKey": OTHER_KEY } });
    let body = json!([
        { "id": "b:full", "status": "disabled", "statusReason": "wartet", "authentication": keys,
            "tags": { "floor": 3, "ü": [1.0, "x"] }, "capabilities": { "iotEdge": true },
            "properties": { "desired": { "a": { "b": 1 } }, "reported": { "r": "x" } } },
        { "id": "c", "authentication": { "type": "selfSigned", "x509Thumbprint": { "primaryThumbprint": "A".repeat(40) } } },
        { "id": "d", "authentication": { "type": "certificateAuthority" } },
        { "id": "edge", "capabilities": { "iotEdge": true } },
        { "id": "edge", "moduleId": "mine", "authentication": keys, "tags": { "t": 1 }, "managedBy": "me" },
        { "id": "plain", "moduleId": "m", "properties": { "desired": { "of": "module" } } },
    ]);
    let path = format!("/devices{VERSION}");
    let made = desk.ask(Method::POST, &path, None, &body.to_string()).await;
    assert_eq!(made.status, 200);
    desk.clock.advance(Duration::from_secs(7));
    let path = format!("/twins/b:full{VERSION}");
    let patch = r#"{"properties":{"desired":{"a":{"c":2}}}}"#;
    assert_eq!(
        desk.ask(Method::PATCH, &path, None, patch).await.status,
        200
    );
    let path = format!("/twins/edge/modules/$edgeHub{VERSION}");
    let patch = r#"{"properties":{"desired":{"routes":{"r":1}}}}"#;
    assert_eq!(
        desk.ask(Method::PATCH, &path, None, patch).await.status,
        200
    );
    // In the file it stands before its parent.
    let scope = desk.read("edge").await["deviceScope"].clone();
    let path = format!("/devices/a-child{VERSION}");
    let body = json!({ "deviceScope": scope }).to_string();
    assert_eq!(desk.ask(Method::PUT, &path, None, &body).await.status, 200);
    let path = format!("/devices/a-child/modules/c{VERSION}");
    assert_eq!(desk.ask(Method::PUT, &path, None, "{}").await.status, 200);
    desk
}

#[tokio::test]
async fn what_is_exported_is_the_same_in_the_hub_that_imports_it() {
    let (account, container) = StorageAccount::start().await;
    let desk = furnished().await;
    completed(&desk, export(&container)).await;
    assert_eq!(account.names(), ["devices.txt"]);
    let file = account.text("devices.txt").unwrap();
    let lines: Vec<Value> = file
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids: Vec<_> = lines
        .iter()
        .map(|line| line["id"].as_str().unwrap())
        .collect();
    let names = lines.iter().map(|line| line["moduleId"].as_str());
    let names: Vec<_> = ids.into_iter().zip(names).collect();
    assert_eq!(
        names,
        [
            ("a-child", None),
            ("b:full", None),
            ("c", None),
            ("d", None),
            ("edge", None),
            ("plain", None),
            ("a-child", Some("c")),
            ("edge", Some("$edgeHub")),
            ("edge", Some("mine")),
            ("plain", Some("m")),
        ]
    );
    let full = &lines[1];
    assert_eq!(full["twinETag"], "AAAAAAAAAAI=");
    assert_eq!(full["properties"]["desired"]["$version"], 2);
    assert_eq!(
        full["properties"]["desired"]["$metadata"]["a"]["c"]["$lastUpdatedVersion"],
        2
    );
    assert_eq!(full["authentication"]["symmetricKey"]["primaryKey"], KEY);
    assert!(lines[5].get("statusReason").is_none() && lines[5].get("tags").is_none());

    let other = Desk::new();
    completed(&other, import(&container)).await;
    assert_eq!(account.names(), ["devices.txt", "importErrors.log"]);
    assert_eq!(account.text("importErrors.log").unwrap(), "");
    assert_eq!(everything(&other).await, everything(&desk).await);

    // The same through a folder, and without the keys.
    completed(
        &desk,
        json!({ "type": "export", "outputBlobContainerUri": "file:out", "excludeKeysInExport": true,
        "includeConfigurations": true, "outputBlobName": "all.txt" }),
    )
    .await;
    let folder = desk.job_folder().join("out");
    assert_eq!(
        std::fs::read(folder.join("configurations.txt")).unwrap(),
        b""
    );
    let file = std::fs::read_to_string(folder.join("all.txt")).unwrap();
    assert!(file.starts_with("Warning: ") && !file.contains(KEY) && file.lines().count() == 11);
    let other = Desk::new();
    std::fs::create_dir_all(other.job_folder()).unwrap();
    std::fs::copy(
        folder.join("all.txt"),
        other.job_folder().join("devices.txt"),
    )
    .unwrap();
    completed(&other, import("file:")).await;
    assert_eq!(other.registry.statistics().total_device_count, 6);
    let key = &other.read("plain").await["authentication"]["symmetricKey"]["primaryKey"];
    assert!(key.is_string() && key != KEY);
    let log = std::fs::read_to_string(other.job_folder().join("importErrors.log")).unwrap();
    assert_eq!(
        log,
        "{\"errorCode\":400012,\"errorStatus\":\"Invalid device format in line 1: it is not JSON (at byte 1)\"}\n"
    );
}

#[tokio::test]
async fn lines_that_cannot_be_carried_out_are_told_in_their_order_and_the_job_is_completed() {
    let (account, container) = StorageAccount::start().await;
    let desk = Desk::new();
    desk.make("there").await;
    let lines = [
        json!({ "id": "there", "importMode": "create", "status": "enabled" }).to_string(),
        json!({ "id": "new", "importMode": "create", "status": "enabled" }).to_string(),
        "not json, with a secret".into(),
        json!({ "id": "new", "importMode": "updateTwin", "status": "enabled", "tags": { "a": 1 } }).to_string(),
        json!({ "id": "gone", "importMode": "delete", "status": "enabled" }).to_string(),
        json!({ "id": "there", "importMode": "deleteIfMatchETag", "eTag": "MQ==", "status": "enabled" }).to_string(),
        json!({ "id": "g h", "status": "enabled" }).to_string(),
        json!({ "id": "no-status" }).to_string(),
        String::new(),
        json!({ "id": "new", "importMode": "update", "status": "disabled" }).to_string(),
    ];
    account.put("in/devices.txt", lines.join("\r\n"));
    let mut body = import(&container);
    body["inputBlobName"] = "in/devices.txt".into();
    body["outputBlobName"] = "errors.txt".into();
    completed(&desk, body).await;
    let log = account.text("errors.txt").unwrap();
    assert!(!log.contains("secret"));
    let told = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let told: Vec<_> = told
        .map(|line: Value| (line["deviceId"].clone(), line["errorCode"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            (json!("there"), json!(409_001)),
            (Value::Null, json!(400_012)),
            (json!("gone"), json!(404_001)),
            (json!("there"), json!(412_001)),
            (json!("g h"), json!(400_004)),
            (Value::Null, json!(400_012)),
        ]
    );
    let new = everything(&desk).await.remove(0);
    assert_eq!(
        (&new.0["status"], &new.1["tags"]),
        (&json!("disabled"), &json!({ "a": 1 }))
    );
    assert_eq!(account.names(), ["errors.txt", "in/devices.txt"]);
}

#[tokio::test]
async fn a_child_waits_for_its_parent_and_in_vain_is_told() {
    let (account, container) = StorageAccount::start().await;
    let desk = Desk::new();
    let scope = |of: &str| format!("ms-azure-iot-edge://{of}-638000000000000000");
    let edge = |id: &str, parents: &[String]| {
        json!({ "id": id, "status": "enabled", "capabilities": { "iotEdge": true },
            "deviceScope": scope(id), "parentScopes": parents })
    };
    let lines = [
        json!({ "id": "a", "status": "enabled", "deviceScope": scope("b") }),
        json!({ "id": "a", "status": "enabled", "importMode": "updateTwin", "tags": { "a": 1 } }),
        edge("b", &[scope("c")]),
        edge("c", &[]),
        json!({ "id": "lost", "status": "enabled", "deviceScope": scope("nobody") }),
        json!({ "id": "lost", "moduleId": "m", "status": "enabled" }),
    ];
    account.put("devices.txt", lines.map(|line| line.to_string()).join("\n"));
    completed(&desk, import(&container)).await;
    let a = &everything(&desk).await[0];
    assert_eq!(
        (&a.0["deviceScope"], &a.1["tags"]),
        (&json!(scope("b")), &json!({ "a": 1 }))
    );
    let log = account.text("importErrors.log").unwrap();
    let told: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(told.len(), 2, "{log}");
    assert_eq!(told[0]["deviceId"], "lost");
    assert_eq!(
        (&told[1]["moduleId"], &told[1]["errorCode"]),
        (&json!("m"), &json!(400_028))
    );
}

#[tokio::test]
async fn large_files_go_in_pieces() {
    let (account, container) = StorageAccount::start().await;
    let line = |number| {
        json!({ "id": format!("d{number:05}"), "status": "enabled",
        "tags": { "filled": "x".repeat(3000) } })
        .to_string()
            + "\n"
    };
    let file: String = (0..1500).map(line).collect();
    assert!(file.len() > 4 << 20);
    account.put("devices.txt", file);
    let desk = Desk::new();
    completed(&desk, import(&container)).await;
    assert_eq!(desk.registry.statistics().total_device_count, 1500);
    assert_eq!(account.count("GET devices.txt"), 2);
    completed(&desk, export(&container)).await;
    assert_eq!(account.count("PUT devices.txt block"), 3);
    let exported = account.text("devices.txt").unwrap();
    assert_eq!(exported.lines().count(), 1500);
    assert!(
        exported
            .lines()
            .all(|line| line.ends_with('}') && line.contains("xxx"))
    );
}

#[tokio::test]
async fn one_job_at_a_time_and_one_that_is_cancelled_stops() {
    let (account, container) = StorageAccount::start().await;
    account.put("devices.txt", r#"{"id":"d","status":"enabled"}"#);
    let gate = account.hold();
    let desk = Desk::new();
    let made = create(&desk, import(&container)).await.json().await;
    assert_eq!(made["inputBlobContainerUri"], container);
    assert_eq!(made["outputBlobContainerUri"], container);
    let second = create(&desk, export("file:x")).await;
    assert_eq!(
        (second.status, second.header("iothub-errorcode")),
        (403, "JobQuotaExceeded")
    );
    let id = made["jobId"].as_str().unwrap();
    let path = format!("/jobs/{id}{VERSION}");
    let running = job(&desk, id).await;
    assert!(["enqueued", "running"].contains(&running["status"].as_str().unwrap()));
    assert_eq!(running["outputBlobContainerUri"], "");
    let list = desk.get("/jobs").await.text().await;
    assert!(list.contains(id));
    for told in [running.to_string(), list] {
        assert!(!told.contains("http"), "{told}");
    }
    for _ in 0..2 {
        let cancelled = desk.ask(Method::DELETE, &path, Some("\"any\""), "").await;
        assert_eq!(
            (cancelled.status, cancelled.text().await.as_str()),
            (204, "")
        );
    }
    let cancelled = job(&desk, id).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["endTimeUtc"].is_string());
    assert_eq!(desk.registry.statistics().total_device_count, 0);
    gate.add_permits(9);
    completed(&desk, import(&container)).await;
    assert_eq!(desk.registry.statistics().total_device_count, 1);
    let records = desk.ledger.since(0);
    let kinds: Vec<_> = records.iter().map(|record| record.refusal.kind).collect();
    assert_eq!(kinds, ["job-quota"]);
}

#[tokio::test]
async fn a_job_that_the_hubs_end_cuts_off_has_failed() {
    let (account, container) = StorageAccount::start().await;
    account.put("devices.txt", r#"{"id":"d","status":"enabled"}"#);
    account.hold();
    let desk = Desk::new();
    let made = create(&desk, import(&container)).await.json().await;
    let id = made["jobId"].as_str().unwrap().to_owned();
    // Killed: the next start finds what the store has.
    let next = Desk::over(desk.store.clone());
    next.jobs.recover().await.unwrap();
    let killed = job(&next, &id).await;
    assert_eq!(killed["status"], "failed");
    let reason = killed["failureReason"].as_str().unwrap();
    assert!(
        reason.contains("the hub stopped while this job ran"),
        "{reason}"
    );
    // Stopped: it says so itself.
    desk.stopping.cancel();
    desk.jobs.idle().await;
    let stopped = job(&desk, &id).await;
    assert_eq!(
        (&stopped["status"], &stopped["failureReason"]),
        (&json!("failed"), &json!(reason))
    );
    assert_eq!(desk.registry.statistics().total_device_count, 0);
}

#[tokio::test]
async fn containers_are_tried_before_a_job_is_taken_on() {
    for (refuse, status, sentence) in [
        (
            "PUT azimuth-",
            403,
            "Unauthorized to write to output blob container",
        ),
        (
            "HEAD azimuth-",
            403,
            "Unauthorized to read from output blob container",
        ),
        (
            "DELETE azimuth-",
            403,
            "Unauthorized to delete from output blob container",
        ),
        (
            "PUT azimuth-",
            404,
            "Unable to write to output blob container: not found",
        ),
        (
            "HEAD devices.txt",
            403,
            "Unauthorized to read from input blob container",
        ),
        (
            "HEAD devices.txt",
            404,
            "Unable to read from input blob container: it has no blob `devices.txt`",
        ),
        (
            "HEAD devices.txt",
            409,
            "Unable to read from input blob container: it answered 409 AsTold",
        ),
    ] {
        let (account, container) = StorageAccount::start().await;
        account.put("devices.txt", "");
        account.refuse(refuse, status);
        let desk = Desk::new();
        refused(
            &desk,
            import(&container),
            400,
            "BlobContainerValidationError",
            sentence,
        )
        .await;
        if refuse != "DELETE azimuth-" {
            assert_eq!(account.names(), ["devices.txt"]);
        }
    }
    let desk = Desk::new();
    for (container, sentence) in [
        (
            "ftp://x/y",
            "Unable to access output blob container: its URI begins with none of",
        ),
        (
            "http://x/?sig=secret",
            "Unable to access output blob container: its URI names no container",
        ),
        (
            "http://[/y?sig=secret",
            "Unable to access output blob container: its URI is none: ",
        ),
        (
            "file:///etc",
            "Unable to access output blob container: it is not below the folder",
        ),
        (
            "file:../x",
            "Unable to access output blob container: its URI climbs out of its folder",
        ),
    ] {
        refused(
            &desk,
            export(container),
            400,
            "BlobContainerValidationError",
            sentence,
        )
        .await;
    }
    // Nothing listens there; a wrong signature.
    let unreachable = format!("http://127.0.0.1:9/box?{SIGNATURE}");
    refused(
        &desk,
        export(&unreachable),
        400,
        "BlobContainerValidationError",
        "Unable to write to output blob container: Connection refused",
    )
    .await;
    let (_account, container) = StorageAccount::start().await;
    refused(
        &desk,
        export(&container.replace("only", "other")),
        400,
        "BlobContainerValidationError",
        "Unauthorized to write to output blob container",
    )
    .await;
    assert_eq!(desk.ledger.since(0).len(), 7);
    assert!(desk.jobs.all().unwrap().is_empty());
    completed(&desk, export(&container)).await;
}

async fn refused(desk: &Desk, body: Value, status: u16, code: &str, sentence: &str) {
    let reply = create(desk, body.clone()).await;
    assert_eq!(
        (reply.status, reply.header("iothub-errorcode")),
        (status, code),
        "{body}"
    );
    let message = reply.json().await["Message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with(&format!("ErrorCode:{code};{sentence}")),
        "{message}"
    );
    let record = format!("{:?}", desk.ledger.since(0).pop().unwrap());
    assert!(
        record.contains("POST /jobs/create") && !record.contains("sig="),
        "{record}"
    );
    assert!(!message.contains("sig="), "{message}");
}

#[tokio::test]
async fn every_other_refusal_has_azures_number() {
    let desk = Desk::new();
    for (body, status, code, sentence) in [
        (
            json!([]),
            400,
            "ArgumentInvalid",
            "`the body` must be an object",
        ),
        (
            json!({ "type": "backup" }),
            400,
            "ArgumentInvalid",
            "`type` must be",
        ),
        (
            json!({ "type": "import", "outputBlobContainerUri": "file:" }),
            400,
            "ArgumentInvalid",
            "`inputBlobContainerUri` must be",
        ),
        (
            json!({ "type": "export", "outputBlobContainerUri": "file:", "storageAuthenticationType": "IdentityBased" }),
            400,
            "ArgumentInvalid",
            "`storageAuthenticationType` identityBased needs a managed identity",
        ),
        (
            json!({ "type": "import", "includeConfigurations": true }),
            404,
            "FeatureNotSupported",
            "importing configurations is not simulated",
        ),
        (
            json!({ "type": "x".repeat(300_000) }),
            413,
            "MessageTooLarge",
            "The body is larger",
        ),
    ] {
        refused(&desk, body, status, code, sentence).await;
    }
    let path = format!("/jobs/create{VERSION}");
    let reply = desk.ask(Method::POST, &path, None, "{").await;
    assert_eq!(
        (reply.status, reply.header("iothub-errorcode")),
        (400, "IotHubFormatError")
    );
    let records = desk.ledger.since(0).len();
    for (method, path, status, code) in [
        (Method::GET, "/jobs/nope", 404, "JobNotFound"),
        (Method::GET, "/jobs/create", 404, "JobNotFound"),
        (Method::DELETE, "/jobs/nope", 404, "JobNotFound"),
        (Method::PUT, "/jobs/nope", 405, "GenericMethodNotAllowed"),
        (Method::POST, "/jobs", 405, "GenericMethodNotAllowed"),
        (Method::GET, "/jobs/v2/nope", 404, "FeatureNotSupported"),
    ] {
        let reply = desk
            .ask(method.clone(), &format!("{path}{VERSION}"), None, "")
            .await;
        assert_eq!(
            (reply.status, reply.header("iothub-errorcode")),
            (status, code),
            "{method} {path}"
        );
    }
    // A look-up that finds nothing is no refusal.
    assert_eq!(desk.ledger.since(0).len(), records + 4);
    for (method, path, policy, status) in [
        (Method::POST, "/jobs/create", "registryRead", 401),
        (Method::DELETE, "/jobs/nope", "registryRead", 401),
        (Method::GET, "/jobs", "registryRead", 200),
        (Method::GET, "/jobs", "registryReadWrite", 200),
        (Method::GET, "/jobs", "service", 401),
        (Method::GET, "/jobs/nope", "device", 401),
    ] {
        let headers = [("authorization", desk.token(policy))];
        let reply = desk
            .request(method, &format!("{path}{VERSION}"), &headers, "{}")
            .await;
        assert_eq!(reply.status, status, "{path} {policy}");
    }
}

#[tokio::test]
async fn a_job_whose_blob_changes_meanwhile_has_failed_and_says_why() {
    let (account, container) = StorageAccount::start().await;
    account.put("devices.txt", r#"{"id":"d","status":"enabled"}"#);
    let gate = account.hold();
    let desk = Desk::new();
    create(&desk, import(&container)).await;
    account.put("devices.txt", "another");
    gate.add_permits(1);
    desk.jobs.idle().await;
    let failed = desk.jobs.all().unwrap().remove(0);
    let reason = failed.failure_reason.unwrap();
    assert_eq!(
        reason,
        "the input blob could not be read: it is not the blob that was there when the job began"
    );
    account.refuse("PUT devices.txt", 403);
    let failed = over(&desk, export(&container)).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(
        failed["failureReason"],
        "the output blob could not be written: Unauthorized"
    );
}

#[tokio::test]
async fn jobs_are_kept_for_thirty_days_and_the_newest_stands_first() {
    let desk = Desk::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, made(&desk).await);
        desk.clock.advance(Duration::from_secs(24 * 3600));
    }
    let list = || {
        let jobs = desk.jobs.all().unwrap().into_iter();
        jobs.map(|job| job.job_id).collect::<Vec<_>>()
    };
    assert_eq!(list(), ids);
    desk.clock.advance(Duration::from_secs(28 * 24 * 3600));
    assert_eq!(list(), ids[..2]);
    let oldest = desk.jobs.one(&ids[2]);
    assert_eq!(oldest.unwrap_err().code().number(), 404_002);
    desk.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(list(), ids[..1]);
    let newest = made(&desk).await;
    assert_eq!(list(), [newest, ids[0].clone()]);
    let stored = desk.store.scan("job", "", None, 100).unwrap().documents;
    assert_eq!(stored.len(), 2);
}

/// Past REST, for tokens do not live for days.
async fn made(desk: &Desk) -> String {
    let body = JobBody::parse(export("file:").to_string().as_bytes()).unwrap();
    let made = desk.jobs.create(body).await.unwrap();
    desk.jobs.idle().await;
    made.job_id
}

/// The runtime of a job is not the one that asks.
#[tokio::test]
async fn two_that_ask_at_once_get_one_job() {
    let (account, container) = StorageAccount::start().await;
    account.put("devices.txt", "");
    let desk = Arc::new(Desk::new());
    let ask = |desk: Arc<Desk>, container: String| async move {
        create(&desk, import(&container)).await.status
    };
    let both = tokio::join!(
        ask(desk.clone(), container.clone()),
        ask(desk.clone(), container)
    );
    let mut both = [both.0, both.1];
    both.sort_unstable();
    assert_eq!(both, [200, 403]);
    desk.jobs.idle().await;
}
