//! A PostgreSQL server of its own for a test: the machine's package, in a temporary directory, on a free loopback port.
//!
//! It ends with the [`Postgres`] that started it, or with the thread that did, however the test ends. It trades durability against
//! a crash of the machine for speed (no fsync); a crash of the server itself loses nothing. This crate is test code and
//! knows nothing of what is kept in the databases.

use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

/// The role that owns every database that [`Postgres::create_database`] makes. It is no superuser.
pub const ROLE: &str = "stint";
/// Its password, which connections over TCP must give.
pub const PASSWORD: &str = "emulated";
/// The superuser, who signs in without a password on the server's own socket only.
const SUPERUSER: &str = "postgres";
/// Whom the server runs as where the test runs as root, which PostgreSQL refuses to.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];
/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that runs, or has been killed and can be started again on the same data and port.
#[derive(Debug)]
pub struct Postgres {
    directory: TempDir,
    programs: PathBuf,
    /// User and group that it runs as; `None`: those of the test.
    user: Option<(u32, u32)>,
    port: u16,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a server and waits until it answers. The calling thread must outlive it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; the message holds what it said.
    pub fn start() -> Result<Self> {
        let programs = programs()?;
        let directory = tempfile::Builder::new().prefix("postgres-").tempdir()?;
        let user = unprivileged(directory.path())?;
        // The server's user must get through to its data, and nobody else into it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700))?;
        if let Some((user, group)) = user {
            chown(directory.path(), Some(user), Some(group))?;
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut new = Self { directory, programs, user, port, server: None };
        let data = new.data();
        let made = new
            .command("initdb")
            .args(["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--username", SUPERUSER, "--pgdata"])
            .arg(&data)
            .output()
            .context("initdb cannot be run")?;
        succeeded("initdb", &made)?;
        new.restart()?;
        new.sql("postgres", &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"))?;
        Ok(new)
    }

    /// Makes an empty database that [`ROLE`] owns, and answers its URL.
    ///
    /// # Errors
    /// When there is one of this name, or the server does not run.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\" OWNER {ROLE}"))?;
        Ok(self.url(name))
    }

    /// The URL of a database, with role and password. Without TLS, unless [`Self::offer_tls`] was called and the URL is
    /// changed to ask for it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{ROLE}:{PASSWORD}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// The port of 127.0.0.1 on which it listens, kept over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL as the superuser, and answers the rows as lines, columns parted by `|`.
    ///
    /// # Errors
    /// What psql says.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let done = self.psql(database, sql)?;
        succeeded(sql, &done)?;
        Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
    }

    /// Offers TLS from now on, with this certificate and key.
    ///
    /// # Errors
    /// When the files cannot be written or the server does not take them.
    pub fn offer_tls(&self, certificate_pem: &str, key_pem: &str) -> Result<()> {
        for (file, content) in [("server.crt", certificate_pem), ("server.key", key_pem)] {
            let path = self.data().join(file);
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            if let Some((user, group)) = self.user {
                chown(&path, Some(user), Some(group))?;
            }
        }
        self.sql("postgres", "ALTER SYSTEM SET ssl = on")?;
        self.sql("postgres", "SELECT pg_reload_conf()")?;
        let end = Instant::now() + PATIENCE;
        while self.sql("postgres", "SHOW ssl")? != "on" {
            ensure!(Instant::now() < end, "the server does not take the certificate:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Kills the server as a crash would: connections break, and what was committed is there after [`Self::restart`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.end("KILL")
    }

    /// Starts the server again after [`Self::kill`], and waits until it answers.
    ///
    /// # Errors
    /// When it runs or does not start; the message holds what it said.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "the server runs already");
        let end = Instant::now() + PATIENCE;
        loop {
            match self.start_once() {
                // What a killed server had begun takes a moment to notice, and holds its memory meanwhile.
                Err(error) if format!("{error}").contains("still in use") && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                started => return started,
            }
        }
    }

    fn start_once(&mut self) -> Result<()> {
        let directory = self.directory.path().to_owned();
        let log = fs::File::options().create(true).append(true).open(directory.join("log"))?;
        let server = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .arg("-k")
            .arg(&directory)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
                "-c",
                "full_page_writes=off",
                "-c",
                "shared_buffers=16MB",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("setpriv of util-linux cannot be run")?;
        self.server = Some(server);
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err()
            || !self.psql("postgres", "SELECT 1")?.status.success()
        {
            if let Some(server) = &mut self.server
                && let Some(status) = server.try_wait()?
            {
                self.server = None;
                bail!("PostgreSQL ended with {status}:\n{}", self.log());
            }
            ensure!(Instant::now() < end, "PostgreSQL does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Everything that the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A program of PostgreSQL, run as the server's user and ended with the calling thread.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if let Some((user, group)) = self.user {
            command.args([
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--clear-groups".to_owned(),
            ]);
        }
        // QUIT is PostgreSQL's immediate shutdown, which leaves no shared memory behind.
        command.args(["--pdeathsig", "QUIT", "--"]).arg(self.programs.join(program));
        command.current_dir(self.directory.path());
        // Nothing of the tester's own settings may reach the server or its client.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
    }

    fn psql(&self, database: &str, sql: &str) -> Result<Output> {
        self.command("psql")
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1"])
            .arg("--host")
            .arg(self.directory.path())
            .args([
                "--port",
                &self.port.to_string(),
                "--username",
                SUPERUSER,
                "--dbname",
                database,
                "-c",
                sql,
            ])
            .output()
            .context("psql cannot be run")
    }

    fn end(&mut self, signal: &str) -> Result<()> {
        let mut server = self.server.take().context("the server does not run")?;
        let sent = Command::new("kill").args([&format!("-{signal}"), &server.id().to_string()]).status()?;
        ensure!(sent.success(), "SIG{signal} cannot be sent");
        server.wait()?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- PostgreSQL's log ---\n{}", self.log());
        }
        if self.server.is_some()
            && let Err(error) = self.end("QUIT")
        {
            eprintln!("PostgreSQL does not end: {error:#}");
        }
    }
}

/// Where `initdb` and `postgres` are: Debian keeps them out of the path.
fn programs() -> Result<PathBuf> {
    let complete = |bin: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| bin.join(name).is_file());
    let mut packaged: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .collect();
    packaged.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    packaged
        .into_iter()
        .rev()
        .map(|(_, bin)| bin)
        .chain(std::env::split_paths(&path))
        .find(complete)
        .context("PostgreSQL is not installed: on Debian, `apt-get install postgresql`; tests/run does that")
}

/// User and group for a server of a test that runs as root; `None` for any other test.
fn unprivileged(own: &Path) -> Result<Option<(u32, u32)>> {
    if fs::metadata(own)?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = UNPRIVILEGED.into_iter().find_map(ids);
    found.map(Some).with_context(|| {
        format!("root cannot run PostgreSQL, and there is none of the users {UNPRIVILEGED:?}")
    })
}

fn succeeded(what: impl AsRef<OsStr>, done: &Output) -> Result<()> {
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{}: {}: {said}", what.as_ref().display(), done.status);
    Ok(())
}
