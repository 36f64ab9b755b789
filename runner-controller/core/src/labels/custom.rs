//! Sizes that jobs ask for themselves, within bounds: `class/cpu=4/mem=16`, in cores and GiB.

use crate::setup::{Class, Size};

const GIB: u64 = 1 << 30;
/// Digits after the point that count: thousandths.
const DIGITS: usize = 3;

/// The size that the part of a label after `class/` asks for, in lower case.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub(super) fn size(class: &Class, asked: &str) -> Result<Size, String> {
    let Some(bounds) = class.custom_size else {
        return Err(format!("class {} offers no sizes but its own: ask for one of them", class.name));
    };
    let (mut cpu, mut memory): (Option<u64>, Option<u64>) = (None, None);
    for part in asked.split('/') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let slot = match key {
            "cpu" => &mut cpu,
            "mem" => &mut memory,
            _ => return Err(format!("{part:?} is neither cpu=… nor mem=…: {}", example(class))),
        };
        let thousandths =
            thousandths(value).ok_or_else(|| format!("{part:?} is no number: {}", example(class)))?;
        if slot.replace(thousandths).is_some() {
            return Err(format!("{key} stands twice: {}", example(class)));
        }
    }
    // A class of one size has what the label does not say.
    let only = class.sizes.get("");
    let millis = cpu.or_else(|| only.map(|size| size.cpu_millis.into()));
    let bytes = memory
        .map(|thousandths| thousandths.saturating_mul(GIB) / 1000)
        .or_else(|| only.map(|size| size.memory_bytes));
    let (Some(millis), Some(memory_bytes)) = (millis, bytes) else {
        return Err(format!("both cpu and mem must be given: {}", example(class)));
    };
    let (least, most) = bounds.cpu_millis;
    if !(u64::from(least)..=u64::from(most)).contains(&millis) {
        let (least, most) = (decimal(least.into(), 1000), decimal(most.into(), 1000));
        return Err(format!("cpu={} is not between {least} and {most}", decimal(millis, 1000)));
    }
    let (least, most) = bounds.memory_bytes;
    if !(least..=most).contains(&memory_bytes) {
        let (least, most) = (decimal(least, GIB), decimal(most, GIB));
        return Err(format!("mem={} is not between {least} and {most} (GiB)", decimal(memory_bytes, GIB)));
    }
    let cpu_millis = u32::try_from(millis).unwrap_or(u32::MAX);
    Ok(Size { cpu_millis, memory_bytes, max_runners: None })
}

fn example(class: &Class) -> String {
    format!("write it as {}/cpu=4/mem=16, in cores and GiB", class.name)
}

/// A decimal number without sign, in thousandths.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fine = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !fine(whole) || !fine(fraction) || fraction.len() > DIGITS {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<DIGITS$}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(fraction)
}

/// So many units as a decimal number, to thousandths.
fn decimal(value: u64, unit: u64) -> String {
    let fraction = (value % unit).saturating_mul(1000) / unit;
    let digits = format!("{fraction:03}");
    match digits.trim_end_matches('0') {
        "" => (value / unit).to_string(),
        digits => format!("{}.{digits}", value / unit),
    }
}
