"""SQLite and PostgreSQL databases for the benchmarks: filled with rows, copied and queried.

PostgreSQL is the server that PIXTOLL_TEST_POSTGRES names (scripts/with-postgres starts one). Its driver, psycopg, is
installed outside the repository where it is missing.
"""
import fcntl, json, os, pathlib, random, shutil, sqlite3, subprocess, sys, time

LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PSYCOPG = "3.2.10"
COLUMNS = ("id, format, state, size_bytes, tier, created_ms, published_ms, expires_ms, width, height, sha256, "
           "upload_sha256")


def psycopg():
    """The PostgreSQL driver, installed if missing."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "pixtoll"
    folder = cache / f"psycopg-{PSYCOPG}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"psycopg-{PSYCOPG}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target",
                            str(folder), f"psycopg[binary]=={PSYCOPG}"], check=True)
            (folder / "done").touch()
    sys.path.insert(0, str(folder))
    import psycopg as driver
    return driver


def rows(due, kept):
    """Rows of `due` images that expired an hour ago, within half a minute, and of `kept` images that don't expire."""
    source = random.Random(1)
    now = int(time.time() * 1000)
    for index in range(due + kept):
        one = "".join(source.choices(LETTERS, k=12))
        # Due and kept images are mixed, as with several tiers.
        is_due = (index + 1) * due // (due + kept) > index * due // (due + kept)
        expires = now - 3_600_000 + index * 30_000 // (due + kept) if is_due else None
        created = now - 7 * 86_400_000 + index
        hashes = "%064x" % source.getrandbits(256)
        yield one, "gif", "live", 35, "free" if expires else "permanent", created, created, expires, 1, 1, hashes, hashes


class Sqlite:
    name = "SQLite"

    def __init__(self, place):
        self.file = pathlib.Path(place) / "pixtoll.db"
        self.url = f"sqlite:{self.file}"

    def connect(self):
        return sqlite3.connect(self.file, timeout=30)

    def fill(self, due, kept):
        db = self.connect()
        with db:
            db.execute("DELETE FROM images")
            db.executemany(f"INSERT INTO images ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows(due, kept))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()

    def copy_to(self, place):
        other = Sqlite(place)
        shutil.copy(self.file, other.file)
        return other

    def ask(self, statement):
        db = self.connect()
        found = db.execute(statement).fetchall()
        db.close()
        return found

    def wait_for_the_dead(self):
        """Waits until the database has ended the work of a process that was killed."""

    def end(self):
        pass

    def bare(self):
        """The two statements of a batch: one claims up to `count` images, one marks them as deleted."""
        db = sqlite3.connect(self.file, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")

        def claim(now, count):
            return [row[0] for row in db.execute(
                "UPDATE images SET state = 'deleting', reap_after_ms = ?1 WHERE id IN (SELECT id FROM images "
                "WHERE state = 'live' AND expires_ms IS NOT NULL AND expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2) "
                "RETURNING id", (now, count)).fetchall()]

        def mark(now, ids):
            db.execute("UPDATE images SET state = 'deleted', deleted_ms = ?1, reap_after_ms = NULL "
                       "WHERE id IN (SELECT value FROM json_each(?2))", (now, json.dumps(ids)))
        return claim, mark


class Postgres:
    name = "PostgreSQL"

    def __init__(self, place):
        server = os.environ.get("PIXTOLL_TEST_POSTGRES") or sys.exit(
            "PIXTOLL_TEST_POSTGRES names no PostgreSQL server; scripts/with-postgres starts one")
        self.base = server.rpartition("/")[0]
        self.server = server
        # One database per place, named after it.
        self.database = "bench_" + "".join(letter if letter.isalnum() else "_" for letter in str(place)).lower()[-50:]
        self.url = f"{self.base}/{self.database}"

    def make(self, template="template1"):
        with psycopg().connect(self.server, autocommit=True) as db:
            db.execute(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')
            db.execute(f'CREATE DATABASE "{self.database}" TEMPLATE "{template}"')

    def connect(self):
        return psycopg().connect(self.url, autocommit=True)

    def fill(self, due, kept):
        with self.connect() as db:
            db.execute("DELETE FROM images")
            with db.cursor().copy(f"COPY images ({COLUMNS}) FROM STDIN") as copy:
                for row in rows(due, kept):
                    copy.write_row(row)
            db.execute("VACUUM ANALYZE images")

    def copy_to(self, place):
        other = Postgres(place)
        other.make(self.database)
        with psycopg().connect(self.server, autocommit=True) as db:
            db.execute("CHECKPOINT")
        return other

    def ask(self, statement):
        with self.connect() as db:
            return db.execute(statement).fetchall()

    def wait_for_the_dead(self):
        # PostgreSQL finishes the statement of a client that was killed.
        others = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while self.ask(others)[0][0] > 0:
            time.sleep(0.05)

    def end(self):
        with psycopg().connect(self.server, autocommit=True) as db:
            db.execute(f'DROP DATABASE "{self.database}" WITH (FORCE)')

    def bare(self):
        db = self.connect()

        def claim(now, count):
            return [row[0] for row in db.execute(
                "UPDATE images SET state = 'deleting', reap_after_ms = %(now)s WHERE id IN (SELECT id FROM images "
                "WHERE state = 'live' AND expires_ms IS NOT NULL AND expires_ms <= %(now)s ORDER BY expires_ms "
                "LIMIT %(count)s FOR UPDATE SKIP LOCKED) RETURNING id", {"now": now, "count": count}).fetchall()]

        def mark(now, ids):
            db.execute("UPDATE images SET state = 'deleted', deleted_ms = %s, reap_after_ms = NULL WHERE id = ANY(%s)",
                       (now, ids))
        return claim, mark


KINDS = {"sqlite": Sqlite, "postgres": Postgres}
