//! `pixtoll upload`: reads files, has the client upload them, prints links.
//!
//! Standard output gets one line a file and nothing else, so that it can be piped; everything for
//! people goes to standard error. What is paid and when is decided in `client`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures_util::future::LocalBoxFuture;
use indicatif::{ProgressBar, ProgressStyle};
use url::Url;

use crate::client::{Client, Done, Failure, Image, Notice, Order, Price, Uploaded, World};
use crate::clock::Clock;
use crate::money::AtomicAmount;
use crate::random::Randomness;
use crate::tiers::TierName;

/// No server takes a larger image.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

const AFTER_HELP: &str = "\
Payment:
  A tier with a price is paid by x402 with a local key: --wallet FILE, else PIXTOLL_WALLET_KEY (the
  private key in hex), else PIXTOLL_WALLET (a file), else ~/.local/share/pixtoll/wallet.key. Where a
  server asks for play money and there is no wallet, that file is made. Nothing above --max-price is
  ever signed. A payment is written down (~/.local/share/pixtoll/pending) before it is sent, and the
  same command run again presents the same payment: it never pays twice for one upload.

Exit codes:
  0  all files are uploaded
  1  something unexpected
  2  the command can't be carried out as written (options, files, wallet, unknown tier)
  3  the server refused a file; it was not charged
  4  the price is above --max-price, or is asked in a way that can't be paid
  5  the payment was refused or failed, such as for lack of funds; nothing was charged
  6  the outcome is not known yet: run the same command again, it never pays twice
  7  the server can't be reached or is busy; nothing was charged";

/// Upload images and print their links
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct UploadArgs {
    /// Images to upload: PNG, JPEG, GIF or WebP
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Tier to upload to
    #[arg(long, default_value = "free", value_parser = tier)]
    tier: TierName,
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4020")]
    server: Url,
    /// The most that one file may cost, in USD
    #[arg(long, value_name = "USD", default_value = "0.05", value_parser = usd)]
    max_price: AtomicAmount,
    /// File that holds the private key of the paying account, in hex
    #[arg(long, value_name = "FILE")]
    wallet: Option<PathBuf>,
    /// Say what would be paid; pay and upload nothing
    #[arg(long)]
    dry_run: bool,
    /// What to print for each file
    #[arg(long, value_enum, default_value_t = Format::Url)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The link
    Url,
    /// The link as a Markdown image
    Markdown,
    /// The link as an HTML image
    Html,
    /// The server's answer, in one line
    Json,
}

/// How the command ended; the numbers are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All files are uploaded.
    Uploaded,
    /// Something unexpected.
    Unexpected,
    /// The command can't be carried out as it is written.
    Usage,
    /// The server refused a file.
    FileRefused,
    /// The price is above the cap, or the challenge can't be paid.
    NotPayable,
    /// The payment was refused or failed. Nothing was charged.
    PaymentRefused,
    /// The outcome of a payment is not known yet.
    OutcomeUnknown,
    /// The server is down or busy. Nothing was charged.
    Unavailable,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Uploaded => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::FileRefused => 3,
            Self::NotPayable => 4,
            Self::PaymentRefused => 5,
            Self::OutcomeUnknown => 6,
            Self::Unavailable => 7,
        }
    }

    const fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Unexpected(_) => Self::Unexpected,
            Failure::Usage(_) => Self::Usage,
            Failure::FileRefused(_) => Self::FileRefused,
            Failure::NotPayable(_) => Self::NotPayable,
            Failure::PaymentRefused(_) => Self::PaymentRefused,
            Failure::OutcomeUnknown(_) => Self::OutcomeUnknown,
            Failure::Unavailable(_) => Self::Unavailable,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Where the command writes: links to `out`, everything else to `err`, which `bar` shares.
struct Console<'c> {
    out: &'c mut dyn Write,
    err: &'c mut dyn Write,
    bar: ProgressBar,
}

/// Runs the command: links go to `out`, the rest to standard error. `env` is the environment, which
/// names the wallet, the home directory and an https proxy.
pub async fn run(
    args: &UploadArgs,
    env: &BTreeMap<String, String>,
    clock: &dyn Clock,
    randomness: &Randomness,
    out: &mut dyn Write,
) -> Exit {
    let pause = |time| -> LocalBoxFuture<'static, ()> { Box::pin(tokio::time::sleep(time)) };
    let world = World {
        clock,
        randomness,
        pause: &pause,
    };
    let mut console = Console {
        out,
        err: &mut io::stderr(),
        bar: spinner(),
    };
    run_in(args, env, world, &mut console).await
}

async fn run_in(
    args: &UploadArgs,
    env: &BTreeMap<String, String>,
    world: World<'_>,
    console: &mut Console<'_>,
) -> Exit {
    let exit = match upload_all(args, env, world, console).await {
        Ok(exit) => exit,
        Err(failure) => {
            console.say(&failure.to_string());
            Exit::of(&failure)
        }
    };
    console.bar.finish_and_clear();
    exit
}

