//! `pixtoll admin block`, `unblock`, `blocks`, `import-blocks`, `export-blocks` and `hash`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{ByArgs, hash};
use crate::db::blocks::Filter;
use crate::model::block::{Block, Kind, Target};
use crate::trust::blocks::list::{CSV_HEAD, csv_row};
use crate::trust::blocks::{BlockView, Imported};
use crate::trust::{By, Trust};

/// How many blocks one query reads.
const PAGE: u32 = 1000;

/// The subcommands about blocks.
#[derive(Debug, Subcommand)]
pub enum BlocksCommand {
    /// Refuse content or wallets from now on
    ///
    /// A target is sha256:HEX, pdq:HEX, a wallet (0x...), or the id of an image, whose bytes and
    /// picture are blocked. Servers follow within a second. Images that are served already stay; the
    /// command names those with the same bytes.
    #[command(verbatim_doc_comment)]
    Block {
        /// What to block.
        #[arg(required = true, value_name = "TARGET")]
        targets: Vec<String>,
        /// End the block after this time, such as 30d. Without it, the block stays.
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        time: Option<Duration>,
        /// Who acts, and why.
        #[command(flatten)]
        by: ByArgs,
    },
    /// Lift blocks
    ///
    /// Exits with 1 when one of the targets was not blocked.
    #[command(verbatim_doc_comment)]
    Unblock {
        /// What to unblock: sha256:HEX, pdq:HEX, a wallet (0x...) or the id of an image.
        #[arg(required = true, value_name = "TARGET")]
        targets: Vec<String>,
        /// Lift the block of this list alone. Without it, the blocks of all lists are lifted, until the
        /// next import of the list.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// Who acts, and why.
        #[command(flatten)]
        by: ByArgs,
    },
    /// List the blocks, or count them by list
    Blocks {
        /// List the blocks of this list alone.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// List the blocks of this kind alone.
        #[arg(long, value_enum)]
        kind: Option<KindArg>,
        /// Print only how many blocks of each kind each list has.
        #[arg(long)]
        count: bool,
    },
    /// Make the blocks of a list those of a file
    ///
    /// The file has one hash or wallet on each line, alone or in CSV, as ThreatExchange and its tools
    /// write it. Blocks of the list that are not in the file are lifted. The same file again changes
    /// nothing. Lines with hashes of other kinds, such as MD5, are skipped.
    #[command(verbatim_doc_comment)]
    ImportBlocks {
        /// The file; - for standard input.
        file: PathBuf,
        /// The name of the list.
        #[arg(long, value_name = "NAME")]
        source: String,
        /// The kind of hashes whose lines don't name it.
        #[arg(long, value_enum)]
        kind: Option<KindArg>,
        /// Who acts, and why.
        #[command(flatten)]
        by: ByArgs,
    },
    /// Print blocks as a list for other programs
    ExportBlocks {
        /// Export the blocks of this list alone.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
        /// Export the blocks of this kind alone.
        #[arg(long, value_enum)]
        kind: Option<KindArg>,
        /// The form: csv with the types of ThreatExchange, or plain values of one kind, a line each.
        #[arg(long, value_enum, default_value_t = Form::Csv)]
        format: Form,
    },
    /// Print the SHA-256 and the PDQ hash of files
    ///
    /// Needs no settings and no database. The number behind the PDQ hash is its quality, from 0 to
    /// 100. Exits with 1 when a file is no image.
    #[command(verbatim_doc_comment)]
    Hash {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// A kind of block.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KindArg {
    /// SHA-256 of a file.
    Sha256,
    /// PDQ hash of a picture.
    Pdq,
    /// A wallet.
    Wallet,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// CSV with a head.
    Csv,
    /// Values alone.
    Plain,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Sha256 => Self::Sha256,
            KindArg::Pdq => Self::Pdq,
            KindArg::Wallet => Self::Wallet,
        }
    }
}

