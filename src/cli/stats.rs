//! `pixtoll stats`: the sales funnel, uploads, storage and revenue, as tables or JSON.

use std::io::Write;
use std::process::ExitCode;

use super::ServeArgs;
use crate::accounting::stats::{MOST_DAYS, Stats};
use crate::app::open_database_beside;
use crate::config::load;
use crate::system::clock::{Clock, SystemClock};

/// The arguments of `pixtoll stats`, which may run beside the server.
#[derive(Debug, clap::Args)]
pub struct StatsArgs {
    /// The settings, which name the database.
    #[command(flatten)]
    pub place: ServeArgs,
    /// The number of days, today included. Days are UTC days.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_DAYS)))]
    pub days: u32,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Prints the statistics.
///
/// # Errors
/// When the settings are invalid, or the database doesn't answer.
pub async fn run(args: &StatsArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let db = open_database_beside(&config.database).await?;
    let stats = Stats::load(&db, args.days, SystemClock.now()).await;
    db.close().await;
    let stats = stats?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&stats)?)?;
    } else {
        print(&stats, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(stats: &Stats, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{} to {} (UTC)", stats.from, stats.to)?;
    let heading = ["tier", "uploads", "bytes", "payments", "USDC", "refunded"];
    table(out, "Uploads and sales", 1, &heading, &tiers(stats))?;
    let heading = [
        "tier",
        "client",
        "challenged",
        "presented",
        "settled",
        "delivered",
    ];
    table(out, "Sales funnel", 2, &heading, &funnel(stats))?;
    let heading = [
        "tier",
        "live",
        "bytes",
        "due in 1d",
        "due in 7d",
        "to delete",
    ];
    table(out, "Storage now", 1, &heading, &storage(stats))?;
    let waiting = &stats.waiting;
    writeln!(
        out,
        "\n{} payments are owed, {} refunds are due, {} payments have an unknown outcome",
        waiting.owed, waiting.refunds_due, waiting.unknown_payments
    )
}

fn tiers(stats: &Stats) -> Vec<Vec<String>> {
    let rows = stats.tiers.iter().map(|row| {
        vec![
            row.tier.clone(),
            row.uploads.to_string(),
            row.bytes.to_string(),
            row.payments.to_string(),
            row.revenue.clone(),
            row.refunded.clone(),
        ]
    });
    rows.collect()
}

fn funnel(stats: &Stats) -> Vec<Vec<String>> {
    let rows = stats.funnel.iter().map(|row| {
        vec![
            row.tier.clone(),
            row.client.clone(),
            row.challenged.to_string(),
            row.presented.to_string(),
            row.settled.to_string(),
            row.delivered.to_string(),
        ]
    });
    rows.collect()
}

fn storage(stats: &Stats) -> Vec<Vec<String>> {
    let rows = stats.storage.iter().map(|row| {
        vec![
            row.tier.clone(),
            row.live.to_string(),
            row.live_bytes.to_string(),
            row.due_in_a_day.to_string(),
            row.due_in_a_week.to_string(),
            row.overdue.to_string(),
        ]
    });
    rows.collect()
}

/// Prints rows below a heading. The first `texts` columns are aligned to the left, numbers to the
/// right.
fn table(
    out: &mut impl Write,
    title: &str,
    texts: usize,
    heading: &[&str],
    rows: &[Vec<String>],
) -> std::io::Result<()> {
    writeln!(out, "\n{title}")?;
    if rows.is_empty() {
        return writeln!(out, "  none");
    }
    let heading: Vec<String> = heading.iter().map(|&name| name.to_owned()).collect();
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| {
            let cells = std::iter::once(&heading).chain(rows);
            let widths = cells.filter_map(|row| row.get(column).map(String::len));
            widths.max().unwrap_or(0)
        })
        .collect();
    for row in std::iter::once(&heading).chain(rows) {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| {
            if column < texts {
                format!("  {cell:<width$}")
            } else {
                format!("  {cell:>width$}")
            }
        });
        let line: String = cells.collect();
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
