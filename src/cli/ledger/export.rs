//! `pixtoll ledger export`: the payments of a month for the operator's books, as CSV or JSON.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::accounting::decimal::{FIAT_DECIMALS, Rate, write, write_difference};
use crate::accounting::export::{Export, Fee, Form, Month, Totals};
use crate::accounting::rates::Rates;
use crate::config::Config;
use crate::db::Db;
use crate::pricing::money::DECIMALS;

/// The arguments of `pixtoll ledger export`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("form").required(true).args(["csv", "json"]))]
pub struct ExportArgs {
    /// The month in UTC, such as 2026-11.
    #[arg(long, value_name = "MONTH", value_parser = parse_month)]
    month: Month,
    /// Write comma-separated values with a heading (RFC 4180).
    #[arg(long)]
    csv: bool,
    /// Write one JSON document.
    #[arg(long)]
    json: bool,
    /// A file with the value of one USDC in your currency: lines such as 2026-11-01,0.9234. A rate
    /// holds until the next day that has one.
    #[arg(long, value_name = "FILE", requires = "currency")]
    rates: Option<PathBuf>,
    /// The value of one USDC in your currency, for the whole month.
    #[arg(long, value_name = "RATE", requires = "currency", conflicts_with = "rates", value_parser = Rate::parse)]
    rate: Option<Rate>,
    /// The name of your currency, such as EUR.
    #[arg(long, value_name = "CODE", value_parser = parse_currency)]
    currency: Option<String>,
    /// Write to this file, which must not exist yet. It can be read by its owner only.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn parse_month(text: &str) -> Result<Month, &'static str> {
    Month::parse(text).ok_or("a month is written like 2026-11")
}

fn parse_currency(text: &str) -> Result<String, &'static str> {
    let is_code =
        (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_code
        .then(|| text.to_owned())
        .ok_or("a currency is a code of up to 10 letters, such as EUR")
}

/// Writes the payments that settled in a month, and tells their sums.
///
/// # Errors
/// When the rates can't be read or lack a day, the file exists or can't be written, or the database
/// fails. No incomplete file is left.
pub(super) async fn run(
    config: &Config,
    db: &Db,
    args: &ExportArgs,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let rates = rates(args)?;
    let export = Export {
        month: &args.month,
        fee: Fee {
            each: config.money.facilitator_fee,
            free: config.money.free_settlements,
        },
        fiat: rates.as_ref().zip(args.currency.as_deref()),
    };
    let form = if args.csv { Form::Csv } else { Form::Json };
    let totals = match &args.out {
        None => {
            let mut out = BufWriter::new(out);
            export.write(db, form, &mut out).await?
        }
        Some(path) => write_file(&export, db, form, path).await?,
    };
    tell(&totals, args.currency.as_deref());
    Ok(ExitCode::SUCCESS)
}

fn rates(args: &ExportArgs) -> anyhow::Result<Option<Rates>> {
    if let Some(path) = &args.rates {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} can't be read", path.display()))?;
        let rates = Rates::parse(&text).with_context(|| path.display().to_string())?;
        return Ok(Some(rates));
    }
    if args.currency.is_some() && args.rate.is_none() {
        bail!("--currency needs its rate: give --rates FILE or --rate RATE");
    }
    Ok(args.rate.map(Rates::One))
}

/// Writes to a new file, which appears under its name once it is complete.
async fn write_file(
    export: &Export<'_>,
    db: &Db,
    form: Form,
    path: &Path,
) -> anyhow::Result<Totals> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let draft = tempfile::Builder::new()
        .prefix(".export-")
        .tempfile_in(folder);
    let mut draft = draft.with_context(|| format!("{} can't be written to", folder.display()))?;
    let mut out = BufWriter::new(draft.as_file_mut());
    let totals = export.write(db, form, &mut out).await?;
    drop(out);
    draft.as_file().sync_all()?;
    draft.persist_noclobber(path).map_err(|lost| {
        anyhow::Error::new(lost.error).context(format!(
            "{} can't be created: remove it if it exists, or name another file",
            path.display()
        ))
    })?;
    Ok(totals)
}

/// Tells the sums on standard error, so that standard output holds the export alone.
fn tell(totals: &Totals, currency: Option<&str>) {
    let value = match (totals.fiat, currency) {
        (Some(fiat), Some(currency)) => format!(" ({} {currency})", write(fiat, FIAT_DECIMALS)),
        _ => String::new(),
    };
    crate::cli::console::tell(&format!(
        "{} payments for {} USDC, {} atomic units{value}; fees {}, net {}, refunded {}; {} voided",
        totals.payments,
        write(totals.gross, DECIMALS),
        totals.gross,
        write(totals.fees, DECIMALS),
        write_difference(totals.gross, totals.fees),
        write(totals.refunded, DECIMALS),
        totals.voided
    ));
}
