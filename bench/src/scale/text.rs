//! The plans beside one another, for people.

use super::plan::{Limit, Plan};

/// A row: its name, and what it says of a plan.
type Row = (&'static str, fn(&Plan) -> String);

const ROWS: &[Row] = &[
    ("devices", |plan| number(plan.fleet.devices as f64)),
    ("frames/s", |plan| number(plan.frames)),
    ("feeders (2 cores)", |plan| number(plan.feeders)),
    ("eaters (2 cores)", |plan| number(plan.eaters)),
    ("links to each eater", |plan| number(plan.links_per_eater)),
    ("credit of an eater", |plan| bytes(plan.credit_bytes)),
    ("memory of an eater at most", |plan| bytes(plan.eater_bytes)),
    ("journal objects/s (PUTs, rows)", |plan| number(plan.objects)),
    ("bytes of one", |plan| bytes(plan.object_bytes)),
    ("devices in one", |plan| number(plan.spans_per_object)),
    ("PUTs/s with segments", |plan| number(plan.puts)),
    ("requests to the store, $/month", |plan| number(plan.requests_price_month)),
    ("journal in the bucket", |plan| bytes(plan.journal_bytes)),
    ("segments of a month", |plan| bytes(plan.segment_bytes_month)),
    ("keeping these, $/month", |plan| number(plan.month_price)),
    ("database writes/s", |plan| number(plan.database_writes)),
    ("  of these heads", |plan| number(plan.head_writes)),
    ("rows and their index", |plan| bytes(plan.rows_bytes)),
    ("heads", |plan| bytes(plan.heads_bytes)),
    ("presence reports/s", |plan| number(plan.reports)),
    ("memcached, devices' keys", |plan| bytes(plan.bus_bytes)),
    ("memcached, cores for polls", |plan| number(plan.bus_cores)),
    ("breaks first", |plan| used(&plan.limits[0])),
    ("then", |plan| used(&plan.limits[1])),
    ("cells of such a deployment", |plan| number(plan.cells() as f64)),
];

/// A table in Markdown, a column for each plan.
pub fn table(plans: &[Plan]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let row = |(name, of): &Row| std::iter::once((*name).to_owned()).chain(plans.iter().map(of)).collect();
    let mut rows = ROWS.iter().map(row).map(line);
    let head = rows.next().unwrap_or_default();
    let rule = format!("|---|{}\n", "---:|".repeat(plans.len()));
    std::iter::once(head).chain([rule]).chain(rows).collect()
}

fn used(limit: &Limit) -> String {
    format!("{}: {} %", limit.name, number(limit.used * 100.0))
}

/// Three digits, as no figure here is better than that.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let unit = 10f64.powf((value.log10().floor() - 2.0).max(0.0));
    let digits = format!("{:.0}", (value / unit).round() * unit);
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = value / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", number(value), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Fleet;

    #[test]
    fn figures_are_short() {
        let numbers = [0.0, 0.04, 9.999, 10.0, 1234.0, 9_876_543.0].map(number);
        assert_eq!(numbers, ["0", "0.04", "10", "10", "1,230", "9,880,000"]);
        assert_eq!([512.0, 268_435_456.0, 2e12].map(bytes), ["0.5 KiB", "256 MiB", "1.82 TiB"]);
    }

    #[test]
    fn a_column_for_each_plan() {
        let plan = Plan::of(Fleet { devices: 1000, every_s: 10.0, payload_bytes: 256 });
        let text = table(&[plan.clone(), plan]);
        assert!(
            text.lines().all(|line| line.split(" | ").count() == 3 || line == "|---|---:|---:|"),
            "{text}"
        );
        assert_eq!(text.lines().count(), ROWS.len() + 1);
    }
}
