//! Rows as the database stores them, and their conversion to domain types. A value that doesn't
//! parse is [`DbError::Corrupt`].

use std::str::FromStr;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};

use super::{DbError, from_row};
use crate::evm::exact::Authorization;
use crate::model::client_kind::ClientKind;
use crate::model::ids::ImageId;
use crate::model::image::{Format, Image, ImageState};
use crate::model::look::Look;
use crate::model::metadata::Metadata;
use crate::model::owner::Owner;
use crate::model::payment::{Grant, Payment, PaymentId, PaymentState, Product, ProductKind, Terms};
use crate::model::refresh::Refresh;
use crate::model::visibility::Visibility;
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks;
use crate::pricing::tiers::Keep;
use crate::system::clock::Timestamp;
use crate::x402::wire::{Offer, Version};

/// The columns of a payment, in the order in which statements name them.
macro_rules! payment_columns {
    () => {
        "id, network, payer, nonce, digest, signature, valid_after, valid_before, state, attempt, \
         lease_until_ms, kind, tier, uses, target, amount, pay_to, max_timeout_seconds, keep_ms, max_bytes, \
         confirmations, x402_version, request, body_sha256, image_id, reason, first_seen_ms, \
         first_block, transaction_hash, settled_ms, next_look_ms, looks, \
         missing_reason, voided_ms, days, client"
    };
}

/// Runs a query for payments and converts each row separately, so that a row that can't be read
/// doesn't hide others. Yields a `Vec<Result<Payment, Unreadable>>`, or the same of a type that
/// contains a payment.
macro_rules! fetch_payments {
    ($db:expr, |$pool:ident| $query:expr) => {
        $crate::db::rows::fetch_payments!($db, PaymentRow as Payment, |$pool| $query)
    };
    ($db:expr, $row:ty as $read:ty, |$pool:ident| $query:expr) => {{
        use sqlx::{FromRow, Row};
        let rows: Vec<(String, Result<$row, sqlx::Error>)> = read_db!($db, |$pool| {
            $query.fetch_all($pool).await.map(|rows| {
                rows.iter()
                    .map(|row| {
                        let id: String = row.try_get("id").unwrap_or_default();
                        (id, <$row>::from_row(row))
                    })
                    .collect()
            })
        })?;
        rows.into_iter()
            .map(|(id, row)| {
                row.map_err(DbError::from)
                    .and_then(<$read>::try_from)
                    .map_err(|error| $crate::db::rows::Unreadable { id, error })
            })
            .collect::<Vec<_>>()
    }};
}

/// The columns of a grant.
macro_rules! grant_columns {
    () => {
        "payment_id, kind, tier, uses, used, serial, token_hash, token_expires_ms, keep_ms, max_bytes, \
         voided_ms, days, created_ms, revoked_ms"
    };
}

/// The columns of an image.
macro_rules! image_columns {
    () => {
        "id, state, format, size_bytes, width, height, metadata, sha256, upload_sha256, tier, payment_id, \
         owner, owner_network, created_ms, published_ms, expires_ms, visibility, viewer, link_serial, \
         thumbhash, dominant, version, refresh_ms, origin, refreshed_ms, replaced_ms, first_sha256"
    };
}

pub(super) use {fetch_payments, grant_columns, image_columns, payment_columns};

/// A row that can't be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The key of the row, as it is stored.
    pub id: String,
    /// Why the row can't be read.
    pub error: DbError,
}

#[derive(Debug)]
pub(super) struct PaymentRow {
    id: String,
    network: String,
    payer: String,
    nonce: String,
    digest: String,
    signature: String,
    valid_after: String,
    valid_before: String,
    state: String,
    attempt: i64,
    lease_until_ms: i64,
    kind: String,
    tier: String,
    uses: i64,
    target: Option<String>,
    amount: String,
    pay_to: String,
    max_timeout_seconds: i64,
    keep_ms: Option<i64>,
    max_bytes: i64,
    confirmations: i64,
    x402_version: i64,
    request: String,
    body_sha256: Option<String>,
    image_id: Option<String>,
    reason: Option<String>,
    first_seen_ms: i64,
    first_block: i64,
    transaction_hash: Option<String>,
    settled_ms: Option<i64>,
    next_look_ms: Option<i64>,
    looks: i64,
    missing_reason: Option<String>,
    voided_ms: Option<i64>,
    days: Option<i64>,
    client: Option<String>,
}
from_row!(PaymentRow:
    id, network, payer, nonce, digest, signature, valid_after, valid_before, state, attempt,
    lease_until_ms, kind, tier, uses, target, amount, pay_to, max_timeout_seconds, keep_ms,
    max_bytes, confirmations, x402_version, request, body_sha256, image_id, reason, first_seen_ms,
    first_block, transaction_hash, settled_ms, next_look_ms, looks, missing_reason, voided_ms,
    days, client
);

impl TryFrom<PaymentRow> for Payment {
    type Error = DbError;

