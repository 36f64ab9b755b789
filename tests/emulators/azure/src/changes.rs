//! What ARM's writes do to groups: create, update, delete, stop, start, restart, and the scripted sort of each.
//!
//! Every function here takes its decision and makes its change under one lock; what takes time goes on in a task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use crate::arm::error::ArmError;
use crate::groups::life::{Life, Provisioning};
use crate::groups::request::Requested;
use crate::groups::{Container, Group, GroupKey, GroupState, Orders, ProvisioningState};
use crate::quota::{Change, Scope};
use crate::scripts;
use crate::world::{Inner, Operation, OperationKind, World};

/// What a PUT did.
pub(crate) enum Put {
    Created {
        operation: String,
    },
    /// Restarted with the new specification.
    Updated {
        operation: String,
    },
    /// Nothing but tags differed.
    Unchanged,
}

/// Creates or updates the group `name`, whose path is given as sent.
pub(crate) fn put(
    world: &Arc<World>,
    subscription: &str,
    resource_group: &str,
    name: &str,
    body: &Value,
) -> Result<Put, ArmError> {
    let mut inner = world.lock();
    let inner = &mut *inner;
    let now = world.now();
    if let Some(refusal) = scripts::take(&mut inner.scripts.refuse_put, name) {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let message = format!("The request for the container group '{name}' was refused.");
        let wait = refusal.retry_after.map(|seconds| Duration::from_secs(seconds.into()));
        return Err(ArmError::new(status, &refusal.code, message).after(wait));
    }
    let requested = Requested::parse(name, body, &inner.limits)?;
    let key = GroupKey::new(subscription, resource_group, name);
    let location =
        body.get("location").and_then(Value::as_str).unwrap_or_default().replace(' ', "").to_lowercase();
    if location.is_empty() {
        return Err(ArmError::bad_request("LocationRequired", "The location property is required."));
    }
    if let Some(image) = requested
        .init_containers
        .iter()
        .chain(&requested.containers)
        .map(|container| &container.image)
        .find(|image| inner.scripts.is_unpullable(image, false))
    {
        return Err(ArmError::bad_request(
            "InaccessibleImage",
            format!(
                "The image '{image}' in container group '{name}' is not accessible. Please check the image and registry \
                 credential."
            ),
        ));
    }
    let tags = tags(body);
    if let Some(existing) = inner.live.get_mut(&key) {
        if existing.in_transition() {
            return Err(ArmError::transitioning(name));
        }
        if existing.requested.properties == requested.properties {
            existing.tags = tags;
            return Ok(Put::Unchanged);
        }
        if !existing.requested.allows_update_to(&requested) {
            return Err(ArmError::bad_request(
                "InvalidContainerGroupUpdate",
                format!(
                    "The updates on container group '{name}' are invalid: to change the OS type, restart policy, CPU or memory, \
                     delete it first and create it anew."
                ),
            ));
        }
        existing.tags = tags;
        existing.requested = requested;
        let number = existing.number;
        let operation = begin_operation(inner, OperationKind::Deploy, &key, number, now);
        relaunch(world, inner, &key, Provisioning::Succeeds);
        return Ok(Put::Updated { operation });
    }
    check_standing_quota(inner, &key.subscription, &location, &requested)?;
    let scope: Scope = (key.subscription.clone(), location.clone());
    let scale = world.options.quota_scale;
    if let Err(wait) = inner.quotas.check(&scope, Change::Create, &inner.limits, scale, now) {
        return Err(ArmError::too_many(
            &format!("Too many container groups were created in '{location}'."),
            wait,
        ));
    }
    inner.quotas.count(&scope, Change::Create, scale, now);
    let provisioning = match scripts::take(&mut inner.scripts.fail_provisioning, name) {
        Some(code) => Provisioning::Fails(code),
        None if scripts::take(&mut inner.scripts.never_provision, name).is_some() => Provisioning::Never,
        None => Provisioning::Succeeds,
    };
    inner.regions.insert(location.clone());
    let number = inner.next_number();
    let group = Group {
        number,
        run: 0,
        subscription: subscription.to_owned(),
        resource_group: resource_group.to_owned(),
        name: name.to_owned(),
        location,
        tags,
        identity: body.get("identity").filter(|identity| !identity.is_null()).cloned(),
        requested,
        provisioning: ProvisioningState::Pending,
        state: GroupState::Pending,
        events: Vec::new(),
        init_containers: Vec::new(),
        containers: Vec::new(),
        created_at: now,
        deleted_at: None,
        billed: Vec::new(),
        orders: watch::Sender::default(),
        idle: watch::Sender::new(true),
        deletion: None,
    };
    inner.live.insert(key.clone(), group);
    let operation = begin_operation(inner, OperationKind::Deploy, &key, number, now);
    relaunch(world, inner, &key, provisioning);
    if scripts::take(&mut inner.scripts.answer_put_with_503, name).is_some() {
        return Err(ArmError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServerTimeout",
            "The request timed out. Diagnostic information: the container group may or may not exist."
                .to_owned(),
        ));
    }
    Ok(Put::Created { operation })
}

