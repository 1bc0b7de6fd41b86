//! `pixtoll admin`: the operator's acts on images, on the database and the store directly.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::ServeArgs;
use super::reap::open_store_beside;
use crate::app::{open_database_beside, open_trust};
use crate::config::{Config, load, process_env};
use crate::db::Db;
use crate::model::admin_log::Head;
use crate::model::ids::ImageId;
use crate::model::removal::Ground;
use crate::system::clock::{Clock, SystemClock};
use crate::system::random::Randomness;
use crate::trust::find::{Page, image_id};
use crate::trust::{BlockOf, By, Fate, Trust};

mod blocks;
mod cases;
mod hash;
mod print;

/// The arguments of `pixtoll admin`, which may run beside the server.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The settings, which name the database and the store.
    #[command(flatten)]
    pub place: ServeArgs,
    /// Print JSON, one object per line.
    #[arg(long, global = true)]
    pub json: bool,
    /// The subcommand.
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// The subcommands of `pixtoll admin`.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Acts on images, and the log.
    #[command(flatten)]
    Images(ImagesCommand),
    /// Acts on cases.
    #[command(flatten)]
    Cases(cases::CasesCommand),
    /// Acts on blocks.
    #[command(flatten)]
    Blocks(blocks::BlocksCommand),
}

