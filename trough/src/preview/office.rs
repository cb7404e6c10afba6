//! Office hours: when somebody will notice that a slot is asleep, and can wake it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use trough_protocol::Micros;

const FORM: &str = "it is not of the form Mon-Fri 08:00-18:00";

/// Days of the week, and from when to when on each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    days: [bool; 7],
    from: Time,
    to: Time,
}

impl Hours {
    /// Whether this moment lies within, in a time zone.
    pub fn contain(&self, at: Micros, zone: &TimeZone) -> bool {
        let moment = i64::try_from(at).ok().and_then(|at| Timestamp::from_microsecond(at).ok());
        moment.is_some_and(|moment| {
            let local = moment.to_zoned(zone.clone());
            let day = usize::from(local.weekday().to_monday_zero_offset().unsigned_abs());
            self.days[day] && self.from <= local.time() && local.time() < self.to
        })
    }
}

impl FromStr for Hours {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (days, times) = text.split_once(' ').ok_or(FORM)?;
        let (first, last) = days.split_once('-').unwrap_or((days, days));
        let (first, last) = (weekday(first).ok_or(FORM)?, weekday(last).ok_or(FORM)?);
        let (from, to) = times.split_once('-').ok_or(FORM)?;
        let (from, to): (Time, Time) = (from.parse().map_err(|_| FORM)?, to.parse().map_err(|_| FORM)?);
        if to <= from {
            return Err("they end before they begin");
        }
        let mut days = [false; 7];
        let mut day = first;
        loop {
            days[usize::from(day.to_monday_zero_offset().unsigned_abs())] = true;
            if day == last {
                return Ok(Self { days, from, to });
            }
            day = day.next();
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.iter().zip(self.days).filter(|(_, open)| *open).map(|(name, _)| *name);
        write!(f, "{} {}-{}", names.collect::<Vec<_>>().join(","), self.from, self.to)
    }
}

const NAMES: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

fn weekday(name: &str) -> Option<Weekday> {
    let day = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    Weekday::from_monday_zero_offset(i8::try_from(day).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Micros {
        u64::try_from(time.parse::<Timestamp>().unwrap().as_microsecond()).unwrap()
    }

    #[test]
    fn days_hours_and_the_clock_of_the_place_count() {
        let hours: Hours = "Mon-Fri 08:00-18:00".parse().unwrap();
        let zurich = TimeZone::get("Europe/Zurich").unwrap();
        // 2026-11-26 is a Thursday; the clock in Zurich is an hour ahead in winter, two in summer.
        for (time, within) in [
            ("2026-11-26T06:59:59Z", false),
            ("2026-11-26T07:00:00Z", true),
            ("2026-11-26T16:59:59Z", true),
            ("2026-11-26T17:00:00Z", false),
            ("2026-07-23T06:00:00Z", true),
            ("2026-07-23T16:30:00Z", false),
            ("2026-11-28T10:00:00Z", false),
            // Friday evening in Zurich is Saturday in Auckland.
            ("2026-11-27T16:30:00Z", true),
        ] {
            assert_eq!(hours.contain(at(time), &zurich), within, "{time}");
        }
        assert!(!hours.contain(at("2026-11-27T16:30:00Z"), &TimeZone::get("Pacific/Auckland").unwrap()));
    }

    #[test]
    fn weeks_may_begin_anywhere_and_nonsense_is_refused() {
        let hours: Hours = "sat-mon 09:00-17:00".parse().unwrap();
        assert_eq!(hours.to_string(), "Mon,Sat,Sun 09:00:00-17:00:00");
        assert!("Wed 09:00-17:00".parse::<Hours>().is_ok());
        for bad in ["", "Mon-Fri", "Mon-Fri 18:00-08:00", "Mon-Fri 8-18", "Day 08:00-18:00", "Mon-Fri 08:00"]
        {
            assert!(bad.parse::<Hours>().is_err(), "{bad}");
        }
    }
}
