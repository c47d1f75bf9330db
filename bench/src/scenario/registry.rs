//! The identity registry: what creating and reading identities costs, one at a time and a hundred at a time, and
//! what a million of them with their twins take of memory and of a start.

use anyhow::ensure;

use crate::azimuth;
use crate::crowd::each;
use crate::figure::Figures;
use crate::lab::Lab;
use crate::server::Server;
use crate::service::Service;

/// Clients side by side.
const CLIENTS: usize = 64;

pub async fn run(lab: &Lab) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    operations(lab, &mut figures).await?;

    let (full, data) = azimuth::hub_holding(lab, lab.plan.identities).await?;
    let count = azimuth::service(&data)?.count().await?;
    ensure!(
        count == lab.plan.identities,
        "the hub counts {count} identities of {}",
        lab.plan.identities
    );
    let mib = full.processes[0].resident_kib()? / 1024.0;
    figures.put("identities", count as f64);
    figures.put("full_ready_ms", full.took.as_secs_f64() * 1000.0);
    figures.put("full_resident_mib", mib);
    // What reading all over the file leaves in memory.
    let service = azimuth::service(&data)?;
    let stride = (count / lab.plan.registrations).max(1);
    let read = move |at| {
        let service = service.clone();
        async move { service.read(at * stride).await }
    };
    each(0..lab.plan.registrations, CLIENTS, read).await?;
    let (rows, _) = azimuth::service(&data)?
        .query("SELECT COUNT() AS n FROM devices WHERE tags.none = 1", None)
        .await?;
    ensure!(rows == 1, "a count has one row, not {rows}");
    let mib = full.processes[0].resident_kib()? / 1024.0;
    figures.put("full_read_resident_mib", mib);
    full.stop().await?;
    Ok(figures)
}

/// Over a hub that was empty.
async fn operations(lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    let (hub, data) = azimuth::empty_hub_with_data(lab).await?;
    // A request takes so little that fewer would be lost in the hundredths of a second that CPU is counted in.
    let (many, service) = (10 * lab.plan.registrations, azimuth::service(&data)?);
    let ask = service.clone();
    let bare = measure(&hub, many, figures, move |_| {
        let service = ask.clone();
        async move { service.count().await.map(drop) }
    })
    .await?;
    let ask = service.clone();
    let create = measure(&hub, many, figures, move |device| {
        let service = ask.clone();
        async move { service.create(device).await }
    })
    .await?;
    let ask = service.clone();
    let read = measure(&hub, many, figures, move |device| {
        let service = ask.clone();
        async move { service.read(device).await }
    })
    .await?;
    let hundreds = many.div_ceil(Service::BULK);
    let bulk = measure(&hub, hundreds, figures, move |hundred| {
        let service = service.clone();
        async move { service.create_hundred(many + hundred * Service::BULK).await }
    })
    .await?;
    figures.put("request_cpu_ms_each", bare.cpu_ms);
    figures.put("create_per_s", create.per_s);
    figures.put("create_cpu_ms_each", create.cpu_ms);
    figures.put("create_in_requests", create.cpu_ms / bare.cpu_ms);
    figures.put("read_per_s", read.per_s);
    figures.put("read_cpu_ms_each", read.cpu_ms);
    figures.put("read_in_requests", read.cpu_ms / bare.cpu_ms);
    let each = Service::BULK as f64;
    figures.put("bulk_identities_per_s", bulk.per_s * each);
    figures.put("bulk_cpu_ms_each", bulk.cpu_ms / each);
    figures.put("bulk_in_requests", bulk.cpu_ms / each / bare.cpu_ms);
    hub.stop().await
}

/// What one of many operations came to.
struct Cost {
    per_s: f64,
    cpu_ms: f64,
}

async fn measure<F>(
    hub: &Server,
    count: usize,
    figures: &mut Figures,
    what: impl Fn(usize) -> F + Clone + Send + 'static,
) -> anyhow::Result<Cost>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let meter = hub.meter()?;
    let crowd = each(0..count, CLIENTS, what).await?;
    let spent = meter.read()?;
    figures.saw(&spent);
    Ok(Cost {
        per_s: count as f64 / crowd.wall,
        cpu_ms: spent.server() * 1000.0 / count as f64,
    })
}
