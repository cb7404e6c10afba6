//! What a stranger gets from history who has nothing but its files: DuckDB, by `tests/read_segments.py`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admin::run;
use crate::reader::ReadFrame;
use crate::servers::program;

/// The newest manifest of a store.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    /// Its number.
    pub number: u64,
    /// The live segments.
    pub segments: Vec<Listed>,
}

/// A live segment.
#[derive(Debug, Deserialize)]
pub struct Listed {
    /// Of its Parquet object.
    pub key: String,
    /// How often its frames were compacted.
    pub level: u8,
    /// Rows in it.
    pub frames: u64,
    /// Size of its Parquet object.
    pub bytes: u64,
}

impl Manifest {
    /// The newest one in a store of files; `None` if there is none yet.
    pub fn newest(store: &Path) -> Option<Self> {
        let names = std::fs::read_dir(store.join("manifests")).ok()?;
        // Names with ~ are not written yet.
        let path = names.flatten().map(|entry| entry.path()).filter(|path| {
            path.extension().is_some_and(|extension| extension == "json")
                && !path.to_string_lossy().contains('~')
        });
        Some(serde_json::from_slice(&std::fs::read(path.max()?).ok()?).unwrap())
    }

    /// Rows in all segments: more than frames, if some were sent again.
    pub fn frames(&self) -> u64 {
        self.segments.iter().map(|segment| segment.frames).sum()
    }
}

#[derive(Deserialize)]
struct Row(String, u64, u64, u64, String, String, String);

/// All frames of the newest manifest, device by device; of copies the one that counts. Whatever else the segments are
/// documented to be is checked.
///
/// # Panics
/// If they are not.
pub async fn frames(store: &Path) -> BTreeMap<String, Vec<ReadFrame>> {
    let mut frames: BTreeMap<String, Vec<ReadFrame>> = BTreeMap::new();
    for Row(device, epoch, seq, ts, channel, content_type, payload) in
        script(&["frames", text(store)], "").await
    {
        let payload = BASE64.decode(payload).unwrap();
        frames.entry(device).or_default().push(ReadFrame { epoch, seq, ts, channel, content_type, payload });
    }
    frames
}

/// The rows of the last of these statements.
///
/// # Panics
/// If one fails.
pub async fn sql(statements: &str) -> Vec<Vec<Value>> {
    script(&["sql"], statements).await
}

async fn script<T: DeserializeOwned>(args: &[&str], input: &str) -> Vec<T> {
    let mut command = Command::new(program("python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("read_segments.py")).args(args);
    let output = run(command, input).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}
