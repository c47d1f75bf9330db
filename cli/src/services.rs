//! Services out of a configuration, and what others need to reach them.
//!
//! What may not enter: behaviour of a service.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use azimuth_broker::Limits;
use azimuth_certs::Authority;
use azimuth_clock::{Clock, SystemClock};
use azimuth_dps::PolicyKeySource as DpsKeys;
use azimuth_dps::{
    AssignedHubForm, Dps, DpsConfig, LinkedHubConfig, Pace, PolicyConfig, Regions, RunningDps,
};
use azimuth_hub::PolicyKeySource as HubKeys;
use azimuth_hub::event::{LogConfig, Sync};
use azimuth_hub::{ConnectionStateReports, Hub, HubConfig, Plan, RunningHub, Tier};
use azimuth_wire::SymmetricKey;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::enrollment::{AllocationPolicy, EnrollmentGroup, IndividualEnrollment};
use azimuth_wire::policy::DpsRights;
use serde_json::{Value, json};

use crate::certificates;
use crate::config::{
    Allocation, Config, ConnectionState, EventSubscriptionSection, GLOBAL_DPS, HubSection,
    LinkedHubSection, Quotas, TUTORIAL_KEY,
};
use crate::paste::{DpsPaste, GroupPaste, HubPaste, Paste};

/// Starts a hub of the configuration.
pub fn start_hub(
    config: &Config,
    section: &HubSection,
    authority: &Authority,
) -> anyhow::Result<RunningHub> {
    let folder = config.data.join(&section.name);
    let mut names = section.names();
    let tls = certificates::server(
        config,
        authority,
        &folder.join("tls"),
        names.clone(),
        vec![section.address],
    )?;
    names.push(section.address.to_string());
    let plan = |tier: Tier| {
        let (name, most) = (&section.name, tier.most_units());
        Plan::new(tier, section.units)
            .with_context(|| format!("[[hub]] {name}: `units` of {tier:?} are 1 to {most}"))
    };
    let hub = HubConfig {
        plan: section.tier.map(plan).transpose()?,
        keys: if section.listen().is_loopback() {
            HubKeys::Published
        } else {
            HubKeys::Kept
        },
        mqtt: vec![SocketAddr::new(section.listen(), config.ports.mqtt)],
        https: vec![SocketAddr::new(section.listen(), config.ports.https)],
        sas_grace: Duration::from_secs(config.security.sas_grace),
        clock_skew: Duration::from_secs(config.security.clock_skew),
        event_log: LogConfig {
            partitions: config.telemetry.partitions,
            retain_bytes: config.telemetry.retention_size << 20,
            retain_for: Duration::from_secs(u64::from(config.telemetry.retention_days) * 86_400),
            sync: if config.telemetry.sync {
                Sync::EveryBatch
            } else {
                Sync::Never
            },
            ..LogConfig::default()
        },
        job_folder: section
            .job_folder
            .clone()
            .unwrap_or_else(|| folder.join("jobs")),
        simulated_latency: config.regions.simulate_latency.then(|| regions(config)),
        limits: limits(),
        notifications: section.events.iter().map(|source| source.0).collect(),
        event_subscriptions: section
            .event_subscriptions
            .iter()
            .map(EventSubscriptionSection::subscription)
            .collect::<Result<_, _>>()?,
        roots_pem: authority.certificate_pem().into(),
        connection_state: match section.connection_state {
            ConnectionState::Immediate => ConnectionStateReports::Immediate,
            ConnectionState::Faithful => ConnectionStateReports::Faithful,
        },
        ..HubConfig::new(&section.name, names, &section.region, folder, Arc::new(tls))
    };
    let hub = Hub::start(hub, clock()).map_err(|error| with_port_flag(error, &section.name))?;
    for cut in hub.cuts() {
        eprintln!("{}: {cut}", section.name);
    }
    Ok(hub)
}

/// As many connections as the system lets the process have, with room for files.
fn limits() -> Limits {
    const FILES: u64 = 256;
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    if let Err(error) = &raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    let allowed = raised.or_else(|_| rlimit::Resource::NOFILE.get_soft());
    let sockets = allowed.map_or(u64::MAX, |allowed| allowed.saturating_sub(FILES));
    Limits {
        descriptors: usize::try_from(sockets).unwrap_or(usize::MAX),
        ..Limits::default()
    }
}

