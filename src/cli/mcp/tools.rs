//! The tools of `pixtoll mcp`. They call the client behind the commands.

use bytes::Bytes;
use rmcp::model::JsonObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use super::definitions::{
    CHECK_IMAGE, CREATE_UPLOAD_LINK, DELETE_IMAGE, IMAGE_INFO, LIST_MY_IMAGES, LIST_TIERS,
    RENEW_IMAGE, UPLOAD_IMAGE,
};
use super::files::refuse_no_image;
use super::server::{Shared, tidy};
use crate::client::account::Account;
use crate::client::clipboard::Clipboard;
use crate::client::facts::Facts;
use crate::client::fetch::{Bounds, fetch};
use crate::client::kept::KeptTokens;
use crate::client::{
    Audience, Client, Done, Failure, Image, Notice, Order, Purpose, World, questions,
};
use crate::mcp::{arguments, plain};
use crate::model::ids::ImageId;
use crate::pricing::tiers::TierName;
use crate::system::clock::SystemClock;
use crate::system::random::Randomness;

/// The largest image that is read; no server accepts a larger one.
const MAX_IMAGE_BYTES: u64 = 64 * 1024 * 1024;
/// For how many days a link is valid, and for how many uploads, if the call names no number.
const USUAL_DAYS: u32 = 30;
const USUAL_PAGE: usize = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoArguments {}

