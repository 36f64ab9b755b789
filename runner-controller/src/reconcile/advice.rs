//! What people should know of a class, although it is in use: that its image's runner is refused.
//!
//! Kept in memory: the runners that tell of it are soon gone. It is forgotten with the process, and told anew by the next one.

use std::collections::BTreeMap;

use runner_core::reason::Reason;

use crate::config::Problem;
use crate::observe::View;

/// What is known of classes.
#[derive(Default)]
pub(super) struct Advice {
    /// The image of each class whose runner was refused.
    too_old: BTreeMap<String, String>,
}

impl Advice {
    /// What to tell by now.
    pub(super) fn of(&mut self, view: &View) -> Vec<Problem> {
        let refused = Reason::RunnerTooOld.code();
        let classes = &view.resolved.classes;
        for runner in &view.snapshot.runners {
            let class = &runner.matched.class;
            let ended = runner.facts.teardown.as_ref().filter(|teardown| teardown.code == refused);
            let (Some(_), Some(resolved)) = (ended, classes.get(class)) else { continue };
            let image = &resolved.image;
            if self.too_old.insert(class.clone(), image.clone()).as_ref() != Some(image) {
                tracing::error!(class, image, "{}", sentence(class, image));
            }
        }
        self.too_old.retain(|class, image| {
            let works = view
                .snapshot
                .runners
                .iter()
                .any(|runner| runner.matched.class == *class && runner.facts.agent.job_started.is_some());
            !works && classes.get(class).is_some_and(|resolved| resolved.image == *image)
        });
        let told = self.too_old.iter().map(|(class, image)| Problem {
            kind: "RunnerClass",
            name: class.clone(),
            message: sentence(class, image),
        });
        told.collect()
    }
}

fn sentence(class: &str, image: &str) -> String {
    format!(
        "class {class}: its runners end before any job, since their source takes none of their version: the runner in image \
         {image} is too old; name one with a newer runner in spec.image"
    )
}
