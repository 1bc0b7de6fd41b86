//! `pixtoll info`: the facts about an image.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use url::Url;

use super::console::{Exit, Named, OWNER_HELP, OwnerArgs, check_links, exit, image, print, tell};
use super::list::{end, size};
use crate::client::Failure;
use crate::client::account::Account;
use crate::client::facts::Facts;
use crate::client::kept::KeptTokens;

/// Show the facts about images
#[derive(Debug, Args)]
#[command(after_help = OWNER_HELP)]
pub struct InfoArgs {
    /// The images, by id or by link; a private image of somebody else by its signed link
    #[arg(required = true, value_name = "IMAGE", value_parser = image)]
    images: Vec<Named>,
    /// The options for server, wallet and output.
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Runs the command and returns its exit code. `env` names the wallet, the home directory and a proxy for https.
pub async fn run(args: &InfoArgs, env: &BTreeMap<String, String>, out: &mut dyn Write) -> Exit {
    info(args, env, out)
        .await
        .unwrap_or_else(|failure| exit(Err(failure)))
}

async fn info(
    args: &InfoArgs,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let account = Account::new(&args.owner.server, args.owner.wallet.as_deref(), env)?;
    check_links(&account, &args.images).await?;
    let kept = KeptTokens::find(&args.owner.server, env);
    let mut result = Exit::Uploaded;
    for named in &args.images {
        let proof = named.link.as_ref().and_then(proof);
        let token = match &kept {
            Some(kept) if proof.is_none() => kept.token(&named.id)?,
            _ => None,
        };
        let facts = account
            .image(&named.id, proof.as_deref(), token.as_deref())
            .await;
        let facts = match facts {
            Ok(facts) => facts,
            // The others are shown.
            Err(failure @ Failure::Refused { .. }) => {
                tell(&format!("{}: {failure}", named.id));
                result = Exit::of(&failure);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if args.owner.json {
            print(out, &facts.json())?;
        } else {
            show(&facts, out)?;
        }
    }
    Ok(result)
}

/// The query of a private image's signed link. `None`: the link is that of a public image.
fn proof(link: &Url) -> Option<String> {
    let names = ["exp", "sig"];
    let is_signed = names
        .iter()
        .all(|name| link.query_pairs().any(|(key, _)| key == *name));
    link.query().filter(|_| is_signed).map(str::to_owned)
}

fn show(facts: &Facts, out: &mut dyn Write) -> Result<(), Failure> {
    let text = |pointer| facts.text(pointer).unwrap_or_else(|| "?".to_owned());
    print(out, &text("/url"))?;
    print(out, &format!("  tier      {}", text("/tier")))?;
    print(out, &format!("  type      {}", text("/contentType")))?;
    print(out, &format!("  size      {}", size(facts)))?;
    print(out, &format!("  uploaded  {}", text("/createdAt")))?;
    print(out, &format!("  kept      {}", end(facts)))?;
    if let Some(visibility) = facts.text("/visibility") {
        print(out, &format!("  seen by   {}", audience(&visibility)))?;
    }
    print(out, &format!("  sha256    {}", text("/sha256")))
}

fn audience(visibility: &str) -> &str {
    match visibility {
        "public" => "everybody with the link",
        "private" => "holders of a signed link",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_signed_link_is_a_proof() {
        let of = |url| proof(&Url::parse(url).unwrap());
        assert_eq!(of("https://a/i/b.png?exp=1&sig=2").unwrap(), "exp=1&sig=2");
        for url in [
            "https://a/i/b.png",
            "https://a/i/b.png?w=1",
            "https://a/i/b.png?exp=1",
        ] {
            assert_eq!(of(url), None, "{url}");
        }
    }
}
