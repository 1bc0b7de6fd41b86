//! `pixtoll serve`: opens everything, says where it listens, and serves until it is told to stop.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ServeArgs;
use crate::app::{App, World};
use crate::clock::SystemClock;
use crate::config::{Config, Sources, load};
use crate::disk::Disk;
use crate::http::Servers;
use crate::random::Randomness;

/// Serves until SIGINT or SIGTERM, then lets the requests in flight finish.
///
/// # Errors
/// What kept it from starting.
pub async fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let loaded = load(&args.sources())?;
    for warning in &loaded.warnings {
        tracing::warn!(
            key = warning.key,
            mend = warning.mend,
            "{}",
            warning.message
        );
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
    jobs.spawn(reload_at_signal(
        Arc::clone(&app),
        args.sources(),
        signal(SignalKind::hangup())?,
    ));
    let servers = Servers::start(Arc::clone(&app), public, admin)?;
    servers.run_until(stop_signal()?).await?;
    // A job that found the database closed would call for somebody to act.
    jobs.shutdown().await;
    app.db.close().await;
    Ok(())
}

/// Takes tiers and limits anew at each SIGHUP. Settings that can't be in force change nothing.
async fn reload_at_signal(app: Arc<App>, sources: Sources, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let fresh = match load(&sources) {
            Ok(loaded) => loaded.config,
            Err(problems) => {
                tracing::error!(%problems, "SIGHUP: the settings were not taken; see pixtoll config check");
                continue;
            }
        };
        match app.reload(&fresh).await {
            Ok(true) => tracing::info!("SIGHUP: tiers and limits are those of the settings"),
            Ok(false) => tracing::warn!(
                "SIGHUP: tiers and limits are those of the settings; what else has changed waits for a restart"
            ),
            Err(error) => tracing::error!(%error, "SIGHUP: tiers and limits were not changed"),
        }
    }
}

/// Each connection is an open file, and many systems begin with 1024, less than the server takes.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn bind(key: &str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .with_context(|| format!("{key} = {address} can't be listened on; is it in use?"))
}

/// Ends at SIGINT or SIGTERM.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping: requests in flight may finish");
    })
}

/// What a person who started it wants to know.
fn announce(config: &Config, app: &App, out: &mut impl Write) -> std::io::Result<()> {
    let base = &config.http.base_url;
    writeln!(out, "pixtoll {} serves {base}", env!("CARGO_PKG_VERSION"))?;
    for tier in &config.tiers {
        let price = tier.price.to_decimal_usd();
        let sold = if tier.is_free() {
            "free".to_owned()
        } else if app.till.is_some() {
            format!("{price} USDC")
        } else {
            "off: no facilitator is configured".to_owned()
        };
        writeln!(
            out,
            "  {:<12} {sold:<10} {}",
            tier.name.as_str(),
            tier.describe()
        )?;
    }
    if let Some(till) = &app.till {
        let money = if till.shop.is_play_money() {
            "PLAY MONEY, worth nothing"
        } else {
            "USDC"
        };
        writeln!(
            out,
            "  paid on {} to {} ({money})",
            till.shop
                .networks()
                .iter()
                .map(|network| network.name())
                .collect::<Vec<_>>()
                .join(", "),
            till.shop.pay_to()
        )?;
    }
    writeln!(out, "try: curl -F image=@photo.jpg {base}/api/free")?;
    out.flush()
}
