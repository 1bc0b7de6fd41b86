//! The page of the public proof: what the service did, and how its ledger compares with the chain.

use std::fmt::Display;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use alloy_primitives::U256;
use askama::Template;

use super::super::Site;
use super::super::error::ApiError;
use super::super::proof::current;
use super::service::Service;
use super::{Assets, Layout, respond};
use crate::accounting::decimal::write;
use crate::accounting::proof::SignedProof;
use crate::model::proof::{Compared, Day, LedgerProof, PROOF_TYPE, Proof, Sum, Totals};
use crate::pricing::money::DECIMALS;
use crate::pricing::networks::{self, Network};

/// The height of a chart, in the units of its SVG. Each day is 10 units wide.
const HEIGHT: i64 = 80;
const STEP: usize = 10;

#[derive(Template)]
#[template(path = "proof.html")]
struct Page<'a> {
    layout: Layout<'a>,
    service: Service<'a>,
    signed: Arc<SignedProof>,
}

/// A day's bar in a chart: two counts, the second on top of the first.
struct Bar {
    x: usize,
    lower: (i64, i64),
    upper: (i64, i64),
}

/// A chart of two counts by day.
struct Chart {
    bars: Vec<Bar>,
    /// The largest sum of a day.
    most: i64,
}

/// `GET /proof`.
pub(super) async fn proof(site: Site, assets: web::Data<Assets>) -> Result<HttpResponse, ApiError> {
    let about = "What this service did, day by day, and how its ledger of payments compares with the chain. Signed.";
    let page = Page {
        layout: Layout::listed(&site, &assets, "/proof", "Proof", about),
        service: Service::of(&site),
        signed: current(&site).await?,
    };
    Ok(respond(&site, StatusCode::OK, &page))
}

impl Page<'_> {
    fn proof(&self) -> &Proof {
        &self.signed.proof
    }

    const fn typ() -> &'static str {
        PROOF_TYPE
    }

    /// The days with their numbers in the proof, the newest first.
    fn days(&self) -> impl Iterator<Item = (usize, &Day)> {
        self.proof().days.iter().enumerate().rev()
    }

    fn first_day(&self) -> &str {
        self.proof().days.first().map_or("", |day| &day.day)
    }

    /// The counts of a day with their names in the proof, in the order of the table.
    const fn counts(day: &Day) -> [(&'static str, i64); 6] {
        let totals = day.totals;
        [
            ("challenged", totals.challenged),
            ("presented", totals.presented),
            ("settled", totals.settled),
            ("refused", totals.refused),
            ("expired", totals.expired),
            ("deleted", totals.deleted),
        ]
    }

    /// The year of a day, with its hyphen: narrow windows leave it out.
    fn year(day: &Day) -> &str {
        day.day.split_at_checked(5).map_or("", |(year, _)| year)
    }

    /// Month and day.
    fn rest(day: &Day) -> &str {
        day.day.split_at_checked(5).map_or("", |(_, rest)| rest)
    }

    fn payments(&self) -> Chart {
        self.chart(|day| (day.settled, day.refused))
    }

    fn files(&self) -> Chart {
        self.chart(|day| (day.expired, day.deleted))
    }

    fn chart(&self, counts: impl Fn(&Totals) -> (i64, i64)) -> Chart {
        let counts: Vec<(i64, i64)> = self
            .proof()
            .days
            .iter()
            .map(|day| counts(&day.totals))
            .collect();
        Chart::of(&counts)
    }

    fn ledger(&self) -> &LedgerProof {
        &self.proof().ledger
    }

    /// A count with its thousands apart.
    fn grouped(count: impl Display) -> String {
        let digits = count.to_string();
        let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        text
    }

    /// A sum of transfers in USDC.
    fn usdc(sum: &Sum) -> String {
        write(sum.amount.parse::<U256>().unwrap_or_default(), DECIMALS)
    }

    /// A time for people: `2026-11-28 10:05 UTC`.
    fn minute(at: impl Display) -> String {
        let text = at.to_string().replacen('T', " ", 1);
        let minute: String = text.chars().take(16).collect();
        format!("{minute} UTC")
    }

    /// The name of a network, such as `base`.
    fn network(compared: &Compared) -> &str {
        networks::find(&compared.network).map_or(&compared.network, Network::name)
    }

    /// Whether the chain and the rules leave no doubt about the ledger, as far as they were checked.
    fn is_balanced(&self) -> bool {
        let ledger = self.ledger();
        let breaks = ledger.rules.is_some_and(|rules| rules.broken_rows > 0);
        !breaks && ledger.missing == 0 && ledger.unexplained == 0
    }

    /// Whether both checks ran.
    fn is_checked(&self) -> bool {
        let ledger = self.ledger();
        ledger.rules.is_some() && (ledger.compared_at.is_some() || ledger.networks.is_empty())
    }
}

impl Chart {
    fn of(counts: &[(i64, i64)]) -> Self {
        let sums = counts.iter().map(|(lower, upper)| lower + upper);
        let most = sums.max().unwrap_or(0);
        // A count of one is seen beside a thousand.
        let height = |count: i64| match count {
            0 => 0,
            _ => (count.saturating_mul(HEIGHT - 2) / most.max(1)).max(2),
        };
        let bars = counts.iter().enumerate().map(|(place, (lower, upper))| {
            let (lower, upper) = (height(*lower), height(*upper));
            Bar {
                x: place * STEP + 1,
                lower: (HEIGHT - lower, lower),
                upper: (HEIGHT - lower - upper, upper),
            }
        });
        Self {
            bars: bars.collect(),
            most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(Page::grouped(count), text);
        }
    }

    #[test]
    fn bars_stay_in_their_chart_and_small_counts_are_seen() {
        let chart = Chart::of(&[(0, 0), (1, 0), (9_000, 1_000), (0, 1)]);
        assert_eq!(chart.most, 10_000);
        for bar in &chart.bars {
            assert!(bar.upper.0 >= 0, "{}", bar.upper.0);
            assert_eq!(bar.lower.0 + bar.lower.1, HEIGHT);
            assert_eq!(bar.upper.0 + bar.upper.1, bar.lower.0);
        }
        let heights: Vec<i64> = chart
            .bars
            .iter()
            .map(|bar| bar.lower.1 + bar.upper.1)
            .collect();
        assert_eq!(heights, [0, 2, 77, 2]);
        assert_eq!(Chart::of(&[]).most, 0);
    }
}