/// The subcommands about images and the log.
#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// List images, the newest first
    ///
    /// With --state waiting: the holds whose time is over, and which wait for your decision.
    #[command(verbatim_doc_comment)]
    List {
        /// The images to list.
        #[arg(long, default_value = "all", value_parser = Page::STATES)]
        state: String,
        /// Continue after this image, the last one of the page before.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// The most images to list.
        #[arg(long, default_value_t = 50, value_name = "COUNT")]
        limit: u32,
    },
    /// Show all that is known of an image: payments, removal, hold, purge and log
    Show {
        /// The image, by id or by link.
        image: String,
    },
    /// Find images by an id, a link, a wallet, a transaction or a payment
    ///
    /// Exits with 1 when none is found.
    #[command(verbatim_doc_comment)]
    Find {
        /// An image's id or link, a wallet's address, a transaction's hash or a payment's ledger id.
        what: String,
    },
    /// Remove images: no server serves them any more, within two seconds
    ///
    /// Their links answer 404, or 451 with --legal. The CDN is asked to drop them. Uploaders keep
    /// nothing that shows them, and nothing is owed for what was paid. pixtoll admin restore brings
    /// them back for as long as trust.restorable says.
    #[command(verbatim_doc_comment)]
    Remove {
        /// The images.
        #[command(flatten)]
        images: ImagesArgs,
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
    /// Serve removed images again, until their expiry
    Restore {
        /// The images.
        #[command(flatten)]
        images: ImagesArgs,
        /// Who acts, and why.
        #[command(flatten)]
        by: ByArgs,
    },
    /// Preserve the content of images under a legal hold, and remove them
    ///
    /// The content moves to a sealed prefix of the store that no route serves. Neither the expiry, nor
    /// the owner, nor the reaper deletes it. After the hold's time it waits for your decision.
    #[command(verbatim_doc_comment)]
    Hold {
        /// The images.
        #[command(flatten)]
        images: ImagesArgs,
        /// The removal follows a legal demand: the links answer 451.
        #[arg(long)]
        legal: bool,
        /// How long to preserve the content, in place of trust.preserve. A hold is never shortened.
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        time: Option<Duration>,
        /// Who acts, and why.
        #[command(flatten)]
        by: ByArgs,
    },
    /// End a legal hold: delete the content, or serve the image again
    #[command(group = clap::ArgGroup::new("fate").required(true).args(["delete", "restore"]))]
    Release {
        /// The images.
        #[command(flatten)]
        images: ImagesArgs,
        /// Delete the content.
        #[arg(long)]
        delete: bool,
        /// Serve the image again.
        #[arg(long)]
        restore: bool,
        /// Confirm that the hold ends before its time is over.
        #[arg(long)]
        early: bool,
        /// Who acts, and why.
        #[command(flatten)]
        by: ByArgs,
    },
    /// Write the file of an image and what is known of it into a folder, for a report to an authority
    Package {
        /// The image, by id or by link.
        image: String,
        /// The folder, which is created. Existing files are never replaced.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// Who acts, and why.
        #[command(flatten)]
        by: ByArgs,
    },
    /// Record that an authority acknowledged the report of a removed image
    Acknowledge {
        /// The image, by id or by link.
        image: String,
        /// The reference that the authority answered with.
        #[arg(long)]
        reference: String,
        /// Who acts, and why.
        #[command(flatten)]
        by: ByArgs,
    },
    /// Show what was done, by whom and why; or check that the log is intact
    ///
    /// Prints the newest entries first. With --verify it checks the hashes of all entries, prints the
    /// newest one and exits with 1 when an entry was changed, deleted or moved. Keep what it prints in
    /// another place: --expect then shows whether entries at the end were deleted since.
    #[command(verbatim_doc_comment)]
    Audit {
        /// Check the whole log.
        #[arg(long)]
        verify: bool,
        /// A newest entry that was printed earlier, as NUMBER:HASH.
        #[arg(long, value_name = "NUMBER:HASH", requires = "verify", value_parser = head)]
        expect: Option<Head>,
        /// Show the entries about this image, block or list alone.
        #[arg(long, value_name = "SUBJECT", conflicts_with = "verify")]
        about: Option<String>,
        /// Continue before the entry with this number.
        #[arg(long, value_name = "NUMBER", conflicts_with = "verify")]
        before: Option<i64>,
        /// The most entries to show.
        #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

/// The images of an act.
#[derive(Debug, Args)]
pub struct ImagesArgs {
    /// The images, by id or by link.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// What a removal also blocks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum BlockOfArg {
    /// The bytes and the picture, whoever uploads them.
    Content,
    /// The wallet that uploaded the image.
    Wallet,
}

impl From<BlockOfArg> for BlockOf {
    fn from(given: BlockOfArg) -> Self {
        match given {
            BlockOfArg::Content => Self::Content,
            BlockOfArg::Wallet => Self::Wallet,
        }
    }
}

impl ImagesArgs {
    /// All ids, before anything is done.
    fn ids(&self) -> anyhow::Result<Vec<ImageId>> {
        let ids = self.images.iter().map(|image| Ok(image_id(image)?));
        ids.collect()
    }
}

/// Who acts, and why. Both are written into the log.
#[derive(Debug, Args)]
pub struct ByArgs {
    /// Why, in your words. Only operators see it.
    #[arg(long)]
    reason: String,
    /// Who acts. The default is the name of the operating system's user.
    #[arg(long = "as", value_name = "NAME")]
    actor: Option<String>,
}

impl ByArgs {
    fn by(&self) -> anyhow::Result<By> {
        let actor = self.actor.clone();
        let actor = actor.unwrap_or_else(|| user_name(&process_env()));
        Ok(By::new(&actor, &self.reason)?)
    }
}

/// The name of the operating system's user, or its number.
pub(super) fn user_name(env: &BTreeMap<String, String>) -> String {
    let named = ["USER", "LOGNAME"].iter().find_map(|name| env.get(*name));
    let named = named.filter(|name| !name.is_empty());
    named.cloned().unwrap_or_else(|| {
        let number = rustix::process::geteuid().as_raw();
        format!("uid {number}")
    })
}

/// Reads `NUMBER:HASH`.
fn head(text: &str) -> Result<Head, String> {
    let parsed = text.split_once(':').and_then(|(number, hash)| {
        let number: i64 = number.parse().ok()?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let hash = hash.to_ascii_lowercase();
        let head = Head { number, hash };
        let is_possible = head.number > 0 || head == Head::of_empty_log();
        (is_possible && is_hash).then_some(head)
    });
    parsed.ok_or_else(|| {
        "is not a number, a colon and 64 hexadecimal digits. Write what --verify printed".to_owned()
    })
}

/// Runs a subcommand and returns its exit code.
///
/// # Errors
/// When the settings are invalid, the database or the store doesn't answer, or the act doesn't fit
/// the image. Several images are handled in order; the first one that fails ends the command.
pub async fn run(args: &AdminArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if let AdminCommand::Blocks(blocks::BlocksCommand::Hash { files }) = &args.command {
        return hash::run(files, args.json, out);
    }
    let config = load(&args.place.sources())?.config;
    let db = open_database_beside(&config.database).await?;
    let done = match &args.command {
        AdminCommand::Blocks(command) => {
            blocks::run(command, &acts(&config, &db)?, args.json, out).await
        }
        AdminCommand::Cases(command) => {
            cases::run(&acts(&config, &db)?, command, args.json, out).await
        }
        AdminCommand::Images(command) => act(&acts(&config, &db)?, command, args.json, out).await,
    };
    db.close().await;
    done
}

/// The acts on the database and the store that the settings name.
fn acts(config: &Config, db: &Db) -> anyhow::Result<Trust> {
    let store = open_store_beside(&config.images.store)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    open_trust(config, db.clone(), store, clock, &Randomness::system())
}

async fn act(
    trust: &Trust,
    command: &ImagesCommand,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    match command {
        ImagesCommand::List {
            state,
            after,
            limit,
        } => {
            let page = Page::parse(state, after.as_deref(), *limit)?;
            print::images(&trust.list(&page).await?, json, out)?;
        }
        ImagesCommand::Show { image } => {
            print::facts(&trust.facts(&image_id(image)?).await?, json, out)?;
        }
        ImagesCommand::Find { what } => {
            let found = trust.find(what).await?;
            print::images(&found, json, out)?;
            if found.is_empty() {
                return Ok(ExitCode::FAILURE);
            }
        }
        ImagesCommand::Package { image, out: to, by } => {
            let package = trust.package(&image_id(image)?, to, &by.by()?).await?;
            print::package(&package, json, out)?;
        }
        ImagesCommand::Audit {
            verify: true,
            expect,
            ..
        } => {
            let verified = trust.verify_log(expect.as_ref()).await?;
            print::verified(&verified, json, out)?;
            if !verified.is_intact {
                return Ok(ExitCode::FAILURE);
            }
        }
        ImagesCommand::Audit {
            about,
            before,
            limit,
            ..
        } => {
            let entries = trust.log(*before, about.as_deref(), *limit).await?;
            print::entries(&entries, json, out)?;
        }
        changing => change(trust, changing, json, out).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The acts that change images. Prints each image after its act.
async fn change(
    trust: &Trust,
    command: &ImagesCommand,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (ids, by) = match command {
        ImagesCommand::Remove { images, by, .. }
        | ImagesCommand::Restore { images, by }
        | ImagesCommand::Hold { images, by, .. }
        | ImagesCommand::Release { images, by, .. } => (images.ids()?, by.by()?),
        ImagesCommand::Acknowledge { image, by, .. } => (vec![image_id(image)?], by.by()?),
        _ => bail!("this command changes nothing"),
    };
    for id in &ids {
        let done = match command {
            ImagesCommand::Remove {
                legal, hold, block, ..
            } => {
                let hold = hold.then(|| trust.preserve());
                let block: Vec<BlockOf> = block.iter().copied().map(BlockOf::from).collect();
                trust.remove(id, ground(*legal), hold, &block, &by).await
            }
            ImagesCommand::Restore { .. } => trust.restore(id, &by).await,
            ImagesCommand::Hold { legal, time, .. } => {
                let ground = legal.then_some(Ground::Legal);
                let time = time.unwrap_or(trust.preserve());
                trust.hold(id, ground, time, &by).await
            }
            ImagesCommand::Release { delete, early, .. } => {
                let fate = if *delete { Fate::Delete } else { Fate::Restore };
                trust.release(id, fate, *early, &by).await
            }
            ImagesCommand::Acknowledge { reference, .. } => {
                trust.acknowledge(id, reference, &by).await
            }
            _ => Ok(()),
        };
        done.with_context(|| format!("image {id}"))?;
        print::facts(&trust.facts(id).await?, json, out)?;
    }
    Ok(())
}

fn ground(is_legal: bool) -> Ground {
    if is_legal {
        Ground::Legal
    } else {
        Ground::Policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_entry_is_a_number_and_a_hash() {
        let hash = "ab".repeat(32);
        let parsed = head(&format!("7:{}", hash.to_uppercase())).unwrap();
        assert_eq!((parsed.number, parsed.hash), (7, hash.clone()));
        let bad = [
            "7".to_owned(),
            format!("0:{hash}"),
            format!("-1:{hash}"),
            "7:abc".to_owned(),
            format!("7:{}", "zz".repeat(32)),
        ];
        for text in bad {
            assert!(head(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_release_names_every_fate_that_it_takes() {
        let release = |fates: &[&str]| {
            let before = [
                "pixtoll",
                "admin",
                "release",
                "k3v9Qw2mZr7T",
                "--reason",
                "r",
            ];
            let command = <crate::cli::Cli as clap::CommandFactory>::command();
            command.try_get_matches_from([&before[..], fates].concat())
        };
        let without = release(&[]).unwrap_err().to_string();
        let (missing, usage) = without.split_once("Usage:").unwrap();
        for text in [missing, usage] {
            assert!(text.contains("<--delete|--restore>"), "{without}");
        }
        assert!(release(&["--delete"]).is_ok());
        assert!(release(&["--restore", "--early"]).is_ok());
        let both = release(&["--delete", "--restore"]).unwrap_err();
        assert_eq!(both.kind(), clap::error::ErrorKind::ArgumentConflict);
    }

    #[test]
    fn the_user_has_a_name_even_without_an_environment() {
        let env = |name: &str| BTreeMap::from([("USER".to_owned(), name.to_owned())]);
        assert_eq!(user_name(&env("ada")), "ada");
        assert!(user_name(&env("")).starts_with("uid "));
    }
}
