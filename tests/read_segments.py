"""Reads history without Trough: with DuckDB, and what docs/storage.md says.

    read_segments.py frames STORE    checks the segments that the newest manifest under the directory STORE names, and
                                     prints their frames: [device, epoch, seq, ts, channel, content_type, payload in
                                     base64], one JSON array a line, by device, epoch and seq
    read_segments.py sql             prints the rows of the last of the statements on standard input, one a line
"""

import json
import pathlib
import sys

import duckdb

COLUMNS = {
    "device": "VARCHAR",
    "epoch": "BIGINT",
    "seq": "BIGINT",
    "ts": "TIMESTAMP WITH TIME ZONE",
    "received_at": "TIMESTAMP WITH TIME ZONE",
    "channel": "VARCHAR",
    "content_type": "VARCHAR",
    "payload": "BLOB",
    "journal": "VARCHAR",
    "journal_n": "BIGINT",
    # Of the path.
    "date": "DATE",
}
NULLABLE = {"journal", "journal_n"}


def check(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: found {found}, not {wanted}")


def check_segment(db, store, listed):
    """That one segment is what the manifest and the documents say."""
    key = listed["key"]
    path = str(store / key)
    check(f"{key}: bytes", (store / key).stat().st_size, listed["bytes"])
    fields = db.execute(
        "SELECT name, field_id, repetition_type FROM parquet_schema(?) WHERE type IS NOT NULL ORDER BY field_id", [path]
    ).fetchall()
    wanted = enumerate((name for name in COLUMNS if name != "date"), start=1)
    wanted = [(name, id, "OPTIONAL" if name in NULLABLE else "REQUIRED") for id, name in wanted]
    check(f"{key}: fields", fields, wanted)
    codecs = db.execute("SELECT DISTINCT compression FROM parquet_metadata(?)", [path]).fetchall()
    check(f"{key}: compression", codecs, [("ZSTD",)])
    said = ["frames", "first_device", "last_device", "min_ts", "max_ts", "min_received_at", "max_received_at"]
    found = db.execute(
        """SELECT count(*), min(device), max(device), epoch_us(min(ts)), epoch_us(max(ts)),
                  epoch_us(min(received_at)), epoch_us(max(received_at))
           FROM read_parquet(?)""",
        [path],
    ).fetchone()
    check(f"{key}: what the manifest says", found, tuple(listed[name] for name in said))
    rows = db.execute("SELECT device, epoch, seq FROM read_parquet(?)", [path]).fetchall()
    check(f"{key}: its order", rows, sorted(set(rows)))
    days = db.execute(
        "SELECT count(*) FROM read_parquet(?, hive_partitioning = true) WHERE date <> received_at::DATE", [path]
    ).fetchone()
    check(f"{key}: frames of another day", days, (0,))


def frames(db, store):
    manifest = json.loads(max((store / "manifests").glob("*.json")).read_text())
    check("format of the manifest", manifest["format"], "trough-manifest-1")
    for listed in manifest["segments"]:
        check_segment(db, store, listed)
    db.execute("SET VARIABLE live = ?", [[str(store / listed["key"]) for listed in manifest["segments"]]])
    live = "read_parquet(getvariable('live'), hive_partitioning = true)"
    columns = db.execute(f"DESCRIBE SELECT * FROM {live}").fetchall()
    check("columns", {column[0]: column[1] for column in columns}, COLUMNS)
    # A frame that was sent again may be in two live segments: the copy that counts is the one that came first.
    db.execute(
        f"""SELECT device, epoch, seq, epoch_us(ts), channel, content_type, base64(payload) FROM {live}
            QUALIFY row_number() OVER (PARTITION BY device, epoch, seq ORDER BY received_at, journal, journal_n) = 1
            ORDER BY device, epoch, seq"""
    )


def main():
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    if sys.argv[1] == "frames":
        frames(db, pathlib.Path(sys.argv[2]))
    else:
        db.execute(sys.stdin.read())
    for row in db.fetchall():
        print(json.dumps(row, default=str))


main()
