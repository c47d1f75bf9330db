//! A DPS that holds much: what a registration costs beside 200,000 enrollments and as many registrations, beside one
//! of each, and while all of them are listed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::azimuth;
use crate::crowd::each;
use crate::figure::{Figures, Latencies};
use crate::lab::Lab;
use crate::office::{Listing, Office};
use crate::provision::{Provisioned, Way, provision};
use crate::server::Server;

pub async fn run(lab: &Lab) -> anyhow::Result<Figures> {
    let plan = &lab.plan;
    let mut figures = Figures::default();
    let few = azimuth::provisioning(lab).await?;
    let cheap = cost(lab, &few, 0, &mut figures).await?;
    let calm = calm(lab, &few, plan.registrations, &mut figures).await?;
    few.stop().await?;

    let data = lab.fresh_folder("azimuth-data")?;
    azimuth::copy_folder(&filled(lab).await?, &data)?;
    let many = azimuth::provisioning_over(lab, &data).await?;
    figures.put("stored_ready_ms", many.took.as_secs_f64() * 1000.0);
    let dear = cost(lab, &many, plan.stored, &mut figures).await?;
    let first = plan.stored + plan.registrations;
    let quiet = self::calm(lab, &many, first, &mut figures).await?;
    let office = many.dps()?.office.clone();
    let listed = tokio::spawn(async move { list(&office).await });
    let first = first + plan.registrations;
    let disturbed = self::calm(lab, &many, first, &mut figures).await?;
    let (records, pages, wall) = listed.await??;
    ensure!(
        records == plan.stored,
        "{records} enrollments were listed, {} are there",
        plan.stored
    );
    figures.put("stored", plan.stored as f64);
    figures.put("few_cpu_ms_each", cheap.cost.all());
    figures.put("many_cpu_ms_each", dear.cost.all());
    figures.put("cost_ratio", dear.cost.all() / cheap.cost.all());
    figures.put("few_p99_ms", calm.milliseconds(0.99));
    figures.put("many_p99_ms", quiet.milliseconds(0.99));
    figures.put("listed_p99_ms", disturbed.milliseconds(0.99));
    figures.put("listed_enrollments_per_s", records as f64 / wall);
    figures.put("page_p50_ms", pages.milliseconds(0.5));
    figures.put("page_p99_ms", pages.milliseconds(0.99));
    many.stop().await?;
    Ok(figures)
}

/// Registrations one poll each, as many at a time as keep the servers busy.
async fn cost(
    lab: &Lab,
    server: &Server,
    first: usize,
    figures: &mut Figures,
) -> anyhow::Result<Provisioned> {
    let plan = &lab.plan;
    let (dps, way) = (&server.dps()?.target, Way::Assigned(plan.patience));
    let clients = first..first + plan.registrations;
    let done = provision(server, dps, clients, plan.patient, way).await?;
    figures.saw(&done.spent);
    Ok(done)
}

/// Registrations few at a time, that poll at once: what a device waits.
async fn calm(
    lab: &Lab,
    server: &Server,
    first: usize,
    figures: &mut Figures,
) -> anyhow::Result<Latencies> {
    let (dps, way) = (
        &server.dps()?.target,
        Way::Assigned(Duration::from_millis(5)),
    );
    let clients = first..first + lab.plan.registrations;
    let done = provision(server, dps, clients, 4, way).await?;
    figures.saw(&done.spent);
    Ok(done.crowd.latencies)
}

/// All individual enrollments, page by page: how many, how long each page took, how long all together in seconds.
async fn list(office: &Office) -> anyhow::Result<(usize, Latencies, f64)> {
    let (began, mut pages, mut records, mut after) =
        (Instant::now(), Latencies::default(), 0, None);
    loop {
        let asked = Instant::now();
        let (count, next) = office.page(Listing::Enrollments, after).await?;
        pages.record(asked.elapsed());
        records += count;
        after = next;
        if after.is_none() {
            return Ok((records, pages, began.elapsed().as_secs_f64()));
        }
    }
}

/// A data folder that holds all of it, made once over the wire.
async fn filled(lab: &Lab) -> anyhow::Result<PathBuf> {
    let (data, stored) = (lab.folder.join("azimuth-filled"), lab.plan.stored);
    if data.exists() {
        return Ok(data);
    }
    let making = lab.fresh_folder("azimuth-making")?;
    let (began, server) = (
        Instant::now(),
        azimuth::provisioning_over(lab, &making).await?,
    );
    let office = server.dps()?.office.clone();
    let ask = office.clone();
    let enroll = move |ten: usize| {
        let office = ask.clone();
        async move { office.enroll_ten(ten * Office::BULK).await }
    };
    each(0..stored / Office::BULK, 64, enroll).await?;
    eprintln!(
        "{stored} enrollments made in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    let ask = office.clone();
    let register = move |client| {
        let office = ask.clone();
        async move { office.register(client).await }
    };
    each(0..stored, 128, register).await?;
    all_assigned(&office, stored).await?;
    eprintln!(
        "{stored} registrations made after {:.0} s",
        began.elapsed().as_secs_f64()
    );
    server.stop().await?;
    keep(&making, &data)?;
    Ok(data)
}

/// What was registered is carried out a little later.
async fn all_assigned(office: &Office, stored: usize) -> anyhow::Result<()> {
    for _ in 0..60 {
        let (mut records, mut after) = (0, None);
        loop {
            let (count, next) = office.page(Listing::Registrations, after).await?;
            records += count;
            after = next;
            if after.is_none() {
                break;
            }
        }
        if records == stored {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    anyhow::bail!("not all of {stored} registrations came to their end within a minute")
}

fn keep(making: &Path, data: &Path) -> anyhow::Result<()> {
    Ok(std::fs::rename(making, data)?)
}
