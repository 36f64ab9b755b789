//! Which resources there are, at which addresses and in which versions: what `OPTIONS _apis/{area}` tells clients.
//!
//! Identifiers and areas are those of Microsoft's clients. A resource with a released version takes `api-version=7.1` and
//! less as it is, and 7.2 as a preview; one without takes previews only.

use serde_json::{Value, json};

/// A resource of the API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    id: &'static str,
    pub(crate) area: &'static str,
    pub(crate) resource: &'static str,
    template: &'static str,
    resource_version: u32,
    released: bool,
}

/// The newest version, which is a preview.
const NEWEST: (u32, u32) = (7, 2);
/// The newest released version.
const RELEASED: (u32, u32) = (7, 1);

const fn at(
    id: &'static str,
    area: &'static str,
    resource: &'static str,
    template: &'static str,
    resource_version: u32,
    released: bool,
) -> Location {
    Location { id, area, resource, template, resource_version, released }
}

pub(crate) const LOCATIONS: [Location; 13] = [
    at(
        "e81700f7-3be2-46de-8624-2eb35882fcaa",
        "Location",
        "ResourceAreas",
        "_apis/{resource}/{areaId}",
        1,
        false,
    ),
    at("00d9565f-ed9c-4a06-9a50-00e7896ccab4", "Location", "ConnectionData", "_apis/{resource}", 1, false),
    at("603fe2ac-9723-48b9-88ad-09305aa6c6e1", "core", "projects", "_apis/{resource}/{*projectId}", 4, true),
    at(
        "a8c47e17-4d56-4a56-92bb-de7ea7dc65be",
        "distributedtask",
        "pools",
        "_apis/{area}/{resource}/{poolId}",
        1,
        true,
    ),
    at(
        "e298ef32-5878-4cab-993c-043836571f42",
        "distributedtask",
        "agents",
        "_apis/{area}/pools/{poolId}/{resource}/{agentId}",
        1,
        true,
    ),
    at(
        "30ba3ada-fedf-4da8-bbb5-dacf2f82e176",
        "distributedtask",
        "usercapabilities",
        "_apis/{area}/pools/{poolId}/agents/{agentId}/{resource}",
        1,
        false,
    ),
    at(
        "fc825784-c92a-4299-9221-998a02d1b54f",
        "distributedtask",
        "jobrequests",
        "_apis/{area}/pools/{poolId}/{resource}/{requestId}",
        1,
        false,
    ),
    at(
        "0cd358e1-9217-4d94-8269-1c1ee6f93dcf",
        "build",
        "Builds",
        "{project}/_apis/{area}/{resource}/{buildId}",
        7,
        true,
    ),
    at(
        "8baac422-4c6e-4de5-8532-db96d92acffa",
        "build",
        "Timeline",
        "{project}/_apis/{area}/builds/{buildId}/{resource}/{timelineId}",
        3,
        true,
    ),
    at(
        "b8aac6c9-744b-46e1-88fc-3550969f9313",
        "build",
        "stages",
        "{project}/_apis/{area}/builds/{buildId}/{resource}/{stageRefName}",
        1,
        true,
    ),
    at(
        "7859261e-d2e9-4a68-b820-a5d84cc5bb3d",
        "pipelines",
        "runs",
        "{project}/_apis/{area}/{pipelineId}/{resource}/{runId}",
        1,
        true,
    ),
    at(
        "fc50d02a-849f-41fb-8af1-0a5216103269",
        "hooks",
        "Subscriptions",
        "_apis/{area}/{resource}/{subscriptionId}",
        1,
        true,
    ),
    at(
        "0c62d343-21b0-4732-997b-017fde84dc28",
        "hooks",
        "Notifications",
        "_apis/{area}/subscriptions/{subscriptionId}/{resource}/{notificationId}",
        1,
        true,
    ),
];

/// The areas that `_apis/ResourceAreas` names: identifier and name. Clients find service hooks without.
pub(crate) const AREAS: [(&str, &str); 4] = [
    ("a85b8835-c1a1-4aac-ae97-1c3d0ba72dbd", "distributedtask"),
    ("965220d5-5bb9-42cf-8d67-9b146df2a5a4", "build"),
    ("79134c72-4a58-4b42-976c-04e7115f32bf", "core"),
    ("5264459e-e5e0-4bd8-b118-0985e68a4ec5", "pipelines"),
];

/// A version that a request asks for does not exist or is not said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadVersion {
    Missing,
    Malformed(String),
    OutOfRange(String),
    Preview(String),
}

