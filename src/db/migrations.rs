//! The migrations of both databases: the files in `migrations/`, embedded in the binary.

use std::sync::LazyLock;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// One migration, with its text for each database.
struct Step {
    /// The number at the head of the file's name, from 1.
    version: i64,
    /// The rest of the file's name.
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

const STEPS: &[Step] = &[
    Step {
        version: 1,
        name: "initial",
        sqlite: include_str!("../../migrations/sqlite/0001_initial.sql"),
        postgres: include_str!("../../migrations/postgres/0001_initial.sql"),
    },
    Step {
        version: 2,
        name: "owner",
        sqlite: include_str!("../../migrations/sqlite/0002_owner.sql"),
        postgres: include_str!("../../migrations/postgres/0002_owner.sql"),
    },
    Step {
        version: 3,
        name: "upload_links",
        sqlite: include_str!("../../migrations/sqlite/0003_upload_links.sql"),
        postgres: include_str!("../../migrations/postgres/0003_upload_links.sql"),
    },
    Step {
        version: 4,
        name: "api_keys",
        sqlite: include_str!("../../migrations/sqlite/0004_api_keys.sql"),
        postgres: include_str!("../../migrations/postgres/0004_api_keys.sql"),
    },
    Step {
        version: 5,
        name: "private",
        sqlite: include_str!("../../migrations/sqlite/0005_private.sql"),
        postgres: include_str!("../../migrations/postgres/0005_private.sql"),
    },
    Step {
        version: 6,
        name: "variants",
        sqlite: include_str!("../../migrations/sqlite/0006_variants.sql"),
        postgres: include_str!("../../migrations/postgres/0006_variants.sql"),
    },
    Step {
        version: 8,
        name: "removals",
        sqlite: include_str!("../../migrations/sqlite/0008_removals.sql"),
        postgres: include_str!("../../migrations/postgres/0008_removals.sql"),
    },
    Step {
        version: 9,
        name: "blocks",
        sqlite: include_str!("../../migrations/sqlite/0009_blocks.sql"),
        postgres: include_str!("../../migrations/postgres/0009_blocks.sql"),
    },
    Step {
        version: 10,
        name: "accounting",
        sqlite: include_str!("../../migrations/sqlite/0010_accounting.sql"),
        postgres: include_str!("../../migrations/postgres/0010_accounting.sql"),
    },
    Step {
        version: 11,
        name: "cases",
        sqlite: include_str!("../../migrations/sqlite/0011_cases.sql"),
        postgres: include_str!("../../migrations/postgres/0011_cases.sql"),
    },
    Step {
        version: 12,
        name: "refresh",
        sqlite: include_str!("../../migrations/sqlite/0012_refresh.sql"),
        postgres: include_str!("../../migrations/postgres/0012_refresh.sql"),
    },
    Step {
        version: 13,
        name: "daily_totals",
        sqlite: include_str!("../../migrations/sqlite/0013_daily_totals.sql"),
        postgres: include_str!("../../migrations/postgres/0013_daily_totals.sql"),
    },
];

pub(super) static SQLITE: LazyLock<Migrator> = LazyLock::new(|| migrator(|step| step.sqlite));
pub(super) static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| migrator(|step| step.postgres));

fn migrator(text: impl Fn(&Step) -> &'static str) -> Migrator {
    let migration = |step: &Step| {
        let sql = text(step).into_sql_str();
        Migration::new(
            step.version,
            step.name.into(),
            MigrationType::Simple,
            sql,
            false,
        )
    };
    Migrator::with_migrations(STEPS.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_in_the_migrations_folders_is_embedded_under_its_name() {
        let listed: Vec<String> = STEPS
            .iter()
            .map(|step| format!("{:04}_{}.sql", step.version, step.name))
            .collect();
        for database in ["sqlite", "postgres"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("migrations")
                .join(database);
            let mut files: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            assert_eq!(files, listed, "{database}");
        }
        assert!(STEPS.is_sorted_by(|one, next| one.version < next.version));
    }
}
