//! The CSV of `trough devices import`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, Result, bail};
use trough_protocol::DeviceId;
use trough_store::registry::IMPORT_DEVICES_MAX;
use trough_store::{Group, NewDevice};

/// Larger than any import that is accepted: every device with the longest id and a few groups.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A person mends so many lines at a time; the rest is counted.
const MISTAKES_SHOWN: usize = 20;

/// Reads devices from a file, or from standard input for `-`.
///
/// # Errors
/// The file cannot be read, has no devices or too many, or has lines that are wrong: the message names each.
pub fn read(file: &str) -> Result<Vec<NewDevice>> {
    let mut text = String::new();
    let (mut input, name): (Box<dyn Read>, _) = match file {
        "-" => (Box::new(io::stdin().lock()), "standard input"),
        path => (Box::new(File::open(path).with_context(|| format!("cannot open {path}"))?), path),
    };
    let read = input.by_ref().take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    if read.with_context(|| format!("cannot read {name}"))? as u64 > FILE_BYTES_MAX {
        bail!("{name} is larger than {FILE_BYTES_MAX} bytes: import it in parts");
    }
    parse(&text).with_context(|| format!("nothing was imported from {name}"))
}

fn parse(text: &str) -> Result<Vec<NewDevice>> {
    let mut rows = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let (mut devices, mut mistakes, mut lines) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (index, row) in rows.records().enumerate() {
        let row = row.context("not a CSV")?;
        let line = row.position().map_or(0, csv::Position::line);
        if index == 0 && row.get(0).is_some_and(|cell| cell.eq_ignore_ascii_case("id")) {
            continue;
        }
        match device(&row) {
            Err(mistake) => mistakes.push(format!("line {line}: {mistake}")),
            Ok(device) => {
                if let Some(first) = lines.insert(device.id.clone(), line) {
                    mistakes
                        .push(format!("line {line}: device {:?} stands on line {first} already", device.id));
                }
                devices.push(device);
            }
        }
    }
    if !mistakes.is_empty() {
        let more = mistakes.len().saturating_sub(MISTAKES_SHOWN);
        mistakes.truncate(MISTAKES_SHOWN);
        if more > 0 {
            mistakes.push(format!("and {more} more"));
        }
        bail!("{}", mistakes.join("\n"));
    }
    match devices.len() {
        0 => bail!(
            "there are no devices in it: write one id per line, then its groups, as in bus-1,north;depot-2"
        ),
        n if n > IMPORT_DEVICES_MAX => {
            bail!("{n} devices are more than the {IMPORT_DEVICES_MAX} of one import: split it")
        }
        _ => Ok(devices),
    }
}

fn device(row: &csv::StringRecord) -> Result<NewDevice, String> {
    if row.len() > 2 {
        return Err(format!("{} columns instead of id,groups: join groups by semicolons", row.len()));
    }
    let id = DeviceId::new(row.get(0).unwrap_or_default()).map_err(|error| error.to_string())?;
    let names = row.get(1).unwrap_or_default().split([';', ' ']).filter(|name| !name.is_empty());
    let groups =
        names.map(Group::new).collect::<Result<BTreeSet<_>, _>>().map_err(|error| error.to_string())?;
    Ok(NewDevice { groups, ..NewDevice::new(id) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_is_optional_and_groups_may_be_missing() {
        for text in ["id,groups\nbus-1,a;b\nbus-2\n\nbus-3,\n", "\u{feff}bus-1, a b \nbus-2,\nbus-3"] {
            let devices = parse(text).unwrap();
            let groups: Vec<_> = devices.iter().map(|device| device.groups.len()).collect();
            assert_eq!(groups, [2, 0, 0], "{text:?}");
            assert_eq!(devices[2].id.as_str(), "bus-3");
        }
    }

    #[test]
    fn every_wrong_line_is_named() {
        let error = parse("bus-1,a\nbus 2,a\nbus-3,ä\nbus-4,a,b\nbus-1\n").unwrap_err().to_string();
        for line in
            ["line 2: device id", "line 3: group name", "line 4: 3 columns", "line 5: device \"bus-1\""]
        {
            assert!(error.contains(line), "{line} is missing in {error}");
        }
        assert!(parse("id,groups\n").unwrap_err().to_string().contains("no devices"));
        let many = "bad id\n".repeat(100);
        assert!(parse(&many).unwrap_err().to_string().ends_with("and 80 more"));
    }
}
