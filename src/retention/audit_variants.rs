//! The part of the audit that compares the rows and objects of variants. A variant that is missing is
//! made again when it is asked for, so a missing object is no loss.

use super::audit::{Audit, Mismatch};
use super::variants::SETTLED_AFTER;
use crate::db::{Db, variants as rows};
use crate::model::ids::ImageId;
use crate::model::variant::content_of;
use crate::store::Store;
use crate::system::clock::Timestamp;

/// How many rows are read at a time.
const PAGE: u32 = 500;

/// Looks for rows of variants without an object, and reports each at once. With `repair`, deletes
/// these rows.
///
/// # Errors
/// When the database or the store doesn't answer.
pub(super) async fn look_at_rows(
    db: &Db,
    store: &Store,
    (now, repair): (Timestamp, bool),
    audit: &mut Audit,
    tell: &mut impl FnMut(Mismatch),
) -> anyhow::Result<()> {
    let (mut image, mut name) = (String::new(), String::new());
    loop {
        let settled = now.minus(SETTLED_AFTER);
        let page = rows::page_live(db, (&image, &name), settled, PAGE).await?;
        let Some(end) = page.last() else {
            return Ok(());
        };
        end.image.as_str().clone_into(&mut image);
        name.clone_from(&end.name);
        for row in page {
            audit.variants += 1;
            let size = store.variant_size(&row.image, &row.sha256).await?;
            if size == Some(row.size_bytes) {
                continue;
            }
            // The image may have been deleted or replaced since its row was read.
            if !rows::is_wanted(db, &row, content_of(&row.name)).await? {
                continue;
            }
            if repair {
                let object = [(row.image.clone(), row.sha256.clone())];
                store.delete_variants(&object).await?;
                rows::forget(db, &row).await?;
            }
            tell(Mismatch::NoVariant {
                id: row.image,
                name: row.name,
                repaired: repair,
            });
        }
    }
}

/// Compares the object of a variant with the rows of its image. With `repair`, deletes an object
/// without a row.
///
/// # Errors
/// When the database or the store doesn't answer.
pub(super) async fn look_at_object(
    db: &Db,
    store: &Store,
    (id, digits): (ImageId, String),
    repair: bool,
) -> anyhow::Result<Option<Mismatch>> {
    let rows = rows::find_all(db, &id).await?;
    if rows.iter().any(|row| row.sha256.starts_with(&digits)) {
        return Ok(None);
    }
    // A listing may be older than the delete of the object.
    if store.variant_size(&id, &digits).await?.is_none() {
        return Ok(None);
    }
    if repair {
        store
            .delete_variants(&[(id.clone(), digits.clone())])
            .await?;
    }
    Ok(Some(Mismatch::VariantLeft {
        id,
        digits,
        repaired: repair,
    }))
}
