//! A PostgreSQL server for this test process alone, from the `initdb` and `postgres` found on the machine, in a temporary
//! folder; stopped and removed when the process ends, however it ends.

use std::{
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{ConnectOptions as _, Connection as _, Executor as _, postgres::PgConnectOptions};

/// A running server.
pub struct Postgres {
    port: u16,
    /// Ends the server when its standard input closes: when this process is gone.
    watchdog: Child,
}

/// The server of this process, started at first use; `None` where PostgreSQL is not installed.
pub fn shared() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    let server = SERVER.get_or_init(|| binaries().map(|folder| Postgres::start(&folder))).as_ref();
    if server.is_none() {
        super::skip("postgres", "PostgreSQL");
    }
    server
}

/// Where `initdb` and `postgres` are: in `PATH`, or where Debian puts them.
fn binaries() -> Option<PathBuf> {
    let has = |folder: &Path| folder.join("initdb").exists() && folder.join("postgres").exists();
    let in_path = std::env::var_os("PATH").and_then(|path| std::env::split_paths(&path).find(|folder| has(folder)));
    // A link in PATH may stand alone: what it points to has its neighbours.
    let in_path = in_path.and_then(|folder| folder.join("initdb").canonicalize().ok()?.parent().map(Path::to_owned));
    in_path.or_else(|| {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let mut folders: Vec<PathBuf> = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
        folders.retain(|folder| has(folder));
        folders.sort();
        folders.pop()
    })
}

impl Postgres {
    fn start(binaries: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        let remove = format!("rm -rf {}", folder.display());
        Self::run(binaries, &folder, "-c fsync=off", "immediate", &remove)
    }

    /// A server whose data stays in a folder, for benches; `None` where PostgreSQL is not installed. Only whoever can read
    /// the folders above can use it, `nobody` where this runs as root.
    pub fn kept(folder: &Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        // Loading is what writes here; nothing else shall write, or read through it all, while queries are measured.
        let options = "-c synchronous_commit=off -c autovacuum=off -c max_wal_size=2GB";
        let found = binaries().map(|binaries| Self::run(&binaries, folder, options, "fast", "true"));
        if found.is_none() {
            super::skip("postgres", "PostgreSQL");
        }
        found
    }

    fn run(binaries: &Path, folder: &Path, more: &str, stop: &str, after: &str) -> Self {
        let data = folder.join("data");
        let log = folder.join("log");
        // PostgreSQL does not run as root: it gets another user then, and a folder of that user's.
        let as_user = Unprivileged::when_root(folder);
        if !data.join("PG_VERSION").exists() {
            let initdb = as_user
                .command(&binaries.join("initdb"))
                .args(["--auth=trust", "--username=tollgate", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
                .arg(&data)
                .output()
                .unwrap();
            assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={} -c max_connections=500 {more}",
            folder.display()
        );
        let started = as_user
            .command(&binaries.join("pg_ctl"))
            .args(["start", "-w", "-t", "60", "-o", &options, "-l"])
            .arg(&log)
            .arg("-D")
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(started.success(), "pg_ctl: {}", std::fs::read_to_string(&log).unwrap_or_default());
        let stop = format!(
            "cat >/dev/null; {} -D {} -m {stop} stop >/dev/null 2>&1; {after}",
            as_user.shell(&binaries.join("pg_ctl")),
            data.display(),
        );
        let watchdog = Command::new("sh")
            .args(["-c", &stop])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { port, watchdog }
    }

    /// The address of a new, empty database.
    pub async fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        self.database_named(&format!("t{}", NUMBER.fetch_add(1, Ordering::Relaxed))).await
    }

    /// The address of a database, which is made when it is not there.
    pub async fn database_named(&self, name: &str) -> String {
        let options =
            PgConnectOptions::new().host("127.0.0.1").port(self.port).username("tollgate").database("postgres");
        let mut connection = options.connect().await.unwrap();
        let there = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1").bind(name);
        if there.fetch_optional(&mut connection).await.unwrap().is_none() {
            connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        }
        connection.close().await.unwrap();
        format!("postgres://tollgate@127.0.0.1:{}/{name}", self.port)
    }
}

/// The user that PostgreSQL runs as.
enum Unprivileged {
    Same,
    Nobody,
}

impl Unprivileged {
    fn when_root(folder: &Path) -> Self {
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            return Self::Same;
        }
        // 65534 is `nobody` and `nogroup` on every Linux distribution that PostgreSQL is packaged for.
        chown(folder, Some(65_534), Some(65_534)).unwrap();
        Self::Nobody
    }

    fn command(&self, program: &Path) -> Command {
        match self {
            Self::Same => Command::new(program),
            Self::Nobody => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
                command.current_dir("/");
                command
            }
        }
    }

    fn shell(&self, program: &Path) -> String {
        match self {
            Self::Same => program.display().to_string(),
            Self::Nobody => format!("setpriv --reuid=65534 --regid=65534 --clear-groups -- {}", program.display()),
        }
    }
}

impl Drop for Postgres {
    /// Waits for its end, so that another one can have the folder.
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        drop(self.watchdog.wait());
    }
}
