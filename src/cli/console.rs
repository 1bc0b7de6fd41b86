//! What the paying commands share: their options, how they talk to people, and how they end.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use url::Url;

use crate::client::{Failure, Notice, Price, Uploaded};
use crate::money::AtomicAmount;
use crate::tiers::TierName;

/// Where it goes, who pays, and what is printed.
#[derive(Debug, Args)]
pub(super) struct PayArgs {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4020")]
    pub(super) server: Url,
    /// The most that one image may cost, in USD
    #[arg(long, value_name = "USD", default_value = "0.05", value_parser = usd)]
    pub(super) max_price: AtomicAmount,
    /// File that holds the private key of the paying account, in hex
    #[arg(long, value_name = "FILE")]
    pub(super) wallet: Option<PathBuf>,
    /// Say what would be paid; pay and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// What to print for each image
    #[arg(long, value_enum, default_value_t = Format::Url)]
    pub(super) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// The link
    Url,
    /// The link as a Markdown image
    Markdown,
    /// The link as an HTML image
    Html,
    /// The server's answer, in one line
    Json,
}

/// How the command ended; the numbers are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All files are uploaded.
    Uploaded,
    /// Something unexpected.
    Unexpected,
    /// The command can't be carried out as it is written.
    Usage,
    /// The server refused a file.
    FileRefused,
    /// The price is above the cap, or the challenge can't be paid.
    NotPayable,
    /// The payment was refused or failed. Nothing was charged.
    PaymentRefused,
    /// The outcome of a payment is not known yet, or not everything that is paid for is uploaded.
    OutcomeUnknown,
    /// The server is down or busy. Nothing was charged.
    Unavailable,
}

impl Exit {
    /// The exit code.
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

    pub(super) const fn of(failure: &Failure) -> Self {
        match failure {
            Failure::Unexpected(_) => Self::Unexpected,
            Failure::Usage(_) => Self::Usage,
            Failure::FileRefused(_) => Self::FileRefused,
            Failure::NotPayable(_) => Self::NotPayable,
            Failure::PaymentRefused(_) => Self::PaymentRefused,
            Failure::OutcomeUnknown(_) | Failure::Unfinished(_) | Failure::Lost(_) => {
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

/// Where the command writes: links to `out`, everything else to `err`, which `bar` shares.
pub(super) struct Console<'c> {
    pub(super) out: &'c mut dyn Write,
    pub(super) err: &'c mut dyn Write,
    pub(super) bar: ProgressBar,
}

/// What it would cost, as a sentence.
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
            "would present the payment of {} USDC on {} that an earlier run signed, and no other.",
            payment.amount.to_decimal_usd(),
            payment.network.name()
        ),
    }
}

/// An image as it is printed.
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

/// A tier's name, from the command line.
pub(super) fn tier(text: &str) -> Result<TierName, String> {
    TierName::parse(text).map_err(|error| error.to_string())
}

fn usd(text: &str) -> Result<AtomicAmount, String> {
    AtomicAmount::from_decimal_usd(text).map_err(|error| error.to_string())
}

/// Shows that something goes on, where somebody looks.
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
    pub(super) fn link(&mut self, line: &str) -> io::Result<()> {
        let out = &mut self.out;
        self.bar
            .suspend(|| writeln!(out, "{line}").and_then(|()| out.flush()))
    }

    pub(super) fn say(&mut self, line: &str) {
        let err = &mut self.err;
        if self.bar.suspend(|| writeln!(err, "{line}")).is_err() {
            // Nobody reads it any more; the exit code still tells.
        }
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        match notice {
            Notice::Step(text) => self.bar.set_message(text),
            Notice::Fact(text) => self.say(&text),
        }
    }
}
