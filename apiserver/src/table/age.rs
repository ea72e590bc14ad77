//! Ages, rounded the way `kubectl` rounds them.

use jiff::Timestamp;

/// How long ago an RFC 3339 time was, like `5m12s` or `3d4h`; `<unknown>` if it is none.
pub(super) fn since(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) => human((Timestamp::now().duration_since(then)).as_secs()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// Upstream's `duration.HumanDuration`: two units at most, the second only while it matters.
pub(super) fn human(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |count: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 { format!("{count}{unit}") } else { format!("{count}{unit}{rest}{small}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn ages_lose_precision_as_they_grow() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (190, "3m10s"),
            (900, "15m"),
            (3 * 3600 + 60, "3h1m"),
            (26 * 3600, "26h"),
            (3 * 86_400 + 3600, "3d1h"),
            (30 * 86_400, "30d"),
            (800 * 86_400, "2y70d"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
    }
}