async fn upload_all(
    args: &UploadArgs,
    env: &BTreeMap<String, String>,
    world: World<'_>,
    console: &mut Console<'_>,
) -> Result<Exit, Failure> {
    // A mistyped name is told before anything is paid for the files before it.
    args.files.iter().try_for_each(|file| check(file))?;
    let order = Order {
        server: args.server.clone(),
        tier: args.tier.clone(),
        cap: args.max_price,
        wallet: args.wallet.clone(),
    };
    let client = Client::new(order, env, world)?;
    let mut exit = Exit::Uploaded;
    let mut done = Vec::new();
    for (index, file) in args.files.iter().enumerate() {
        console.bar.set_prefix(format!(
            "[{}/{}] {}",
            index + 1,
            args.files.len(),
            file.display()
        ));
        match upload_one(&client, args, file, console).await {
            Ok(upload) => done.extend(upload),
            Err(failure) => {
                console.say(&format!("{}: {failure}", file.display()));
                exit = Exit::of(&failure);
                // A refused file says nothing of the next one. Everything else does, and a payment
                // in doubt is no time for another.
                if exit != Exit::FileRefused {
                    let left = args.files.len() - index - 1;
                    if left > 0 {
                        console.say(&format!("Stopped; files not tried: {left}."));
                    }
                    return Ok(exit);
                }
            }
        }
    }
    // Only now: had the run stopped, the same command would get the links of the files before for
    // the payments that were made.
    done.iter().try_for_each(|upload| client.conclude(upload))?;
    Ok(exit)
}

/// Uploads a file and prints its link; `None` on a dry run.
async fn upload_one(
    client: &Client<'_>,
    args: &UploadArgs,
    file: &Path,
    console: &mut Console<'_>,
) -> Result<Option<Done>, Failure> {
    let image = Image {
        bytes: read(file)?,
        content_type: content_type(file),
    };
    if args.dry_run {
        let price = client
            .price(&image, &mut |notice| console.tell(notice))
            .await?;
        console.say(&format!("{}: {}", file.display(), in_words(&price)));
        return Ok(None);
    }
    let done = client
        .upload(&image, &mut |notice| console.tell(notice))
        .await?;
    console
        .link(&line(&done.uploaded, args.format))
        .map_err(|error| {
            Failure::Unexpected(format!(
                "It is uploaded, but its link could not be written: {error}."
            ))
        })?;
    Ok(Some(done))
}

fn in_words(price: &Price) -> String {
    match price {
        Price::Free => "would be uploaded for free.".to_owned(),
        Price::Quoted(quote) => format!(
            "would pay {} USDC{} on {} to {}.",
            quote.amount.to_decimal_usd(),
            if quote.is_play_money {
                " of play money"
            } else {
                ""
            },
            quote.network.name(),
            quote.pay_to
        ),
        Price::Pending(payment) => format!(
            "would present the payment of {} USDC on {} that an earlier run signed, and no other.",
            payment.amount.to_decimal_usd(),
            payment.network.name()
        ),
    }
}

fn line(uploaded: &Uploaded, format: Format) -> String {
    let url = uploaded.url.as_str();
    match format {
        Format::Url => url.to_owned(),
        Format::Markdown => format!("![]({})", url.replace('(', "%28").replace(')', "%29")),
        Format::Html => {
            format!(
                "<img src=\"{}\" alt=\"\">",
                url.replace('&', "&amp;").replace('"', "%22")
            )
        }
        Format::Json => uploaded.json.clone(),
    }
}

fn check(file: &Path) -> Result<(), Failure> {
    let metadata = file.metadata().map_err(|error| unreadable(file, &error))?;
    if metadata.is_dir() {
        return Err(Failure::Usage(format!(
            "{}: it is a folder.",
            file.display()
        )));
    }
    if metadata.len() > MAX_FILE_BYTES {
        Err(too_large(file))
    } else {
        Ok(())
    }
}

fn read(file: &Path) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    let read =
        File::open(file).and_then(|open| open.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(file, &error))?;
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size > MAX_FILE_BYTES {
        Err(too_large(file))
    } else {
        Ok(bytes.into())
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("{}: {error}.", file.display()))
}

fn too_large(file: &Path) -> Failure {
    Failure::Usage(format!(
        "{}: it is larger than 64 MiB, which no server takes.",
        file.display()
    ))
}

/// What the name suggests. The server wants an image's type and decides by the bytes.
fn content_type(file: &Path) -> &'static str {
    let extension = file.extension().map(std::ffi::OsStr::to_ascii_lowercase);
    match extension.as_ref().and_then(|text| text.to_str()) {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        _ => "image/unknown",
    }
}

fn tier(text: &str) -> Result<TierName, String> {
    TierName::parse(text).map_err(|error| error.to_string())
}

fn usd(text: &str) -> Result<AtomicAmount, String> {
    AtomicAmount::from_decimal_usd(text).map_err(|error| error.to_string())
}

fn spinner() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

impl Console<'_> {
    fn link(&mut self, line: &str) -> io::Result<()> {
        let out = &mut self.out;
        self.bar
            .suspend(|| writeln!(out, "{line}").and_then(|()| out.flush()))
    }

    fn say(&mut self, line: &str) {
        let err = &mut self.err;
        if self.bar.suspend(|| writeln!(err, "{line}")).is_err() {
            // Nobody reads it any more; the exit code still tells.
        }
    }

    fn tell(&mut self, notice: Notice) {
        match notice {
            Notice::Step(text) => self.bar.set_message(text),
            Notice::Fact(text) => self.say(&text),
        }
    }
}

#[cfg(test)]
mod tests;
