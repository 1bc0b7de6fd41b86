//! Comma-separated values (RFC 4180), safe to open in a spreadsheet.

use std::io::{self, Write};

/// A field of a row.
#[derive(Debug, Clone, Copy)]
pub enum Field<'a> {
    /// Text. A spreadsheet would take one that begins with `=`, `+`, `-`, `@`, a tab or a line end
    /// as a formula, so it gets an apostrophe in front.
    Text(&'a str),
    /// A number that was written here, which may begin with a minus sign.
    Number(&'a str),
}

/// Writes a row with its line end, CRLF.
///
/// # Errors
/// When `out` can't be written to.
pub fn write_row(out: &mut dyn Write, fields: &[Field<'_>]) -> io::Result<()> {
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        match field {
            Field::Number(number) => out.write_all(number.as_bytes())?,
            Field::Text(text) => write_text(out, text)?,
        }
    }
    out.write_all(b"\r\n")
}

fn write_text(out: &mut dyn Write, text: &str) -> io::Result<()> {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let guard = if is_formula { "'" } else { "" };
    if is_formula || text.contains([',', '"', '\r', '\n']) {
        let text = text.replace('"', "\"\"");
        write!(out, "\"{guard}{text}\"")
    } else {
        out.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[Field<'_>]) -> String {
        let mut out = Vec::new();
        write_row(&mut out, fields).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_quoted_as_rfc_4180_says() {
        use Field::{Number, Text};
        assert_eq!(row(&[Text("a"), Number("-0.01"), Text("")]), "a,-0.01,\r\n");
        assert_eq!(
            row(&[Text("a,b"), Text("say \"x\"")]),
            "\"a,b\",\"say \"\"x\"\"\"\r\n"
        );
        assert_eq!(row(&[Text("two\r\nlines")]), "\"two\r\nlines\"\r\n");
    }

    #[test]
    fn no_text_is_a_formula() {
        for start in ["=", "+", "-", "@", "\t", "\r", "\n"] {
            let text = format!("{start}cmd|' /C calc'!A0");
            let written = row(&[Field::Text(&text)]);
            assert!(written.starts_with("\"'"), "{written:?}");
        }
        assert_eq!(row(&[Field::Text("-year")]), "\"'-year\"\r\n");
    }
}
