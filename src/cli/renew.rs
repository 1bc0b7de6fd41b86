//! `pixtoll renew`: pays for more time of images, and prints their links.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::Args;
use url::Url;

use super::console::{Console, Exit, PayArgs, in_words, line, spinner, tier};
use crate::client::{Client, Done, Errand, Failure, Kept, Order, World};
use crate::clock::Clock;
use crate::ids::ImageId;
use crate::random::Randomness;
use crate::tiers::TierName;

const AFTER_HELP: &str = "\
Anyone may pay for more time; the image stays its uploader's. Payment and exit codes are those of
pixtoll upload: a payment is written down before it is sent, and the same command run again after a
failure presents the same payment. After a success it pays anew.";

/// Pay for more time of images
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RenewArgs {
    /// Images: their ids, or their links
    #[arg(required = true, value_name = "IMAGE", value_parser = image)]
    images: Vec<ImageId>,
    /// Tier whose time they get, and which then is theirs; without it, each its own
    #[arg(long, value_parser = tier)]
    tier: Option<TierName>,
    /// Where it goes, and who pays.
    #[command(flatten)]
    pay: PayArgs,
}

/// Runs the command, as [`super::upload::run`] does.
pub async fn run(
    args: &RenewArgs,
    env: &BTreeMap<String, String>,
    clock: &dyn Clock,
    randomness: &Randomness,
    out: &mut dyn Write,
) -> Exit {
    let world = World {
        clock,
        randomness,
        pause: &|time| Box::pin(tokio::time::sleep(time)),
    };
    let mut console = Console {
        out,
        err: &mut io::stderr(),
        bar: spinner(),
    };
    run_in(args, env, world, &mut console).await
}

async fn run_in(
    args: &RenewArgs,
    env: &BTreeMap<String, String>,
    world: World<'_>,
    console: &mut Console<'_>,
) -> Exit {
    let mut exit = Exit::Uploaded;
    let mut done = Vec::new();
    for image in &args.images {
        console.bar.set_prefix(image.to_string());
        match renew(args, image, env, world, console).await {
            Ok(renewed) => done.extend(renewed),
            Err(failure) => {
                console.say(&format!("{image}: {failure}"));
                exit = Exit::of(&failure);
                // A payment in doubt is no time for another.
                break;
            }
        }
    }
    // Only now, as with uploads: a run that stopped pays none of them twice.
    if exit == Exit::Uploaded {
        for (client, renewed) in &done {
            if let Err(failure) = client.conclude(renewed) {
                console.say(&failure.to_string());
                exit = Exit::of(&failure);
            }
        }
    }
    console.bar.finish_and_clear();
    exit
}

/// Renews one image and prints its link; `None` on a dry run.
async fn renew<'a>(
    args: &RenewArgs,
    image: &ImageId,
    env: &BTreeMap<String, String>,
    world: World<'a>,
    console: &mut Console<'_>,
) -> Result<Option<(Client<'a>, Done)>, Failure> {
    let order = Order {
        server: args.pay.server.clone(),
        errand: Errand::Renew {
            image: image.clone(),
            tier: args.tier.clone(),
        },
        cap: args.pay.max_price,
        wallet: args.pay.wallet.clone(),
        kept: Kept::Presented,
    };
    let client = Client::new(order, env, world)?;
    if args.pay.dry_run {
        let price = client
            .price(b"", &mut |notice| console.tell(notice))
            .await?;
        console.say(&format!("{image}: {}", in_words(&price)));
        return Ok(None);
    }
    let done = client.renew(&mut |notice| console.tell(notice)).await?;
    console
        .link(&line(&done.uploaded, args.pay.format))
        .map_err(|error| {
            Failure::Unexpected(format!(
                "It is renewed, but its link could not be written: {error}."
            ))
        })?;
    Ok(Some((client, done)))
}

/// An image by its id, or by a link whose last part is its id and maybe an extension.
fn image(text: &str) -> Result<ImageId, String> {
    let path = Url::parse(text).map_or_else(|_| text.to_owned(), |url| url.path().to_owned());
    let name = path.rsplit('/').next().unwrap_or_default();
    let id = name.split('.').next().unwrap_or_default();
    ImageId::parse(id).ok_or_else(|| {
        "an image's id has 12 letters and digits, as in https://i.example.com/k3v9Qw2mZr7T.png"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_its_id_or_any_of_its_links() {
        for text in [
            "k3v9Qw2mZr7T",
            "k3v9Qw2mZr7T.png",
            "https://i.example.com/k3v9Qw2mZr7T.png",
            "http://127.0.0.1:4020/i/k3v9Qw2mZr7T",
            "https://example.com/view/k3v9Qw2mZr7T?x=1#y",
        ] {
            assert_eq!(image(text).unwrap().as_str(), "k3v9Qw2mZr7T", "{text}");
        }
        for text in [
            "",
            "k3v9Qw2mZr7",
            "https://i.example.com/",
            "../k3v9Qw2mZr7T!",
        ] {
            assert!(image(text).is_err(), "{text}");
        }
    }
}
