//! What the client's commands share: their options, their output and their exit codes.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use url::Url;

use crate::client::account::Account;
use crate::client::clipboard::Clipboard;
use crate::client::{Failure, Notice, Price, Uploaded};
use crate::model::ids::ImageId;
use crate::pricing::money::AtomicAmount;
use crate::pricing::tiers::TierName;

/// The variable with the URL of the server, for all commands of a client.
const SERVER_VARIABLE: &str = "PIXTOLL_SERVER";
/// The server of `pixtoll serve --sandbox`.
const SANDBOX_SERVER: &str = "http://127.0.0.1:4020";

/// The exit codes of the commands that sign in and don't pay.
pub(super) const OWNER_HELP: &str = "\
The wallet is the first of: --wallet FILE, PIXTOLL_WALLET_KEY (the key in hex), PIXTOLL_WALLET (a
file), ~/.local/share/pixtoll/wallet.key. It signs in and pays nothing.

Exit codes:
  0  done
  1  unexpected error
  2  an option or the wallet is wrong, or the server refuses: it is unknown or not yours
  7  the server can't be reached or is busy";

/// The options of the commands that act for a wallet's owner and pay nothing.
#[derive(Debug, Args)]
pub(super) struct OwnerArgs {
    /// The server's base URL, as its links name it
    #[arg(long, value_name = "URL", default_value = SANDBOX_SERVER, env = SERVER_VARIABLE, hide_env_values = true)]
    pub(super) server: Url,
    /// A file with the private key of the account, in hex
    #[arg(long, value_name = "FILE")]
    pub(super) wallet: Option<PathBuf>,
    /// Print JSON, one object per line
    #[arg(long)]
    pub(super) json: bool,
}

/// The options of the paying commands: server, price limit and wallet.
#[derive(Debug, Args)]
pub(super) struct PayArgs {
    /// The server's base URL
    #[arg(long, value_name = "URL", default_value = SANDBOX_SERVER, env = SERVER_VARIABLE, hide_env_values = true)]
    pub(super) server: Url,
    /// The highest price to pay for one image, in USD; a higher price is not paid
    #[arg(long, value_name = "USD", default_value = "0.05", value_parser = usd)]
    pub(super) max_price: AtomicAmount,
    /// A file with the private key of the paying account, in hex
    #[arg(long, value_name = "FILE")]
    pub(super) wallet: Option<PathBuf>,
    /// Print what would be paid, without paying or uploading
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// The output options of the commands that print links of images.
#[derive(Debug, Args)]
pub(super) struct FormatArgs {
    /// The output format for each image
    #[arg(long, value_enum, default_value_t = Format::Url)]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Copy what is printed into the desktop's clipboard as well
    #[arg(long)]
    pub(super) copy: bool,
}

impl FormatArgs {
    /// The output format.
    pub(super) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// The output formats, one line per image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// The link
    Url,
    /// The link as a Markdown image
    Markdown,
    /// The link as an HTML image
    Html,
    /// The server's JSON response on one line; it holds the delete token
    Json,
}

/// The result of a paying command. The exit codes are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command did all that it was asked to do.
    Uploaded,
    /// An unexpected error.
    Unexpected,
    /// The command line, a file or the wallet is wrong.
    Usage,
    /// The server refused a file.
    FileRefused,
    /// The price is above `--max-price`, or this client can't pay what the server asks for.
    NotPayable,
    /// The payment was refused or failed. Nothing was charged.
    PaymentRefused,
    /// The outcome of a payment is not known yet, or a file that is paid for is not uploaded yet.
    OutcomeUnknown,
    /// The server can't be reached or is busy. Nothing was charged.
    Unavailable,
}

impl Exit {
    /// The exit code of the process, 0 to 7.
    pub const fn code(self) -> u8 {
        match self {
            Self::Uploaded => 0,
            Self::Unexpected => 1,
            Self::Usage => 2,
            Self::FileRefused => 3,
            Self::NotPayable => 4,
            Self::PaymentRefused => 5,
            Self::OutcomeUnknown => 6,
            Self::Unavailable => 7,
        }
    }

    /// The exit code for a failure.
    pub(super) const fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Unexpected(_) => Self::Unexpected,
            Failure::Usage(_) | Failure::Refused { .. } => Self::Usage,
            Failure::FileRefused(_) => Self::FileRefused,
            Failure::NotPayable(_) => Self::NotPayable,
            Failure::PaymentRefused(_) => Self::PaymentRefused,
            Failure::OutcomeUnknown(_) | Failure::Unfinished(_) | Failure::Unproven { .. } => {
                Self::OutcomeUnknown
            }
            Failure::Unavailable(_) => Self::Unavailable,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// What is copied into the clipboard when a command ends: the lines that it printed.
#[derive(Debug, Default)]
pub(super) struct Copied(Vec<String>);

impl Copied {
    /// Checks before anything is paid that the lines can be copied, where the user wants that.
    ///
    /// # Errors
    /// [`Failure::Usage`].
    pub(super) fn check(wanted: bool, env: &BTreeMap<String, String>) -> Result<(), Failure> {
        if wanted {
            Clipboard::find(env)?.check_copy()?;
        }
        Ok(())
    }

    /// Notes a line that was printed.
    pub(super) fn add(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }

    /// Copies the lines, where the user wants that and there are any.
    ///
    /// # Errors
    /// [`Failure::Unexpected`]. Everything else is done.
    pub(super) async fn copy(
        &self,
        wanted: bool,
        env: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        if !wanted || self.0.is_empty() {
            return Ok(());
        }
        Clipboard::find(env)?.copy(&self.0.join("\n")).await
    }
}

/// The output of a command: links go to `out`, everything else to `err`, where the spinner is drawn as well.
pub(super) struct Console<'c> {
    pub(super) out: &'c mut dyn Write,
    pub(super) err: &'c mut dyn Write,
    pub(super) bar: ProgressBar,
}

