//! `[[tiers]]` into a [`TierTable`]. The rules of the table are in [`crate::tiers`].

use toml::{Table, Value};

use super::check::Checker;
use super::values::{self, Complaint};
use super::{Report, keys};
use crate::money::AtomicAmount;
use crate::tiers::{Keep, Tier, TierFault, TierName, TierTable, default_confirmations};

const FIELDS: [&str; 6] = [
    "name",
    "price",
    "max_bytes",
    "keep",
    "default",
    "confirmations",
];

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
        let mut fields = Fields::new(index, table, report);
        let is_default = fields.is_default();
        if let Some(tier) = fields.tier() {
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

/// The fields of one tier.
struct Fields<'a> {
    /// How the tier is called in problems: its name, or `#2` where it has none.
    label: String,
    table: &'a Table,
    report: &'a mut Report,
}

impl<'a> Fields<'a> {
    fn new(index: usize, table: &'a Table, report: &'a mut Report) -> Self {
        let name = table
            .get("name")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty());
        let label = name.map_or_else(|| format!("#{}", index + 1), str::to_owned);
        Self {
            label,
            table,
            report,
        }
    }

    /// The tier, with something harmless for each field that was reported; `None` without a name.
    fn tier(&mut self) -> Option<Tier> {
        self.refuse_unknown();
        let name = self.name();
        let price = self.price();
        let max_bytes = self.required("max_bytes", "\"5 MiB\"", |value| match value {
            Value::Integer(number) => values::size(&number.to_string()),
            value => values::size(text(value, "\"5 MiB\"")?),
        });
        let keep = self.required("keep", "\"30d\" or \"forever\"", |value| {
            match text(value, "\"30d\" or \"forever\"")? {
                "forever" => Ok(Keep::Forever),
                time => values::duration(time).map(Keep::For),
            }
        });
        let confirmations = self.read("confirmations", |value| {
            value
                .as_integer()
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| Complaint::new("is not a number of blocks", "write 0 or 1"))
        });
        Some(Tier {
            name: name?,
            price,
            max_bytes: max_bytes.unwrap_or(1),
            keep: keep.unwrap_or(Keep::Forever),
            confirmations: confirmations.unwrap_or_else(|| default_confirmations(price)),
        })
    }

    fn is_default(&mut self) -> bool {
        let is_default = self.read("default", |value| {
            value
                .as_bool()
                .ok_or_else(|| Complaint::new("is neither true nor false", "write true"))
        });
        is_default.unwrap_or(false)
    }

    fn name(&mut self) -> Option<TierName> {
        let mend = TierFault::BadName.mend();
        self.required("name", "\"year\"", |value| {
            let name = text(value, "\"year\"")?;
            TierName::parse(name).map_err(|fault| Complaint::new(format!("`{name}` {fault}"), mend))
        })
    }

    /// Only `free` may leave its price out: elsewhere, forgetting it would give the tier away.
    fn price(&mut self) -> AtomicAmount {
        const MEND: &str = "write decimal USD in quotes, like \"0.01\", or \"0\" for no price";
        if self.label == "free" && !self.table.contains_key("price") {
            return AtomicAmount::ZERO;
        }
        let price = self.required("price", "\"0.01\", or \"0\" for no price", |value| {
            let text = value
                .as_str()
                .ok_or_else(|| Complaint::new("is not written as text, which is exact", MEND))?;
            AtomicAmount::from_decimal_usd(text)
                .map_err(|error| Complaint::new(format!("`{text}` is no price: {error}"), MEND))
        });
        let harmless = u128::from(self.label != "free");
        price.unwrap_or(AtomicAmount::from_units(harmless))
    }

    fn required<T>(
        &mut self,
        field: &str,
        example: &str,
        parse: impl FnOnce(&Value) -> Result<T, Complaint>,
    ) -> Option<T> {
        if !self.table.contains_key(field) {
            let key = self.key(field);
            self.report
                .problem(&key, "is missing", format!("write {field} = {example}"));
        }
        self.read(field, parse)
    }

    fn read<T>(
        &mut self,
        field: &str,
        parse: impl FnOnce(&Value) -> Result<T, Complaint>,
    ) -> Option<T> {
        match parse(self.table.get(field)?) {
            Ok(value) => Some(value),
            Err(complaint) => {
                let key = self.key(field);
                self.report.problem(&key, complaint.message, complaint.mend);
                None
            }
        }
    }

    fn refuse_unknown(&mut self) {
        for field in self
            .table
            .keys()
            .filter(|field| !FIELDS.contains(&field.as_str()))
        {
            let mend = match keys::nearest_of(field, FIELDS.into_iter()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("remove it; a tier has {}", FIELDS.join(", ")),
            };
            let key = self.key(field);
            self.report.problem(&key, "is an unknown key", mend);
        }
    }

    fn key(&self, field: &str) -> String {
        format!("tiers.{}.{field}", self.label)
    }
}

fn text<'a>(value: &'a Value, example: &str) -> Result<&'a str, Complaint> {
    value
        .as_str()
        .ok_or_else(|| Complaint::new("is not text", format!("write it like {example}")))
}
