//! `GET /api/tiers`: the price table.

use actix_web::HttpResponse;
use serde_json::{Value, json};

use super::Site;
use crate::money::DECIMALS;
use crate::tiers::{Keep, Tier, TierTable};

/// Every tier, with what it costs and the routes that sell it.
pub(super) async fn table(site: Site) -> HttpResponse {
    let table = site.tiers.now();
    let tiers: Vec<Value> = table.iter().map(|tier| row(&site, &table, tier)).collect();
    let payments = site.till.as_ref().map(|till| {
        let networks: Vec<Value> = till
            .shop
            .networks()
            .iter()
            .map(|network| {
                json!({"network": network.caip2, "asset": network.usdc.to_checksum(None)})
            })
            .collect();
        let first = till.shop.networks().first();
        json!({
            "network": first.map(|network| network.caip2),
            "asset": first.map(|network| network.usdc.to_checksum(None)),
            "networks": networks,
            "payTo": till.shop.pay_to().to_checksum(None),
            "playMoney": till.shop.is_play_money(),
        })
    });
    HttpResponse::Ok().json(json!({"tiers": tiers, "payments": payments}))
}

/// A tier as the price table shows it.
pub(super) fn row(site: &Site, table: &TierTable, tier: &Tier) -> Value {
    let default = table.default_paid() == Some(tier);
    let base = &site.config.http.base_url;
    let name = &tier.name;
    let routes = if tier.is_free() {
        json!({"upload": format!("{base}/api/free")})
    } else {
        json!({
            "token": format!("{base}/api/upload/token/{name}"),
            "upload": format!("{base}/api/upload/{name}"),
        })
    };
    json!({
        "name": name.as_str(),
        "price": {"amount": tier.price.to_string(), "decimals": DECIMALS, "currency": "USDC",
                  "usd": tier.price.to_decimal_usd()},
        "maxBytes": tier.max_bytes,
        "keepSeconds": match tier.keep {
            Keep::For(duration) => Some(duration.as_secs()),
            Keep::Forever => None,
        },
        "default": default,
        "available": tier.is_free() || site.till.is_some(),
        "routes": routes,
    })
}