impl Location {
    pub(crate) fn json(&self) -> Value {
        let (major, minor) = NEWEST;
        json!({
            "id": self.id,
            "area": self.area,
            "resourceName": self.resource,
            "routeTemplate": self.template,
            "resourceVersion": self.resource_version,
            "minVersion": "1.0",
            "maxVersion": format!("{major}.{minor}"),
            "releasedVersion": if self.released { format!("{}.{}", RELEASED.0, RELEASED.1) } else { "0.0".to_owned() },
        })
    }

    /// Whether a path, from `_apis` on and in lower case, is of this resource; the last parameter may be left out.
    fn matches(&self, path: &str) -> bool {
        let template = self.template.trim_start_matches("{project}/").to_lowercase();
        let expected: Vec<String> = template
            .split('/')
            .map(|part| match part {
                "{area}" => self.area.to_lowercase(),
                "{resource}" => self.resource.to_lowercase(),
                other => other.to_owned(),
            })
            .collect();
        let given: Vec<&str> = path.trim_matches('/').split('/').collect();
        let is_parameter = |part: &String| part.starts_with('{');
        let required = expected.len() - usize::from(expected.last().is_some_and(is_parameter));
        (required..=expected.len()).contains(&given.len())
            && expected.iter().zip(&given).all(|(part, given)| is_parameter(part) || part == given)
    }

    /// Checks the version that a request asks for; a GET may leave it out.
    pub(crate) fn check_version(&self, version: Option<&str>, reads: bool) -> Result<(), BadVersion> {
        let Some(text) = version.filter(|text| !text.is_empty()) else {
            return if reads { Ok(()) } else { Err(BadVersion::Missing) };
        };
        let (number, preview) = text.split_once("-preview").map_or((text, None), |(n, rest)| (n, Some(rest)));
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else {
            return Err(BadVersion::Malformed(text.to_owned()));
        };
        let asked = (major, minor);
        if asked > NEWEST || major == 0 {
            return Err(BadVersion::OutOfRange(text.to_owned()));
        }
        let of_resource = preview.and_then(|rest| rest.strip_prefix('.')).and_then(|rest| rest.parse().ok());
        if of_resource.is_some_and(|version: u32| version > self.resource_version) {
            return Err(BadVersion::OutOfRange(text.to_owned()));
        }
        let released = self.released && asked <= RELEASED;
        if preview.is_none() && !released { Err(BadVersion::Preview(text.to_owned())) } else { Ok(()) }
    }
}

/// The resource at a path, from `_apis` on and in lower case.
pub(crate) fn locate(path: &str) -> Option<&'static Location> {
    LOCATIONS.iter().find(|location| location.matches(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_resource() {
        for (path, resource) in [
            ("_apis/distributedtask/pools", Some("pools")),
            ("_apis/distributedtask/pools/4", Some("pools")),
            ("_apis/distributedtask/pools/4/agents", Some("agents")),
            ("_apis/distributedtask/pools/4/agents/7", Some("agents")),
            ("_apis/distributedtask/pools/4/agents/7/usercapabilities", Some("usercapabilities")),
            ("_apis/distributedtask/pools/4/jobrequests/7", Some("jobrequests")),
            ("_apis/build/builds/7/timeline", Some("Timeline")),
            ("_apis/build/builds/7/stages/test", Some("stages")),
            ("_apis/hooks/subscriptions", Some("Subscriptions")),
            ("_apis/work/items", None),
            ("_apis/distributedtask/pools/4/agents/7/other", None),
        ] {
            assert_eq!(locate(path).map(|location| location.resource), resource, "{path}");
        }
    }

    #[test]
    fn versions_are_checked() {
        let released = locate("_apis/build/builds").unwrap();
        let preview = locate("_apis/distributedtask/pools/4/jobrequests").unwrap();
        for (location, version, reads, right) in [
            (released, None, true, true),
            (released, None, false, false),
            (released, Some("7.1"), false, true),
            (released, Some("5.0"), false, true),
            (released, Some("7.2"), true, false),
            (released, Some("7.2-preview"), true, true),
            (released, Some("7.2-preview.7"), true, true),
            (released, Some("7.2-preview.8"), true, false),
            (released, Some("7.3-preview"), true, false),
            (released, Some("nine"), true, false),
            (preview, Some("7.1"), true, false),
            (preview, Some("7.1-preview.1"), true, true),
            (preview, None, true, true),
        ] {
            assert_eq!(location.check_version(version, reads).is_ok(), right, "{version:?}");
        }
    }
}
