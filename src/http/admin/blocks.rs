//! Blocks over the admin API: lists of them, and what the operator blocks, lifts and imports.

use std::time::Duration;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::json;

use super::acts::{PAGE, number, parameter, time};
use super::error::AdminError;
use crate::db::blocks::Filter;
use crate::http::{Site, json_body, query};
use crate::model::block::{Block, Kind};
use crate::trust::By;
use crate::trust::blocks::BlockView;

/// The most blocks on one page.
const MOST: u32 = 1000;
/// The longest body of a block or its end, in bytes: several hundred targets.
const LONGEST_BODY: usize = 64 * 1024;
/// The longest body of an import, in bytes.
const LONGEST_LIST: usize = 16 * 1024 * 1024;

/// The body of a block, its end, or an import.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body {
    /// Why.
    #[serde(default)]
    reason: String,
    /// Who acts.
    #[serde(default, rename = "as")]
    actor: String,
    /// What to block or unblock: `sha256:HEX`, `pdq:HEX`, a wallet or the id of an image.
    #[serde(default)]
    targets: Vec<String>,
    /// How long the block counts, such as `30d`.
    #[serde(rename = "for")]
    time: Option<String>,
    /// The name of a list.
    source: Option<String>,
    /// The text of a list.
    list: Option<String>,
    /// The kind of hashes whose lines don't name it.
    kind: Option<String>,
}

impl Body {
    async fn read(payload: Payload, longest: usize) -> Result<Self, AdminError> {
        let instead = "Send {\"reason\": \"…\", \"as\": \"…\"} with the further fields of the act: targets and for to block, targets and \
            source to unblock, list, source and kind to import.";
        Ok(json_body::read(payload, longest, instead).await?)
    }

    fn by(&self) -> Result<By, AdminError> {
        Ok(By::new(&self.actor, &self.reason)?)
    }

    /// The targets, of which there is at least one.
    fn targets(&self) -> Result<&[String], AdminError> {
        if self.targets.is_empty() {
            return Err(AdminError::Bad(
                "targets is missing or empty. Send at least one: sha256:HEX, pdq:HEX, a wallet (0x…) or the id of an image.".to_owned(),
            ));
        }
        Ok(&self.targets)
    }
}

pub(super) async fn list(site: Site, request: HttpRequest) -> Result<HttpResponse, AdminError> {
    let kind = parameter(&request, "kind")?;
    let filter = Filter {
        source: parameter(&request, "source")?,
        kind: kind.as_deref().map(named_kind).transpose()?,
        after: parameter(&request, query::AFTER)?
            .as_deref()
            .map(after)
            .transpose()?,
    };
    let most = number(&request, query::LIMIT)?.unwrap_or(PAGE);
    if most == 0 || most > MOST {
        return Err(AdminError::Bad(format!(
            "limit is {most}, and 1 to {MOST} blocks are allowed. Send ?limit= in that range."
        )));
    }
    let page = site.trust.blocks(&filter, most).await?;
    let is_full = u32::try_from(page.len()) == Ok(most);
    let next = page.last().filter(|_| is_full).map(place);
    let blocks: Vec<BlockView> = page.iter().map(BlockView::from).collect();
    Ok(HttpResponse::Ok().json(json!({"blocks": blocks, "next": next})))
}

pub(super) async fn count(site: Site) -> Result<HttpResponse, AdminError> {
    let counts = site.trust.count_blocks().await?;
    let counts: Vec<_> = counts
        .into_iter()
        .map(|(source, kind, count)| {
            json!({"source": source, "kind": kind.as_str(), "blocks": count})
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "counts": counts })))
}

pub(super) async fn block(site: Site, payload: Payload) -> Result<HttpResponse, AdminError> {
    let body = Body::read(payload, LONGEST_BODY).await?;
    let by = body.by()?;
    let length: Option<Duration> = body.time.as_deref().map(time).transpose()?;
    let targets = site.trust.block_targets(body.targets()?).await?;
    let blocks = site.trust.block(&targets, length, &by).await?;
    let served = site.trust.served_among(&targets).await?;
    let served: Vec<String> = served.iter().map(ToString::to_string).collect();
    Ok(HttpResponse::Ok().json(json!({"blocks": blocks, "served": served})))
}

pub(super) async fn unblock(site: Site, payload: Payload) -> Result<HttpResponse, AdminError> {
    let body = Body::read(payload, LONGEST_BODY).await?;
    let by = body.by()?;
    let mut lifted = Vec::new();
    for target in site.trust.block_targets(body.targets()?).await? {
        let count = site
            .trust
            .unblock(&target, body.source.as_deref(), &by)
            .await?;
        lifted.push(json!({"target": target.to_string(), "lifted": count}));
    }
    Ok(HttpResponse::Ok().json(json!({ "lifted": lifted })))
}

pub(super) async fn import(site: Site, payload: Payload) -> Result<HttpResponse, AdminError> {
    let body = Body::read(payload, LONGEST_LIST).await?;
    let by = body.by()?;
    let kind = body.kind.as_deref().map(named_kind).transpose()?;
    let (Some(list), Some(source)) = (&body.list, &body.source) else {
        return Err(AdminError::Bad(
            "list or source is missing. Send the text of the list as \"list\", and its name as \"source\".".to_owned(),
        ));
    };
    let imported = site.trust.import_blocks(list, source, kind, &by).await?;
    Ok(HttpResponse::Ok().json(imported))
}

fn named_kind(name: &str) -> Result<Kind, AdminError> {
    Kind::parse(name).ok_or_else(|| {
        AdminError::Bad(format!(
            "kind is \"{}\". Send sha256, pdq or wallet.",
            query::excerpt(name)
        ))
    })
}

/// The place of a block in the order of lists, as `next` tells it and `after` takes it.
fn place(block: &Block) -> String {
    format!("{}:{}", block.target, block.source)
}

fn after(text: &str) -> Result<(Kind, String, String), AdminError> {
    let mut parts = text.splitn(3, ':');
    let place = (|| {
        let kind = Kind::parse(parts.next()?)?;
        Some((kind, parts.next()?.to_owned(), parts.next()?.to_owned()))
    })();
    place.ok_or_else(|| {
        AdminError::Bad(format!(
            "after is \"{}\", which is no place in the list. Send `next` of the page before.",
            query::excerpt(text)
        ))
    })
}
