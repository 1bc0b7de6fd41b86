//! `[[tiers]]` into a [`TierTable`]. The rules of the table are in [`crate::tiers`].

use toml::Value;

use super::check::Checker;
use super::fields::{self, Fields, Section, text};
use super::values::{self, Complaint};
use crate::money::AtomicAmount;
use crate::tiers::{Keep, Tier, TierFault, TierName, TierTable, default_confirmations};

const SECTION: Section = Section {
    name: "tiers",
    one: "a tier",
    label: "name",
    fields: &[
        "name",
        "price",
        "max_bytes",
        "keep",
        "default",
        "confirmations",
    ],
};

/// The configured table, or the default one.
pub(super) fn check(checker: &mut Checker<'_>) -> TierTable {
    let Some(tables) = &checker.raw.tiers else {
        return TierTable::default();
    };
    let report = &mut *checker.report;
    let mut tiers = Vec::new();
    let mut defaults = Vec::new();
    let mut has_nameless = false;
    for (index, table) in tables.iter().enumerate() {
        let mut fields = Fields::new(SECTION, index, table, report);
        let is_default = fields.read("default", fields::switch).unwrap_or(false);
        if let Some(tier) = tier(&mut fields) {
            defaults.extend(is_default.then(|| tier.name.clone()));
            tiers.push(tier);
        } else {
            has_nameless = true;
        }
    }
    for name in defaults.iter().skip(1) {
        let message = "is a second default";
        report.problem(
            &format!("tiers.{name}.default"),
            message,
            "mark one tier only",
        );
    }
    let problems = match TierTable::new(tiers, defaults.into_iter().next()) {
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
            report.problem(&key, fault.to_string(), fault.mend());
        }
    }
    TierTable::default()
}

/// The tier, with something harmless for each field that was reported; `None` without a name.
fn tier(fields: &mut Fields<'_>) -> Option<Tier> {
    let name = tier_name(fields);
    let price = price(fields);
    let max_bytes = fields.required("max_bytes", "\"5 MiB\"", |value| match value {
        Value::Integer(number) => values::size(&number.to_string()),
        value => values::size(text(value, "\"5 MiB\"")?),
    });
    let keep = fields.required("keep", "\"30d\" or \"forever\"", |value| {
        match text(value, "\"30d\" or \"forever\"")? {
            "forever" => Ok(Keep::Forever),
            time => values::duration(time).map(Keep::For),
        }
    });
    let confirmations = fields.read("confirmations", |value| {
        value
            .as_integer()
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| {
                Complaint::new("is not a number of blocks", "write a number from 0 to 60")
            })
    });
    Some(Tier {
        name: name?,
        price,
        max_bytes: max_bytes.unwrap_or(1),
        keep: keep.unwrap_or(Keep::Forever),
        confirmations: confirmations.unwrap_or_else(|| default_confirmations(price)),
    })
}

fn tier_name(fields: &mut Fields<'_>) -> Option<TierName> {
    let mend = TierFault::BadName.mend();
    fields.required("name", "\"year\"", |value| {
        let name = text(value, "\"year\"")?;
        TierName::parse(name).map_err(|fault| Complaint::new(format!("`{name}` {fault}"), mend))
    })
}

/// Only `free` may leave its price out: elsewhere, forgetting it would give the tier away.
fn price(fields: &mut Fields<'_>) -> AtomicAmount {
    const MEND: &str = "write decimal USD in quotes, like \"0.01\", or \"0\" for no price";
    if fields.label == "free" && !fields.has("price") {
        return AtomicAmount::ZERO;
    }
    let price = fields.required("price", "\"0.01\", or \"0\" for no price", |value| {
        let text = value
            .as_str()
            .ok_or_else(|| Complaint::new("is not written as text, which is exact", MEND))?;
        AtomicAmount::from_decimal_usd(text)
            .map_err(|error| Complaint::new(format!("`{text}` is no price: {error}"), MEND))
    });
    let harmless = u128::from(fields.label != "free");
    price.unwrap_or(AtomicAmount::from_units(harmless))
}