    fn try_from(row: PaymentRow) -> Result<Self, DbError> {
        let field = Field {
            table: "payments",
            row: &row.id,
        };
        let pay_to: Address = field.parse("pay_to", &row.pay_to)?;
        let amount = field.with("amount", AtomicAmount::from_atomic(&row.amount).ok())?;
        Ok(Self {
            id: field.with("id", PaymentId::parse(&row.id))?,
            authorization: Authorization {
                from: field.parse("payer", &row.payer)?,
                to: pay_to,
                value: amount.as_u256(),
                valid_after: field.parse::<U256>("valid_after", &row.valid_after)?,
                valid_before: field.parse::<U256>("valid_before", &row.valid_before)?,
                nonce: field.parse::<B256>("nonce", &row.nonce)?,
            },
            digest: field.parse("digest", &row.digest)?,
            signature: field.parse::<Bytes>("signature", &row.signature)?,
            state: field.with("state", PaymentState::parse(&row.state))?,
            attempt: row.attempt,
            lease_until: Timestamp::from_millis(row.lease_until_ms),
            product: Product {
                target: row
                    .target
                    .as_deref()
                    .map(|id| field.with("target", ImageId::parse(id)))
                    .transpose()?,
                ..field.product(&row.kind, &row.tier, row.uses, row.days)?
            },
            terms: Terms {
                offer: Offer {
                    network: field.with("network", networks::find(&row.network))?,
                    amount,
                    pay_to,
                    max_timeout_seconds: field
                        .count("max_timeout_seconds", row.max_timeout_seconds)?,
                },
                keep: field.keep(row.keep_ms)?,
                max_bytes: field.count("max_bytes", row.max_bytes)?,
                confirmations: field.count("confirmations", row.confirmations)?,
            },
            version: field.with("x402_version", Version::parse(row.x402_version))?,
            client: match &row.client {
                None => ClientKind::Other,
                Some(name) => field.with("client", ClientKind::parse(name))?,
            },
            image_id: row
                .image_id
                .as_deref()
                .map(|id| field.with("image_id", ImageId::parse(id)))
                .transpose()?,
            first_seen: Timestamp::from_millis(row.first_seen_ms),
            first_block: field.count("first_block", row.first_block)?,
            transaction: row
                .transaction_hash
                .as_deref()
                .map(|hash| field.parse("transaction_hash", hash))
                .transpose()?,
            settled_at: row.settled_ms.map(Timestamp::from_millis),
            next_look: row.next_look_ms.map(Timestamp::from_millis),
            looks: field.count("looks", row.looks)?,
            missing: row.missing_reason,
            voided_at: row.voided_ms.map(Timestamp::from_millis),
            request: row.request,
            body_sha256: row.body_sha256,
            reason: row.reason,
        })
    }
}

#[derive(Debug)]
pub(super) struct GrantRow {
    payment_id: String,
    kind: String,
    tier: String,
    uses: i64,
    used: i64,
    serial: i64,
    token_hash: String,
    token_expires_ms: i64,
    keep_ms: Option<i64>,
    max_bytes: i64,
    voided_ms: Option<i64>,
    days: Option<i64>,
    created_ms: i64,
    revoked_ms: Option<i64>,
}
from_row!(GrantRow:
    payment_id, kind, tier, uses, used, serial, token_hash, token_expires_ms, keep_ms, max_bytes,
    voided_ms, days, created_ms, revoked_ms
);

impl TryFrom<GrantRow> for Grant {
    type Error = DbError;

    fn try_from(row: GrantRow) -> Result<Self, DbError> {
        let field = Field {
            table: "grants",
            row: &row.payment_id,
        };
        Ok(Self {
            payment_id: field.with("payment_id", PaymentId::parse(&row.payment_id))?,
            product: field.product(&row.kind, &row.tier, row.uses, row.days)?,
            used: field.count("used", row.used)?,
            serial: field.count("serial", row.serial)?,
            token_hash: row.token_hash,
            token_expires: Timestamp::from_millis(row.token_expires_ms),
            created_at: Timestamp::from_millis(row.created_ms),
            revoked_at: row.revoked_ms.map(Timestamp::from_millis),
            keep: field.keep(row.keep_ms)?,
            max_bytes: field.count("max_bytes", row.max_bytes)?,
            is_void: row.voided_ms.is_some(),
        })
    }
}

#[derive(Debug)]
pub(super) struct ImageRow {
    id: String,
    state: String,
    format: String,
    size_bytes: i64,
    width: i64,
    height: i64,
    metadata: Option<String>,
    sha256: String,
    upload_sha256: String,
    tier: String,
    payment_id: Option<String>,
    owner: Option<String>,
    owner_network: Option<String>,
    created_ms: i64,
    published_ms: Option<i64>,
    expires_ms: Option<i64>,
    visibility: String,
    viewer: Option<String>,
    link_serial: i64,
    thumbhash: Option<String>,
    dominant: Option<String>,
    version: i64,
    refresh_ms: Option<i64>,
    origin: Option<String>,
    refreshed_ms: Option<i64>,
    replaced_ms: Option<i64>,
    first_sha256: Option<String>,
}
from_row!(ImageRow:
    id, state, format, size_bytes, width, height, metadata, sha256, upload_sha256, tier, payment_id,
    owner, owner_network, created_ms, published_ms, expires_ms, visibility, viewer, link_serial,
    thumbhash, dominant, version, refresh_ms, origin, refreshed_ms, replaced_ms, first_sha256
);

