//! Kubernetes quantities and durations in documents.

use jiff::SignedDuration;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// CPU in thousandths of a core, from `2`, `0.5` or `1500m`.
///
/// # Errors
/// What is wrong with the value, and how it should look.
pub fn cpu_millis(text: &str) -> Result<u32, String> {
    let remedy =
        || format!("{text:?} is not an amount of CPU: write cores as 2 or 0.5, or thousandths as 1500m");
    let (number, factor) = match text.strip_suffix('m') {
        Some(number) => (number, Decimal::ONE),
        None => (text, Decimal::ONE_THOUSAND),
    };
    let value: Decimal = number.parse().map_err(|_| remedy())?;
    let millis = value.checked_mul(factor).and_then(|millis| millis.ceil().to_u32()).ok_or_else(remedy)?;
    if millis == 0 || value.is_sign_negative() { Err(remedy()) } else { Ok(millis) }
}

/// Bytes, from `4Gi`, `512Mi`, `4G` or a plain number.
///
/// # Errors
/// What is wrong with the value, and how it should look.
pub fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let remedy = || format!("{text:?} is not an amount of memory: write it as 4Gi, 512Mi or 4G");
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, *factor)))
        .unwrap_or((text, 1));
    let value: Decimal = number.parse().map_err(|_| remedy())?;
    let bytes = value
        .checked_mul(Decimal::from(factor))
        .and_then(|bytes| bytes.ceil().to_u64())
        .ok_or_else(remedy)?;
    if bytes == 0 || value.is_sign_negative() { Err(remedy()) } else { Ok(bytes) }
}

/// A duration, from `90s`, `15m` or `1h30m`.
///
/// # Errors
/// What is wrong with the value, and how it should look.
pub fn duration(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(duration) if duration.is_positive() => Ok(duration),
        Ok(_) | Err(_) => Err(format!("{text:?} is not a duration: write it as 90s, 15m or 1h30m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_reads_as_kubernetes_reads_it() {
        let check = |text, expect: Option<u32>| assert_eq!(cpu_millis(text).ok(), expect, "{text}");
        check("2", Some(2000));
        check("1500m", Some(1500));
        check("0.5", Some(500));
        check("0", None);
        check("-1", None);
        check("two", None);
        check("", None);
        check("99999999999999", None);
    }

    #[test]
    fn memory_reads_as_kubernetes_reads_it() {
        let check = |text, expect: Option<u64>| assert_eq!(bytes(text).ok(), expect, "{text}");
        check("4Gi", Some(4 << 30));
        check("1.5G", Some(1_500_000_000));
        check("512Mi", Some(512 << 20));
        check("1000", Some(1000));
        check("4gi", None);
        check("-4Gi", None);
        check("0", None);
    }

    #[test]
    fn durations_are_positive_and_have_units() {
        let check = |text, expect: Option<i64>| {
            assert_eq!(duration(text).ok().map(|duration| duration.as_secs()), expect, "{text}");
        };
        check("90s", Some(90));
        check("15m", Some(900));
        check("1h30m", Some(5400));
        check("-1m", None);
        check("10", None);
        check("soon", None);
    }
}
