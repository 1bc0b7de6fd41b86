//! A fresh database for each test: a SQLite file, or a new database on the PostgreSQL server that
//! `PIXTOLL_TEST_POSTGRES` names.

use std::path::Path;

use pixtoll::db::Db;
use sqlx::AssertSqlSafe;

pub(crate) struct TestDatabase {
    url: String,
}

impl TestDatabase {
    pub(crate) async fn fresh(folder: &Path) -> Self {
        let url = match postgres_server() {
            Some(server) => create_postgres(&server).await,
            None => sqlite_url(folder),
        };
        Self { url }
    }

    #[cfg(feature = "test-postgres")]
    pub(crate) fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// The PostgreSQL server for tests. With the feature `test-postgres` it is required, so that CI
/// can't silently skip the tests on it.
pub(crate) fn postgres_server() -> Option<String> {
    let server = std::env::var("PIXTOLL_TEST_POSTGRES")
        .ok()
        .filter(|server| !server.is_empty());
    assert!(
        server.is_some() || !cfg!(feature = "test-postgres"),
        "the feature test-postgres needs PIXTOLL_TEST_POSTGRES = postgres://user@host:port/postgres"
    );
    server
}

pub(crate) fn sqlite_url(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("pixtoll.db").display())
}

/// Opens a database by its URL.
pub(crate) async fn open(url: &str) -> Db {
    match url.strip_prefix("sqlite:") {
        Some(path) => Db::open_sqlite(Path::new(path)).await.unwrap(),
        None => Db::connect_postgres(url).await.unwrap(),
    }
}

/// Creates a database on a PostgreSQL server, and returns its URL.
pub(crate) async fn create_postgres(server: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("pixtoll_test_{}_{count}", std::process::id());
    let Db::Postgres(pool) = Db::connect_postgres(server).await.unwrap() else {
        panic!("{server} is no PostgreSQL URL");
    };
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(create).execute(&pool).await.unwrap();
    pool.close().await;
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}

/// Executes a statement directly on the database, and returns the number of changed rows.
pub(crate) async fn execute(db: &Db, sql: &str) -> u64 {
    let sql = AssertSqlSafe(sql.to_owned());
    match db {
        Db::Sqlite(sqlite) => sqlite
            .execute(sqlx::query(sql))
            .await
            .unwrap()
            .rows_affected(),
        Db::Postgres(pool) => sqlx::query(sql)
            .execute(pool)
            .await
            .unwrap()
            .rows_affected(),
    }
}

/// Returns the texts of a query.
pub(crate) async fn texts(db: &Db, sql: &str) -> Vec<String> {
    let sql = AssertSqlSafe(sql.to_owned());
    match db {
        Db::Sqlite(sqlite) => sqlx::query_scalar(sql)
            .fetch_all(sqlite.readers())
            .await
            .unwrap(),
        Db::Postgres(pool) => sqlx::query_scalar(sql).fetch_all(pool).await.unwrap(),
    }
}

/// Returns the number of a query.
pub(crate) async fn number(db: &Db, sql: &str) -> i64 {
    let sql = AssertSqlSafe(sql.to_owned());
    match db {
        Db::Sqlite(sqlite) => sqlx::query_scalar(sql)
            .fetch_one(sqlite.readers())
            .await
            .unwrap(),
        Db::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
    }
}

/// Counts the rows of a table.
pub(crate) async fn count(db: &Db, table: &str) -> i64 {
    number(db, &format!("SELECT COUNT(*) FROM {table}")).await
}
