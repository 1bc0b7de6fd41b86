//! Several files on one payment. Who wants many images of a tier signs once, and a file that this program can
//! see to be refused is not among those that are paid for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{UploadArgs, read};
use crate::cli::console::{Console, in_words};
use crate::client::{Bundle, Client, Errand, Failure, Image, Order, Uploaded, World};
use crate::images::format::PixelLimits;
use crate::images::{self, Metadata};
use crate::secrets::sha256_hex;

/// The most uploads that a server sells on one payment.
const MOST: usize = 100;

/// Which files are bought together.
pub(super) struct Bundles<'a> {
    /// For each file its bundle; `None`: it is bought by itself.
    plan: Vec<Option<usize>>,
    bundles: Vec<Wanted<'a>>,
}

/// Files that are bought together.
struct Wanted<'a> {
    client: Client<'a>,
    /// The hashes of their bytes: by them an earlier run's payment is found.
    content: Vec<u8>,
    files: usize,
    bought: Option<Bundle>,
    /// The hashes of what was uploaded.
    uploaded: BTreeSet<String>,
}

/// What becomes of the files after one that was not uploaded.
pub(super) enum Stop {
    /// They have a try of their own.
    GoOn(Failure),
    /// They would fare no better.
    Here(Failure),
}

impl<'a> Bundles<'a> {
    /// Decides which files are bought together: those that are images, and small enough by the server's table.
    pub(super) async fn plan(
        args: &UploadArgs,
        env: &BTreeMap<String, String>,
        world: World<'a>,
        single: &Client<'_>,
    ) -> Result<Self, Failure> {
        let mut this = Self {
            plan: vec![None; args.files.len()],
            bundles: Vec::new(),
        };
        if args.files.len() < 2 || single.is_free() {
            return Ok(this);
        }
        let Some(limit) = single.max_bytes(&args.tier).await else {
            return Ok(this);
        };
        // Files of the same bytes are one upload.
        let mut hashes: Vec<String> = Vec::new();
        let mut places = Vec::new();
        for (index, file) in args.files.iter().enumerate() {
            if let Some(hash) = hash_of_image(file, limit)? {
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
                client: Client::new(order, env, world)?,
                content: together.concat().into_bytes(),
                files: together.len(),
                bought: None,
                uploaded: BTreeSet::new(),
            });
        }
        Ok(this)
    }

    /// Uploads a file that is bought with others; `None`: it isn't.
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

    /// Says what would be paid for a file's bundle, once; `false`: the file is bought by itself.
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

    /// Ends what was bought and used up. The rest is kept for the same command.
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
        // A token that has ended is bought again with the same payment, which costs nothing.
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
            "The server's token ended before it was used.".to_owned(),
        )))
    }
}

/// What went wrong with an upload that is paid for already.
fn unfinished(failure: Failure) -> Stop {
    match failure {
        Failure::FileRefused(said) => Stop::GoOn(Failure::Unfinished(said)),
        Failure::Unexpected(said) | Failure::Usage(said) | Failure::Unavailable(said) => {
            Stop::Here(Failure::Unfinished(said))
        }
        other => Stop::Here(other),
    }
}

/// So many at so many times the price.
fn order(args: &UploadArgs, images: usize) -> Result<Order, Failure> {
    let times = u64::try_from(images).unwrap_or(u64::MAX);
    let cap = args.pay.max_price.checked_mul(times);
    Ok(Order {
        server: args.pay.server.clone(),
        errand: Errand::Tokens {
            tier: args.tier.clone(),
            images,
        },
        cap: cap.ok_or_else(|| Failure::Usage("--max-price is too high.".to_owned()))?,
        wallet: args.pay.wallet.clone(),
        kept: args.kept(),
    })
}

/// SHA-256 of the file's bytes, when they are an image that is no larger.
fn hash_of_image(file: &Path, limit: u64) -> Result<Option<String>, Failure> {
    let bytes = read(file)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit);
    // The server's limits on pixels are not known here.
    let limits = PixelLimits {
        max_pixels: u64::MAX,
        max_total_pixels: u64::MAX,
    };
    let is_good = fits && images::examine(&bytes, Metadata::Remove, limits).is_ok();
    Ok(is_good.then(|| sha256_hex(&bytes)))
}
