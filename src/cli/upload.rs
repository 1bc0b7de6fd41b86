//! `pixtoll upload`: reads files, uploads them with the client and prints their links.
//!
//! Standard output holds one line per file and nothing else, so that it can be piped. Messages go to standard
//! error. The module `client` decides what to pay and when.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use futures_util::future::LocalBoxFuture;

use super::console::{Console, Exit, PayArgs, in_words, line, spinner, tier};
use crate::client::{Client, Done, Failure, Image, Order, Purpose, World};
use crate::pricing::tiers::TierName;
use crate::system::clock::Clock;
use crate::system::random::Randomness;

mod many;

use many::{Bundles, Stop};

/// The largest file that is read; no server accepts a larger image.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

const AFTER_HELP: &str = "\
Payment:
  Paid tiers are paid in USDC by the x402 protocol, with a private key on this machine. The key is
  the first of: --wallet FILE, PIXTOLL_WALLET_KEY (the key in hex), PIXTOLL_WALLET (a file),
  ~/.local/share/pixtoll/wallet.key. If there is no key and the server takes play money, that last
  file is created.
  The command signs no payment above --max-price per image. It saves each payment in
  ~/.local/share/pixtoll/pending before it sends it. Running the same command again sends the same
  payment, so one upload is never paid twice.
  Several files share one payment, up to 100 files each.

Exit codes:
  0  all files are uploaded
  1  unexpected error
  2  an option, a file, the wallet or the tier is wrong
  3  the server refused a file; nothing was charged for it
  4  the price is above --max-price, or this command can't pay what the server asks for
  5  the payment was refused or failed, for example for lack of funds; nothing was charged
  6  the outcome of a payment is unknown, or a paid file is not uploaded yet: run the same command
     again; it never pays twice
  7  the server can't be reached or is busy; nothing was charged";

/// Upload images and print their links
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct UploadArgs {
    /// The images to upload: PNG, JPEG, GIF or WebP
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The tier, which sets price, size limit and time; the server lists its tiers at /api/tiers
    #[arg(long, default_value = "free", value_parser = tier)]
    tier: TierName,
    /// The options for server, payment and output.
    #[command(flatten)]
    pay: PayArgs,
}

/// Runs the command and returns its exit code. Links go to `out`, messages to standard error. `env` is the
/// environment, which names the wallet, the home directory and a proxy for https.
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
    // All names are checked before anything is paid.
    args.files.iter().try_for_each(|file| check(file))?;
    let order = Order {
        server: args.pay.server.clone(),
        purpose: Purpose::Upload(args.tier.clone()),
        cap: args.pay.max_price,
        wallet: args.pay.wallet.clone(),
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
                // After a refused file the next one is tried. After any other failure the run stops: no other
                // payment is made while the outcome of this one is unknown.
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
                        console.say(&format!("Stopped here; files not tried: {left}."));
                    }
                    return Ok(exit);
                }
            }
        }
    }
    if is_unfinished {
        // The user will run the same command again, which must not pay for the other files again.
        return Ok(Exit::OutcomeUnknown);
    }
    // Only when all files are done. After a stop, the same command gets the links of the earlier files with the
    // payments that were made for them.
    done.iter().try_for_each(|upload| client.conclude(upload))?;
    bundles.end()?;
    Ok(exit)
}

/// Uploads a file and prints its link. `None` on a dry run, and when the file shares its payment with others.
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
                "The file is uploaded, but its link could not be written to standard output: {error}."
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

/// Checks that a file exists, is no directory and is not too large.
fn check(file: &Path) -> Result<(), Failure> {
    let metadata = file.metadata().map_err(|error| unreadable(file, &error))?;
    if metadata.is_dir() {
        return Err(Failure::Usage(format!(
            "{} is a directory; name the image files in it.",
            file.display()
        )));
    }
    if metadata.len() > MAX_FILE_BYTES {
        Err(too_large(file))
    } else {
        Ok(())
    }
}

/// Reads a file of at most [`MAX_FILE_BYTES`].
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
    Failure::Usage(format!("{} can't be read: {error}.", file.display()))
}

fn too_large(file: &Path) -> Failure {
    Failure::Usage(format!(
        "{} is larger than 64 MiB, the most that any server accepts. Make the image smaller.",
        file.display()
    ))
}

/// The content type that a file's extension suggests. The server detects the format from the bytes; it only requires
/// a type of the form `image/…`.
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
