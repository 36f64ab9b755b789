//! The emulator as its clients see it: over HTTP, with real processes for containers.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod deletes;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod meter;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod quotas;
#[cfg(test)]
mod runner;
#[cfg(test)]
mod states;
#[cfg(test)]
mod support;
#[cfg(test)]
mod vendor;
