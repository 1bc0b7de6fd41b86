//! `[[tiers]]` into a [`TierTable`]. The rules of the table are in [`crate::pricing::tiers`].

use super::keys::TierKeys;
use super::read::Reader;
use crate::pricing::money::AtomicAmount;
use crate::pricing::tiers::{Keep, Tier, TierTable, default_confirmations};

/// The configured table, or the default one.
pub(super) fn check(reader: &mut Reader<'_>) -> TierTable {
    if !reader.given.tables.contains_key("tiers") {
        return TierTable::default();
    }
    let mut tiers = Vec::new();
    let mut default = None;
    let mut has_nameless = false;
    reader.for_each_table("tiers", &[TierKeys::KEYS], |fields| {
        let keys = TierKeys::read(fields);
        let price = price(fields, keys.price);
        let Some(name) = keys.name else {
            has_nameless = true;
            return;
        };
        match default {
            _ if !keys.default => {}
            None => default = Some(name.clone()),
            Some(_) => fields.problem("tiers.default", "is a second default", "mark one tier only"),
        }
        tiers.push(Tier {
            name,
            price,
            price_per_mib: keys.price_per_mib,
            max_bytes: keys.max_bytes.unwrap_or(1),
            keep: keys.keep.unwrap_or(Keep::Forever),
            confirmations: keys
                .confirmations
                .unwrap_or_else(|| default_confirmations(price)),
        });
    });
    let problems = match TierTable::new(tiers, default) {
        Ok(table) => return table,
        Err(problems) => problems,
    };
    for problem in problems {
        let fault = problem.fault;
        let key = match &problem.tier {
            Some(name) => format!("tiers.{name}.{}", fault.field()),
            None => "tiers".to_owned(),
        };
        // A tier that could not be read may be the default that seems to be missing.
        if !(has_nameless && problem.tier.is_none()) {
            reader.problem(&key, fault.to_string(), fault.mend());
        }
    }
    TierTable::default()
}

/// Only `free` may leave its price out: elsewhere, forgetting it would give the tier away.
fn price(fields: &mut Reader<'_>, price: Option<AtomicAmount>) -> AtomicAmount {
    let is_free = fields.label.as_deref() == Some("free");
    if !fields.has("tiers.price") && !is_free {
        let fix = "write price = \"0.01\", or \"0\" for no price";
        fields.problem("tiers.price", "is missing", fix);
    }
    price.unwrap_or(AtomicAmount::from_units(u128::from(!is_free)))
}