/// Runs a subcommand that needs the database.
pub(super) async fn run(
    command: &BlocksCommand,
    trust: &Trust,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    match command {
        BlocksCommand::Block { targets, time, by } => {
            let targets = trust.block_targets(targets).await?;
            for block in trust.block(&targets, *time, &by.by()?).await? {
                print(&block, json, out)?;
            }
            warn_served(trust, &targets).await?;
        }
        BlocksCommand::Unblock {
            targets,
            source,
            by,
        } => {
            let targets = trust.block_targets(targets).await?;
            return unblock_all(trust, &targets, source.as_deref(), by, json, out).await;
        }
        BlocksCommand::Blocks { count: true, .. } => print_counts(trust, json, out).await?,
        BlocksCommand::Blocks { source, kind, .. } => {
            each(trust, source.as_deref(), *kind, |block| {
                print(&BlockView::from(block), json, out)
            })
            .await?;
        }
        BlocksCommand::ImportBlocks {
            file,
            source,
            kind,
            by,
        } => import(trust, file, source, *kind, &by.by()?, json, out).await?,
        BlocksCommand::ExportBlocks {
            source,
            kind,
            format,
        } => export(trust, source.as_deref(), *kind, *format, out).await?,
        BlocksCommand::Hash { files } => return hash::run(files, json, out),
    }
    Ok(ExitCode::SUCCESS)
}

async fn unblock_all(
    trust: &Trust,
    targets: &[Target],
    source: Option<&str>,
    by: &ByArgs,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let by = by.by()?;
    let mut code = ExitCode::SUCCESS;
    for target in targets {
        let lifted = trust.unblock(target, source, &by).await?;
        if lifted == 0 {
            code = ExitCode::FAILURE;
        }
        if json {
            let object = json!({"target": target.to_string(), "lifted": lifted});
            writeln!(out, "{object}")?;
        } else if lifted == 0 {
            writeln!(out, "{target} was not blocked")?;
        } else {
            writeln!(out, "{target} is not blocked any more")?;
        }
    }
    Ok(code)
}

/// Names images that are served although their bytes are blocked now.
async fn warn_served(trust: &Trust, targets: &[Target]) -> anyhow::Result<()> {
    for id in trust.served_among(targets).await? {
        tracing::warn!(image.id = %id, "an image with these bytes is still served; remove it if it should not be");
    }
    Ok(())
}

/// Calls `each` for every block that the options name, in order.
async fn each(
    trust: &Trust,
    source: Option<&str>,
    kind: Option<KindArg>,
    mut each: impl FnMut(&Block) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let mut filter = Filter {
        source: source.map(str::to_owned),
        kind: kind.map(Kind::from),
        after: None,
    };
    loop {
        let page = trust.blocks(&filter, PAGE).await?;
        page.iter().try_for_each(&mut each)?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        filter.after = Some((last.target.kind(), last.target.value(), last.source.clone()));
    }
}

fn print(block: &BlockView, json: bool, out: &mut impl Write) -> std::io::Result<()> {
    if json {
        return writeln!(out, "{}", serde_json::to_string(block)?);
    }
    let BlockView {
        kind,
        value,
        source,
        reason,
        created_at,
        expires_at,
    } = block;
    let until = expires_at.map_or_else(String::new, |at| format!(" until {at}"));
    writeln!(
        out,
        "{kind}:{value}  {source}  since {created_at}{until}  {reason}"
    )
}

async fn print_counts(trust: &Trust, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    for (source, kind, count) in trust.count_blocks().await? {
        let kind = kind.as_str();
        if json {
            let object = json!({"source": source, "kind": kind, "blocks": count});
            writeln!(out, "{object}")?;
        } else {
            writeln!(out, "{source}  {kind}  {count}")?;
        }
    }
    Ok(())
}

async fn import(
    trust: &Trust,
    file: &Path,
    source: &str,
    kind: Option<KindArg>,
    by: &By,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.with_context(|| format!("{} can't be read", file.display()))?;
    let imported = trust
        .import_blocks(&text, source, kind.map(Kind::from), by)
        .await;
    let imported = imported.with_context(|| file.display().to_string())?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&imported)?)?;
    } else {
        let Imported {
            source,
            blocks,
            added,
            updated,
            removed,
            skipped_lines,
        } = imported;
        writeln!(
            out,
            "{source} has {blocks} blocks: {added} added, {updated} updated, {removed} removed; {skipped_lines} lines of other kinds skipped"
        )?;
    }
    Ok(())
}

async fn export(
    trust: &Trust,
    source: Option<&str>,
    kind: Option<KindArg>,
    form: Form,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if form == Form::Plain && kind.is_none() {
        bail!("plain values don't tell their kind: name one with --kind, or export csv");
    }
    if form == Form::Csv {
        write!(out, "{CSV_HEAD}")?;
    }
    each(trust, source, kind, |block| match form {
        Form::Csv => write!(out, "{}", csv_row(block)),
        Form::Plain => writeln!(out, "{}", block.target.value()),
    })
    .await
}
