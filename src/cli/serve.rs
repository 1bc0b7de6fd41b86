//! `pixtoll serve`: opens database and store, prints the address and the prices, and serves until a signal.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ServeArgs;
use crate::app::{App, World};
use crate::config::{Config, Sources, load};
use crate::http::Servers;
use crate::images::render;
use crate::system::clock::{Clock, SystemClock};
use crate::system::disk::Disk;
use crate::system::logs::{self, Lines, LogFormat};
use crate::system::random::Randomness;
use crate::system::traces::Exporter;

/// Serves until SIGINT or SIGTERM, then lets the requests in flight finish.
///
/// # Errors
/// When the server can't start: invalid settings, an address in use, or a database or store that can't be opened.
pub async fn run(
    args: &ServeArgs,
    level: tracing::Level,
    format: Option<LogFormat>,
) -> anyhow::Result<()> {
    let mut sources = args.sources();
    // A reload must find the file that was read at start.
    sources.pin();
    let loaded = load(&sources);
    let config = loaded.as_ref().ok().map(|loaded| &loaded.config);
    let (_lines, exporter) = start_logs(config, level, format);
    let loaded = loaded?;
    let exporter = exporter?;
    for warning in &loaded.warnings {
        tracing::warn!(key = warning.key, fix = warning.fix, "{}", warning.message);
    }
    let config = loaded.config;
    raise_open_files();
    let public = bind("http.listen", config.http.listen)?;
    let admin = bind("http.admin_listen", config.http.admin_listen)?;
    let world = World {
        clock: Arc::new(SystemClock),
        randomness: Randomness::system(),
        disk: Disk::system(),
    };
    let app = Arc::new(App::build(config, world).await?);
    let mut jobs = app.start_jobs();
    announce(&app.config, &app, &mut std::io::stdout())?;
    tracing::info!("encoders of variants: {}", render::codecs());
    jobs.spawn(reload_at_signal(
        Arc::clone(&app),
        sources,
        signal(SignalKind::hangup())?,
    ));
    let traces = exporter.map(Exporter::start);
    let servers = Servers::start(Arc::clone(&app), public, admin)?;
    servers.run_until(stop_signal()?).await?;
    // Before the database is closed: a job that found it closed would log an error.
    jobs.shutdown().await;
    app.funnel.record().await;
    app.db.close().await;
    if let Some(traces) = traces {
        traces.finish().await;
    }
    Ok(())
}

/// Starts logs and traces as the settings say. Without valid settings, the log says why.
fn start_logs(
    config: Option<&Config>,
    level: tracing::Level,
    format: Option<LogFormat>,
) -> (Lines, anyhow::Result<Option<Exporter>>) {
    let settings = config.map(|config| (&config.log, &config.traces));
    let format = format.or(settings.map(|(log, _)| log.format));
    let traces = settings.and_then(|(log, traces)| {
        logs::log_access(log.access);
        let endpoint = traces.otlp_endpoint.as_deref()?;
        Some(Exporter::new(
            endpoint,
            traces.sample_percent,
            SystemClock.now(),
        ))
    });
    let (spans, exporter) = match traces.transpose() {
        Ok(made) => {
            let (spans, exporter) = made.unzip();
            (spans, Ok(exporter))
        }
        Err(error) => (None, Err(error)),
    };
    (
        logs::start(level, format.unwrap_or_default(), spans),
        exporter,
    )
}

/// Reloads tiers and limits at each SIGHUP. Invalid settings change nothing.
async fn reload_at_signal(app: Arc<App>, sources: Sources, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let fresh = match load(&sources) {
            Ok(loaded) => loaded.config,
            Err(problems) => {
                tracing::error!(
                    %problems,
                    "SIGHUP: the settings are invalid, so nothing has changed; see pixtoll config check"
                );
                continue;
            }
        };
        match app.reload(&fresh).await {
            Ok(true) => tracing::info!("SIGHUP: reloaded tiers and limits from the settings"),
            Ok(false) => tracing::warn!(
                "SIGHUP: reloaded tiers and limits from the settings; other changes take effect after a restart"
            ),
            Err(error) => {
                tracing::error!(%error, "SIGHUP: tiers and limits could not be reloaded, so nothing has changed");
            }
        }
    }
}

/// Raises the limit of open files to the most that the system allows. Each connection is an open file, and the usual
/// default of 1024 is less than the server accepts.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(%error, "the limit of open files could not be raised; the server may run out of connections");
    }
}

fn bind(key: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| {
        format!(
            "can't listen on {key} = {address}: choose an address of this machine with a free port"
        )
    })
}

/// A future that completes at SIGINT or SIGTERM.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("received a stop signal; waiting for the requests in flight");
    })
}

/// Prints the address, the tiers with their prices, and where payments go.
fn announce(config: &Config, app: &App, out: &mut impl Write) -> std::io::Result<()> {
    let base = &config.http.base_url;
    writeln!(
        out,
        "pixtoll {} is serving at {base}",
        env!("CARGO_PKG_VERSION")
    )?;
    for tier in &config.tiers {
        let sold = if tier.is_free() || app.checkout.is_some() {
            tier.price_in_words()
        } else {
            "off: payments are not configured".to_owned()
        };
        writeln!(
            out,
            "  {:<12} {sold:<10} {}",
            tier.name.as_str(),
            tier.describe()
        )?;
    }
    if let Some(checkout) = &app.checkout {
        let money = if checkout.catalog.is_play_money() {
            "PLAY MONEY, worth nothing"
        } else {
            "USDC"
        };
        writeln!(
            out,
            "  paid on {} to {} ({money})",
            checkout
                .catalog
                .networks()
                .iter()
                .map(|network| network.name())
                .collect::<Vec<_>>()
                .join(", "),
            checkout.catalog.pay_to()
        )?;
    }
    writeln!(out, "try: curl -F image=@photo.jpg {base}/api/free")?;
    out.flush()
}
