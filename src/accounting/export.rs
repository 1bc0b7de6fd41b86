//! The export of the ledger: one row for each payment that settled in a month, as CSV or JSON. Rows
//! are written page by page, so a month of any size needs little memory.

use std::collections::BTreeMap;
use std::io::Write;

use alloy_primitives::U256;
use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::csv::{Field, write_row};
use super::decimal::{FIAT_DECIMALS, write, write_difference};
use super::rates::{Rates, start_of_date};
use crate::db::Db;
use crate::db::sales::{self, Sale};
use crate::pricing::money::{AtomicAmount, DECIMALS};
use crate::system::clock::Timestamp;

/// A calendar month in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    name: String,
    begins: Timestamp,
    ends: Timestamp,
}

impl Month {
    /// Reads a month such as `2026-11`.
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        if year.len() != 4 || month.len() != 2 {
            return None;
        }
        let (year, month): (u32, u32) = (year.parse().ok()?, month.parse().ok()?);
        let next = if month == 12 {
            (year + 1, 1)
        } else {
            (year, month + 1)
        };
        Some(Self {
            name: text.to_owned(),
            begins: start_of_date(&format!("{text}-01"))?,
            ends: start_of_date(&format!("{:04}-{:02}-01", next.0, next.1))?,
        })
    }
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Comma-separated values with a heading (RFC 4180).
    Csv,
    /// One JSON document.
    Json,
}

/// What a facilitator charges for payments that it settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fee {
    /// The fee of a payment, in atomic units of USDC.
    pub each: AtomicAmount,
    /// How many payments of a month cost no fee.
    pub free: u64,
}

/// What is exported.
#[derive(Debug)]
pub struct Export<'a> {
    /// The month.
    pub month: &'a Month,
    /// The fee of the facilitator.
    pub fee: Fee,
    /// The rates of the operator's currency, and its name; `None`: no value in it is written.
    pub fiat: Option<(&'a Rates, &'a str)>,
}

/// The sums of an export. Voided payments are in none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// The number of payments.
    pub payments: u64,
    /// The number of voided payments.
    pub voided: u64,
    /// What the payments moved to the recipient, in atomic units.
    pub gross: U256,
    /// The fees of the facilitator, in atomic units.
    pub fees: U256,
    /// What was refunded of these payments, in atomic units.
    pub refunded: U256,
    /// The value of `gross` in the operator's currency, with [`FIAT_DECIMALS`] decimals.
    pub fiat: Option<U256>,
}

const HEADING: [&str; 24] = [
    "time",
    "id",
    "state",
    "network",
    "asset",
    "transaction",
    "log_index",
    "payer",
    "recipient",
    "product",
    "tier",
    "uploads",
    "receipt_ids",
    "currency",
    "gross",
    "gross_atomic",
    "facilitator_fee",
    "net",
    "fiat_currency",
    "fiat_rate",
    "fiat_gross",
    "refunded",
    "refund_time",
    "refund_transaction",
];

/// A row of the export, each value as it is written.
struct Row<'a> {
    sale: &'a Sale,
    time: String,
    state: &'static str,
    receipts: Vec<String>,
    gross: String,
    fee: String,
    net: String,
    rate: Option<String>,
    fiat: Option<String>,
    refunded: String,
    refund_time: Option<String>,
}

