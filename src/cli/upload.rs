//! `pixtoll upload`: reads files, has the client upload them, prints links.
//!
//! Standard output gets one line a file and nothing else, so that it can be piped; everything for
//! people goes to standard error. What is paid and when is decided in `client`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use futures_util::future::LocalBoxFuture;

use super::console::{Console, Exit, PayArgs, in_words, line, spinner, tier};
use crate::client::{Client, Done, Errand, Failure, Image, Kept, Order, World};
use crate::clock::Clock;
use crate::random::Randomness;
use crate::tiers::TierName;

mod many;

use many::{Bundles, Stop};

/// No server takes a larger image.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

const AFTER_HELP: &str = "\
Payment:
  A tier with a price is paid by x402 with a local key: --wallet FILE, else PIXTOLL_WALLET_KEY (the
  private key in hex), else PIXTOLL_WALLET (a file), else ~/.local/share/pixtoll/wallet.key. Where a
  server asks for play money and there is no wallet, that file is made. Nothing above --max-price is
  ever signed. A payment is written down (~/.local/share/pixtoll/pending) before it is sent, and the
  same command run again presents the same payment: it never pays twice for one upload.
  Several files of a tier with a price are bought on one payment, up to 100 at a time.

Exit codes:
  0  all files are uploaded
  1  something unexpected
  2  the command can't be carried out as written (options, files, wallet, unknown tier)
  3  the server refused a file; it was not charged
  4  the price is above --max-price, or is asked in a way that can't be paid
  5  the payment was refused or failed, such as for lack of funds; nothing was charged
  6  the outcome is not known yet, or not everything that is paid for is uploaded: run the same
     command again, it never pays twice
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
    /// Where it goes, and who pays.
    #[command(flatten)]
    pay: PayArgs,
    /// Where the server says that it lost what an earlier payment bought, and that another one isn't charged: sign
    /// that other one
    #[arg(long)]
    anew: bool,
}

impl UploadArgs {
    const fn kept(&self) -> Kept {
        if self.anew {
            Kept::Replaced
        } else {
            Kept::Presented
        }
    }
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
        server: args.pay.server.clone(),
        errand: Errand::Upload(args.tier.clone()),
        cap: args.pay.max_price,
        wallet: args.pay.wallet.clone(),
        kept: args.kept(),
    };
    let client = Client::new(order, env, world)?;
    let mut bundles = Bundles::plan(args, env, world, &client).await?;
    let mut exit = Exit::Uploaded;
    let mut is_unfinished = false;
    let mut done = Vec::new();
    for (index, file) in args.files.iter().enumerate() {
        console.bar.set_prefix(format!(
            "[{}/{}] {}",
            index + 1,
            args.files.len(),
            file.display()
        ));
        match upload_one(&client, &mut bundles, args, index, console).await {
            Ok(upload) => done.extend(upload),
            Err(stop) => {
                // A refused file says nothing of the next one. Everything else does, and a payment
                // in doubt is no time for another.
                let (failure, goes_on) = match stop {
                    Stop::GoOn(failure) => (failure, true),
                    Stop::Here(failure) => (failure, false),
                };
                console.say(&format!("{}: {failure}", file.display()));
                is_unfinished |= matches!(failure, Failure::Unfinished(_));
                exit = Exit::of(&failure);
                if !goes_on {
                    let left = args.files.len() - index - 1;
                    if left > 0 {
                        console.say(&format!("Stopped; files not tried: {left}."));
                    }
                    return Ok(exit);
                }
            }
        }
    }
    if is_unfinished {
        // The same command is going to be run again: then it must not pay for the others either.
        return Ok(Exit::OutcomeUnknown);
    }
    // Only now: had the run stopped, the same command would get the links of the files before for
    // the payments that were made.
    done.iter().try_for_each(|upload| client.conclude(upload))?;
    bundles.end()?;
    Ok(exit)
}

/// Uploads a file and prints its link; `None` on a dry run, and where the payment is several files'.
async fn upload_one(
    client: &Client<'_>,
    bundles: &mut Bundles<'_>,
    args: &UploadArgs,
    index: usize,
    console: &mut Console<'_>,
) -> Result<Option<Done>, Stop> {
    let Some(file) = args.files.get(index) else {
        return Ok(None);
    };
    let image = Image {
        bytes: read(file)?,
        content_type: content_type(file),
    };
    if args.pay.dry_run {
        if !bundles.price(index, console).await? {
            let price = client
                .price(&image.bytes, &mut |notice| console.tell(notice))
                .await?;
            console.say(&format!("{}: {}", file.display(), in_words(&price)));
        }
        return Ok(None);
    }
    let together = bundles.upload(index, &image, console).await;
    let (uploaded, done) = if let Some(uploaded) = together {
        (uploaded?, None)
    } else {
        let done = client
            .upload(&image, &mut |notice| console.tell(notice))
            .await?;
        (done.uploaded.clone(), Some(done))
    };
    console
        .link(&line(&uploaded, args.pay.format))
        .map_err(|error| {
            Failure::Unexpected(format!(
                "It is uploaded, but its link could not be written: {error}."
            ))
        })?;
    Ok(done)
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::FileRefused(_) => Self::GoOn(failure),
            _ => Self::Here(failure),
        }
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

#[cfg(test)]
mod tests;
