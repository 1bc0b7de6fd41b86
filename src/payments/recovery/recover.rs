//! Recovers payments after commits were lost. Transfers to us by an authorization that the ledger
//! does not know become settled payments whose goods are owed.
//!
//! The chain does not show what was bought. The amount tells it: the tier whose price it is, or
//! the tier that the operator names.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};

use super::check::ChainSide;
use crate::catalog::{MAX_TIMEOUT_SECONDS, MOST_USES, confirmations};
use crate::db::auditor::{self, Claimant};
use crate::db::recovery::{self, Recovery};
use crate::db::settlements::NewGrant;
use crate::db::{Db, erasure, offers, payments as rows};
use crate::evm::chain::{Block, IncomingTransfer};
use crate::evm::exact::Authorization;
use crate::keys::secrets::SecretKey;
use crate::model::client_kind::ClientKind;
use crate::model::payment::{
    Event, Payment, PaymentId, PaymentState, Product, ProductKind, Terms, Transfer, UNKNOWN_DIGEST,
    transition,
};
use crate::model::token::UploadToken;
use crate::payments::ledger::FIRST_AUDIT;
use crate::pricing::money::AtomicAmount;
use crate::pricing::tiers::{Tier, TierTable};
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;
use crate::x402::wire::{Offer, Version};

/// The number of blocks that are searched before what was found is written.
const SPAN: u64 = 20_000;
/// How many blocks before the transfer's the search for its log begins, since the chain may replace
/// blocks.
const LOG_MARGIN: u64 = 1_000;
/// The assumed window of the authorization, which the chain does not show. Every window that
/// pixtoll accepts is shorter.
const WINDOW: Duration = Duration::from_hours(24);
/// Why the goods of a recovered payment are owed.
const LOST: &str = "the database had lost this payment";

/// What to do with payments that are found.
#[derive(Debug, Clone, Copy)]
pub enum Deed<'a> {
    /// Report them.
    List,
    /// Write them to the ledger, with upload tokens by this key, and report them.
    Write(&'a SecretKey),
}

/// How an amount tells what it bought.
#[derive(Debug, Clone, Copy)]
pub struct Prices<'a> {
    /// The current price table.
    pub table: &'a TierTable,
    /// The tier for transfers whose amount doesn't tell it.
    pub otherwise: Option<Otherwise<'a>>,
}

/// The operator's word on transfers whose amount doesn't tell what they bought.
#[derive(Debug, Clone, Copy)]
pub struct Otherwise<'a> {
    /// The tier that they bought.
    pub tier: &'a Tier,
    /// The transactions that this is about. Empty: all that paid at least the tier's price.
    pub transactions: &'a [B256],
}

/// A transfer by an authorization that the ledger does not know.
#[derive(Debug)]
pub enum Found {
    /// It is a payment for the product in this row.
    Payment(Box<Payment>),
    /// Its amount doesn't tell what it bought. It stays an orphan.
    Undecided {
        /// The transfer.
        receipt: IncomingTransfer,
        /// The tiers whose price it is: several, or none.
        tiers: Vec<String>,
    },
}

/// The result of a recovery on one network.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The last block that was searched.
    pub last_block: u64,
    /// The number of recovered payments.
    pub payments: u64,
    /// The number of transfers whose amount doesn't tell what they bought.
    pub undecided: u64,
    /// The number of transfers without an authorization, which bought nothing.
    pub orphans: u64,
}