impl Export<'_> {
    /// Writes the payments that settled in the month, in the order in which they settled. Returns
    /// their sums.
    ///
    /// # Errors
    /// When the database fails, a row can't be read, a day has no rate, or `out` can't be written to.
    pub async fn write(&self, db: &Db, form: Form, out: &mut dyn Write) -> anyhow::Result<Totals> {
        let mut totals = Totals {
            fiat: self.fiat.map(|_| U256::ZERO),
            ..Totals::default()
        };
        let mut sent = 0;
        self.begin(form, out)?;
        let until = self.month.ends.millis();
        // No ledger id is empty, so this place is before every sale of the month.
        let mut after = (self.month.begins.millis(), String::new());
        loop {
            let sales = sales::page(db, (after.0, &after.1), until).await?;
            let Some(last) = sales.last() else {
                break;
            };
            let last = (last.settled_ms, last.id.clone());
            let mut receipts = receipts(db, (after.0, &after.1), (last.0, &last.1)).await?;
            for sale in &sales {
                let is_first = totals.payments + totals.voided == 0;
                let receipts = receipts.remove(&sale.id).unwrap_or_default();
                let row = self.row(sale, receipts, &mut sent, &mut totals)?;
                match form {
                    Form::Csv => self.write_csv(&row, out)?,
                    Form::Json => {
                        let comma = if is_first { "" } else { "," };
                        write!(out, "{comma}\n{}", self.json(&row))?;
                    }
                }
            }
            after = last;
        }
        if form == Form::Json {
            writeln!(out, "\n],\"totals\":{}}}", self.json_totals(&totals))?;
        }
        out.flush()?;
        Ok(totals)
    }

    fn begin(&self, form: Form, out: &mut dyn Write) -> std::io::Result<()> {
        match form {
            Form::Csv => write_row(out, &HEADING.map(Field::Text)),
            Form::Json => write!(out, "{{\"month\":\"{}\",\"payments\":[", self.month.name),
        }
    }

    /// The row of a sale. Adds it to the totals. `sent` counts the payments of the month that a
    /// facilitator settled.
    fn row<'a>(
        &self,
        sale: &'a Sale,
        mut receipts: Vec<String>,
        sent: &mut u64,
        totals: &mut Totals,
    ) -> anyhow::Result<Row<'a>> {
        let gross = AtomicAmount::from_atomic(&sale.amount)
            .with_context(|| format!("payment {} has the amount {}", sale.id, sale.amount))?
            .as_u256();
        let settled = Timestamp::from_millis(sale.settled_ms);
        let mut fee = U256::ZERO;
        if sale.was_sent {
            *sent += 1;
            if *sent > self.fee.free {
                fee = self.fee.each.as_u256();
            }
        }
        let rate = match self.fiat {
            None => None,
            Some((rates, _)) => Some(rates.at(settled).with_context(|| {
                format!("there is no rate for {settled}: add a line for that day or an earlier one")
            })?),
        };
        let fiat = rate.map(|rate| rate.value(gross));
        let is_refunded = sale.refunded_ms.is_some();
        let refunded = if is_refunded { gross } else { U256::ZERO };
        if sale.is_void {
            totals.voided += 1;
        } else {
            totals.payments += 1;
            totals.gross = sum(totals.gross, gross)?;
            totals.fees = sum(totals.fees, fee)?;
            totals.refunded = sum(totals.refunded, refunded)?;
            if let (Some(total), Some(fiat)) = (&mut totals.fiat, fiat) {
                *total = sum(*total, fiat)?;
            }
        }
        receipts.extend(sale.target.clone());
        Ok(Row {
            sale,
            time: settled.to_string(),
            state: state(sale),
            receipts,
            gross: write(gross, DECIMALS),
            fee: write(fee, DECIMALS),
            net: write_difference(gross, fee),
            rate: rate.map(|rate| rate.to_string()),
            fiat: fiat.map(|fiat| write(fiat, FIAT_DECIMALS)),
            refunded: write(refunded, DECIMALS),
            refund_time: sale
                .refunded_ms
                .map(|at| Timestamp::from_millis(at).to_string()),
        })
    }

    fn currency(&self) -> Option<&str> {
        self.fiat.map(|(_, currency)| currency)
    }

    fn write_csv(&self, row: &Row<'_>, out: &mut dyn Write) -> std::io::Result<()> {
        use Field::{Number, Text};
        let sale = row.sale;
        let log_index = sale.log_index.map(|index| index.to_string());
        let (uploads, receipts) = (sale.uses.to_string(), row.receipts.join(" "));
        write_row(
            out,
            &[
                Text(&row.time),
                Text(&sale.id),
                Text(row.state),
                Text(&sale.network),
                Text(&sale.asset),
                Text(sale.transaction_hash.as_deref().unwrap_or_default()),
                Number(log_index.as_deref().unwrap_or_default()),
                Text(&sale.payer),
                Text(&sale.pay_to),
                Text(&sale.kind),
                Text(&sale.tier),
                Number(&uploads),
                Text(&receipts),
                Text("USDC"),
                Number(&row.gross),
                Number(&sale.amount),
                Number(&row.fee),
                Number(&row.net),
                Text(self.currency().unwrap_or_default()),
                Number(row.rate.as_deref().unwrap_or_default()),
                Number(row.fiat.as_deref().unwrap_or_default()),
                Number(&row.refunded),
                Text(row.refund_time.as_deref().unwrap_or_default()),
                Text(sale.refund_transaction.as_deref().unwrap_or_default()),
            ],
        )
    }

    fn json(&self, row: &Row<'_>) -> Value {
        let sale = row.sale;
        json!({
            "time": row.time,
            "id": sale.id,
            "state": row.state,
            "network": sale.network,
            "asset": sale.asset,
            "transaction": sale.transaction_hash,
            "logIndex": sale.log_index,
            "payer": sale.payer,
            "recipient": sale.pay_to,
            "product": sale.kind,
            "tier": sale.tier,
            "uploads": sale.uses,
            "receiptIds": row.receipts,
            "currency": "USDC",
            "gross": row.gross,
            "grossAtomic": sale.amount,
            "facilitatorFee": row.fee,
            "net": row.net,
            "fiatCurrency": self.currency(),
            "fiatRate": row.rate,
            "fiatGross": row.fiat,
            "refunded": row.refunded,
            "refundTime": row.refund_time,
            "refundTransaction": sale.refund_transaction,
        })
    }

    fn json_totals(&self, totals: &Totals) -> Value {
        json!({
            "payments": totals.payments,
            "voided": totals.voided,
            "gross": write(totals.gross, DECIMALS),
            "grossAtomic": totals.gross.to_string(),
            "facilitatorFees": write(totals.fees, DECIMALS),
            "net": write_difference(totals.gross, totals.fees),
            "refunded": write(totals.refunded, DECIMALS),
            "fiatCurrency": self.currency(),
            "fiatGross": totals.fiat.map(|fiat| write(fiat, FIAT_DECIMALS)),
        })
    }
}

