//! The tables of a list (`[[tiers]]`, `[[networks]]`): their fields, each judged by itself, and what is
//! said of them.

use toml::{Table, Value};

use super::values::Complaint;
use super::{Report, keys};

/// What a list of tables holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    /// Its name in the file.
    pub(super) name: &'static str,
    /// One of it, with an article.
    pub(super) one: &'static str,
    /// The field that names a table.
    pub(super) label: &'static str,
    /// Every field.
    pub(super) fields: &'static [&'static str],
}

/// The fields of one table.
pub(super) struct Fields<'a> {
    section: Section,
    /// How the table is called in problems: its name, or `#2` where it has none.
    pub(super) label: String,
    table: &'a Table,
    report: &'a mut Report,
}

impl<'a> Fields<'a> {
    /// The fields of the table at `index`. Those that the section doesn't have are reported.
    pub(super) fn new(
        section: Section,
        index: usize,
        table: &'a Table,
        report: &'a mut Report,
    ) -> Self {
        let name = table
            .get(section.label)
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty());
        let label = name.map_or_else(|| format!("#{}", index + 1), str::to_owned);
        let mut fields = Self {
            section,
            label,
            table,
            report,
        };
        fields.refuse_unknown();
        fields
    }

    /// Whether the field is there, even as nonsense.
    pub(super) fn has(&self, field: &str) -> bool {
        self.table.contains_key(field)
    }

    /// A field that has to be there; `None`: something was reported.
    pub(super) fn required<T>(
        &mut self,
        field: &str,
        example: &str,
        parse: impl FnOnce(&Value) -> Result<T, Complaint>,
    ) -> Option<T> {
        if !self.has(field) {
            self.problem(field, "is missing", &format!("write {field} = {example}"));
        }
        self.read(field, parse)
    }

    /// A field that may be there.
    pub(super) fn read<T>(
        &mut self,
        field: &str,
        parse: impl FnOnce(&Value) -> Result<T, Complaint>,
    ) -> Option<T> {
        match parse(self.table.get(field)?) {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.problem(field, &complaint.message, &complaint.mend);
                None
            }
        }
    }

    /// Reports something about a field.
    pub(super) fn problem(&mut self, field: &str, message: &str, mend: &str) {
        let key = format!("{}.{}.{field}", self.section.name, self.label);
        self.report.problem(&key, message, mend);
    }

    fn refuse_unknown(&mut self) {
        let Section { fields, one, .. } = self.section;
        let table = self.table;
        for field in table
            .keys()
            .filter(|field| !fields.contains(&field.as_str()))
        {
            let mend = match keys::nearest_of(field, fields.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("remove it; {one} has {}", fields.join(", ")),
            };
            self.problem(field, "is an unknown key", &mend);
        }
    }
}

/// The value as text.
pub(super) fn text<'a>(value: &'a Value, example: &str) -> Result<&'a str, Complaint> {
    value
        .as_str()
        .ok_or_else(|| Complaint::new("is not text", format!("write it like {example}")))
}

/// The value as `true` or `false`.
pub(super) fn switch(value: &Value) -> Result<bool, Complaint> {
    value
        .as_bool()
        .ok_or_else(|| Complaint::new("is neither true nor false", "write true"))
}