/// Starts the DPS of the configuration, linked to these hubs.
pub fn start_dps(
    config: &Config,
    authority: &Authority,
    hubs: &[HubPaste],
) -> anyhow::Result<RunningDps> {
    let folder = config.data.join(&config.dps.name);
    let mut names = config.dps.names();
    let tls = certificates::server(
        config,
        authority,
        &folder.join("tls"),
        names.clone(),
        vec![config.dps.address],
    )?;
    names.push(config.dps.address.to_string());
    let elsewhere = config.dps.linked_hubs.iter();
    let elsewhere = elsewhere.map(|hub| Ok(linked_elsewhere(config, hub)));
    let linked = hubs
        .iter()
        .map(|hub| linked_hub(config, hub))
        .chain(elsewhere)
        .collect::<anyhow::Result<_>>()?;
    let dps = DpsConfig {
        name: config.dps.name.clone(),
        host_names: names,
        id_scope: config.dps.id_scope.clone(),
        folder: Some(folder),
        mqtt: vec![SocketAddr::new(config.dps.listen(), config.ports.mqtt)],
        https: vec![SocketAddr::new(config.dps.listen(), config.ports.https)],
        tls: Arc::new(tls),
        keys: if config.dps.listen().is_loopback() {
            DpsKeys::Published
        } else {
            DpsKeys::Kept
        },
        policies: policies(config)?,
        allocation: policy(config.dps.allocation),
        linked_hubs: linked,
        regions: regions(config),
        individual_enrollments: individuals(config)?,
        enrollment_groups: groups(config)?,
        assigned_hub_form: AssignedHubForm::Auto,
        roots_pem: authority.certificate_pem().into(),
        pace: Pace {
            retry_after: config.dps.retry_after,
            assigning_polls: config.dps.assigning_polls,
            quotas: match config.dps.quotas {
                Quotas::None => None,
                Quotas::Azure => Some(azimuth_dps::quota::Quotas::AZURE),
            },
            ..Pace::default()
        },
        limits: limits(),
    };
    let dps = Dps::start(dps, clock()).map_err(|error| with_port_flag(error, &config.dps.name))?;
    let published = config.enrollment_groups.iter().find(|group| {
        let key = dps.group_key(&group.id);
        key.is_some_and(|key| key.reveal() == TUTORIAL_KEY)
    });
    if let (Some(group), false) = (published, config.dps.listen().is_loopback()) {
        anyhow::bail!(
            "enrollment group {} in {} has the published key, which serves on loopback only; give it another with primary-key, or begin with a new data folder",
            group.id,
            config.data.display()
        );
    }
    Ok(dps)
}

/// What a hub of the configuration looks like from outside, with the key that is published for its name.
pub fn published_hub(section: &HubSection) -> HubPaste {
    HubPaste {
        name: section.name.clone(),
        host_name: section.host_name(),
        region: section.region.clone(),
        address: section.address,
        dial: dial(section.listen()),
        started: String::new(),
        connection_string: azimuth_hub::published_connection_string(
            &section.name,
            &section.address.to_string(),
        ),
    }
}

/// What a running hub looks like from outside.
pub fn hub_paste(section: &HubSection, hub: &RunningHub) -> HubPaste {
    HubPaste {
        connection_string: hub
            .connection_string("iothubowner", &section.address.to_string())
            .expect("every hub has an owner"),
        started: uuid::Uuid::new_v4().to_string(),
        ..published_hub(section)
    }
}

/// An address that leads to the service from where it was started; none when it binds them all.
fn dial(listen: IpAddr) -> Option<IpAddr> {
    (!listen.is_unspecified()).then_some(listen)
}

pub fn dps_paste(config: &Config, dps: &RunningDps) -> DpsPaste {
    let group = config.enrollment_groups.first().and_then(|group| {
        Some(GroupPaste {
            id: group.id.clone(),
            primary_key: dps.group_key(&group.id)?.clone(),
        })
    });
    let others = dps.connection_strings().iter().skip(1);
    let others = others.map(|string| by_address(string, config.dps.address));
    DpsPaste {
        name: config.dps.name.clone(),
        host_name: GLOBAL_DPS.into(),
        address: config.dps.address,
        dial: dial(config.dps.listen()),
        started: uuid::Uuid::new_v4().to_string(),
        id_scope: config.dps.id_scope.to_string(),
        connection_string: by_address(dps.connection_string(), config.dps.address),
        other_policies: others.collect(),
        group,
    }
}

pub fn empty_paste(config: &Config) -> Paste {
    Paste {
        ca_file: certificates::absolute(&certificates::ca_file(config)),
        ca_bundle: certificates::absolute(&certificates::bundle_file(config)),
        mqtt_port: config.ports.mqtt,
        https_port: config.ports.https,
        dps: None,
        hubs: Vec::new(),
    }
}

/// A connection string that works without DNS.
fn by_address(string: &ConnectionString, address: IpAddr) -> String {
    ConnectionString {
        host_name: address.to_string(),
        ..string.clone()
    }
    .reveal()
}

/// HTTPS addresses of a hub that could not be bound, and why.
pub fn hub_unbound(hub: &RunningHub) -> Vec<(SocketAddr, String)> {
    hub.unbound()
        .iter()
        .map(|(address, error)| (*address, error.to_string()))
        .collect()
}

pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// A port that is taken names the flag that chooses another.
fn with_port_flag(error: impl Into<anyhow::Error>, service: &str) -> anyhow::Error {
    let error = error.into();
    let taken = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::AddrInUse)
    });
    let hint = if taken {
        "; is another simulator running? Choose another port with --mqtt-port"
    } else {
        ""
    };
    error.context(format!("{service} did not start{hint}"))
}

fn linked_hub(config: &Config, hub: &HubPaste) -> anyhow::Result<LinkedHubConfig> {
    let mut string: ConnectionString = hub.connection_string.parse()?;
    string.host_name.clone_from(&hub.host_name);
    let weight = config.hub(&hub.name).map_or(1, |section| section.weight);
    Ok(LinkedHubConfig {
        connection_string: string,
        region: hub.region.clone(),
        dial: hub.dial,
        advertised: Some(hub.address),
        https_port: config.ports.https,
        weight,
        apply_allocation_policy: true,
    })
}

fn linked_elsewhere(config: &Config, hub: &LinkedHubSection) -> LinkedHubConfig {
    LinkedHubConfig {
        dial: hub.address,
        advertised: hub.address,
        https_port: config.ports.https,
        weight: hub.weight,
        apply_allocation_policy: hub.apply_allocation_policy,
        ..LinkedHubConfig::new(hub.connection_string.clone(), &hub.region)
    }
}

fn policies(config: &Config) -> anyhow::Result<Vec<PolicyConfig>> {
    let declared = config.dps.policies.iter().map(|section| {
        let name = &section.name;
        let mut rights = DpsRights::default();
        for right in &section.rights {
            let known = DpsRights::named(right);
            rights = rights.and(known.with_context(|| {
                format!(
                    "[[dps.policy]] {name}: `{right}` is not a right; there are {}",
                    DpsRights::ALL
                )
            })?);
        }
        let key = |key: &Option<String>| {
            let key = key.as_deref().map(str::parse::<SymmetricKey>).transpose();
            key.with_context(|| format!("[[dps.policy]] {name}"))
        };
        Ok(PolicyConfig {
            primary_key: key(&section.primary_key)?,
            secondary_key: key(&section.secondary_key)?,
            ..PolicyConfig::new(name, rights)
        })
    });
    declared.collect()
}

fn policy(allocation: Allocation) -> AllocationPolicy {
    match allocation {
        Allocation::Hashed => AllocationPolicy::Hashed,
        Allocation::GeoLatency => AllocationPolicy::GeoLatency,
        Allocation::Static => AllocationPolicy::Static,
    }
}

fn regions(config: &Config) -> Regions {
    let section = &config.regions;
    let mut regions = Regions::new(&section.default);
    for network in &section.networks {
        regions = regions.with_network(network.cidr, &network.region);
    }
    for latency in &section.latencies {
        regions = regions.with_latency(&latency.from, &latency.to, latency.milliseconds);
    }
    regions
}

fn individuals(config: &Config) -> anyhow::Result<Vec<IndividualEnrollment>> {
    let declared = config.enrollments.iter().map(|section| {
        let mut entry = entry(config, &section.allocation, &section.hubs, section.enabled);
        entry["registrationId"] = json!(section.registration_id);
        entry["deviceId"] = json!(section.device_id);
        entry["attestation"] = attestation(&section.primary_key, &section.secondary_key);
        serde_json::from_value(entry)
            .with_context(|| format!("[[enrollment]] {}", section.registration_id))
    });
    declared.collect()
}

fn groups(config: &Config) -> anyhow::Result<Vec<EnrollmentGroup>> {
    let declared = config.enrollment_groups.iter().map(|section| {
        let mut entry = entry(config, &section.allocation, &section.hubs, section.enabled);
        entry["enrollmentGroupId"] = json!(section.id);
        let mut primary = &section.primary_key;
        if !config.dps.listen().is_loopback() && primary.as_deref() == Some(TUTORIAL_KEY) {
            // Known to everybody: beyond loopback one is made instead, and kept.
            primary = &None;
        }
        entry["attestation"] = attestation(primary, &section.secondary_key);
        serde_json::from_value(entry)
            .with_context(|| format!("[[enrollment-group]] {}", section.id))
    });
    declared.collect()
}

/// What individual enrollments and groups have in common, in the shape of the service's REST API.
fn entry(
    config: &Config,
    allocation: &Option<Allocation>,
    hubs: &[String],
    enabled: bool,
) -> Value {
    let names = |wanted: &String| {
        config
            .hub(wanted)
            .map_or_else(|| wanted.clone(), HubSection::host_name)
    };
    json!({
        "allocationPolicy": allocation.map(|allocation| policy(allocation).name()),
        "iotHubs": (!hubs.is_empty()).then(|| hubs.iter().map(names).collect::<Vec<_>>()),
        "provisioningStatus": if enabled { "enabled" } else { "disabled" },
    })
}

fn attestation(primary: &Option<String>, secondary: &Option<String>) -> Value {
    json!({ "type": "symmetricKey", "symmetricKey": { "primaryKey": primary, "secondaryKey": secondary } })
}