/// Where an image comes from: exactly one of these.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Source {
    path: Option<String>,
    url: Option<String>,
    #[serde(default)]
    clipboard: bool,
    tier: Option<String>,
    #[serde(default)]
    private: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkArguments {
    images: Option<u8>,
    days: Option<u32>,
    tier: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageArguments {
    image: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewArguments {
    image: String,
    tier: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListArguments {
    limit: Option<u8>,
    after: Option<String>,
}

impl Shared {
    /// Runs a tool that exists.
    pub(super) async fn run(&self, name: &str, sent: Option<JsonObject>) -> Result<Value, Failure> {
        match name {
            LIST_TIERS => {
                let NoArguments {} = read(sent)?;
                shown(&questions::tiers(&self.args.server, &self.env).await?)
            }
            CHECK_IMAGE => self.check(&read(sent)?).await,
            IMAGE_INFO => self.info(&read(sent)?).await,
            UPLOAD_IMAGE => self.upload(&read(sent)?).await,
            CREATE_UPLOAD_LINK => self.link(&read(sent)?).await,
            LIST_MY_IMAGES => self.list(&read(sent)?).await,
            RENEW_IMAGE => self.renew(&read(sent)?).await,
            DELETE_IMAGE => self.delete(&read(sent)?).await,
            // The caller has looked the tool up.
            other => Err(Failure::Usage(format!(
                "There is no tool \"{}\".",
                plain(other, 40)
            ))),
        }
    }

    async fn check(&self, sent: &Source) -> Result<Value, Failure> {
        if sent.tier.is_some() || sent.private {
            return Err(Failure::Usage(
                "check_image takes path, url or clipboard alone: its answer is about every tier."
                    .to_owned(),
            ));
        }
        let image = self.image(sent, MAX_IMAGE_BYTES).await?;
        shown(&questions::check(&self.args.server, &image, &self.env).await?)
    }

    async fn upload(&self, sent: &Source) -> Result<Value, Failure> {
        let tier = tier(sent.tier.as_deref())?;
        let randomness = Randomness::system();
        let audience = if sent.private {
            Audience::Private { viewer: None }
        } else {
            Audience::Public
        };
        let client = self.client(Purpose::Upload(tier.clone()), &randomness)?;
        let client = client.shown_to(&audience);
        let facts = client.tier(&tier).await;
        let most = facts.map_or(MAX_IMAGE_BYTES, |facts| {
            facts.max_bytes.min(MAX_IMAGE_BYTES)
        });
        let image = self.image(sent, most).await?;
        let done = client.upload(&image, &mut log).await?;
        if let (Some(kept), Some((image, token))) = (self.kept(), done.uploaded.delete_token())
            && let Err(failure) = kept.keep(&image, &token)
        {
            // The image is uploaded and may be paid for, so the result is returned all the same.
            tracing::warn!(%failure, "the delete token of an image could not be kept");
        }
        self.finish(&client, done)
    }

    async fn link(&self, sent: &LinkArguments) -> Result<Value, Failure> {
        let purpose = Purpose::Link {
            tier: tier(sent.tier.as_deref())?,
            images: usize::from(sent.images.unwrap_or(1)),
            days: sent.days.unwrap_or(USUAL_DAYS),
        };
        let randomness = Randomness::system();
        let client = self.client(purpose, &randomness)?;
        let done = client.issue_link(&mut log).await?;
        self.finish(&client, done)
    }

    async fn renew(&self, sent: &RenewArguments) -> Result<Value, Failure> {
        let named = sent.tier.as_deref();
        let purpose = Purpose::Renew {
            image: self.image_id(&sent.image).await?,
            tier: named.map(|name| tier(Some(name))).transpose()?,
        };
        let randomness = Randomness::system();
        let client = self.client(purpose, &randomness)?;
        let client = match Url::parse(&sent.image) {
            Ok(link) => client.proven_by(&link),
            Err(_) => client,
        };
        let done = client.renew(&mut log).await?;
        self.finish(&client, done)
    }

    async fn info(&self, sent: &ImageArguments) -> Result<Value, Failure> {
        let id = self.image_id(&sent.image).await?;
        let link = Url::parse(&sent.image).ok();
        let proof = link.as_ref().and_then(Url::query);
        // An image that was uploaded from here is shown by its kept delete token.
        let token = match self.kept() {
            Some(kept) if proof.is_none() => kept.token(&id)?,
            _ => None,
        };
        let facts = self.account()?.image(&id, proof, token.as_deref()).await?;
        shown(&facts)
    }

    async fn list(&self, sent: &ListArguments) -> Result<Value, Failure> {
        let limit = sent.limit.map_or(USUAL_PAGE, usize::from);
        let page = self.account()?.images(limit, sent.after.as_deref()).await?;
        let images: Result<Vec<Value>, Failure> = page.items.iter().map(shown).collect();
        Ok(json!({
            "images": images?,
            // A cursor is passed back as it is, so it isn't cut; it has no room for prose.
            "next": page.next.filter(|next| next.bytes().all(|byte| byte.is_ascii_graphic())),
        }))
    }

    async fn delete(&self, sent: &ImageArguments) -> Result<Value, Failure> {
        let id = self.image_id(&sent.image).await?;
        let account = self.account()?;
        let kept = self.kept();
        let token = match &kept {
            Some(kept) => kept.token(&id)?,
            None => None,
        };
        if let Some(token) = token {
            account.delete_with(&id, &token).await?;
        } else {
            let one = std::slice::from_ref(&id);
            account.delete(one, &mut |_| Ok(())).await?;
        }
        if let Some(kept) = &kept {
            kept.forget(&id)?;
        }
        Ok(json!({"deleted": [id.as_str()]}))
    }

    /// The image that a call names, with at most `most` bytes.
    async fn image(&self, sent: &Source, most: u64) -> Result<Image, Failure> {
        let named = [sent.path.is_some(), sent.url.is_some(), sent.clipboard];
        let count = named.iter().filter(|named| **named).count();
        if count != 1 {
            return Err(Failure::Usage(format!(
                "The call names {count} sources, and an image has one. Send exactly one of path, url and clipboard: true."
            )));
        }
        let bytes: Bytes = match (&sent.path, &sent.url) {
            (Some(path), _) => self.roots.read(path, most)?,
            (None, Some(url)) => {
                let bytes = self.fetch(url, most).await?;
                not_an_image(&bytes, "The content of the address")?;
                bytes
            }
            (None, None) => {
                let bytes = Clipboard::find(&self.env)?.image(most).await?;
                not_an_image(&bytes, "The content of the clipboard")?;
                bytes
            }
        };
        Ok(Image {
            bytes,
            content_type: "image/unknown",
        })
    }

    /// Fetches a public https address.
    async fn fetch(&self, url: &str, most: u64) -> Result<Bytes, Failure> {
        let parsed = Url::parse(url).ok().filter(|url| url.scheme() == "https");
        let url = parsed.ok_or_else(|| {
            Failure::Usage(format!(
                "url is \"{}\", and only https addresses are fetched. Send one, or the path of a file.",
                plain(url, 100)
            ))
        })?;
        let bounds = Bounds {
            most,
            set_by: "the limit here",
            local: false,
        };
        fetch(&url, bounds, &self.env).await
    }

    /// A client for a paid or free operation, within both limits.
    fn client<'a>(
        &'a self,
        purpose: Purpose,
        randomness: &'a Randomness,
    ) -> Result<Client<'a>, Failure> {
        let order = Order {
            server: self.args.server.clone(),
            purpose,
            cap: self.args.max_per_call,
            wallet: self.args.wallet().map(std::path::Path::to_owned),
        };
        let world = World {
            clock: &SystemClock,
            randomness,
            pause: &|time| Box::pin(tokio::time::sleep(time)),
        };
        let client = Client::new(order, &self.env, world)?;
        match &self.budget {
            Some(budget) => Ok(client.within(budget)),
            None if client.is_free() => Ok(client),
            None => Err(Failure::Usage(
                "Payments are counted in a file before they are sent, but no directory for it is known: the user has to set \
                 HOME or XDG_STATE_HOME to an absolute path."
                    .to_owned(),
            )),
        }
    }

    /// The result of an operation that succeeded. Its saved payment is kept for a while.
    fn finish(&self, client: &Client<'_>, done: Done) -> Result<Value, Failure> {
        let value = parsed(&done.uploaded.json)?;
        if let Some(held) = client.hold(done) {
            self.hold(held);
        }
        Ok(tidy(&value))
    }

    /// The id in an argument. A link of another server is refused.
    async fn image_id(&self, text: &str) -> Result<ImageId, Failure> {
        let id = image_id(text)?;
        if let Ok(link) = Url::parse(text) {
            self.account()?.check_link(&link).await?;
        }
        Ok(id)
    }

    fn account(&self) -> Result<Account, Failure> {
        Account::new(&self.args.server, self.args.wallet(), &self.env)
    }

    fn kept(&self) -> Option<KeptTokens> {
        KeptTokens::find(&self.args.server, &self.env)
    }
}

fn read<T: DeserializeOwned>(sent: Option<JsonObject>) -> Result<T, Failure> {
    arguments(sent).map_err(Failure::Usage)
}

/// Notes a step of the client on standard error.
fn log(notice: Notice) {
    match notice {
        Notice::Step(text) => tracing::debug!("{text}"),
        Notice::Fact(text) => tracing::info!("{text}"),
    }
}

fn parsed(json: &str) -> Result<Value, Failure> {
    serde_json::from_str(json).map_err(|_| {
        Failure::Unexpected("The server's response is no JSON, so it can't be shown.".to_owned())
    })
}

/// The server's facts as data.
fn shown(facts: &Facts) -> Result<Value, Failure> {
    Ok(tidy(&parsed(&facts.json())?))
}

fn not_an_image(bytes: &[u8], source: &str) -> Result<(), Failure> {
    refuse_no_image(bytes).map_err(|what| Failure::Usage(format!("{source} {what}")))
}

fn tier(name: Option<&str>) -> Result<TierName, Failure> {
    let name = name.unwrap_or("free");
    TierName::parse(name).map_err(|_| {
        Failure::Usage(format!(
            "tier is \"{}\", which cannot be the name of a tier. Send a name that list_tiers returns.",
            plain(name, 40)
        ))
    })
}

fn image_id(text: &str) -> Result<ImageId, Failure> {
    ImageId::in_link(text).ok_or_else(|| {
        Failure::Usage(format!(
            "image is \"{}\", which is neither an image id nor a link of an image. Send the 12 letters and digits of the \
             id, or the link.",
            plain(text, 80)
        ))
    })
}
