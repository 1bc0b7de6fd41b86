//! `pixtoll delete`: deletes images, by delete token or as their owner.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use serde_json::json;

use super::console::{Exit, Named, OWNER_HELP, OwnerArgs, check_links, exit, image, print, tell};
use crate::client::Failure;
use crate::client::account::Account;
use crate::client::kept::KeptTokens;
use crate::model::ids::ImageId;

/// Delete images
#[derive(Debug, Args)]
#[command(after_help = OWNER_HELP)]
pub struct DeleteArgs {
    /// The images to delete, by id or by link
    #[arg(required = true, value_name = "IMAGE", value_parser = image)]
    images: Vec<Named>,
    /// The delete token that the upload returned; only with a single image
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The options for server, wallet and output.
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Runs the command and returns its exit code. `env` names the wallet, the home directory and a proxy for https.
pub async fn run(args: &DeleteArgs, env: &BTreeMap<String, String>, out: &mut dyn Write) -> Exit {
    exit(delete(args, env, out).await)
}

async fn delete(
    args: &DeleteArgs,
    env: &BTreeMap<String, String>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if args.token.is_some() && args.images.len() > 1 {
        return Err(Failure::Usage(format!(
            "--token is the delete token of one image, and {} images are named. Name one image.",
            args.images.len()
        )));
    }
    let account = Account::new(&args.owner.server, args.owner.wallet.as_deref(), env)?;
    check_links(&account, &args.images).await?;
    let kept = KeptTokens::find(&args.owner.server, env);
    let mut of_wallet = Vec::new();
    for named in &args.images {
        let stored = match &kept {
            Some(kept) => kept.token(&named.id)?,
            None => None,
        };
        match args.token.clone().or(stored) {
            Some(token) => {
                let deleted = account.delete_with(&named.id, &token).await;
                deleted.inspect_err(|_| tell(&format!("{} was not deleted:", named.id)))?;
                report(args, std::slice::from_ref(&named.id), kept.as_ref(), out)?;
            }
            None => of_wallet.push(named.id.clone()),
        }
    }
    let mut deleted = |images: &[ImageId]| report(args, images, kept.as_ref(), out);
    let mut left = of_wallet.as_slice();
    let mut note = |images: &[ImageId]| {
        left = left.get(images.len()..).unwrap_or_default();
        deleted(images)
    };
    let result = account.delete(&of_wallet, &mut note).await;
    if result.is_err() && args.images.len() > 1 {
        // Those that are printed as deleted are gone; the server's message is about one request.
        let names: Vec<&str> = left.iter().map(ImageId::as_str).collect();
        tell(&format!("Not deleted: {}.", names.join(", ")));
    }
    result
}

/// Prints the images that are deleted, and removes their delete tokens.
fn report(
    args: &DeleteArgs,
    images: &[ImageId],
    kept: Option<&KeptTokens>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    for image in images {
        let line = if args.owner.json {
            json!({ "deleted": image.as_str() }).to_string()
        } else {
            format!("{image}  deleted")
        };
        print(out, &line)?;
        if let Some(kept) = kept {
            kept.forget(image)?;
        }
    }
    Ok(())
}
