//! A fresh database for each test: a SQLite file, or a database of its own on the PostgreSQL server
//! that `PIXTOLL_TEST_POSTGRES` names.

use std::path::Path;

use pixtoll::db::Db;

pub(crate) struct TestDatabase {
    url: String,
}

impl TestDatabase {
    pub(crate) async fn fresh(folder: &Path) -> Self {
        let url = match std::env::var("PIXTOLL_TEST_POSTGRES") {
            Ok(server) if !server.is_empty() => create_postgres(&server).await,
            _ => format!("sqlite:{}", folder.join("pixtoll.db").display()),
        };
        Self { url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Opens a database by its URL.
pub(crate) async fn open(url: &str) -> Db {
    match url.strip_prefix("sqlite:") {
        Some(path) => Db::open_sqlite(Path::new(path)).await.unwrap(),
        None => Db::connect_postgres(url).await.unwrap(),
    }
}

/// A database of its own on a PostgreSQL server; its URL.
pub(crate) async fn create_postgres(server: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("pixtoll_test_{}_{count}", std::process::id());
    let Db::Postgres(pool) = Db::connect_postgres(server).await.unwrap() else {
        panic!("{server} is no PostgreSQL URL");
    };
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(create).execute(&pool).await.unwrap();
    pool.close().await;
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}