/// What became of a settled payment.
const fn state(sale: &Sale) -> &'static str {
    match (sale.is_void, sale.refunded_ms, sale.refund_due_ms) {
        (_, Some(_), _) => "refunded",
        (true, None, _) => "voided",
        (false, None, Some(_)) => "refund_due",
        (false, None, None) => "settled",
    }
}

/// The images of each payment, whose ids `GET /api/receipts/{id}` takes.
async fn receipts(
    db: &Db,
    after: sales::Place<'_>,
    last: sales::Place<'_>,
) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut receipts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (payment, image) in sales::images(db, after, last).await? {
        receipts.entry(payment).or_default().push(image);
    }
    Ok(receipts)
}

fn sum(total: U256, amount: U256) -> anyhow::Result<U256> {
    match total.checked_add(amount) {
        Some(sum) => Ok(sum),
        None => bail!("the sum of the amounts does not fit into 256 bits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_read_with_its_bounds() {
        let month = Month::parse("2026-12").unwrap();
        assert_eq!(month.begins.to_string(), "2026-12-01T00:00:00.000Z");
        assert_eq!(month.ends.to_string(), "2027-01-01T00:00:00.000Z");
        let leap = Month::parse("2028-02").unwrap();
        assert_eq!(leap.ends.to_string(), "2028-03-01T00:00:00.000Z");
        for text in [
            "2026-13",
            "2026-00",
            "2026",
            "26-11",
            "2026-1",
            "2026-11-01",
            "",
            "+026-11",
        ] {
            assert_eq!(Month::parse(text), None, "{text}");
        }
    }
}
