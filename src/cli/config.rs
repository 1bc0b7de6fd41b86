//! `pixtoll config check`: what is in force, and everything wrong with it, at once.

use std::io::Write;

use crate::config::{self, Examined, Sources};

/// Writes what is in force (where there is no problem), the warnings and the problems. Whether it
/// may start.
pub fn check(sources: &Sources, out: &mut impl Write) -> anyhow::Result<bool> {
    let Examined {
        config,
        warnings,
        problems,
    } = config::examine(sources);
    if let Some(config) = &config {
        writeln!(out, "{}", config::show(config))?;
    }
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for problem in &problems {
        writeln!(out, "problem: {problem}")?;
    }
    let verdict = if config.is_some() {
        "ok: it may start"
    } else {
        "it doesn't start"
    };
    writeln!(
        out,
        "{verdict}, problems: {}, warnings: {}",
        problems.len(),
        warnings.len()
    )?;
    Ok(config.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, sandbox: bool) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pixtoll.toml");
        std::fs::write(&file, text).unwrap();
        let sources = Sources {
            file: Some(file),
            sandbox,
            ..Sources::default()
        };
        let mut out = Vec::new();
        let may_start = check(&sources, &mut out).unwrap();
        (may_start, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_good_configuration_is_shown_and_may_start() {
        let (may_start, text) = checked("", true);
        assert!(may_start);
        assert!(text.starts_with("# sandbox: play money\n"), "{text}");
        assert!(
            text.ends_with("ok: it may start, problems: 0, warnings: 0\n"),
            "{text}"
        );
    }

    #[test]
    fn every_problem_and_warning_is_listed_at_once() {
        let (may_start, text) = checked(
            "[http]\nlisten = 'nowhere'\nadmin_listen = '0.0.0.0:4021'\nlisen = 'x'\n\
             [secrets]\nkey = 'hunter2'\n",
            true,
        );
        assert!(!may_start);
        for expected in [
            "warning: http.admin_listen: 0.0.0.0:4021 is not on loopback",
            "problem: http.listen: `nowhere` is not an IP address with a port\n  mend: write it",
            "problem: http.lisen: is an unknown key\n  mend: did you mean `listen` under [http]?",
            "problem: secrets.key: is not 32 bytes",
            "it doesn't start, problems: 3, warnings: 1\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}
