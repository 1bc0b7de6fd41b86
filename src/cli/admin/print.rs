//! The output of `pixtoll admin`: lines for people, or one JSON object per line.

use std::io::{self, Write};

use serde::Serialize;

use crate::model::admin_log::Logged;
use crate::trust::audit::Verified;
use crate::trust::decide::CaseView;
use crate::trust::facts::{Facts, ImageView, PaymentView, PurgeView, RemovalView};
use crate::trust::package::Package;

fn object(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

pub(super) fn images(found: &[ImageView], json: bool, out: &mut impl Write) -> io::Result<()> {
    for image in found {
        if json {
            object(image, out)?;
        } else {
            writeln!(out, "{}", line(image))?;
        }
    }
    Ok(())
}

fn line(image: &ImageView) -> String {
    let removal = image.removal.as_ref().map_or_else(String::new, |removal| {
        let hold = match (&removal.hold_until, removal.is_waiting) {
            (Some(until), true) => format!(", hold over since {until}"),
            (Some(until), false) => format!(", held until {until}"),
            (None, _) => String::new(),
        };
        format!("  {}{hold}: {}", removal.ground, removal.reason)
    });
    format!(
        "{}  {}  {}  {} bytes  {}  {}{removal}",
        image.id,
        image.created_at,
        image.state,
        image.size_bytes,
        image.tier,
        image.owner.as_deref().unwrap_or("no owner"),
    )
}

pub(super) fn facts(facts: &Facts, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return object(facts, out);
    }
    let image = &facts.image;
    writeln!(out, "image {}: {}", image.id, image.state)?;
    writeln!(out, "  link      {} ({})", image.url, image.visibility)?;
    writeln!(
        out,
        "  file      {}, {} x {} pixels, {} bytes",
        image.content_type, image.width, image.height, image.size_bytes
    )?;
    writeln!(out, "  sha256    {}", image.sha256)?;
    writeln!(
        out,
        "  uploaded  {} (sha256 {})",
        image.created_at, image.upload_sha256
    )?;
    let owner = image.owner.as_deref().unwrap_or("nobody signs in for it");
    writeln!(out, "  tier      {}, owner {owner}", image.tier)?;
    let expiry = image.expires_at.as_deref().unwrap_or("never");
    writeln!(out, "  expires   {expiry}")?;
    for payment in &facts.payments {
        writeln!(out, "  {}", paid(payment))?;
    }
    if let Some(removal) = &image.removal {
        write_removal(removal, out)?;
    }
    if let Some(purge) = &facts.purge {
        writeln!(out, "  cdn       {}", purged(purge))?;
    }
    entries_after("  log       ", &facts.log, out)
}

/// Cases, with what people wrote where that is known.
pub(super) fn reported(cases: &[CaseView], json: bool, out: &mut impl Write) -> io::Result<()> {
    for case in cases {
        if json {
            object(case, out)?;
            continue;
        }
        writeln!(
            out,
            "{}  {}  {}  image {} ({})  reports: {}, networks: {}  since {}",
            case.case,
            case.state,
            case.reason,
            case.image,
            case.image_state,
            case.reports,
            case.networks,
            case.opened_at
        )?;
        if let (Some(at), Some(by), Some(why)) =
            (&case.decided_at, &case.decided_by, &case.decision)
        {
            writeln!(out, "  decided   {at} by {by}: {why}")?;
        }
        if let Some(at) = &case.objected_at {
            let next = match (&case.restore_between, case.image_state) {
                (Some([first, last]), _) => format!("restore between {first} and {last}"),
                (None, "served") => "the image is restored already".to_owned(),
                (None, "deleted") => "the image is deleted, so nothing can be restored".to_owned(),
                (None, _) => {
                    "no restore is due: the image is not removed for copyright because of this case"
                        .to_owned()
                }
            };
            writeln!(out, "  objected  {at}; {next}")?;
        }
        for words in &case.words {
            let reason = words.reason.unwrap_or(words.kind);
            let contact = words.contact.as_deref().unwrap_or("no contact");
            writeln!(
                out,
                "  {}  {reason}, {contact}: {}",
                words.received_at,
                printable(&words.details)
            )?;
            if let Some(statement) = &words.statement {
                writeln!(out, "    statement {statement}")?;
            }
        }
    }
    Ok(())
}

/// A text of strangers, on one line and without control characters.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

fn paid(payment: &PaymentView) -> String {
    let transaction = payment.transaction.as_deref().unwrap_or("no transaction");
    let owed = payment.owed.as_ref();
    let owed = owed.map_or_else(String::new, |owed| format!(", owed: {owed}"));
    format!(
        "payment   {} {} by {} on {}, {transaction}, ledger id {}{owed}",
        payment.kind, payment.state, payment.payer, payment.network, payment.id
    )
}

fn write_removal(removal: &RemovalView, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "  removed   {} ({}): {}",
        removal.removed_at, removal.ground, removal.reason
    )?;
    if let Some(until) = &removal.hold_until {
        let sealed = if removal.sealed_at.is_some() {
            "sealed"
        } else {
            "not sealed yet"
        };
        let over = if removal.is_waiting {
            ", which is over: release it, or hold it longer"
        } else {
            ""
        };
        writeln!(out, "  held      until {until}{over}; {sealed}")?;
    }
    if let Some(reference) = &removal.report_reference {
        writeln!(out, "  reported  {reference}")?;
    }
    Ok(())
}

fn purged(purge: &PurgeView) -> String {
    if let Some(at) = &purge.purged_at {
        return format!("purged {at}");
    }
    let next = purge.next_at.as_deref().unwrap_or("never");
    match &purge.problem {
        Some(problem) => format!(
            "not purged after {} tries, next one {next}: {problem}",
            purge.tries
        ),
        None => format!("not purged yet, next try {next}"),
    }
}

pub(super) fn package(package: &Package, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return object(package, out);
    }
    writeln!(out, "{}", package.file.display())?;
    writeln!(out, "{}", package.facts.display())
}

pub(super) fn entries(entries: &[Logged], json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return entries.iter().try_for_each(|entry| object(entry, out));
    }
    entries_after("", entries, out)
}

fn entries_after(before: &str, entries: &[Logged], out: &mut impl Write) -> io::Result<()> {
    entries.iter().try_for_each(|entry| {
        writeln!(
            out,
            "{before}{} {} {} {} by {}: {} {}",
            entry.number,
            entry.at,
            entry.act,
            entry.subject,
            entry.actor,
            entry.reason,
            entry.details
        )
    })
}

pub(super) fn verified(verified: &Verified, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        return object(verified, out);
    }
    match &verified.fault {
        None => writeln!(
            out,
            "the log is intact; its newest entry is {}:{}",
            verified.head.number, verified.head.hash
        ),
        Some(fault) => writeln!(
            out,
            "the log is NOT intact after entry {}: {fault}",
            verified.head.number
        ),
    }
}
