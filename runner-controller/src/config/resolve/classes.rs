//! Classes: sizes, bounds of custom ones, needs, deadlines and what machines are made from.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use runner_core::setup::{Class, CustomSize, Deadlines, Need, Size};

use super::{given, shown_list};
use crate::config::class::{BoundsSpec, CustomSizeSpec};
use crate::config::origins::{Collector, From};
use crate::config::{DEFAULT_IMAGE, Resolved, ResolvedClass, RunnerClassSpec, pod_template, quantity};

/// The longest value of a label in Kubernetes.
const MAX_CLASS_NAME: usize = 63;

pub(super) fn class(
    name: &str,
    spec: &RunnerClassSpec,
    origins: &mut Collector<'_>,
) -> Result<(Class, ResolvedClass), String> {
    if name.len() > MAX_CLASS_NAME {
        return Err(format!(
            "metadata.name is {} characters long: at most {MAX_CLASS_NAME}, since pods carry it as a label",
            name.len()
        ));
    }
    let size = |path: &str, cpu: &str, memory: &str, max_runners| -> Result<Size, String> {
        Ok(Size {
            cpu_millis: quantity::cpu_millis(cpu).map_err(|error| format!("{path}.cpu: {error}"))?,
            memory_bytes: quantity::bytes(memory).map_err(|error| format!("{path}.memory: {error}"))?,
            max_runners,
        })
    };
    let sizes: BTreeMap<String, Size> = match (&spec.resources, spec.sizes.is_empty()) {
        (Some(only), true) => {
            origins.note("resources", format!("cpu {}, memory {}", only.cpu, only.memory), From::Document);
            BTreeMap::from([(String::new(), size("resources", &only.cpu, &only.memory, None)?)])
        }
        (None, false) => {
            let mut sizes = BTreeMap::new();
            for (key, one) in &spec.sizes {
                let path = format!("sizes.{key}");
                if key.is_empty() {
                    return Err("sizes: a size needs a name".to_owned());
                }
                origins.note(&path, format!("cpu {}, memory {}", one.cpu, one.memory), From::Document);
                let most = one
                    .max_runners
                    .map_or_else(|| "as many as the class".to_owned(), |most| most.to_string());
                origins.note(format!("{path}.maxRunners"), most, given(one.max_runners.is_some()));
                sizes.insert(key.clone(), size(&path, &one.cpu, &one.memory, one.max_runners)?);
            }
            sizes
        }
        (Some(_), false) => return Err("give either resources (one size) or sizes, not both".to_owned()),
        (None, true) => {
            return Err("give resources (one size) or sizes: a runner needs cpu and memory".to_owned());
        }
    };
    if let Some(template) = &spec.pod_template {
        pod_template::validate(template)?;
    }
    let max_runners = origins.or_default("maxRunners", spec.max_runners.as_ref(), 10);
    let image = origins.or_default("image", spec.image.as_ref(), DEFAULT_IMAGE.to_owned());
    let max_attempts = origins.or_default("maxAttempts", spec.max_attempts.as_ref(), 3);
    let order = spec.places.as_ref().map(|places| places.order.clone());
    let shown_order = order.as_ref().map_or_else(|| "the only place".to_owned(), |order| order.join(", "));
    origins.note("places.order", shown_order, given(order.is_some()));
    let secrets: Vec<String> = spec.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect();
    origins.note("imagePullSecrets", shown_list(&secrets), given(!secrets.is_empty()));
    origins.note("labels", shown_list(&spec.labels), given(!spec.labels.is_empty()));
    let template = if spec.pod_template.is_some() { "set" } else { "none" };
    origins.note("podTemplate", template, given(spec.pod_template.is_some()));
    let expected = spec.expected_duration.as_deref().map(quantity::duration).transpose();
    let expected_duration = expected.map_err(|error| format!("expectedDuration: {error}"))?;
    let shown_expected = expected_duration.map_or_else(|| "as usual".to_owned(), |took| format!("{took:#}"));
    origins.note("expectedDuration", shown_expected, given(expected_duration.is_some()));
    let mut needs = spec.pod_template.as_ref().map(pod_template::needs).unwrap_or_default();
    needs.extend(spec.needs.iter().copied().map(Need::from));
    let shown_needs: Vec<String> = needs.iter().map(|need| need.as_str().to_owned()).collect();
    origins.note("needs", shown_list(&shown_needs), given(!needs.is_empty()));
    let planner = Class {
        name: name.to_owned(),
        sizes,
        custom_size: spec.custom_size.as_ref().map(|custom| custom_size(custom, origins)).transpose()?,
        needs,
        labels: spec.labels.iter().map(|label| label.to_lowercase()).collect(),
        max_runners,
        places: order,
        deadlines: deadlines(spec, origins)?,
        max_attempts,
        expected_duration,
    };
    let resolved = ResolvedClass {
        name: name.to_owned(),
        image,
        image_pull_secrets: secrets,
        pod_template: spec.pod_template.clone(),
        gpu: planner.needs.contains(&Need::Gpu),
    };
    Ok((planner, resolved))
}