impl TryFrom<ImageRow> for Image {
    type Error = DbError;

    fn try_from(row: ImageRow) -> Result<Self, DbError> {
        let field = Field {
            table: "images",
            row: &row.id,
        };
        Ok(Self {
            id: field.with("id", ImageId::parse(&row.id))?,
            state: field.with("state", ImageState::parse(&row.state))?,
            format: field.with("format", Format::parse(&row.format))?,
            size_bytes: field.count("size_bytes", row.size_bytes)?,
            width: field.count("width", row.width)?,
            height: field.count("height", row.height)?,
            metadata: row
                .metadata
                .as_deref()
                .map(|text| field.with("metadata", Metadata::parse(text)))
                .transpose()?,
            look: match (&row.thumbhash, &row.dominant) {
                (Some(thumbhash), Some(dominant)) => {
                    Some(field.with("thumbhash", Look::parse(thumbhash, dominant))?)
                }
                _ => None,
            },
            payment_id: row
                .payment_id
                .as_deref()
                .map(|id| field.with("payment_id", PaymentId::parse(id)))
                .transpose()?,
            owner: match &row.owner {
                None => None,
                Some(wallet) => Some(Owner {
                    wallet: field.parse("owner", wallet)?,
                    network: row.owner_network.clone(),
                }),
            },
            created_at: Timestamp::from_millis(row.created_ms),
            published_at: row.published_ms.map(Timestamp::from_millis),
            expires_at: row.expires_ms.map(Timestamp::from_millis),
            visibility: field.visibility(&row.visibility, row.viewer.as_deref())?,
            link_serial: field.count("link_serial", row.link_serial)?,
            version: field.count("version", row.version)?,
            refresh: match (row.refresh_ms, row.origin) {
                (Some(every), Some(origin)) => Some(Refresh {
                    every: Duration::from_millis(field.count("refresh_ms", every)?),
                    origin,
                    checked_at: row.refreshed_ms.map(Timestamp::from_millis),
                    replaced_at: row.replaced_ms.map(Timestamp::from_millis),
                    first_sha256: row.first_sha256,
                }),
                _ => None,
            },
            sha256: row.sha256,
            upload_sha256: row.upload_sha256,
            tier: row.tier,
        })
    }
}

/// Reads the values of one row. An error names the row when a value doesn't parse.
pub(super) struct Field<'a> {
    pub(super) table: &'static str,
    pub(super) row: &'a str,
}

impl Field<'_> {
    pub(super) fn with<T>(&self, column: &'static str, value: Option<T>) -> Result<T, DbError> {
        value.ok_or_else(|| DbError::Corrupt {
            table: self.table,
            column,
            row: self.row.to_owned(),
        })
    }

    fn parse<T: FromStr>(&self, column: &'static str, text: &str) -> Result<T, DbError> {
        self.with(column, text.parse().ok())
    }

    pub(super) fn count<T: TryFrom<i64>>(
        &self,
        column: &'static str,
        value: i64,
    ) -> Result<T, DbError> {
        self.with(column, T::try_from(value).ok())
    }

    pub(super) fn keep(&self, millis: Option<i64>) -> Result<Keep, DbError> {
        match millis {
            None => Ok(Keep::Forever),
            Some(millis) => Ok(Keep::For(Duration::from_millis(
                self.count("keep_ms", millis)?,
            ))),
        }
    }

    fn visibility(&self, name: &str, viewer: Option<&str>) -> Result<Visibility, DbError> {
        let viewer = viewer
            .map(|wallet| self.parse("viewer", wallet))
            .transpose()?;
        self.with("visibility", Visibility::parse(name, viewer))
    }

    pub(super) fn product(
        &self,
        kind: &str,
        tier: &str,
        uses: i64,
        days: Option<i64>,
    ) -> Result<Product, DbError> {
        Ok(Product {
            kind: self.with("kind", ProductKind::parse(kind))?,
            tier: tier.to_owned(),
            uses: self.count("uses", uses)?,
            target: None,
            days: days.map(|days| self.count("days", days)).transpose()?,
        })
    }
}

/// Converts a count to the database's type. A count beyond its range, which doesn't occur,
/// saturates.
pub(super) fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// A retention time in milliseconds; `None`: for ever.
pub(super) fn keep_millis(keep: Keep) -> Option<i64> {
    match keep {
        Keep::Forever => None,
        Keep::For(duration) => Some(signed(duration.as_millis())),
    }
}