pub(crate) fn tags(body: &Value) -> BTreeMap<String, String> {
    let tags = body.get("tags").and_then(Value::as_object).into_iter().flatten();
    tags.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// Groups and cores in use in a region, by everybody.
pub(crate) fn usage(inner: &Inner, subscription: &str, region: &str) -> (u32, u32) {
    let others = inner.quotas.others.get(region).copied().unwrap_or_default();
    let ours = || {
        inner
            .live
            .values()
            .filter(|group| group.location == region && group.key().subscription == subscription)
    };
    let groups = u32::try_from(ours().count()).unwrap_or(u32::MAX);
    let cores =
        ours().filter(|group| group.holds_cores()).map(|group| group.requested.whole_cores()).sum::<u32>();
    (groups.saturating_add(others.groups), cores.saturating_add(others.cores))
}

fn check_standing_quota(
    inner: &Inner,
    subscription: &str,
    region: &str,
    requested: &Requested,
) -> Result<(), ArmError> {
    let (groups, cores) = usage(inner, subscription, region);
    let wanted = requested.whole_cores();
    let exceeded = |what: &str, limit: u32, usage: u32, wanted: u32| {
        ArmError::new(
            StatusCode::CONFLICT,
            "ContainerGroupQuotaReached",
            format!(
                "Resource type 'Microsoft.ContainerInstance/containerGroups' container group quota '{what}' exceeded in region \
                 '{region}'. Limit: '{limit}', Usage: '{usage}' Requested: '{wanted}'."
            ),
        )
    };
    if groups >= inner.limits.groups {
        return Err(exceeded("ContainerGroups", inner.limits.groups, groups, 1));
    }
    if cores.saturating_add(wanted) > inner.limits.cores {
        return Err(exceeded("StandardCores", inner.limits.cores, cores, wanted));
    }
    if inner.scripts.no_capacity.contains(region) {
        return Err(ArmError::new(
            StatusCode::CONFLICT,
            "ServiceUnavailable",
            format!(
                "The requested resource is not available in the location '{region}' at this moment. Please retry with a \
                 different resource request or in another location."
            ),
        ));
    }
    Ok(())
}

pub(crate) fn begin_operation(
    inner: &mut Inner,
    kind: OperationKind,
    key: &GroupKey,
    number: u64,
    now: Timestamp,
) -> String {
    let id = format!("00000000-0000-4000-8000-{:012x}", inner.next_number());
    inner.operations.insert(id.clone(), Operation { kind, key: key.clone(), number, started_at: now });
    id
}

/// Begins a new run of a group, after what is left of the one before has ended.
pub(crate) fn relaunch(world: &Arc<World>, inner: &mut Inner, key: &GroupKey, provisioning: Provisioning) {
    let Some(group) = inner.live.get_mut(key) else { return };
    let before = std::mem::take(&mut group.orders);
    let idle = std::mem::replace(&mut group.idle, watch::Sender::new(false));
    let requested = &group.requested;
    let fresh = |container: &crate::groups::request::RequestedContainer| {
        Container::new(&container.name, &container.image)
    };
    group.init_containers = requested.init_containers.iter().map(fresh).collect();
    group.containers = requested.containers.iter().map(fresh).collect();
    group.provisioning = ProvisioningState::Pending;
    group.state = GroupState::Pending;
    group.run += 1;
    let life = Life {
        world: world.clone(),
        key: key.clone(),
        number: group.number,
        run: group.run,
        requested: Arc::new(group.requested.clone()),
        provisioning,
        orders: group.orders.subscribe(),
        idle: group.idle.clone(),
    };
    let end = crate::groups::to_millisecond(world.now());
    group.stop_billing(end);
    world.spawn(async move {
        before.send_modify(|orders| orders.vanish = true);
        // An error means that there was nothing to wait for.
        let _ = idle.subscribe().wait_for(|idle| *idle).await;
        life.live().await;
    });
    world.changed();
}

/// What a DELETE found.
pub(crate) enum Delete {
    Absent,
    /// Answered as if it worked; nothing happens.
    Lost {
        shown: Value,
    },
    Begun {
        operation: String,
        shown: Value,
    },
}

/// Begins to delete a group, or joins the deletion that is under way.
pub(crate) fn delete(world: &Arc<World>, key: &GroupKey) -> Result<Delete, ArmError> {
    let mut inner = world.lock();
    let inner = &mut *inner;
    let now = world.now();
    let Some(group) = inner.live.get_mut(key) else { return Ok(Delete::Absent) };
    if let (ProvisioningState::Deleting, Some(operation)) = (group.provisioning, group.deletion.clone()) {
        return Ok(Delete::Begun { operation, shown: crate::groups::view::arm(group, true) });
    }
    let scope: Scope = (key.subscription.clone(), group.location.clone());
    let scale = world.options.quota_scale;
    if let Err(wait) = inner.quotas.check(&scope, Change::Delete, &inner.limits, scale, now) {
        return Err(ArmError::too_many("Too many container groups were deleted.", wait));
    }
    inner.quotas.count(&scope, Change::Delete, scale, now);
    if scripts::take(&mut inner.scripts.lose_delete, &key.name).is_some() {
        return Ok(Delete::Lost { shown: crate::groups::view::arm(group, true) });
    }
    let keeps_running = inner.scripts.held(&key.name).unwrap_or(false);
    group.provisioning = ProvisioningState::Deleting;
    let number = group.number;
    let mut idle = group.idle.subscribe();
    let orders = group.orders.clone();
    let shown = crate::groups::view::arm(group, true);
    let operation = begin_operation(inner, OperationKind::Delete, key, number, now);
    if let Some(group) = inner.live.get_mut(key) {
        group.deletion = Some(operation.clone());
    }
    let duration = world.options.scaled(inner.timings.delete);
    if !keeps_running {
        orders.send_modify(|orders| orders.stop = true);
    }
    let (world_, key) = (world.clone(), key.clone());
    world.spawn(async move {
        tokio::time::sleep(duration).await;
        let mut changes = world_.watch();
        while world_.lock().scripts.held(&key.name).is_some() {
            if changes.changed().await.is_err() {
                return;
            }
        }
        orders.send_modify(|orders| orders.stop = true);
        // An error means that the life has ended in another way.
        let _ = idle.wait_for(|idle| *idle).await;
        world_.bury(&key, number);
    });
    world.changed();
    Ok(Delete::Begun { operation, shown })
}

/// `POST …/stop`, `/start` and `/restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Stop,
    Start,
    Restart,
}

