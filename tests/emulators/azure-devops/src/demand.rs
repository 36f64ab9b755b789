//! What a job demands of an agent, and whether an agent's capabilities meet it.
//!
//! Names and values are compared without case. Forms: `name`, `name -equals value`, `name -gtVersion 1.2.3`.

use std::collections::BTreeMap;

/// One demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Demand<'a> {
    Exists(&'a str),
    Equals(&'a str, &'a str),
    AtLeast(&'a str, &'a str),
}

impl<'a> Demand<'a> {
    /// # Errors
    /// The text is empty or has an operator that does not exist.
    pub(crate) fn parse(text: &'a str) -> anyhow::Result<Self> {
        let text = text.trim();
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let (operator, value) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
        let value = value.trim();
        let demand = match (operator.to_lowercase().as_str(), value.is_empty()) {
            ("", true) if !name.is_empty() => Self::Exists(name),
            ("-equals", false) => Self::Equals(name, value),
            ("-gtversion", false) => Self::AtLeast(name, value),
            (_, _) => {
                anyhow::bail!("the demand {text:?} is neither `name` nor `name -equals value`")
            }
        };
        Ok(demand)
    }

    /// Whether an agent with these capabilities meets it. A `-gtVersion` is met by the version itself, too, as it is by the
    /// service.
    fn met_by(&self, capabilities: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Exists(name) => capabilities.contains_key(&name.to_lowercase()),
            Self::Equals(name, value) => {
                capabilities.get(&name.to_lowercase()).is_some_and(|has| has.eq_ignore_ascii_case(value))
            }
            Self::AtLeast(name, value) => {
                capabilities.get(&name.to_lowercase()).is_some_and(|has| version(has) >= version(value))
            }
        }
    }
}

fn version(text: &str) -> Vec<u64> {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// The first demand that an agent with these capabilities (names in lower case) does not meet.
pub(crate) fn unmet<'a>(
    demands: &'a [String],
    capabilities: &BTreeMap<String, String>,
) -> Option<&'a String> {
    demands.iter().find(|text| !Demand::parse(text).is_ok_and(|demand| demand.met_by(capabilities)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_meet_demands() {
        let capabilities: BTreeMap<String, String> = [
            ("java", "/usr/bin/java"),
            ("stint.cpu", "4"),
            ("agent.version", "2.210.1"),
            ("os", "Linux Mint"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (demand, met) in [
            ("java", true),
            ("Java", true),
            ("node", false),
            ("stint.cpu -equals 4", true),
            ("stint.cpu -equals 8", false),
            ("os -equals linux mint", true),
            ("Agent.Version -gtVersion 2.182.1", true),
            ("Agent.Version -gtVersion 2.210.1", true),
            ("Agent.Version -gtVersion 2.210.2", false),
            ("Agent.Version -gtVersion 3", false),
            ("java -like x", false),
        ] {
            assert_eq!(unmet(&[demand.to_owned()], &capabilities).is_none(), met, "{demand}");
        }
    }

    #[test]
    fn a_malformed_demand_is_refused() {
        for text in ["", "a -equals", "a b c", "a -gtVersion"] {
            assert!(Demand::parse(text).is_err(), "{text:?}");
        }
    }
}
