//! `GET /api/tiers`: the price table.

use actix_web::HttpResponse;

use super::Site;
use super::views::{NetworkView, PaymentsView, PriceView, TierRoutes, TierView, TiersAnswer};
use crate::pricing::money::{AtomicAmount, DECIMALS};
use crate::pricing::tiers::{Keep, Tier, TierTable};

/// `GET /api/tiers`: every tier with its price and the routes that sell it.
pub(super) async fn table(site: Site) -> HttpResponse {
    HttpResponse::Ok().json(answer(&site))
}

/// The price table.
pub(super) fn answer(site: &Site) -> TiersAnswer {
    let table = site.tiers.now();
    let tiers = table.iter().map(|tier| view(site, &table, tier)).collect();
    let payments = site.checkout.as_ref().map(|checkout| {
        let networks = checkout.catalog.networks();
        let first = networks.first();
        let asset = |network: &crate::pricing::networks::Network| network.usdc.to_checksum(None);
        PaymentsView {
            asset: first.map(|network| asset(network)),
            network: first.map(|network| network.caip2),
            networks: networks
                .iter()
                .map(|network| NetworkView {
                    asset: asset(network),
                    network: network.caip2,
                })
                .collect(),
            pay_to: checkout.catalog.pay_to().to_checksum(None),
            play_money: checkout.catalog.is_play_money(),
        }
    });
    TiersAnswer { payments, tiers }
}

/// A tier as the price table shows it.
pub(super) fn view(site: &Site, table: &TierTable, tier: &Tier) -> TierView {
    let base = &site.config.http.base_url;
    let name = &tier.name;
    let routes = if tier.is_free() {
        TierRoutes {
            token: None,
            upload: format!("{base}/api/free"),
        }
    } else {
        TierRoutes {
            token: Some(format!("{base}/api/upload/token/{name}")),
            upload: format!("{base}/api/upload/{name}"),
        }
    };
    TierView {
        accepted: None,
        image_price: None,
        available: tier.is_free() || site.checkout.is_some(),
        default: table.default_paid() == Some(tier),
        keep_seconds: match tier.keep {
            Keep::For(duration) => Some(duration.as_secs()),
            Keep::Forever => None,
        },
        max_bytes: tier.max_bytes,
        name: name.to_string(),
        price: price(tier.price),
        price_per_mib: tier.is_by_size().then(|| price(tier.price_per_mib)),
        routes,
    }
}

/// A tier as a check shows it: whether it accepts an image of this many bytes, and at which price.
pub(super) fn judged(site: &Site, table: &TierTable, tier: &Tier, bytes: u64) -> TierView {
    let accepted = bytes <= tier.max_bytes;
    TierView {
        accepted: Some(accepted),
        image_price: accepted.then(|| price(tier.step(Some(bytes)).price)),
        ..view(site, table, tier)
    }
}

/// A price as the API writes it.
pub(super) fn price(amount: AtomicAmount) -> PriceView {
    PriceView {
        amount: amount.to_string(),
        currency: "USDC",
        decimals: DECIMALS,
        usd: amount.to_decimal_usd(),
    }
}