/// Searches every block since the ledger's first one on this network, and calls `tell` for each
/// transfer by an authorization that the ledger doesn't know. Running it again writes nothing
/// twice.
///
/// # Errors
/// The database or the chain does not answer. Payments that were found before are written.
pub async fn recover(
    db: &Db,
    side: &ChainSide<'_>,
    prices: Prices<'_>,
    now: Timestamp,
    deed: Deed<'_>,
    mut tell: impl FnMut(Found),
) -> anyhow::Result<Recovered> {
    let head = side.chain.head().await?.number;
    let mut recovered = Recovered {
        last_block: head,
        ..Recovered::default()
    };
    let mut recipients = BTreeSet::from([side.pay_to]);
    for recipient in recovery::list_recipients(db, side.network.caip2).await? {
        recipients.insert(recipient.parse()?);
    }
    let mut first = side.first_block;
    while first <= head {
        let last = head.min(first.saturating_add(SPAN - 1));
        for recipient in &recipients {
            for receipt in side.chain.receipts(*recipient, first, last).await? {
                if is_known(db, side, *recipient, &receipt).await? {
                    continue;
                }
                let Some(nonce) = side.chain.nonce_of(&receipt).await? else {
                    recovered.orphans += 1;
                    continue;
                };
                let id = PaymentId::of(side.network, receipt.from, nonce);
                if decides_itself(db, &id).await? {
                    continue;
                }
                let (product, terms) = match bought(db, side, prices, *recipient, &receipt).await? {
                    Ok(bought) => bought,
                    Err(tiers) => {
                        recovered.undecided += 1;
                        tell(Found::Undecided { receipt, tiers });
                        continue;
                    }
                };
                let block = side.chain.block(receipt.block).await?;
                let payment = row(id, &receipt, nonce, (product, terms), &block, now);
                if let Deed::Write(key) = deed
                    && !write(db, &payment, &receipt, key, now).await?
                {
                    continue;
                }
                recovered.payments += 1;
                tell(Found::Payment(Box::new(payment)));
            }
        }
        first = last.saturating_add(1);
    }
    Ok(recovered)
}

/// Whether the transfer belongs to a settled payment, or to one whose records were erased.
async fn is_known(
    db: &Db,
    side: &ChainSide<'_>,
    recipient: Address,
    receipt: &IncomingTransfer,
) -> anyhow::Result<bool> {
    let transfer = super::incoming(side.network, recipient, receipt);
    if auditor::find_claimant(db, &transfer).await? == Claimant::Payment {
        return Ok(true);
    }
    Ok(erasure::is_erased_transfer(db, &transfer.hash()).await?)
}

/// Whether the ledger knows the payment, and finds its transfer itself.
async fn decides_itself(db: &Db, id: &PaymentId) -> anyhow::Result<bool> {
    let row = rows::find(db, id).await?;
    Ok(row.is_some()
        || erasure::find_erased(db, std::slice::from_ref(id))
            .await?
            .is_some())
}

/// What the transfer bought, by its amount: one upload of the tier whose price it is, now or in a
/// recorded offer; else several uploads of the only tier of which it is a multiple. `Err`: the tiers
/// between which the amount doesn't decide.
async fn bought(
    db: &Db,
    side: &ChainSide<'_>,
    prices: Prices<'_>,
    recipient: Address,
    receipt: &IncomingTransfer,
) -> anyhow::Result<Result<(Product, Terms), Vec<String>>> {
    let Ok(amount) = AtomicAmount::from_atomic(&receipt.value.to_string()) else {
        return Ok(Err(Vec::new()));
    };
    let offer = Offer {
        network: side.network,
        amount,
        pay_to: recipient,
        max_timeout_seconds: MAX_TIMEOUT_SECONDS,
    };
    // One upload may have been sold for any size. Several are sold for the largest.
    let paid = || prices.table.paid();
    let costing = |steps: Vec<Tier>, uses: u32| {
        let share = amount.shared_by(uses);
        let of_price = steps.into_iter().filter(|step| Some(step.price) == share);
        let sold = of_price.map(|step| sold(&offer, &step, uses));
        sold.collect::<Vec<(Product, Terms)>>()
    };
    let one = costing(paid().flat_map(Tier::steps).collect(), 1);
    let recorded = async || -> anyhow::Result<Vec<(Product, Terms)>> {
        let found = offers::find_by_amount(db, side.network.caip2, amount).await?;
        let here = |(tier, terms): (String, Terms)| {
            (
                tokens(&tier, 1),
                Terms {
                    offer: offer.clone(),
                    ..terms
                },
            )
        };
        Ok(found.into_iter().map(here).collect())
    };
    let candidates = if one.is_empty() {
        recorded().await?
    } else {
        one
    };
    let mut candidates = if candidates.is_empty() {
        let largest: Vec<Tier> = paid().map(|tier| tier.step(None)).collect();
        let several = (2..=MOST_USES).flat_map(|uses| costing(largest.clone(), uses));
        several.collect()
    } else {
        candidates
    };
    if candidates.len() == 1
        && let Some(only) = candidates.pop()
    {
        return Ok(Ok(only));
    }
    let named = prices
        .otherwise
        .filter(|otherwise| otherwise.is_about(receipt, amount));
    Ok(named
        .map(|otherwise| {
            let uses = affordable(otherwise.tier.most_price(), amount);
            sold(&offer, &otherwise.tier.step(None), uses)
        })
        .ok_or_else(|| {
            candidates
                .into_iter()
                .map(|(product, _)| product.tier)
                .collect()
        }))
}