fn custom_size(spec: &CustomSizeSpec, origins: &mut Collector<'_>) -> Result<CustomSize, String> {
    let cpu = |field: &str, text: &str| {
        quantity::cpu_millis(text).map_err(|error| format!("customSize.cpu.{field}: {error}"))
    };
    let memory = |field: &str, text: &str| {
        quantity::bytes(text).map_err(|error| format!("customSize.memory.{field}: {error}"))
    };
    let CustomSizeSpec { cpu: of_cpu, memory: of_memory } = spec;
    let custom = CustomSize {
        cpu_millis: (cpu("min", &of_cpu.min)?, cpu("max", &of_cpu.max)?),
        memory_bytes: (memory("min", &of_memory.min)?, memory("max", &of_memory.max)?),
    };
    let upside_down = |field: &str, bounds: &BoundsSpec| {
        format!("customSize.{field}: min {} is above max {}: swap or change them", bounds.min, bounds.max)
    };
    if custom.cpu_millis.0 > custom.cpu_millis.1 {
        return Err(upside_down("cpu", of_cpu));
    }
    if custom.memory_bytes.0 > custom.memory_bytes.1 {
        return Err(upside_down("memory", of_memory));
    }
    for (field, bounds) in [("cpu", of_cpu), ("memory", of_memory)] {
        origins.note(
            format!("customSize.{field}"),
            format!("{} to {}", bounds.min, bounds.max),
            From::Document,
        );
    }
    Ok(custom)
}

fn deadlines(spec: &RunnerClassSpec, origins: &mut Collector<'_>) -> Result<Deadlines, String> {
    let default = Deadlines::default();
    let given_ones = spec.deadlines.clone().unwrap_or_default();
    let mut one =
        |field: &str, text: Option<&String>, default: SignedDuration| -> Result<SignedDuration, String> {
            let path = format!("deadlines.{field}");
            let value = match text {
                Some(text) => quantity::duration(text).map_err(|error| format!("{path}: {error}"))?,
                None => default,
            };
            origins.note(path, format!("{value:#}"), given(text.is_some()));
            Ok(value)
        };
    Ok(Deadlines {
        scheduled: one("scheduled", given_ones.scheduled.as_ref(), default.scheduled)?,
        running: one("running", given_ones.running.as_ref(), default.running)?,
        online: one("online", given_ones.online.as_ref(), default.online)?,
        idle: one("idle", given_ones.idle.as_ref(), default.idle)?,
    })
}

/// Names classes whose every place lacks what their runners need. A place that does not exist is another problem.
pub(super) fn find_unsuitable(resolved: &mut Resolved) {
    let setup = &resolved.setup;
    let lacking = |class: &Class| {
        let order: Vec<&String> = match &class.places {
            Some(order) => order.iter().collect(),
            None => setup.places.keys().collect(),
        };
        let mut places = order.iter().filter_map(|name| setup.places.get(*name)).peekable();
        places.peek()?;
        let needs: Vec<&str> = class.needs.iter().map(|need| need.as_str()).collect();
        let none =
            !class.needs.is_empty() && places.all(|place| class.needs.iter().any(|need| !place.gives(*need)));
        none.then(|| {
            format!(
                "needs: {} is what none of its places can give: name a node pool in places.order, or do without",
                needs.join(", ")
            )
        })
    };
    let found: Vec<(String, String)> =
        setup.classes.values().filter_map(|class| Some((class.name.clone(), lacking(class)?))).collect();
    for (name, message) in found {
        resolved.problem("RunnerClass", &name, message);
    }
}
