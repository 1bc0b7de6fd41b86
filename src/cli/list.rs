//! `pixtoll list`: the images that a wallet uploaded, the newest first.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;

use super::console::{Exit, OWNER_HELP, OwnerArgs, exit, print, tell};
use crate::client::Failure;
use crate::client::account::Account;
use crate::client::facts::Facts;

/// The most images that one request asks for.
const PAGE: usize = 50;

/// List the images that a wallet uploaded, the newest first
#[derive(Debug, Args)]
#[command(after_help = OWNER_HELP)]
pub struct ListArgs {
    /// The most images to print
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print all images
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Continue where an earlier list ended, with the cursor that it printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// The options for server, wallet and output.
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Runs the command and returns its exit code. `env` names the wallet, the home directory and a proxy for https.
pub async fn run(args: &ListArgs, env: &BTreeMap<String, String>, out: &mut dyn Write) -> Exit {
    exit(list(args, env, out).await)
}

async fn list(
    args: &ListArgs,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let account = Account::new(&args.owner.server, args.owner.wallet.as_deref(), env)?;
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut left = if args.all { usize::MAX } else { most };
    let mut after = args.after.clone();
    let mut is_empty = true;
    loop {
        let page = account.images(left.min(PAGE), after.as_deref()).await?;
        for image in page.items.iter().take(left) {
            is_empty = false;
            let line = if args.owner.json {
                image.json()
            } else {
                line(image)
            };
            print(out, &line)?;
        }
        left = left.saturating_sub(page.items.len());
        let Some(next) = page.next else {
            break;
        };
        if left == 0 {
            let next: String = next.chars().filter(|char| !char.is_control()).collect();
            tell(&format!(
                "More images follow. Within 10 minutes: pixtoll list --after {next}"
            ));
            break;
        }
        after = Some(next);
    }
    if is_empty {
        tell("This wallet has no images at this server.");
    }
    Ok(())
}

/// An image as one line: its link, and what it is.
fn line(image: &Facts) -> String {
    let text = |pointer| image.text(pointer).unwrap_or_else(|| "?".to_owned());
    let mut line = format!(
        "{}  {}  {}  {}  uploaded {}  {}",
        text("/url"),
        text("/tier"),
        text("/contentType"),
        size(image),
        text("/createdAt"),
        end(image),
    );
    if image.text("/visibility").as_deref() == Some("private") {
        line.push_str("  private");
    }
    line
}

/// Width, height and bytes of an image, in words.
pub(super) fn size(image: &Facts) -> String {
    let number = |pointer| {
        let number = image.number(pointer);
        number.map_or_else(|| "?".to_owned(), |number| number.to_string())
    };
    format!(
        "{}×{}  {} bytes",
        number("/width"),
        number("/height"),
        number("/sizeBytes")
    )
}

/// Until when an image is kept, in words.
pub(super) fn end(image: &Facts) -> String {
    match image.text("/expiresAt") {
        Some(time) => format!("until {time}"),
        None => "until the service ends".to_owned(),
    }
}
