//! `pixtoll admin cases`, `case`, `uphold` and `dismiss`.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;

use super::{BlockOfArg, ByArgs, ground, print};
use crate::trust::decide::MOST_CASES;
use crate::trust::{BlockOf, Trust};

/// The subcommands about cases.
#[derive(Debug, Subcommand)]
pub enum CasesCommand {
    /// List the open cases, those to look at first in front
    ///
    /// All reports of one image are one case. The gravest reasons come first, then what most networks
    /// reported, then the oldest.
    #[command(verbatim_doc_comment)]
    Cases {
        /// List decided cases as well, the newest first.
        #[arg(long)]
        all: bool,
        /// The most cases to list.
        #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CASES)))]
        limit: u32,
    },
    /// Show a case with all that people wrote
    Case {
        /// The case number.
        case: String,
    },
    /// Uphold a case: its image is removed
    ///
    /// The wallet that uploaded the image is blocked when this is its trust.strikes-th case.
    #[command(verbatim_doc_comment)]
    Uphold {
        /// The case number.
        case: String,
        /// The removal follows a legal demand: the links answer 451.
        #[arg(long)]
        legal: bool,
        /// Preserve the content under a legal hold as well.
        #[arg(long)]
        hold: bool,
        /// Refuse new uploads of the same picture, or of the same wallet, from now on.
        #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
        block: Vec<BlockOfArg>,
        /// Who acts, and why.
        #[command(flatten)]
        by: ByArgs,
    },
    /// Dismiss a case: its image stays
    Dismiss {
        /// The case number.
        case: String,
        /// Who acts, and why.
        #[command(flatten)]
        by: ByArgs,
    },
}

/// Runs a subcommand.
///
/// # Errors
/// When the database or the store doesn't answer, or the act doesn't fit the case.
pub(super) async fn run(
    trust: &Trust,
    command: &CasesCommand,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let case = match command {
        CasesCommand::Cases { all, limit } => {
            print::reported(&trust.cases(*all, *limit).await?, json, out)?;
            return Ok(ExitCode::SUCCESS);
        }
        CasesCommand::Case { case } => case,
        CasesCommand::Uphold {
            case,
            legal,
            hold,
            block,
            by,
        } => {
            let hold = hold.then(|| trust.preserve());
            let block: Vec<BlockOf> = block.iter().copied().map(BlockOf::from).collect();
            let (ground, by) = (ground(*legal), by.by()?);
            trust.uphold(case, ground, hold, &block, &by).await?;
            case
        }
        CasesCommand::Dismiss { case, by } => {
            trust.dismiss(case, &by.by()?).await?;
            case
        }
    };
    print::reported(&[trust.reported(case).await?], json, out)?;
    Ok(ExitCode::SUCCESS)
}