impl Otherwise<'_> {
    /// Whether the operator's word is about this transfer. Without a list of transactions, it is
    /// about no smaller amount than the price, since anybody can send one.
    fn is_about(&self, receipt: &IncomingTransfer, amount: AtomicAmount) -> bool {
        if self.transactions.is_empty() {
            amount >= self.tier.most_price()
        } else {
            self.transactions.contains(&receipt.transaction)
        }
    }
}

/// How many uploads at this price an amount buys: at least one, and at most [`MOST_USES`].
fn affordable(price: AtomicAmount, amount: AtomicAmount) -> u32 {
    let fits = |uses: &u32| {
        price
            .checked_mul(u64::from(*uses))
            .is_some_and(|sum| sum <= amount)
    };
    (1..=MOST_USES).rev().find(fits).unwrap_or(1)
}

fn tokens(tier: &str, uses: u32) -> Product {
    Product {
        kind: ProductKind::Token,
        tier: tier.to_owned(),
        uses,
        target: None,
        days: None,
    }
}

fn sold(offer: &Offer, tier: &Tier, uses: u32) -> (Product, Terms) {
    let terms = Terms {
        offer: offer.clone(),
        keep: tier.keep,
        max_bytes: tier.max_bytes,
        confirmations: confirmations(tier.confirmations, offer.amount, uses),
    };
    (tokens(tier.name.as_str(), uses), terms)
}

/// The row of a recovered payment: what the chain shows. Digest and signature are not known.
fn row(
    id: PaymentId,
    receipt: &IncomingTransfer,
    nonce: B256,
    (product, terms): (Product, Terms),
    block: &Block,
    now: Timestamp,
) -> Payment {
    let valid_before = u64::try_from(now.plus(WINDOW).seconds()).unwrap_or(u64::MAX);
    Payment {
        id,
        authorization: Authorization {
            from: receipt.from,
            to: terms.offer.pay_to,
            value: receipt.value,
            valid_after: U256::ZERO,
            valid_before: U256::from(valid_before),
            nonce,
        },
        digest: UNKNOWN_DIGEST,
        signature: Bytes::new(),
        state: PaymentState::Received,
        attempt: 1,
        lease_until: Timestamp::from_millis(0),
        product,
        terms,
        version: Version::V2,
        client: ClientKind::Other,
        request: String::new(),
        body_sha256: None,
        image_id: None,
        reason: None,
        first_seen: block.time,
        first_block: receipt.block.saturating_sub(LOG_MARGIN),
        transaction: Some(receipt.transaction),
        settled_at: Some(block.time),
        next_look: Some(now.plus(FIRST_AUDIT)),
        looks: 0,
        missing: None,
        voided_at: None,
    }
}

/// Writes a recovered payment. `false`: the ledger has it.
async fn write(
    db: &Db,
    payment: &Payment,
    receipt: &IncomingTransfer,
    key: &SecretKey,
    now: Timestamp,
) -> anyhow::Result<bool> {
    let Some(step) = transition(payment.state, Event::ChainPaid) else {
        return Ok(false);
    };
    let recovery = Recovery {
        payment,
        facilitator: "unknown",
        step,
        transfer: Transfer {
            transaction: receipt.transaction,
            log_index: Some(receipt.log_index),
        },
        // Nobody has the first token. The payer's claim replaces it by one that is valid.
        grant: NewGrant {
            token_hash: UploadToken::derive(key, &payment.id, 0, now).hash(),
            token_expires: now,
        },
        owed: LOST,
        next_look: now.plus(FIRST_AUDIT),
        now,
    };
    kill_point!("recover.insert.before");
    let is_new = recovery::insert(db, &recovery).await?;
    kill_point!("recover.insert.after");
    Ok(is_new)
}
