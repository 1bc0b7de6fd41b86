//! Several files on one payment, so that the payer signs once. Files that this program already sees to be too large
//! or no images are left out of the shared payment.

use std::collections::{BTreeMap, BTreeSet};

use super::UploadArgs;
use super::sources::Item;
use crate::cli::console::{Console, in_words};
use crate::client::{Bundle, Client, Failure, Image, Order, Purpose, Uploaded, World};
use crate::images::format::PixelLimits;
use crate::images::{self, Metadata};
use crate::keys::secrets::sha256_hex;

/// The most uploads that a server sells on one payment.
const MOST: usize = 100;

/// The files of a run, grouped by payment.
pub(super) struct Bundles<'a> {
    /// For each file the index of its bundle; `None` for a file with a payment of its own.
    plan: Vec<Option<usize>>,
    bundles: Vec<Wanted<'a>>,
}

/// A bundle: files that share one payment.
struct Wanted<'a> {
    client: Client<'a>,
    /// The SHA-256 hashes of the files, one after the other. They identify the payment of an earlier run.
    content: Vec<u8>,
    files: usize,
    bought: Option<Bundle>,
    /// The SHA-256 hashes of the files that are uploaded.
    uploaded: BTreeSet<String>,
}

/// Whether a run continues after a file that was not uploaded.
pub(super) enum Stop {
    /// The next files are tried.
    GoOn(Failure),
    /// The run ends: the next files would fail as well, or the outcome of a payment is unknown.
    Here(Failure),
}

impl<'a> Bundles<'a> {
    /// Groups the files: those that are images within the server's size limit for the tier share payments, up to
    /// [`MOST`] each. A free tier, a single file or a server without a price table gives no bundles.
    pub(super) async fn plan(
        args: &UploadArgs,
        items: &[Item],
        env: &BTreeMap<String, String>,
        world: World<'a>,
        single: &Client<'_>,
    ) -> Result<Self, Failure> {
        let mut this = Self {
            plan: vec![None; items.len()],
            bundles: Vec::new(),
        };
        if items.len() < 2 || single.is_free() {
            return Ok(this);
        }
        // Where the price depends on the size, uploads that are bought together cost what the largest
        // image costs. Each file then has a payment of its own.
        let Some(tier) = single
            .tier(&args.tier)
            .await
            .filter(|tier| !tier.is_by_size)
        else {
            return Ok(this);
        };
        // Files with the same bytes are one upload.
        let mut hashes: Vec<String> = Vec::new();
        let mut places = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if let Some(hash) = hash_of_image(item, tier.max_bytes)? {
                let known = hashes.iter().position(|known| *known == hash);
                places.push((index, known.unwrap_or(hashes.len())));
                if known.is_none() {
                    hashes.push(hash);
                }
            }
        }
        for (number, together) in hashes.chunks(MOST).enumerate() {
            if together.len() < 2 {
                continue;
            }
            for (index, _) in places.iter().filter(|(_, at)| at / MOST == number) {
                if let Some(place) = this.plan.get_mut(*index) {
                    *place = Some(this.bundles.len());
                }
            }
            let order = order(args, together.len())?;
            this.bundles.push(Wanted {
                client: Client::new(order, env, world)?.shown_to(&args.audience()),
                content: together.concat().into_bytes(),
                files: together.len(),
                bought: None,
                uploaded: BTreeSet::new(),
            });
        }
        Ok(this)
    }

    /// Uploads a file that belongs to a bundle. `None` when the file has a payment of its own.
    pub(super) async fn upload(
        &mut self,
        index: usize,
        image: &Image,
        console: &mut Console<'_>,
    ) -> Option<Result<Uploaded, Stop>> {
        let place = self.plan.get(index).copied().flatten()?;
        let wanted = self.bundles.get_mut(place)?;
        Some(wanted.upload(image, console).await)
    }

    /// Prints the price of a file's bundle, once per bundle. `false` when the file has a payment of its own.
    pub(super) async fn price(
        &mut self,
        index: usize,
        console: &mut Console<'_>,
    ) -> Result<bool, Failure> {
        let Some(place) = self.plan.get(index).copied().flatten() else {
            return Ok(false);
        };
        let is_first = self.plan.iter().position(|at| *at == Some(place)) == Some(index);
        if let Some(wanted) = self.bundles.get(place).filter(|_| is_first) {
            let price = wanted
                .client
                .price(&wanted.content, &mut |notice| console.tell(notice))
                .await?;
            console.say(&format!(
                "{} files together: {}",
                wanted.files,
                in_words(&price)
            ));
        }
        Ok(true)
    }

    /// Deletes the saved payments of bundles that are uploaded completely. The others stay for the next run of the
    /// same command.
    pub(super) fn end(&self) -> Result<(), Failure> {
        for wanted in &self.bundles {
            if let Some(bundle) = &wanted.bought
                && wanted.uploaded.len() == wanted.files
            {
                wanted.client.end(bundle)?;
            }
        }
        Ok(())
    }
}

