//! What GitHub says of itself: `/meta` and `/rate_limit`.

use axum::Extension;
use axum::extract::State;
use serde_json::json;

use super::{By, Shares};
use crate::answer::{Answer, ok};
use crate::gate::client_of;
use crate::rate::Resource;

pub(super) async fn meta(State(shared): Shares) -> Answer {
    let mut meta = json!({"verifiable_password_authentication": false});
    if let Some(version) = &shared.options.enterprise_version {
        meta["installed_version"] = json!(version);
    }
    ok(meta)
}

/// Free of charge.
pub(super) async fn rate_limit(State(shared): Shares, Extension(by): By) -> Answer {
    let now = shared.clock.now();
    let standing = |resource| {
        shared.gate.with_buckets(|buckets| {
            buckets.standing(&client_of(&by, resource), resource, &shared.options.limits, now).json()
        })
    };
    let core = standing(Resource::Core);
    let unused = json!({"limit": 30, "remaining": 30, "used": 0, "reset": now.as_second() + 60});
    ok(json!({
        "resources": {
            "core": core,
            "search": unused,
            "graphql": unused,
            Resource::Registration.name(): standing(Resource::Registration),
        },
        "rate": core,
    }))
}
