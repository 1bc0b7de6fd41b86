//! What the paying commands share: their options, their output and their exit codes.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use url::Url;

use crate::client::{Failure, Notice, Price, Uploaded};
use crate::pricing::money::AtomicAmount;
use crate::pricing::tiers::TierName;

/// The options of the paying commands: server, price limit, wallet and output format.
#[derive(Debug, Args)]
pub(super) struct PayArgs {
    /// The server's base URL
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4020")]
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
    /// The output format for each image
    #[arg(long, value_enum, default_value_t = Format::Url)]
    pub(super) format: Format,
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
    /// All files are uploaded, or all images renewed.
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
            Failure::Usage(_) => Self::Usage,
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

/// Parses a tier's name on the command line.
pub(super) fn tier(text: &str) -> Result<TierName, String> {
    TierName::parse(text).map_err(|error| error.to_string())
}

/// Parses an amount of USD on the command line, such as `0.05`.
fn usd(text: &str) -> Result<AtomicAmount, String> {
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