impl Wanted<'_> {
    async fn upload(&mut self, image: &Image, console: &mut Console<'_>) -> Result<Uploaded, Stop> {
        // Sending the same payment again gives a new token for one that has ended, at no charge.
        for _ in 0..2 {
            let bundle = match self.bought.take() {
                Some(bundle) => bundle,
                None => self
                    .client
                    .buy_uploads(&self.content, &mut |notice| console.tell(notice))
                    .await
                    .map_err(Stop::Here)?,
            };
            let sent = self
                .client
                .upload_with(&bundle.token, image, &mut |notice| console.tell(notice))
                .await;
            match sent {
                Ok(Some(uploaded)) => {
                    self.bought = Some(bundle);
                    self.uploaded.insert(sha256_hex(&image.bytes));
                    return Ok(uploaded);
                }
                Ok(None) => {}
                Err(failure) => {
                    self.bought = Some(bundle);
                    return Err(unfinished(failure));
                }
            }
        }
        Err(Stop::Here(Failure::Unfinished(
            "The server's upload token expired twice before it could be used.".to_owned(),
        )))
    }
}

/// Turns a failure into one of an upload that is paid for already.
fn unfinished(failure: Failure) -> Stop {
    match failure {
        Failure::FileRefused(said) => Stop::GoOn(Failure::Unfinished(said)),
        Failure::Unexpected(said) | Failure::Usage(said) | Failure::Unavailable(said) => {
            Stop::Here(Failure::Unfinished(said))
        }
        other => Stop::Here(other),
    }
}

/// The order for a bundle: `--max-price` applies to each image, so the cap is multiplied by their number.
fn order(args: &UploadArgs, images: usize) -> Result<Order, Failure> {
    let times = u64::try_from(images).unwrap_or(u64::MAX);
    let cap = args.pay.max_price.checked_mul(times);
    Ok(Order {
        server: args.pay.server.clone(),
        purpose: Purpose::Tokens {
            tier: args.tier.clone(),
            images,
        },
        cap: cap.ok_or_else(|| {
            Failure::Usage(format!(
                "--max-price times {images} files is too large an amount: give a lower --max-price."
            ))
        })?,
        wallet: args.pay.wallet.clone(),
    })
}

/// The SHA-256 of a file that is an image of at most `limit` bytes; `None` for any other file.
fn hash_of_image(item: &Item, limit: u64) -> Result<Option<String>, Failure> {
    let bytes = item.read()?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit);
    // The server's limits on pixels are unknown here.
    let limits = PixelLimits {
        max_pixels: u64::MAX,
        max_total_pixels: u64::MAX,
    };
    let is_good = fits && images::examine(&bytes, Metadata::Remove, limits).is_ok();
    Ok(is_good.then(|| sha256_hex(&bytes)))
}
