//! How long machines take to start and to go: a model, since Azure promises nothing.
//!
//! Its defaults come from what was reported of Azure Container Instances (facts: a 44 MB image about 60 s, one of 900 MB
//! about 110 s from creation to a running container); everything can be set. Draws, and decides nothing.

use jiff::SignedDuration;
use runner_core::setup::PlaceKind;

use super::chance::Chance;
use crate::config::quantity;

/// From the two reports: seconds that do not depend on the image, and seconds for each megabyte of it.
const BASE_SECONDS: f64 = 57.4;
const SECONDS_PER_MB: f64 = 0.0584;

/// What can be set, as `--start-model` names it.
pub const KEYS: &str = "deploy, image, pull, agent, pool, exit, gone and spread";

/// Medians of each stage, and how far single starts are from them.
#[derive(Clone, Debug, PartialEq)]
pub struct StartModel {
    /// From the request for a container group until its first image pull, which starts the meter.
    pub deploy: SignedDuration,
    /// From then until the container runs.
    pub pull: SignedDuration,
    /// From then until the agent is online.
    pub agent: SignedDuration,
    /// From the pod's creation on a node with room until its container runs.
    pub pool: SignedDuration,
    /// From the job's end until the container has ended.
    pub exit: SignedDuration,
    /// From the request to delete a group until Azure answers 404.
    pub gone: SignedDuration,
    /// Standard deviation of the logarithm of each stage; 0: every start takes the medians.
    pub spread: f64,
}

impl Default for StartModel {
    fn default() -> Self {
        let secs = SignedDuration::from_secs;
        let deploy = secs(20);
        Self {
            deploy,
            pull: pull_of(1_000_000_000, deploy),
            agent: secs(4),
            pool: secs(5),
            exit: secs(2),
            gone: secs(15),
            spread: 0.25,
        }
    }
}

/// What one runner takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Draw {
    /// From its creation until the meter starts.
    pub(super) deploy: SignedDuration,
    /// From then until its container runs.
    pub(super) pull: SignedDuration,
    /// From then until its agent is online.
    pub(super) agent: SignedDuration,
    /// From its job's end until its container has ended.
    pub(super) exit: SignedDuration,
    /// From the request to delete it until it is gone.
    pub(super) gone: SignedDuration,
}

impl StartModel {
    /// Reads `key=value,…`, each key over its default: durations as `20s`, `image` as bytes (`900M`), `spread` as a number.
    ///
    /// # Errors
    /// The key or value that cannot be used, and what could be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut model = Self::default();
        let (mut image, mut pull) = (None, None);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?} is not key=value: write it as deploy=20s,image=900M"))?;
            let named = |error: String| format!("{key}: {error}");
            let duration = || match value {
                "0s" => Ok(SignedDuration::ZERO),
                _ => quantity::duration(value).map_err(named),
            };
            match key {
                "deploy" => model.deploy = duration()?,
                "pull" => pull = Some(duration()?),
                "image" => image = Some(quantity::bytes(value).map_err(named)?),
                "agent" => model.agent = duration()?,
                "pool" => model.pool = duration()?,
                "exit" => model.exit = duration()?,
                "gone" => model.gone = duration()?,
                "spread" => {
                    model.spread =
                        value.parse().ok().filter(|spread| (0.0..=3.0).contains(spread)).ok_or_else(
                            || format!("spread: {value:?} is not a number from 0 to 3, such as 0.25"),
                        )?;
                }
                other => return Err(format!("{other:?} is not known: there are {KEYS}")),
            }
        }
        model.pull = match (pull, image) {
            (Some(_), Some(_)) => return Err("give either pull or image, not both".to_owned()),
            (Some(pull), None) => pull,
            (None, Some(bytes)) => pull_of(bytes, model.deploy),
            (None, None) => model.pull,
        };
        Ok(model)
    }

    /// What one runner at a place of this kind takes.
    pub(super) fn draw(&self, kind: PlaceKind, chance: &mut Chance) -> Draw {
        let mut one = |median: SignedDuration| {
            let millis = chance.log_normal(median.as_millis_f64(), self.spread);
            SignedDuration::from_millis(millis.round().clamp(0.0, 1e12) as i64)
        };
        let (deploy, pull, agent, exit, gone) =
            (one(self.deploy), one(self.pull), one(self.agent), one(self.exit), one(self.gone));
        match kind {
            PlaceKind::VirtualNode | PlaceKind::ContainerInstances => {
                Draw { deploy, pull, agent, exit, gone }
            }
            PlaceKind::NodePool => {
                let none = SignedDuration::ZERO;
                // A pod that has ended goes at once.
                Draw { deploy: none, pull: one(self.pool), agent, exit, gone: none }
            }
        }
    }
}

/// The median of a pull: what the reports leave of the whole start once the deployment is over.
fn pull_of(image_bytes: u64, deploy: SignedDuration) -> SignedDuration {
    let whole = BASE_SECONDS + SECONDS_PER_MB * (image_bytes as f64 / 1e6);
    let millis = (whole * 1000.0 - deploy.as_millis_f64()).round().clamp(1000.0, 1e12);
    SignedDuration::from_millis(millis as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_are_met() {
        for (image, seconds) in [("44M", 60.0), ("900M", 110.0)] {
            let model = StartModel::parse(&format!("image={image}")).unwrap();
            let whole = (model.deploy + model.pull).as_millis_f64() / 1000.0;
            assert!((whole - seconds).abs() < 0.5, "{image}: {whole}");
        }
    }

    #[test]
    fn without_spread_a_draw_is_the_medians() {
        let model =
            StartModel::parse("deploy=10s,pull=20s,agent=3s,exit=1s,gone=0s,pool=7s,spread=0").unwrap();
        let secs = SignedDuration::from_secs;
        let mut chance = Chance::new(1);
        let draw = model.draw(PlaceKind::VirtualNode, &mut chance);
        let expect = Draw { deploy: secs(10), pull: secs(20), agent: secs(3), exit: secs(1), gone: secs(0) };
        assert_eq!(draw, expect);
        let pool = model.draw(PlaceKind::NodePool, &mut chance);
        assert_eq!((pool.deploy, pool.pull, pool.agent), (secs(0), secs(7), secs(3)));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, words) in [
            ("speed=3", ["\"speed\"", "deploy"]),
            ("deploy", ["\"deploy\"", "key=value"]),
            ("deploy=soon", ["deploy", "\"soon\""]),
            ("spread=9", ["spread", "\"9\""]),
            ("image=big", ["image", "\"big\""]),
            ("image=1G,pull=3s", ["pull", "not both"]),
        ] {
            let error = StartModel::parse(text).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
    }
}
