//! `pixtoll receipt`: fetches the receipts of an image, and checks receipts offline.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::console::{Named, OWNER_HELP, OwnerArgs, check_links, exit, image, print as print_line};
use crate::client::Failure;
use crate::client::account::Account;
use crate::client::kept::KeptTokens;
use crate::keys::secrets::sha256_hex;
use crate::pricing::money::AtomicAmount;
use crate::pricing::tiers::LARGEST_MAX_BYTES;
use crate::receipts::verify::{Checked, KeySet, check, read};

/// The largest file of receipts or keys that is read.
const MAX_TEXT_BYTES: u64 = 1024 * 1024;
/// What is said where no keys were named.
pub(super) const UNCHECKED: &str = "No signature was checked, and anybody can write such a file. Save the server's \
    /.well-known/jwks.json from a source that you trust, and name that file with --keys.";

/// The arguments of `pixtoll receipt`.
#[derive(Debug, clap::Args)]
pub struct ReceiptArgs {
    /// The subcommand.
    #[command(subcommand)]
    pub command: ReceiptCommand,
}

/// The subcommands of `pixtoll receipt`.
#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// Fetch the signed receipts of an image, as its payer or by its delete token
    ///
    /// Prints what was paid for the image. With --json it prints the document that pixtoll receipt
    /// verify checks.
    #[command(verbatim_doc_comment, after_help = OWNER_HELP)]
    Get(GetArgs),
    /// Verify the signatures of receipts with the server's published keys
    ///
    /// Prints GOOD, BAD or NOT CHECKED for each receipt, what the receipt says, and every problem.
    /// Exits with 0 only when each receipt is signed by one of the keys and its unsigned fields equal
    /// the signed ones; with 1 otherwise.
    #[command(verbatim_doc_comment)]
    Verify(VerifyArgs),
}

/// The arguments of `pixtoll receipt get`.
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// The image, by id or by link
    #[arg(value_name = "IMAGE", value_parser = image)]
    image: Named,
    /// The delete token that the upload returned
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The options for server, wallet and output.
    #[command(flatten)]
    owner: OwnerArgs,
}

/// The arguments of `pixtoll receipt verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The receipt: a response of GET /api/receipts/{id}, one JWS of it, an x402 receipt, or a PAYMENT-RESPONSE
    /// header.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The server's /.well-known/jwks.json, saved from a source that you trust. Without it no signature is checked,
    /// and the exit code is 1.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// The image as its link serves it. Checks that its SHA-256 is the one in the receipt.
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
}

/// Runs a subcommand and returns its exit code. `env` names the wallet, the home directory and a proxy for https.
///
/// # Errors
/// When a file can't be read, is too large, or holds no receipt or no keys.
pub async fn run(
    args: &ReceiptArgs,
    env: &BTreeMap<String, String>,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    match &args.command {
        ReceiptCommand::Get(args) => Ok(exit(get(args, env, out).await).into()),
        ReceiptCommand::Verify(args) => verify(args, out),
    }
}

async fn get(
    args: &GetArgs,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let account = Account::new(&args.owner.server, args.owner.wallet.as_deref(), env)?;
    check_links(&account, std::slice::from_ref(&args.image)).await?;
    let stored = match KeptTokens::find(&args.owner.server, env) {
        Some(kept) => kept.token(&args.image.id)?,
        None => None,
    };
    let token = args.token.clone().or(stored);
    let receipts = account.receipts(&args.image.id, token.as_deref()).await?;
    if args.owner.json {
        return print_line(out, &receipts.json());
    }
    for at in 0..receipts.count("/receipts") {
        let text = |name: &str| {
            let text = receipts.text(&format!("/receipts/{at}/{name}"));
            text.unwrap_or_else(|| "?".to_owned())
        };
        let line = format!(
            "{}  {} USDC on {}  tier {}  paid {}  by {}  in {}",
            text("kind"),
            usdc(&text("amount")),
            text("network"),
            text("tier"),
            text("settledAt"),
            text("payer"),
            text("transaction"),
        );
        print_line(out, &line)?;
    }
    Ok(())
}

/// An amount of atomic units in USDC, the one asset that pays here.
fn usdc(atomic: &str) -> String {
    let amount = AtomicAmount::from_atomic(atomic);
    amount.map_or_else(|_| atomic.to_owned(), AtomicAmount::to_decimal_usd)
}

fn verify(args: &VerifyArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let papers = read(&read_text(&args.file)?).with_context(|| name(&args.file))?;
    let keys = match &args.keys {
        Some(file) => Some(KeySet::parse(&read_text(file)?).with_context(|| name(file))?),
        None => None,
    };
    let image = match &args.image {
        Some(file) => Some(sha256_hex(&read_bounded(file, LARGEST_MAX_BYTES)?)),
        None => None,
    };
    let mut all_good = true;
    for paper in &papers {
        let finding = check(paper, keys.as_ref(), image.as_deref());
        all_good &= finding.problems.is_empty() && finding.signed_by.is_some();
        print(&finding, out)?;
    }
    if keys.is_none() {
        writeln!(out, "{UNCHECKED}")?;
    }
    Ok(if all_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub(super) fn print(finding: &Checked, out: &mut impl Write) -> std::io::Result<()> {
    let verdict = match (&finding.signed_by, finding.problems.as_slice()) {
        (Some(_), []) => "GOOD",
        (None, []) => "NOT CHECKED",
        _ => "BAD",
    };
    writeln!(out, "{verdict}: {}", plain(&finding.says))?;
    if let Some(id) = &finding.signed_by {
        writeln!(out, "  signed by the key {id}")?;
    }
    for problem in &finding.problems {
        writeln!(out, "  {}", plain(problem))?;
    }
    Ok(())
}

/// Replaces control characters by `?`, so that a file can't control the terminal.
fn plain(text: &str) -> String {
    let visible = |letter: char| if letter.is_control() { '?' } else { letter };
    text.chars().map(visible).collect()
}

pub(super) fn read_text(file: &Path) -> anyhow::Result<String> {
    let bytes = read_bounded(file, MAX_TEXT_BYTES)?;
    String::from_utf8(bytes).with_context(|| {
        format!(
            "{} is not UTF-8 text, so it holds nothing signed and no keys",
            file.display()
        )
    })
}

fn read_bounded(file: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(most + 1).read_to_end(&mut bytes))
        .with_context(|| name(file))?;
    if bytes.len() as u64 > most {
        bail!(
            "{} is larger than {most} bytes, the most that is read",
            file.display()
        );
    }
    Ok(bytes)
}

pub(super) fn name(file: &Path) -> String {
    file.display().to_string()
}
