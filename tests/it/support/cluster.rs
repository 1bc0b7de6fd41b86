//! A PostgreSQL server for a single test, which may stop, kill and restart it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::process::{eventually, free_port};

/// A server and its files. Stopped on drop.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    port: u16,
    settings: Vec<&'static str>,
    server: Option<Child>,
}

/// A program of PostgreSQL, run as the user that owns the server's files, since it refuses to run
/// as root.
fn program(name: &str) -> Command {
    let of = |variable: &str| std::env::var(variable).unwrap_or_default();
    let folder = of("PIXTOLL_TEST_POSTGRES_PROGRAMS");
    assert!(
        !folder.is_empty(),
        "PIXTOLL_TEST_POSTGRES_PROGRAMS names no folder with PostgreSQL's programs; scripts/with-postgres does"
    );
    let program = PathBuf::from(folder).join(name);
    let prefix = of("PIXTOLL_TEST_POSTGRES_AS");
    let mut words = prefix.split_whitespace();
    let mut command = match words.next() {
        None => Command::new(program),
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn carried_out(mut command: Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

impl Cluster {
    /// Starts a server with an empty database `postgres`.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with these settings, as `name=value`.
    pub(crate) async fn start_with(settings: &[&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut this = Self {
            folder,
            port: free_port(),
            settings: settings.to_vec(),
            server: None,
        };
        this.give_away();
        let mut initdb = program("initdb");
        initdb.arg("--pgdata").arg(this.data());
        initdb.args([
            "--username",
            "pixtoll",
            "--auth",
            "trust",
            "--no-sync",
            "--encoding",
            "UTF8",
        ]);
        initdb.args(["--no-locale"]).current_dir(this.folder.path());
        carried_out(initdb);
        this.run().await;
        this
    }

    /// Starts a standby of this server.
    pub(crate) async fn standby(&self) -> Self {
        let mut this = Self {
            folder: tempfile::tempdir().unwrap(),
            port: free_port(),
            settings: Vec::new(),
            server: None,
        };
        this.give_away();
        let mut copy = program("pg_basebackup");
        copy.args([
            "-h",
            "127.0.0.1",
            "-U",
            "pixtoll",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        ]);
        copy.args(["-p", &self.port.to_string(), "-D"])
            .arg(this.data());
        copy.current_dir(this.folder.path());
        carried_out(copy);
        this.run().await;
        this
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://pixtoll@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts the server, and waits until it answers.
    pub(crate) async fn run(&mut self) {
        let mut server = program("postgres");
        server
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories="] {
            server.args(["-c", setting]);
        }
        for setting in &self.settings {
            server.args(["-c", setting]);
        }
        self.server = Some(server.current_dir(self.folder.path()).spawn().unwrap());
        let port = self.port.to_string();
        eventually("the server answers", async || {
            let mut ask = program("pg_isready");
            ask.args([
                "-q",
                "-h",
                "127.0.0.1",
                "-U",
                "pixtoll",
                "-d",
                "postgres",
                "-p",
                &port,
            ]);
            ask.status().unwrap().success().then_some(())
        })
        .await;
    }

    /// Kills the server, as a crash would. Its next start recovers the committed data.
    pub(crate) fn crash(&mut self) {
        self.end(rustix::process::Signal::QUIT);
    }

    /// Makes all sessions read-only, including existing ones; or writable again.
    pub(crate) async fn set_read_only(&self, is_read_only: bool) {
        // A connection of pixtoll would reject the read-only server.
        let mut connection = PgConnection::connect(&self.url()).await.unwrap();
        let state = if is_read_only { "on" } else { "off" };
        let set = format!("ALTER SYSTEM SET default_transaction_read_only = {state}");
        for sql in [&*set, "SELECT pg_reload_conf()"] {
            let sql = sqlx::AssertSqlSafe(sql.to_owned());
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Gives the folder to the user that runs the programs.
    fn give_away(&self) {
        let owner = std::env::var("PIXTOLL_TEST_POSTGRES_OWNER").unwrap_or_default();
        if !owner.is_empty() {
            let mut chown = Command::new("chown");
            chown.arg(owner).arg(self.folder.path());
            carried_out(chown);
        }
    }

    fn end(&mut self, signal: rustix::process::Signal) {
        if let Some(mut server) = self.server.take() {
            let id = i32::try_from(server.id()).unwrap();
            let id = rustix::process::Pid::from_raw(id).unwrap();
            rustix::process::kill_process(id, signal).unwrap();
            server.wait().unwrap();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end(rustix::process::Signal::QUIT);
    }
}