/// Carries out `action`; the operation that tells when it is done.
pub(crate) fn act(world: &Arc<World>, key: &GroupKey, action: Action) -> Result<String, ArmError> {
    let mut inner = world.lock();
    let inner = &mut *inner;
    let Some(group) = inner.live.get_mut(key) else { return Err(ArmError::group_not_found(key)) };
    if group.in_transition() {
        return Err(ArmError::transitioning(&group.name));
    }
    let number = group.number;
    let runs = matches!(group.state, GroupState::Pending | GroupState::Running);
    match action {
        Action::Stop => group.orders.send_modify(|orders| orders.stop = true),
        Action::Start if runs => {}
        Action::Start | Action::Restart => relaunch(world, inner, key, Provisioning::Succeeds),
    }
    Ok(begin_operation(inner, OperationKind::Deploy, key, number, world.now()))
}

/// A group is gone all of a sudden.
pub(crate) fn vanish(world: &World, pattern: &str) {
    let vanished: Vec<_> = {
        let inner = world.lock();
        let fits = |group: &&Group| emulator_common::glob_matches(pattern, &group.name);
        inner
            .live
            .values()
            .filter(fits)
            .map(|group| (group.key(), group.number, group.orders.clone()))
            .collect()
    };
    for (key, number, orders) in vanished {
        world.bury(&key, number);
        orders.send_modify(|orders: &mut Orders| orders.vanish = true);
    }
}

/// Running containers are started again.
pub(crate) fn restart_containers(world: &World, pattern: &str) {
    let inner = world.lock();
    for group in inner.live.values().filter(|group| emulator_common::glob_matches(pattern, &group.name)) {
        group.orders.send_modify(|orders| {
            for container in &group.containers {
                *orders.restarts.entry(container.name.clone()).or_default() += 1;
            }
        });
    }
}
