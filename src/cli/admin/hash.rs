//! `pixtoll admin hash`: the hashes of files.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use crate::images::hashes_of;

/// Prints the hashes of files.
pub(super) fn run(files: &[PathBuf], json: bool, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let name = file.display().to_string();
        let bytes = std::fs::read(file).with_context(|| format!("{name} can't be read"))?;
        let hashes = hashes_of(&bytes);
        let found = hashes.fingerprint.as_ref();
        if let Err(why) = found {
            code = ExitCode::FAILURE;
            tracing::warn!(file = name, why, "there is no PDQ hash");
        }
        if json {
            let object = json!({
                "file": name,
                "sha256": hashes.sha256,
                "pdq": found.ok().map(|found| found.hash.to_string()),
                "pdqQuality": found.ok().map(|found| found.quality),
            });
            writeln!(out, "{object}")?;
        } else {
            writeln!(out, "sha256:{}  {name}", hashes.sha256)?;
            if let Ok(found) = found {
                writeln!(out, "pdq:{}  {}  {name}", found.hash, found.quality)?;
            }
        }
    }
    Ok(code)
}
