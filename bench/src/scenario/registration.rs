//! Devices from nothing: registered at the DPS with keys or with certificates, made in the hub; what each stage costs
//! beside bare TLS handshakes of the same run; then the same with the connect to the hub and its subscriptions.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::azimuth;
use crate::credentials::Credentials;
use crate::figure::Figures;
use crate::lab::Lab;
use crate::leaves::Leaves;
use crate::line::{Target, Tls};
use crate::provision::{Provisioned, Way, provision, with_a_wrong_key};
use crate::server::Server;

pub async fn run(lab: &Lab) -> anyhow::Result<Figures> {
    let (plan, server) = (&lab.plan, azimuth::provisioning(lab).await?);
    let dps = server.dps()?.clone();
    let mut figures = Figures::default();
    let mut fresh = Fresh(0);
    let (count, patient) = (plan.registrations, plan.patient);

    let clients = fresh.next(count);
    let leaves = Leaves::new(clients.clone(), &dps.ca_pem)?;
    dps.office.enroll_certificates(&leaves.1).await?;
    let certificates = Target {
        tls: Tls::Certificates(Arc::new(leaves.0)),
        credentials: Arc::new(Credentials::DpsCertificate {
            id_scope: dps.office.id_scope.clone(),
        }),
        ..dps.target.clone()
    };
    let wrong = with_a_wrong_key(&dps.target, &dps.office.id_scope);
    // The first pay for what is made once.
    let (warm, wait) = (fresh.next(50), Way::Assigned(plan.patience));
    provision(&server, &dps.target, warm, 10, wait.clone()).await?;

    let bare = stage(
        &server,
        &dps.target,
        fresh.next(count),
        patient,
        Way::Handshake,
        &mut figures,
    )
    .await?;
    let session = stage(
        &server,
        &dps.target,
        fresh.next(count),
        patient,
        Way::Session,
        &mut figures,
    )
    .await?;
    let refused = stage(
        &server,
        &wrong,
        fresh.next(count),
        patient,
        Way::Refused,
        &mut figures,
    )
    .await?;
    let whole = stage(
        &server,
        &dps.target,
        fresh.next(count),
        patient,
        wait.clone(),
        &mut figures,
    )
    .await?;
    figures.put("handshakes_per_s", bare.per_second());
    figures.put("handshake_cpu_ms_each", bare.cost.dps);
    figures.put("session_cpu_ms_each", session.cost.dps - bare.cost.dps);
    figures.put(
        "attestation_cpu_ms_each",
        refused.cost.dps - session.cost.dps,
    );
    figures.put("dps_store_cpu_ms_each", whole.cost.dps_store);
    let told_apart = refused.cost.dps + whole.cost.dps_store;
    figures.put("hub_call_cpu_ms_each", whole.cost.dps - told_apart);
    figures.put("hub_cpu_ms_each", whole.cost.hub);
    figures.put("hub_store_cpu_ms_each", whole.cost.hub_store);
    figures.put("dps_cpu_ms_each", whole.cost.dps);
    figures.put("polls_each", whole.polls_each());
    figures.put("in_handshakes", whole.cost.all() / bare.cost.dps);

    let hasty = Way::Assigned(Duration::ZERO);
    let quick = stage(
        &server,
        &dps.target,
        fresh.next(count),
        plan.hasty,
        hasty,
        &mut figures,
    )
    .await?;
    figures.put("registrations_per_s", quick.per_second());
    figures.put("p50_ms", quick.crowd.latencies.milliseconds(0.5));
    figures.put("p99_ms", quick.crowd.latencies.milliseconds(0.99));

    let bare = stage(
        &server,
        &certificates,
        clients.clone(),
        patient,
        Way::Handshake,
        &mut figures,
    )
    .await?;
    let whole = stage(&server, &certificates, clients, patient, wait, &mut figures).await?;
    figures.put("x509_handshake_cpu_ms_each", bare.cost.dps);
    figures.put("x509_dps_cpu_ms_each", whole.cost.dps);
    figures.put("x509_hub_cpu_ms_each", whole.cost.hub);
    figures.put("x509_per_s", whole.per_second());
    figures.put("x509_in_handshakes", whole.cost.all() / bare.cost.dps);

    let onwards = Way::Connected(server.target.clone());
    let cold = stage(
        &server,
        &dps.target,
        fresh.next(count),
        plan.hasty,
        onwards,
        &mut figures,
    )
    .await?;
    figures.put("cold_starts_per_s", cold.per_second());
    figures.put("cold_start_p99_ms", cold.crowd.latencies.milliseconds(0.99));
    figures.put("cold_start_cpu_ms_each", cold.cost.all());
    server.stop().await?;
    Ok(figures)
}

async fn stage(
    server: &Server,
    dps: &Target,
    clients: Range<usize>,
    concurrency: usize,
    way: Way,
    figures: &mut Figures,
) -> anyhow::Result<Provisioned> {
    let done = provision(server, dps, clients, concurrency, way).await?;
    figures.saw(&done.spent);
    Ok(done)
}

/// Clients that nobody was yet.
struct Fresh(usize);

impl Fresh {
    fn next(&mut self, count: usize) -> Range<usize> {
        let first = self.0;
        self.0 += count;
        first..self.0
    }
}