/// The price of a dry run as a sentence.
pub(super) fn in_words(price: &Price) -> String {
    match price {
        Price::Free => "would be uploaded for free.".to_owned(),
        Price::Quoted(quote) => format!(
            "would pay {} USDC{} on {} to {}.",
            quote.amount.to_decimal_usd(),
            if quote.is_play_money {
                " of play money"
            } else {
                ""
            },
            quote.network.name(),
            quote.pay_to
        ),
        Price::Pending(payment) => format!(
            "would send the payment of {} USDC on {} that an earlier run signed, and sign no other.",
            payment.amount.to_decimal_usd(),
            payment.network.name()
        ),
    }
}

/// The output line of an image in this format.
pub(super) fn line(uploaded: &Uploaded, format: Format) -> String {
    let url = uploaded.url.as_str();
    match format {
        Format::Url => url.to_owned(),
        Format::Markdown => format!("![]({})", url.replace('(', "%28").replace(')', "%29")),
        Format::Html => {
            format!(
                "<img src=\"{}\" alt=\"\">",
                url.replace('&', "&amp;").replace('"', "%22")
            )
        }
        Format::Json => uploaded.json.clone(),
    }
}

/// An image on the command line: its id, and the link that named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) id: ImageId,
    /// The link, which may be the signed link of a private image. `None` where only the id was given.
    pub(super) link: Option<Url>,
}

/// Parses an image id, or a link whose last path segment is the id, with or without an extension.
pub(super) fn image(text: &str) -> Result<Named, String> {
    let link = Url::parse(text).ok();
    let path = link.as_ref().map_or(text, Url::path);
    let name = path.rsplit('/').next().unwrap_or_default();
    let id = name.split('.').next().unwrap_or_default();
    match ImageId::parse(id) {
        Some(id) => Ok(Named { id, link }),
        None => Err(
            "an image id has 12 letters and digits: give one, or a link such as https://i.example.com/k3v9Qw2mZr7T.png"
                .to_owned(),
        ),
    }
}

/// Refuses links of other servers, before anything is done.
///
/// # Errors
/// [`Failure::Usage`].
pub(super) async fn check_links(account: &Account, images: &[Named]) -> Result<(), Failure> {
    for link in images.iter().filter_map(|image| image.link.as_ref()) {
        account.check_link(link).await?;
    }
    Ok(())
}

/// Writes a line of a command's result.
///
/// # Errors
/// [`Failure::Unexpected`] when standard output can't be written, such as a closed pipe.
pub(super) fn print(out: &mut dyn Write, line: &str) -> Result<(), Failure> {
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|error| {
        Failure::Unexpected(format!(
            "The result could not be written to standard output: {error}. Run the command again."
        ))
    })
}

/// Writes a message to standard error.
pub(super) fn tell(line: &str) {
    // Nobody reads standard error where it can't be written.
    drop(writeln!(io::stderr(), "{line}"));
}

/// Reports a failure, and returns the exit code.
pub(super) fn exit(result: Result<(), Failure>) -> Exit {
    match result {
        Ok(()) => Exit::Uploaded,
        Err(failure) => {
            tell(&failure.to_string());
            Exit::of(&failure)
        }
    }
}

/// Parses a tier's name on the command line.
pub(super) fn tier(text: &str) -> Result<TierName, String> {
    TierName::parse(text).map_err(|error| error.to_string())
}

/// Parses an amount of USD on the command line, such as `0.05`.
pub(super) fn usd(text: &str) -> Result<AtomicAmount, String> {
    AtomicAmount::from_decimal_usd(text).map_err(|error| error.to_string())
}

/// A spinner on standard error; hidden where that is no terminal.
pub(super) fn spinner() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

impl Console<'_> {
    /// Writes a line to standard output.
    ///
    /// # Errors
    /// When standard output can't be written, such as a closed pipe.
    pub(super) fn link(&mut self, line: &str) -> io::Result<()> {
        let out = &mut self.out;
        self.bar
            .suspend(|| writeln!(out, "{line}").and_then(|()| out.flush()))
    }

    /// Writes a line to standard error.
    pub(super) fn say(&mut self, line: &str) {
        let err = &mut self.err;
        if self.bar.suspend(|| writeln!(err, "{line}")).is_err() {
            // Standard error is closed; the exit code still gives the result.
        }
    }

    /// Shows a progress event of the client.
    pub(super) fn tell(&mut self, notice: Notice) {
        match notice {
            Notice::Step(text) => self.bar.set_message(text),
            Notice::Fact(text) => self.say(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_given_by_its_id_or_any_of_its_links() {
        for text in [
            "k3v9Qw2mZr7T",
            "k3v9Qw2mZr7T.png",
            "https://i.example.com/k3v9Qw2mZr7T.png",
            "http://127.0.0.1:4020/i/k3v9Qw2mZr7T",
            "https://example.com/view/k3v9Qw2mZr7T?x=1#y",
        ] {
            let named = image(text).unwrap();
            assert_eq!(named.id.as_str(), "k3v9Qw2mZr7T", "{text}");
            assert_eq!(named.link.is_some(), text.contains("://"), "{text}");
        }
        for text in [
            "",
            "k3v9Qw2mZr7",
            "https://i.example.com/",
            "../k3v9Qw2mZr7T!",
        ] {
            assert!(image(text).is_err(), "{text}");
        }
    }
}
